"""Hint node that sees depth with LeReS."""

import torch
from comfy_api.latest import io

from ..preprocessors import depth_leres
from ..preprocessors._host import network
from ..preprocessors.networks.leres import LeReS
from ..preprocessors.networks.leres_merge import LeReSMerge
from .hint_inputs import CATEGORY, hint_output, image_input, resolution_input, weights_input


def percent_input(key: str, tooltip: str) -> io.Float.Input:
    """A share of the depth range that is left out."""
    return io.Float.Input(
        key, display_name=key.replace("_", " "), default=0.0, min=0.0, max=100.0, step=0.1, tooltip=tooltip
    )


def boost_input() -> io.Boolean.Input:
    """leres++."""
    return io.Boolean.Input(
        "boost",
        display_name="boost",
        default=False,
        tooltip="leres++: sees the picture at several sizes and in patches, and merges what it sees by a "
        "second network. Much finer detail; takes many times as long, minutes a picture without a graphics "
        "card. The second network's file is for academic use only.",
    )


def merge_weights_input() -> io.Combo.Input:
    """The weight file of the network that the boost merges with."""
    choices = weights_input()
    return io.Combo.Input(
        "merge_weights",
        display_name="merge weights",
        options=choices.options,
        default=choices.default,
        tooltip="The weight file of the boost's merging network, used only when boost is on. auto takes "
        "latest_net_G.pth by its name; its licence allows academic use only.",
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
            "depth control nets. Needs res101.pth; its authors allow non-commercial use only. The boost "
            "(leres++) also needs latest_net_G.pth, which is for academic use only.",
            search_aliases=[
                "depth",
                "depth map",
                "leres",
                "depth_leres",
                "leres++",
                "depth_leres++",
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
                boost_input(),
                resolution_input(),
                weights_input(),
                merge_weights_input(),
            ],
            outputs=[hint_output("Depth from black (farthest) to white (nearest).")],
        )

    @classmethod
    def execute(
        cls,
        image: torch.Tensor,
        remove_near: float,
        remove_background: float,
        boost: bool,
        resolution: int,
        weights: str,
        merge_weights: str,
    ) -> io.NodeOutput:
        loaded = network("leres", LeReS, weights, by_shapes=True)
        merge = network("leres_merge", LeReSMerge, merge_weights, by_shapes=True) if boost else None
        return io.NodeOutput(
            depth_leres.depth_leres(image, loaded, remove_near, remove_background, resolution, merge)
        )


HINTS = (("depth_leres", TillerDepthLeReS),)
"""Name in the all-in-one node -> its node. TillerHint is made from these lists."""
