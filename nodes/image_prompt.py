"""The node that turns pictures into an image prompt."""

from typing import Any

import torch
from comfy_api.latest import io

from ..adapters.image_prompt.embeddings import BATCH_MODES
from ..adapters.image_prompt.encode.apply import EncodeSettings, encode_image_prompt
from ..adapters.image_prompt.encode.nothing import NO_IMAGE
from ..adapters.image_prompt.pictures import CROP_POSITIONS, PADDINGS, TILES
from .image_prompt_inputs import CATEGORY, ImageEncoderType, ImagePromptType, IPAdapterType


def _links() -> list[Any]:
    return [
        IPAdapterType.Input(
            "ip_adapter", tooltip="The adapter that the prompt is for, from Load IP-Adapter."
        ),
        ImageEncoderType.Input(
            "image_encoder",
            tooltip="The encoder that this adapter wants, from Load Image Encoder.",
        ),
        io.Image.Input("image", tooltip="The picture, or a batch of pictures. Transparency becomes white."),
    ]


def _framing() -> list[Any]:
    return [
        io.Combo.Input(
            "crop_position",
            options=list(CROP_POSITIONS),
            default="official",
            display_name="crop position",
            tooltip="Encoders see a square. official: as they were trained, the middle for CLIP, stretched "
            "for SigLIP. Or the part of a longer picture that is kept; pad: all of it with bars; stretch: "
            "all of it, pressed.",
        ),
        io.Combo.Input(
            "padding",
            options=list(PADDINGS),
            default="black",
            display_name="padding",
            tooltip="The bars of pad: black, white, or the border's own pixels (edge).",
        ),
        io.Float.Input(
            "sharpening",
            default=0.0,
            min=0.0,
            max=1.0,
            step=0.05,
            display_name="sharpening",
            tooltip="Contrast adaptive sharpening at the encoder's size: makes details count more. 0 is off.",
        ),
        io.Combo.Input(
            "tiles",
            options=list(TILES),
            default="off",
            display_name="tiles",
            tooltip="More of a picture. tiled: up to four tiles along its length, 2 x 2 of a square, the "
            "tokens of each. enhance: tiles merged into the tokens of one picture, mixed with the whole, or "
            "beside it.",
        ),
        io.Int.Input(
            "enhance_tiles",
            default=2,
            min=2,
            max=16,
            display_name="enhance tiles",
            tooltip="For enhance: tiles along each side. 2 shows the encoder four times the pixels.",
        ),
        io.Float.Input(
            "enhance_ratio",
            default=0.5,
            min=0.0,
            max=1.0,
            step=0.05,
            display_name="enhance ratio",
            tooltip="For enhance: the share of the whole picture against its tiles. 1 is the whole alone.",
        ),
    ]


def _effect() -> list[Any]:
    return [
        io.Combo.Input(
            "batch",
            options=list(BATCH_MODES),
            default="concat",
            display_name="batch",
            tooltip="What becomes of several pictures. concat: the model sees all of them; average: their "
            "mean; one per picture: each for one picture of the drawn batch.",
        ),
        io.Float.Input(
            "weight",
            default=1.0,
            min=-1.0,
            max=3.0,
            step=0.01,
            display_name="weight",
            tooltip="Multiplies the embeddings. It counts where prompts are combined; the strength of the "
            "whole is set where the adapter is applied.",
        ),
        io.Combo.Input(
            "no_image",
            options=list(NO_IMAGE),
            default="official",
            display_name="no image",
            tooltip="What the negative side gets without a negative image. official: as the adapter was "
            "made. black: a black picture, as IPAdapter_plus does.",
        ),
        io.Image.Input(
            "negative",
            optional=True,
            tooltip="What the picture should not look like, or noise from Image Prompt Noise: one picture, "
            "or one for each.",
        ),
        io.Mask.Input(
            "mask",
            optional=True,
            tooltip="Which part of the picture counts (1 = counts); it is cut as the picture is. Where the "
            "drawing is changed is another mask, in Apply IP-Adapter.",
        ),
    ]


class TillerEncodeImagePrompt(io.ComfyNode):
    """Turns pictures into an image prompt."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TillerEncodeImagePrompt",
            display_name="Encode Image Prompt",
            category=CATEGORY,
            description="Turns pictures into an image prompt for an IP-Adapter: cut, padded, sharpened or in "
            "tiles, several together or one for each picture of a batch.",
            search_aliases=[
                "IPAdapterEncoder",
                "PrepImageForClipVision",
                "IPAdapterTiled",
                "IPAdapterClipVisionEnhancer",
                "image prompt",
                "CLIPVisionEncode",
                "unfold batch",
            ],
            inputs=[*_links(), *_framing(), *_effect()],
            outputs=[
                ImagePromptType.Output(
                    display_name="image_prompt",
                    tooltip="The image prompt, for Apply IP-Adapter, Combine Image Prompts and Save Image "
                    "Prompt.",
                ),
                io.Image.Output(
                    display_name="seen",
                    tooltip="What the encoder saw: each square and tile at its size.",
                ),
            ],
        )

    @classmethod
    def execute(
        cls,
        ip_adapter: Any,
        image_encoder: Any,
        image: torch.Tensor,
        negative: torch.Tensor | None = None,
        mask: torch.Tensor | None = None,
        **settings: Any,
    ) -> io.NodeOutput:
        chosen = EncodeSettings(**settings)
        return io.NodeOutput(*encode_image_prompt(ip_adapter, image_encoder, image, chosen, negative, mask))


NODES = (TillerEncodeImagePrompt,)
