"""The node for reference control."""

from typing import Any

import torch
from comfy_api.latest import io

from ..adapters.control.reference.apply import apply_reference
from ..adapters.control.reference.settings import REFERENCE_KINDS, REFERENCE_MODES, ReferenceSettings
from ..adapters.control.unit import WINDOW_UNITS
from .control_options import OptionsType
from .window_inputs import window_inputs


class TillerReference(io.ComfyNode):
    """Takes style or content over from a picture, without a control net."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TillerReference",
            display_name="Reference",
            category="Tiller/control",
            description="Lets an SD1.5 or SDXL model look at a picture while it draws: subject, colours and "
            "style carry over. No control net and no file is needed; each step costs one more pass.",
            search_aliases=[
                "reference_only",
                "reference_adain",
                "reference_adain+attn",
                "ACN_ReferenceControlNet",
                "reference controlnet",
                "style transfer",
            ],
            inputs=[
                io.Conditioning.Input("positive", tooltip="What the picture should show."),
                io.Conditioning.Input("negative", tooltip="What the picture should not show."),
                io.Image.Input(
                    "image",
                    tooltip="The picture to look at, any size: its middle is cut to the latent's shape.",
                ),
                io.Vae.Input("vae", tooltip="The VAE of the model's checkpoint."),
                io.Combo.Input(
                    "kind",
                    options=list(REFERENCE_KINDS),
                    default="reference_only",
                    display_name="kind",
                    tooltip="reference_only: self-attention also reads the picture, which carries over what "
                    "it shows. reference_adain: colours and contrast of the layers. Or both.",
                ),
                io.Float.Input(
                    "style_fidelity",
                    default=0.5,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    display_name="style fidelity",
                    tooltip="How much the negative side stays without the picture. 1 is the strongest "
                    "likeness, 0 the freest. SDXL takes the cube of it.",
                ),
                io.Float.Input(
                    "strength",
                    default=1.0,
                    min=0.0,
                    max=2.0,
                    step=0.01,
                    display_name="strength",
                    tooltip="How many layers look at the picture: 0 none, 1 all of self-attention and a "
                    "third of the statistics, 2 nearly all.",
                ),
                *window_inputs(
                    "Where the reference begins to act: 0 = the first step.",
                    "Where the reference stops to act: 1 = the last step. Steps outside are free.",
                ),
                io.Combo.Input(
                    "window",
                    options=list(WINDOW_UNITS),
                    default="noise",
                    display_name="window",
                    tooltip="What start and end measure. noise: the noise level, as ComfyUI does. steps: a "
                    "share of the steps, as the A1111 web UI does.",
                ),
                io.Combo.Input(
                    "mode",
                    options=list(REFERENCE_MODES),
                    default="balanced",
                    display_name="mode",
                    tooltip="balanced: style_fidelity counts. prompt: the prompt matters more (fidelity 0). "
                    "control: the picture matters more (fidelity 1).",
                ),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=0xFFFFFFFFFFFFFFFF,
                    control_after_generate=True,
                    display_name="seed",
                    tooltip="The noise put on the picture at each step. It is the reference's own: no other "
                    "node changes it.",
                ),
                OptionsType.Input(
                    "options",
                    optional=True,
                    tooltip="From Control Options: a curve over the steps, and a mask of where the drawing "
                    "may look at the picture.",
                ),
            ],
            outputs=[
                io.Conditioning.Output(
                    "positive",
                    display_name="positive",
                    tooltip="The positive conditioning with the reference, for the sampler.",
                ),
                io.Conditioning.Output(
                    "negative",
                    display_name="negative",
                    tooltip="The negative conditioning with the reference, for the sampler.",
                ),
            ],
        )

    @classmethod
    def execute(
        cls,
        positive: Any,
        negative: Any,
        image: torch.Tensor,
        vae: Any,
        kind: Any,
        style_fidelity: float,
        mode: Any,
        seed: int,
        **unit: Any,
    ) -> io.NodeOutput:
        settings = ReferenceSettings(kind, style_fidelity, mode, seed)
        return io.NodeOutput(*apply_reference(positive, negative, settings, image=image, vae=vae, **unit))


NODES = (TillerReference,)
