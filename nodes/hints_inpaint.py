"""Hint node that fills holes of a picture with a network: LaMa."""

import torch
from comfy_api.latest import io

from ..preprocessors import inpaint_lama
from ..preprocessors._host import network
from ..preprocessors.networks.lama import LaMaGenerator
from .hint_inputs import CATEGORY, hint_output, image_input, mask_input, resolution_input, weights_input


class TillerInpaintLaMa(io.ComfyNode):
    """Holes filled by LaMa."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TillerInpaintLaMa",
            display_name="LaMa Inpaint",
            category=CATEGORY,
            description="Fills what the mask covers with what is around it, without a prompt: a start for "
            "inpainting, removing things and widening pictures. Needs ControlNetLama.pth.",
            search_aliases=[
                "inpaint",
                "lama",
                "big-lama",
                "inpaint_only+lama",
                "remove object",
                "INPAINT_InpaintWithModel",
            ],
            inputs=[
                image_input(),
                mask_input(),
                resolution_input(default=256),
                weights_input(),
            ],
            outputs=[hint_output("The picture at its own size, filled where the mask is.")],
        )

    @classmethod
    def execute(cls, image: torch.Tensor, mask: torch.Tensor, resolution: int, weights: str) -> io.NodeOutput:
        loaded = network("lama", LaMaGenerator, weights, by_shapes=True)
        return io.NodeOutput(inpaint_lama.inpaint_lama(image, mask, loaded, resolution))


HINTS = (("inpaint_lama", TillerInpaintLaMa),)
"""Name in the all-in-one node -> its node. TillerHint is made from these lists."""
