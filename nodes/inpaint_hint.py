"""Hint node for inpaint control nets."""

import torch
from comfy_api.latest import io

from ..preprocessors.inpaint_hint import MASK_COLORS, MaskColor, inpaint_hint
from .hint_inputs import CATEGORY, hint_output, image_input, mask_input


class TillerInpaintHint(io.ComfyNode):
    """The picture with the part to repaint marked in it."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TillerInpaintHint",
            display_name="Inpaint Hint",
            category=CATEGORY,
            description="The picture with the part to repaint marked in it, for inpaint control nets: with "
            "-1 for ControlNet v1.1, with black for Union ProMax and other nets for SDXL.",
            search_aliases=[
                "inpaint",
                "inpaint_global_harmonious",
                "InpaintPreprocessor",
                "inpaint control",
                "repaint",
            ],
            inputs=[
                image_input(),
                mask_input(),
                io.Combo.Input(
                    "masked",
                    display_name="masked",
                    options=list(MASK_COLORS),
                    default="-1",
                    tooltip="What masked pixels become. -1: ControlNet v1.1 inpaint for SD1.5. 0 (black): "
                    "Union ProMax and other inpaint nets for SDXL.",
                ),
            ],
            outputs=[
                hint_output(
                    "The picture with the masked pixels at -1 or 0, for Apply Control. Nodes that save or "
                    "show pictures turn -1 into black; the control net must get it unchanged."
                )
            ],
        )

    @classmethod
    def execute(cls, image: torch.Tensor, mask: torch.Tensor, masked: MaskColor) -> io.NodeOutput:
        return io.NodeOutput(inpaint_hint(image, mask, masked))


HINTS = (("inpaint", TillerInpaintHint),)
"""Name in the all-in-one node -> its node. TillerHint is made from these lists."""
