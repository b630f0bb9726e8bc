"""Hint node that sees depth with LeReS."""

import torch
from comfy_api.latest import io

from ..preprocessors import depth_leres
from ..preprocessors._host import network
from ..preprocessors.networks.leres import LeReS
from .hint_inputs import CATEGORY, hint_output, image_input, resolution_input, weights_input


def percent_input(key: str, tooltip: str) -> io.Float.Input:
    """A share of the depth range that is left out."""
    return io.Float.Input(
        key, display_name=key.replace("_", " "), default=0.0, min=0.0, max=100.0, step=0.1, tooltip=tooltip
    )


class TillerDepthLeReS(io.ComfyNode):
    """Depth by LeReS."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TillerDepthLeReS",
            display_name="LeReS Depth",
            category=CATEGORY,
            description="Depth of the picture, near = white, from the foreground to the far background, for "
            "depth control nets. Needs res101.pth; its authors allow non-commercial use only.",
            search_aliases=[
                "depth",
                "depth map",
                "leres",
                "depth_leres",
                "LeReS-DepthMapPreprocessor",
                "LeReS Depth Map",
            ],
            inputs=[
                image_input(),
                percent_input(
                    "remove_near",
                    "What lies nearer than this share of the depth range, in percent, becomes plain white. "
                    "0 leaves it as it is.",
                ),
                percent_input(
                    "remove_background",
                    "The farthest part of the depth range, in percent, becomes black. 0 leaves it as it is.",
                ),
                resolution_input(),
                weights_input(),
            ],
            outputs=[hint_output("Depth from black (farthest) to white (nearest).")],
        )

    @classmethod
    def execute(
        cls,
        image: torch.Tensor,
        remove_near: float,
        remove_background: float,
        resolution: int,
        weights: str,
    ) -> io.NodeOutput:
        loaded = network("leres", LeReS, weights, by_shapes=True)
        return io.NodeOutput(
            depth_leres.depth_leres(image, loaded, remove_near, remove_background, resolution)
        )


HINTS = (("depth_leres", TillerDepthLeReS),)
"""Name in the all-in-one node -> its node. TillerHint is made from these lists."""

NODES = tuple(node for _, node in HINTS)
