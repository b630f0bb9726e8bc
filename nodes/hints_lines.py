"""Hint nodes that draw lines: Canny, threshold, scribbles and standard line art."""

import torch
from comfy_api.latest import io

from ..adapters.progress._host import report_images
from ..preprocessors import lines
from .hint_inputs import CATEGORY, hint_output, image_input, resolution_input


class TillerCanny(io.ComfyNode):
    """Canny edges."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TillerCanny",
            display_name="Canny Edges",
            category=CATEGORY,
            description="Thin white edges on black, for Canny control nets; the same pixels as OpenCV's.",
            search_aliases=["canny", "edges", "edge detection", "CannyEdgePreprocessor", "Canny Edge"],
            inputs=[
                image_input(),
                io.Int.Input(
                    "low_threshold",
                    display_name="low threshold",
                    default=100,
                    min=1,
                    max=255,
                    tooltip="Gradient from which a pixel joined to a strong edge is kept. "
                    "Lower gives longer and more lines.",
                ),
                io.Int.Input(
                    "high_threshold",
                    display_name="high threshold",
                    default=200,
                    min=1,
                    max=255,
                    tooltip="Gradient from which a pixel starts an edge. Lower finds more edges.",
                ),
                resolution_input(),
            ],
            outputs=[hint_output("White edges on black, one pixel wide.")],
        )

    @classmethod
    def execute(
        cls, image: torch.Tensor, low_threshold: int, high_threshold: int, resolution: int
    ) -> io.NodeOutput:
        return io.NodeOutput(lines.canny(image, low_threshold, high_threshold, resolution, report_images()))


class TillerThreshold(io.ComfyNode):
    """Bright areas."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TillerThreshold",
            display_name="Threshold",
            category=CATEGORY,
            description="White where red, green and blue are all above a level, black elsewhere.",
            search_aliases=["threshold", "binary", "binarize", "black and white", "BinaryPreprocessor"],
            inputs=[
                image_input(),
                io.Int.Input(
                    "level",
                    display_name="level",
                    default=127,
                    min=0,
                    max=255,
                    tooltip="A pixel is white when its darkest channel is above this level. "
                    "Lower makes more of the picture white.",
                ),
                resolution_input(),
            ],
            outputs=[hint_output("Pure black and white picture.")],
        )

    @classmethod
    def execute(cls, image: torch.Tensor, level: int, resolution: int) -> io.NodeOutput:
        return io.NodeOutput(lines.threshold(image, level, resolution, report_images()))


class TillerScribble(io.ComfyNode):
    """A drawing of one's own."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TillerScribble",
            display_name="Scribble",
            category=CATEGORY,
            description="Turns a drawing of your own into a clean scribble hint.",
            search_aliases=["scribble", "drawing", "sketch", "ScribblePreprocessor", "Scribble Lines"],
            inputs=[
                image_input(),
                io.Boolean.Input(
                    "dark_lines",
                    display_name="dark lines",
                    default=False,
                    tooltip="Turn on for dark lines on light paper: control nets expect white on black. "
                    "Off keeps the drawing's polarity.",
                ),
                resolution_input(),
            ],
            outputs=[hint_output("Pure black and white drawing.")],
        )

    @classmethod
    def execute(cls, image: torch.Tensor, dark_lines: bool, resolution: int) -> io.NodeOutput:
        return io.NodeOutput(lines.scribble(image, dark_lines, resolution, report_images()))


class TillerScribbleXDoG(io.ComfyNode):
    """Scribble lines from a photograph."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TillerScribbleXDoG",
            display_name="Scribble XDoG",
            category=CATEGORY,
            description="Scribble lines from a photograph, by a difference of Gaussians.",
            search_aliases=["xdog", "scribble_xdog", "scribble", "Scribble_XDoG_Preprocessor"],
            inputs=[
                image_input(),
                io.Int.Input(
                    "threshold",
                    display_name="threshold",
                    default=32,
                    min=1,
                    max=64,
                    tooltip="How much darker than its surroundings a line must be. Lower draws more lines.",
                ),
                resolution_input(),
            ],
            outputs=[hint_output("White scribble lines on black.")],
        )

    @classmethod
    def execute(cls, image: torch.Tensor, threshold: int, resolution: int) -> io.NodeOutput:
        return io.NodeOutput(lines.scribble_xdog(image, threshold, resolution, report_images()))


class TillerLineArtStandard(io.ComfyNode):
    """Line art without a network."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TillerLineArtStandard",
            display_name="Standard Line Art",
            category=CATEGORY,
            description="Soft white lines on black where the picture is darker than its surroundings, "
            "for line art control nets; no network needed.",
            search_aliases=[
                "lineart",
                "line art",
                "lineart_standard",
                "Standard Lineart",
                "LineartStandardPreprocessor",
            ],
            inputs=[
                image_input(),
                io.Float.Input(
                    "gaussian_sigma",
                    display_name="Gaussian sigma",
                    default=6.0,
                    min=0.1,
                    max=100.0,
                    step=0.1,
                    tooltip="Size of the surroundings a pixel is compared with, in pixels. "
                    "Larger finds broader strokes.",
                ),
                io.Int.Input(
                    "intensity_threshold",
                    display_name="intensity threshold",
                    default=8,
                    min=0,
                    max=255,
                    tooltip="Differences up to this level do not count when the overall contrast is set. "
                    "It scales the lines, it removes none.",
                ),
                resolution_input(),
            ],
            outputs=[hint_output("Soft white lines on black.")],
        )

    @classmethod
    def execute(
        cls, image: torch.Tensor, gaussian_sigma: float, intensity_threshold: int, resolution: int
    ) -> io.NodeOutput:
        return io.NodeOutput(
            lines.line_art_standard(image, gaussian_sigma, intensity_threshold, resolution, report_images())
        )


HINTS = (
    ("canny", TillerCanny),
    ("lineart_standard", TillerLineArtStandard),
    ("scribble", TillerScribble),
    ("scribble_xdog", TillerScribbleXDoG),
    ("threshold", TillerThreshold),
)
"""Name in the all-in-one node -> its node. TillerHint is made from these lists."""
