"""Hint nodes that see depth with a network."""

import torch
from comfy_api.latest import io

from ..preprocessors import depth, depth_zoe
from ..preprocessors._host import network
from ..preprocessors.networks.depth_anything import depth_anything
from ..preprocessors.networks.midas import midas
from ..preprocessors.networks.zoe import ZoeDepth
from .hint_inputs import CATEGORY, hint_output, image_input, resolution_input, weights_input


class TillerDepthMiDaS(io.ComfyNode):
    """Depth by MiDaS."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TillerDepthMiDaS",
            display_name="MiDaS Depth",
            category=CATEGORY,
            description="Depth of the picture, near = white, for depth control nets: the classic one, which "
            "they were trained with. Needs dpt_hybrid-midas-501f0c75.pt.",
            search_aliases=[
                "depth",
                "depth map",
                "midas",
                "depth_midas",
                "MiDaS-DepthMapPreprocessor",
                "MiDaS Depth Map",
            ],
            inputs=[image_input(), resolution_input(), weights_input()],
            outputs=[hint_output("Depth from black (farthest) to white (nearest).")],
        )

    @classmethod
    def execute(cls, image: torch.Tensor, resolution: int, weights: str) -> io.NodeOutput:
        loaded = network("midas", midas, weights, by_shapes=True)
        return io.NodeOutput(depth.depth_midas(image, loaded, resolution))


class TillerDepthAnythingV2(io.ComfyNode):
    """Depth by Depth Anything V2."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TillerDepthAnythingV2",
            display_name="Depth Anything V2",
            category=CATEGORY,
            description="Depth of the picture, near = white, with fine detail, for depth control nets. Needs "
            "depth_anything_v2_vitl.pth, _vitb or _vits. The large and the base file are for non-commercial "
            "use only (CC-BY-NC-4.0); the small one is free (Apache-2.0).",
            search_aliases=[
                "depth",
                "depth map",
                "depth_anything_v2",
                "DepthAnythingV2Preprocessor",
                "Depth Anything V2 - Relative",
                "DepthAnything_V2",
            ],
            inputs=[image_input(), resolution_input(), weights_input()],
            outputs=[hint_output("Depth from black (farthest) to white (nearest).")],
        )

    @classmethod
    def execute(cls, image: torch.Tensor, resolution: int, weights: str) -> io.NodeOutput:
        loaded = network("depth_anything_v2", depth_anything, weights, by_shapes=True)
        return io.NodeOutput(depth.depth_anything_v2(image, loaded, resolution))


class TillerDepthZoe(io.ComfyNode):
    """Depth by ZoeDepth."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TillerDepthZoe",
            display_name="Zoe Depth",
            category=CATEGORY,
            description="Depth of the picture, near = white, measured in metres before it is drawn, for "
            "depth control nets. Needs ZoeD_M12_N.pt.",
            search_aliases=[
                "depth",
                "depth map",
                "depth_zoe",
                "zoe",
                "ZoeDepth",
                "Zoe-DepthMapPreprocessor",
                "Zoe Depth Map",
            ],
            inputs=[image_input(), resolution_input(), weights_input()],
            outputs=[hint_output("Depth from black (far) to white (near).")],
        )

    @classmethod
    def execute(cls, image: torch.Tensor, resolution: int, weights: str) -> io.NodeOutput:
        loaded = network("zoe", ZoeDepth, weights, by_shapes=True)
        return io.NodeOutput(depth_zoe.depth_zoe(image, loaded, resolution))


HINTS = (
    ("depth_midas", TillerDepthMiDaS),
    ("depth_anything_v2", TillerDepthAnythingV2),
    ("depth_zoe", TillerDepthZoe),
)
"""Name in the all-in-one node -> its node. TillerHint is made from these lists."""
