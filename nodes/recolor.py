"""Node that ends a recolouring: the original's tones under the new colours."""

import torch
from comfy_api.latest import io

from ..preprocessors.recolor import RECOLOR_CHANNELS, RecolorChannel, recolor

CATEGORY = "Tiller/control"


class TillerRecolor(io.ComfyNode):
    """The tones of the original with the colours of the sampled picture."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TillerRecolor",
            display_name="Recolor",
            category=CATEGORY,
            description="Puts the original's lightness back under the colours of a sampled picture: the last "
            "step of colouring a photograph. Nothing of the photograph's detail is lost.",
            search_aliases=[
                "recolor",
                "recolor_luminance",
                "recolor_intensity",
                "colorize",
                "keep luminance",
                "ioclab_sd15_recolor",
            ],
            inputs=[
                io.Image.Input("image", tooltip="The coloured picture from the sampler (VAE Decode)."),
                io.Image.Input(
                    "original",
                    tooltip="The photograph that was coloured, not its hint: its tones are kept. One serves "
                    "a whole batch; another size is scaled and cut around the centre, as hints are.",
                ),
                io.Combo.Input(
                    "channel",
                    display_name="channel",
                    options=list(RECOLOR_CHANNELS),
                    default="luminance",
                    tooltip="luminance: lightness as the eye sees it (CIE Lab); where a colour cannot be "
                    "that light or dark, it becomes paler. intensity: the greatest of red, green and "
                    "blue (HSV).",
                ),
                io.Float.Input(
                    "gamma",
                    display_name="gamma",
                    default=1.0,
                    min=0.1,
                    max=2.0,
                    step=0.01,
                    tooltip="The gamma that the hint was made with; 1 keeps the original's tones.",
                ),
            ],
            outputs=[
                io.Image.Output(
                    "IMAGE",
                    display_name="image",
                    tooltip="The coloured picture with exactly the original's tones.",
                )
            ],
        )

    @classmethod
    def execute(
        cls, image: torch.Tensor, original: torch.Tensor, channel: RecolorChannel, gamma: float
    ) -> io.NodeOutput:
        return io.NodeOutput(recolor(image, original, channel, gamma))


NODES = (TillerRecolor,)
