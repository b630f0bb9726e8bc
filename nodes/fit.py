"""Nodes that fit hints to the sampling size."""

from typing import Any

import torch
from comfy_api.latest import io

from ..preprocessors.fit import RESIZE_MODES, ResizeMode, Size, fit_image, fit_mask, pixel_perfect_resolution

CATEGORY = "Tiller/hints"
LONGEST_SIDE = 16384

MODE_TIP = (
    "crop: keep the shape and cut what is too much from both ends (A1111: Crop and Resize). "
    "stretch: change the shape (Just Resize). fill: keep all of it and fill up both ends (Resize and Fill)."
)


def _side_input(name: str, label: str, tooltip: str, step: int = 8) -> io.Int.Input:
    """A side in pixels. The front end counts steps from the minimum, so that is one step."""
    return io.Int.Input(
        name, display_name=label, default=512, min=step, max=LONGEST_SIDE, step=step, tooltip=tooltip
    )


def _target_inputs() -> list[Any]:
    return [
        _side_input("width", "width", "Width of the picture you will sample, in pixels."),
        _side_input("height", "height", "Height of the picture you will sample, in pixels."),
        io.Combo.Input(
            "resize_mode",
            display_name="resize mode",
            options=list(RESIZE_MODES),
            default="crop",
            tooltip=MODE_TIP,
        ),
    ]


class TillerPixelPerfect(io.ComfyNode):
    """The resolution at which a hint needs no scaling."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TillerPixelPerfect",
            display_name="Pixel Perfect Resolution",
            category=CATEGORY,
            description="The resolution for a hint node at which its map needs no further scaling in the "
            "picture you sample: the Pixel Perfect switch of the A1111 web UI as a number.",
            search_aliases=[
                "pixel perfect",
                "PixelPerfectResolution",
                "preprocessor resolution",
                "resolution",
            ],
            inputs=[
                *_target_inputs(),
                _side_input(
                    "source_width",
                    "source width",
                    "Width of the picture the hint is made from; an image replaces it.",
                    1,
                ),
                _side_input(
                    "source_height", "source height", "Height of that picture; an image replaces it.", 1
                ),
                io.Image.Input(
                    "image",
                    optional=True,
                    tooltip="The picture the hint is made from; only its size counts.",
                ),
            ],
            outputs=[
                io.Int.Output(
                    "resolution",
                    display_name="resolution",
                    tooltip="Length of the shorter side, for the resolution input of a hint node.",
                )
            ],
        )

    @classmethod
    def execute(
        cls,
        width: int,
        height: int,
        resize_mode: ResizeMode,
        source_width: int,
        source_height: int,
        image: torch.Tensor | None = None,
    ) -> io.NodeOutput:
        source = Size(source_height, source_width)
        if image is not None:
            source = Size(image.shape[1], image.shape[2])
        return io.NodeOutput(pixel_perfect_resolution(source, Size(height, width), resize_mode))


class TillerFitHint(io.ComfyNode):
    """A hint and its mask at the sampling size."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TillerFitHint",
            display_name="Fit Hint",
            category=CATEGORY,
            description="Resizes a finished hint to the sampling size without harm: flat colours stay flat, "
            "black and white stays black and white, one-pixel lines stay one pixel wide.",
            search_aliases=[
                "resize hint",
                "fit hint",
                "crop and resize",
                "resize and fill",
                "just resize",
                "HintImageEnchance",
                "resize control image",
                "outpaint pad",
            ],
            inputs=[
                io.Image.Input(
                    "image",
                    tooltip="The hint. A fourth channel is taken as the mask of an inpaint hint and kept.",
                ),
                *_target_inputs(),
                io.Mask.Input(
                    "mask",
                    optional=True,
                    tooltip="A mask of the same picture (1 = affected); it gets the same cut or filling.",
                ),
            ],
            outputs=[
                io.Image.Output("IMAGE", display_name="image", tooltip="The hint at width x height."),
                io.Mask.Output(
                    "MASK",
                    display_name="mask",
                    tooltip="The mask at width x height. Filled-up borders are 1, so without a mask input it "
                    "marks what to outpaint.",
                ),
            ],
        )

    @classmethod
    def execute(
        cls,
        image: torch.Tensor,
        width: int,
        height: int,
        resize_mode: ResizeMode,
        mask: torch.Tensor | None = None,
    ) -> io.NodeOutput:
        size = Size(height, width)
        fitted = fit_image(image, size, resize_mode)
        source = Size(image.shape[1], image.shape[2])
        if mask is None:
            mask = torch.zeros((len(image), *source), dtype=torch.float32, device=image.device)
        return io.NodeOutput(fitted, fit_mask(mask, size, resize_mode, source))


NODES = (TillerPixelPerfect, TillerFitHint)
