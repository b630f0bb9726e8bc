"""Hint node that finds straight lines with a network: M-LSD."""

import torch
from comfy_api.latest import io

from ..preprocessors import straight_lines
from ..preprocessors._host import network
from ..preprocessors.networks.mlsd import MLSD
from .hint_inputs import CATEGORY, hint_output, image_input, resolution_input, weights_input


class TillerMLSD(io.ComfyNode):
    """Straight lines."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TillerMLSD",
            display_name="M-LSD Straight Lines",
            category=CATEGORY,
            description="Straight white lines on black, as in rooms and buildings, for MLSD control nets. "
            "Needs mlsd_large_512_fp32.pth.",
            search_aliases=[
                "mlsd",
                "m-lsd",
                "straight lines",
                "line segments",
                "M-LSDPreprocessor",
                "M-LSD Lines",
            ],
            inputs=[
                image_input(),
                io.Float.Input(
                    "value_threshold",
                    display_name="value threshold",
                    default=0.1,
                    min=0.01,
                    max=2.0,
                    step=0.01,
                    tooltip="How sure the network must be of a line, from 0 to 1. Lower draws more lines; "
                    "from 1 on there are none.",
                ),
                io.Float.Input(
                    "distance_threshold",
                    display_name="distance threshold",
                    default=0.1,
                    min=0.01,
                    max=20.0,
                    step=0.01,
                    tooltip="Length that a line must pass, in units of two pixels at the working size. "
                    "Higher drops the short lines.",
                ),
                resolution_input(),
                weights_input(),
            ],
            outputs=[
                hint_output("Straight white lines on black, one pixel wide; black where there are none.")
            ],
        )

    @classmethod
    def execute(
        cls,
        image: torch.Tensor,
        value_threshold: float,
        distance_threshold: float,
        resolution: int,
        weights: str,
    ) -> io.NodeOutput:
        loaded = network("mlsd", MLSD, weights, "channels_last")
        return io.NodeOutput(
            straight_lines.straight_lines(image, loaded, value_threshold, distance_threshold, resolution)
        )


HINTS = (("mlsd", TillerMLSD),)
"""Name in the all-in-one node -> its node. TillerHint is made from these lists."""
