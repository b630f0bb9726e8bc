"""The node with what few control units need."""

import torch
from comfy_api.latest import io

from ..adapters.control.curve import read_curve
from ..adapters.control.options import AUTO, UNION_TYPES, ControlOptions

CATEGORY = "Tiller/control"
OptionsType = io.Custom("TILLER_CONTROL_OPTIONS")


class TillerControlOptions(io.ComfyNode):
    """What few units need."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TillerControlOptions",
            display_name="Control Options",
            category=CATEGORY,
            description="More settings for a control unit: factors per layer and per step as short texts, a "
            "mask of where the control acts, and the type of hint for a ControlNet-Union.",
            search_aliases=[
                "controlnet mask",
                "effective region mask",
                "ACN_ScaledControlNetWeights",
                "ACN_TimestepKeyframeInterpolation",
                "SetUnionControlNetType",
                "advanced weighting",
            ],
            inputs=[
                io.String.Input(
                    "layers",
                    default="",
                    tooltip="Factors of the net's layers, in place of the mode's. Empty: off. A number, "
                    '"soft .825", a list from the shallowest layer to the middle, or points: "0:.2 1:1".',
                ),
                io.String.Input(
                    "steps",
                    default="",
                    tooltip="Factors over the sampling, 0 = first step. Empty: off. A number, a list, or "
                    'points with a way between them: "0:1 .5:.3 1:0 ease-in-out". At 0 the net is not run.',
                ),
                io.Combo.Input(
                    "union_type",
                    display_name="union type",
                    options=[AUTO, *UNION_TYPES],
                    default=AUTO,
                    tooltip="What the hint shows, for a ControlNet-Union. auto: as the net comes.",
                ),
                io.Mask.Input(
                    "mask",
                    optional=True,
                    tooltip="Where the control acts: 1 = fully, 0 = not at all. Any size; one for all "
                    "images or one per image.",
                ),
            ],
            outputs=[
                OptionsType.Output(
                    "options",
                    display_name="options",
                    tooltip="The options, for Apply Control or Control Unit.",
                )
            ],
        )

    @classmethod
    def execute(
        cls, layers: str, steps: str, union_type: str, mask: torch.Tensor | None = None
    ) -> io.NodeOutput:
        return io.NodeOutput(ControlOptions(read_curve(layers), read_curve(steps), mask, union_type))


NODES = (TillerControlOptions,)
