"""Node that wires an InstructPix2Pix checkpoint in one go."""

from typing import Any

import torch
from comfy_api.latest import io

from ..adapters.control.instruct_pix2pix.apply import Guidance, instruct

CATEGORY = "Tiller/control"


class TillerInstructPix2Pix(io.ComfyNode):
    """Editing by instruction, with both guidances."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TillerInstructPix2Pix",
            display_name="InstructPix2Pix",
            category=CATEGORY,
            description='Edits a picture by an instruction such as "make it winter", with an InstructPix2Pix '
            "checkpoint: three predictions, two guidances, ready for SamplerCustomAdvanced.",
            search_aliases=[
                "ip2p",
                "instruct pix2pix",
                "InstructPixToPixConditioning",
                "cosxl edit",
                "edit by instruction",
                "make it",
            ],
            inputs=[
                io.Model.Input(
                    "model",
                    tooltip="An InstructPix2Pix checkpoint (8 input channels): instruct-pix2pix-00-22000 for "
                    "SD1.5, cosxl_edit for SDXL. An ordinary checkpoint takes the ip2p control net instead.",
                ),
                io.Conditioning.Input(
                    "positive",
                    tooltip="The instruction, as an order and not as a description: make it winter; turn the "
                    "man into a robot; add fireworks to the sky.",
                ),
                io.Conditioning.Input(
                    "negative",
                    tooltip="What to avoid; an empty text is usual. The picture is left out of it.",
                ),
                io.Vae.Input("vae", tooltip="The VAE of the checkpoint: it reads the picture."),
                io.Image.Input(
                    "pixels", tooltip="The picture to edit. Its size is the result's, cut to a multiple of 8."
                ),
                io.Float.Input(
                    "text_cfg",
                    display_name="text cfg",
                    default=7.5,
                    min=0.0,
                    max=100.0,
                    step=0.1,
                    round=0.01,
                    tooltip="How strongly the instruction is followed. Raise it when too little changes.",
                ),
                io.Float.Input(
                    "image_cfg",
                    display_name="image cfg",
                    default=1.5,
                    min=0.0,
                    max=100.0,
                    step=0.05,
                    round=0.01,
                    tooltip="How strongly the picture is kept; 1 to 2 is usual. More changes less.",
                ),
            ],
            outputs=[
                io.Guider.Output("GUIDER", display_name="guider", tooltip="For SamplerCustomAdvanced."),
                io.Latent.Output(
                    "LATENT", display_name="latent", tooltip="An empty latent of the picture's size."
                ),
                io.Conditioning.Output(
                    "positive", display_name="positive", tooltip="The instruction with the picture."
                ),
                io.Conditioning.Output(
                    "middle", display_name="middle", tooltip="The negative text with the picture."
                ),
                io.Conditioning.Output(
                    "negative", display_name="negative", tooltip="The negative text without the picture."
                ),
            ],
        )

    @classmethod
    def execute(
        cls,
        model: Any,
        positive: Any,
        negative: Any,
        vae: Any,
        pixels: torch.Tensor,
        text_cfg: float,
        image_cfg: float,
    ) -> io.NodeOutput:
        made = instruct(model, positive, negative, vae, pixels, Guidance(text_cfg, image_cfg))
        return io.NodeOutput(made.guider, made.latent, made.positive, made.middle, made.negative)


NODES = (TillerInstructPix2Pix,)
