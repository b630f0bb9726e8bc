"""Hint nodes that find surface normals with a network."""

import torch
from comfy_api.latest import io

from ..preprocessors import normal
from ..preprocessors._host import network
from ..preprocessors.networks.midas import midas
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
        return io.NodeOutput(
            normal.normals_bae(image, network("normal_bae", NormalBae, weights, "channels_last"), resolution)
        )


class TillerNormalMiDaS(io.ComfyNode):
    """Surface normals from MiDaS's depth."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TillerNormalMiDaS",
            display_name="MiDaS Normal Map",
            category=CATEGORY,
            description="Which way the surfaces of the picture face, as colours, worked out from its depth, "
            "for the old normal control net 1.0. Needs dpt_hybrid-midas-501f0c75.pt.",
            search_aliases=[
                "normal",
                "normal map",
                "normal_map",
                "normal_midas",
                "MiDaS-NormalMapPreprocessor",
            ],
            inputs=[
                image_input(),
                io.Float.Input(
                    "background_threshold",
                    display_name="background threshold",
                    default=0.4,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip="Depth, from 0 (farthest) to 1 (nearest point of the picture), below which "
                    "everything is background: flat, without normals of its own.",
                ),
                resolution_input(),
                weights_input(),
            ],
            outputs=[hint_output("Surface normals as colours; flat background in light red.")],
        )

    @classmethod
    def execute(
        cls, image: torch.Tensor, background_threshold: float, resolution: int, weights: str
    ) -> io.NodeOutput:
        loaded = network("midas", midas, weights, by_shapes=True)
        return io.NodeOutput(normal.normals_midas(image, loaded, background_threshold, resolution))


HINTS = (("normal_bae", TillerNormalBae), ("normal_midas", TillerNormalMiDaS))
"""Name in the all-in-one node -> its node. TillerHint is made from these lists."""
