"""Node that keeps a picture's colours while it is sampled anew."""

from typing import Any

import torch
from comfy_api.latest import io

from ..adapters.control.color_fix.apply import RADII, ColorFixSettings, keep_colors

CATEGORY = "Tiller/control"


def _window_input(name: str, default: float, tooltip: str) -> io.Float.Input:
    return io.Float.Input(
        name,
        display_name=name.replace("_", " "),
        default=default,
        min=0.0,
        max=1.0,
        step=0.001,
        tooltip=tooltip,
    )


class TillerTileColorFix(io.ComfyNode):
    """The colours of a picture, kept in every step."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TillerTileColorFix",
            display_name="Tile Color Fix",
            category=CATEGORY,
            description="Keeps the colours of a picture in every step while the model invents new detail: "
            "for enlarging with a tile control net, which drifts in colour. With sharpness it is the web "
            "UI's tile_colorfix+sharp.",
            search_aliases=[
                "tile",
                "color fix",
                "tile_colorfix",
                "tile_colorfix+sharp",
                "colour shift",
                "TTPlanet_TileGF_Preprocessor",
            ],
            inputs=[
                io.Model.Input(
                    "model", tooltip="The model to sample with. It is not changed; a clone comes out."
                ),
                io.Image.Input(
                    "image",
                    tooltip="The picture whose colours are kept. It is fitted to the latent by scaling and a "
                    "centre crop; one serves a whole batch.",
                ),
                io.Vae.Input("vae", tooltip="The VAE of the model's checkpoint: it reads the picture."),
                io.Float.Input(
                    "strength",
                    display_name="strength",
                    default=1.0,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip="1 takes the picture's colours, 0 leaves the model alone, between is mixed.",
                ),
                io.Int.Input(
                    "kernel",
                    display_name="kernel",
                    default=8,
                    min=RADII[0],
                    max=RADII[1],
                    tooltip="Radius of the blur that parts colour from detail, in latent pixels (8 = 64 "
                    "pixels of the picture). Larger leaves more freedom. In the web UI: Variation, 3 to 32.",
                ),
                io.Float.Input(
                    "sharpness",
                    display_name="sharpness",
                    default=0.0,
                    min=0.0,
                    max=100.0,
                    step=0.01,
                    tooltip="0 is off, 1 the web UI's default for tile_colorfix+sharp. In per cent: that "
                    "much blur goes into the negative prediction, so guidance sharpens. Needs cfg above 1.",
                ),
                _window_input("start_percent", 0.0, "Where the fix begins to act: 0 = the first step."),
                _window_input("end_percent", 1.0, "Where the fix stops to act: 1 = the last step."),
            ],
            outputs=[
                io.Model.Output(
                    "MODEL",
                    display_name="model",
                    tooltip="The model that keeps the colours, for the sampler.",
                )
            ],
        )

    @classmethod
    def execute(
        cls,
        model: Any,
        image: torch.Tensor,
        vae: Any,
        strength: float,
        kernel: int,
        sharpness: float,
        start_percent: float,
        end_percent: float,
    ) -> io.NodeOutput:
        settings = ColorFixSettings(strength, kernel, sharpness, start_percent, end_percent)
        return io.NodeOutput(keep_colors(model, image, vae, settings))


NODES = (TillerTileColorFix,)
