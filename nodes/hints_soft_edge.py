"""Hint nodes that find soft edges, scribbles and sketches with a network: HED and PiDiNet."""

import torch
from comfy_api.latest import io

from ..preprocessors import soft_edge
from ..preprocessors._host import network
from ..preprocessors.networks.hed import HED
from ..preprocessors.networks.pidinet import PiDiNet
from .hint_inputs import (
    CATEGORY,
    hint_output,
    image_input,
    resolution_input,
    safe_input,
    weights_input,
)


class TillerHED(io.ComfyNode):
    """Soft edges by HED."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TillerHED",
            display_name="HED Soft Edges",
            category=CATEGORY,
            description="Soft white edges on black, found by the network HED, for soft edge control nets. "
            "Needs ControlNetHED.pth.",
            search_aliases=[
                "hed",
                "soft edge",
                "softedge",
                "softedge_hed",
                "softedge_hedsafe",
                "HEDPreprocessor",
                "HED Soft-Edge Lines",
            ],
            inputs=[
                image_input(),
                safe_input(),
                resolution_input(),
                weights_input(),
            ],
            outputs=[hint_output("Soft white edges on black.")],
        )

    @classmethod
    def execute(cls, image: torch.Tensor, safe: bool, resolution: int, weights: str) -> io.NodeOutput:
        loaded = network("hed", HED, weights, "channels_last")
        return io.NodeOutput(soft_edge.soft_edges_hed(image, loaded, safe, resolution))


class TillerPiDiNet(io.ComfyNode):
    """Soft edges by PiDiNet."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TillerPiDiNet",
            display_name="PiDiNet Soft Edges",
            category=CATEGORY,
            description="Soft white edges on black, found by the network PiDiNet, for soft edge control "
            "nets. Needs table5_pidinet.pth, whose licence allows research only.",
            search_aliases=[
                "pidinet",
                "pidi",
                "soft edge",
                "softedge_pidinet",
                "softedge_pidisafe",
                "PiDiNetPreprocessor",
                "PiDiNet Soft-Edge Lines",
            ],
            inputs=[
                image_input(),
                safe_input(),
                resolution_input(),
                weights_input(),
            ],
            outputs=[hint_output("Soft white edges on black.")],
        )

    @classmethod
    def execute(cls, image: torch.Tensor, safe: bool, resolution: int, weights: str) -> io.NodeOutput:
        loaded = network("pidinet", PiDiNet, weights, "channels_last")
        return io.NodeOutput(soft_edge.soft_edges_pidinet(image, loaded, safe, resolution))


class TillerScribbleHED(io.ComfyNode):
    """Scribble lines by HED."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TillerScribbleHED",
            display_name="HED Scribble",
            category=CATEGORY,
            description="Bold scribble lines along the edges that the network HED finds, for scribble "
            "control nets. Needs ControlNetHED.pth.",
            search_aliases=[
                "scribble_hed",
                "fake scribble",
                "scribble",
                "FakeScribblePreprocessor",
                "Fake Scribble Lines",
            ],
            inputs=[
                image_input(),
                resolution_input(),
                weights_input(),
            ],
            outputs=[hint_output("Bold white lines on black, every pixel 0 or 1.")],
        )

    @classmethod
    def execute(cls, image: torch.Tensor, resolution: int, weights: str) -> io.NodeOutput:
        loaded = network("hed", HED, weights, "channels_last")
        return io.NodeOutput(soft_edge.scribble_hed(image, loaded, resolution))


class TillerScribblePiDiNet(io.ComfyNode):
    """Scribble lines by PiDiNet."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TillerScribblePiDiNet",
            display_name="PiDiNet Scribble",
            category=CATEGORY,
            description="Bold scribble lines along the edges that the network PiDiNet finds, for scribble "
            "control nets. Needs table5_pidinet.pth, whose licence allows research only.",
            search_aliases=[
                "scribble_pidinet",
                "scribble",
                "Scribble_PiDiNet_Preprocessor",
                "Scribble PiDiNet Lines",
            ],
            inputs=[
                image_input(),
                resolution_input(),
                weights_input(),
            ],
            outputs=[hint_output("Bold white lines on black, every pixel 0 or 1.")],
        )

    @classmethod
    def execute(cls, image: torch.Tensor, resolution: int, weights: str) -> io.NodeOutput:
        loaded = network("pidinet", PiDiNet, weights, "channels_last")
        return io.NodeOutput(soft_edge.scribble_pidinet(image, loaded, resolution))


class TillerSketchPiDiNet(io.ComfyNode):
    """A sketch by PiDiNet."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TillerSketchPiDiNet",
            display_name="PiDiNet Sketch",
            category=CATEGORY,
            description="Black and white sketch of the edges that the network PiDiNet is sure of, for T2I "
            "sketch adapters. Needs table5_pidinet.pth, whose licence allows research only.",
            search_aliases=["t2ia_sketch_pidi", "sketch", "t2i adapter sketch", "pidinet_sketch"],
            inputs=[
                image_input(),
                resolution_input(),
                weights_input(),
            ],
            outputs=[hint_output("White edges on black, every pixel 0 or 1.")],
        )

    @classmethod
    def execute(cls, image: torch.Tensor, resolution: int, weights: str) -> io.NodeOutput:
        loaded = network("pidinet", PiDiNet, weights, "channels_last")
        return io.NodeOutput(soft_edge.sketch_pidinet(image, loaded, resolution))


HINTS = (
    ("hed", TillerHED),
    ("pidinet", TillerPiDiNet),
    ("scribble_hed", TillerScribbleHED),
    ("scribble_pidinet", TillerScribblePiDiNet),
    ("sketch_pidinet", TillerSketchPiDiNet),
)
"""Name in the all-in-one node -> its node. TillerHint is made from these lists."""
