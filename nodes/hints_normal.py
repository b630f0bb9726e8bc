"""Hint nodes that find surface normals with a network."""

import torch
from comfy_api.latest import io

from ..preprocessors import normal
from ..preprocessors._host import network
from ..preprocessors.networks.normal_bae import NormalBae
from .hint_inputs import CATEGORY, hint_output, image_input, resolution_input, weights_input


class TillerNormalBae(io.ComfyNode):
    """Surface normals."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TillerNormalBae",
            display_name="BAE Normal Map",
            category=CATEGORY,
            description="Which way every surface of the picture faces, as colours: blue to the camera, red "
            "to the left, green up; for normal map control nets of ControlNet 1.1. Needs scannet.pt.",
            search_aliases=[
                "normal",
                "normal map",
                "normalbae",
                "normal_bae",
                "BAE-NormalMapPreprocessor",
                "BAE Normal Map",
            ],
            inputs=[image_input(), resolution_input(), weights_input()],
            outputs=[hint_output("The normal map: red is left, green is up, blue is towards the camera.")],
        )

    @classmethod
    def execute(cls, image: torch.Tensor, resolution: int, weights: str) -> io.NodeOutput:
        return io.NodeOutput(normal.normals_bae(image, network("normal_bae", NormalBae, weights), resolution))


HINTS = (("normal_bae", TillerNormalBae),)
"""Name in the all-in-one node -> its node. TillerHint is made from these lists."""

NODES = tuple(node for _, node in HINTS)
