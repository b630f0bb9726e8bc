"""Hint nodes that carry tone and colour: inversion, shuffle, tiles, blur, recolor, brightness, colours."""

import torch
from comfy_api.latest import io

from ..adapters.progress._host import report_images
from ..preprocessors import tone
from ..preprocessors.shuffle import shuffle
from .hint_inputs import CATEGORY, hint_output, image_input, resolution_input


def gamma_input() -> io.Float.Input:
    """The tone curve of the two recolor hints."""
    return io.Float.Input(
        "gamma",
        display_name="gamma",
        default=1.0,
        min=0.1,
        max=2.0,
        step=0.01,
        tooltip="Tone curve: under 1 brightens the middle tones, above 1 darkens them, 1 changes nothing.",
    )


class TillerInvert(io.ComfyNode):
    """The negative."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TillerInvert",
            display_name="Invert Hint",
            category=CATEGORY,
            description="The negative of a picture: dark drawings on white become white lines on black.",
            search_aliases=["invert", "negative", "invert (from white bg & black line)", "ImageInvert"],
            inputs=[image_input()],
            outputs=[hint_output("The negative, at the picture's own size.")],
        )

    @classmethod
    def execute(cls, image: torch.Tensor) -> io.NodeOutput:
        return io.NodeOutput(tone.invert(image, report_images()))


class TillerShuffle(io.ComfyNode):
    """Content shuffle."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TillerShuffle",
            display_name="Shuffle",
            category=CATEGORY,
            description="Warps the picture by a smooth random field: colours and style stay, contents go.",
            search_aliases=["shuffle", "content shuffle", "style transfer", "ShufflePreprocessor"],
            inputs=[
                image_input(),
                io.Int.Input(
                    "seed",
                    display_name="seed",
                    default=0,
                    min=0,
                    max=0xFFFFFFFFFFFFFFFF,
                    control_after_generate=True,
                    tooltip="Which random field. Picture number n of a batch gets the field of seed + n.",
                ),
                resolution_input(),
            ],
            outputs=[hint_output("The warped picture.")],
        )

    @classmethod
    def execute(cls, image: torch.Tensor, seed: int, resolution: int) -> io.NodeOutput:
        return io.NodeOutput(shuffle(image, seed, resolution, report_images()))


class TillerTileResample(io.ComfyNode):
    """The tile model's input."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TillerTileResample",
            display_name="Tile Resample",
            category=CATEGORY,
            description="Shrinks the picture for tile control nets, which then invent the lost detail anew.",
            search_aliases=["tile", "tile_resample", "downsample", "TilePreprocessor", "Tile"],
            inputs=[
                image_input(),
                io.Float.Input(
                    "down_sampling_rate",
                    display_name="down sampling rate",
                    default=1.0,
                    min=1.0,
                    max=8.0,
                    step=0.01,
                    tooltip="By how much both sides shrink. Under 1.1 the picture stays as it is; "
                    "larger gives the model more freedom.",
                ),
            ],
            outputs=[hint_output("The smaller picture.")],
        )

    @classmethod
    def execute(cls, image: torch.Tensor, down_sampling_rate: float) -> io.NodeOutput:
        return io.NodeOutput(tone.tile_resample(image, down_sampling_rate, report_images()))


class TillerBlur(io.ComfyNode):
    """Gaussian blur."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TillerBlur",
            display_name="Blur Hint",
            category=CATEGORY,
            description="Gaussian blur, for tile and blur control nets.",
            search_aliases=["blur", "blur_gaussian", "gaussian blur", "deblur"],
            inputs=[
                image_input(),
                io.Float.Input(
                    "sigma",
                    display_name="sigma",
                    default=9.0,
                    min=0.01,
                    max=64.0,
                    step=0.01,
                    tooltip="Radius of the blur in pixels at the working size.",
                ),
                resolution_input(),
            ],
            outputs=[hint_output("The blurred picture.")],
        )

    @classmethod
    def execute(cls, image: torch.Tensor, sigma: float, resolution: int) -> io.NodeOutput:
        return io.NodeOutput(tone.blur(image, sigma, resolution, report_images()))


class TillerRecolorLuminance(io.ComfyNode):
    """Lightness for recolor models."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TillerRecolorLuminance",
            display_name="Recolor Luminance",
            category=CATEGORY,
            description="Lightness of the picture in gray, for recolor control nets.",
            search_aliases=["recolor", "recolor_luminance", "colorize", "ImageLuminanceDetector"],
            inputs=[image_input(), gamma_input()],
            outputs=[hint_output("Gray picture of the lightness, at the picture's own size.")],
        )

    @classmethod
    def execute(cls, image: torch.Tensor, gamma: float) -> io.NodeOutput:
        return io.NodeOutput(tone.recolor_luminance(image, gamma, report_images()))


class TillerRecolorIntensity(io.ComfyNode):
    """Intensity for recolor models."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TillerRecolorIntensity",
            display_name="Recolor Intensity",
            category=CATEGORY,
            description="Intensity (brightest channel) of the picture in gray, for recolor control nets.",
            search_aliases=["recolor", "recolor_intensity", "colorize", "ImageIntensityDetector"],
            inputs=[image_input(), gamma_input()],
            outputs=[hint_output("Gray picture of the intensity, at the picture's own size.")],
        )

    @classmethod
    def execute(cls, image: torch.Tensor, gamma: float) -> io.NodeOutput:
        return io.NodeOutput(tone.recolor_intensity(image, gamma, report_images()))


class TillerBrightness(io.ComfyNode):
    """Gray for brightness models."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TillerBrightness",
            display_name="Brightness",
            category=CATEGORY,
            description="The picture in gray, for brightness and illumination control nets.",
            search_aliases=[
                "brightness",
                "illumination",
                "grayscale",
                "luminance",
                "control_v1p_sd15_brightness",
            ],
            inputs=[
                image_input(),
                io.Combo.Input(
                    "scale",
                    display_name="scale",
                    options=list(tone.BRIGHTNESS_SCALES),
                    default="luma",
                    tooltip="luma: gray as in video (Rec. 601). L: perceived lightness (CIE Lab), "
                    "lighter in the shadows.",
                ),
            ],
            outputs=[hint_output("The gray picture, at the picture's own size.")],
        )

    @classmethod
    def execute(cls, image: torch.Tensor, scale: tone.BrightnessScale) -> io.NodeOutput:
        return io.NodeOutput(tone.brightness(image, scale, report_images()))


class TillerColorGrid(io.ComfyNode):
    """Colour cells."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TillerColorGrid",
            display_name="Color Grid",
            category=CATEGORY,
            description="Flat colour cells of about 64 x 64 pixels, for the T2I color adapter.",
            search_aliases=["color", "color grid", "t2ia_color_grid", "ColorPreprocessor", "color palette"],
            inputs=[image_input(), resolution_input()],
            outputs=[hint_output("The grid of flat colours.")],
        )

    @classmethod
    def execute(cls, image: torch.Tensor, resolution: int) -> io.NodeOutput:
        return io.NodeOutput(tone.color_grid(image, resolution, report_images()))


HINTS = (
    ("invert", TillerInvert),
    ("shuffle", TillerShuffle),
    ("tile_resample", TillerTileResample),
    ("blur", TillerBlur),
    ("recolor_luminance", TillerRecolorLuminance),
    ("recolor_intensity", TillerRecolorIntensity),
    ("brightness", TillerBrightness),
    ("color_grid", TillerColorGrid),
)
"""Name in the all-in-one node -> its node. TillerHint is made from these lists."""
