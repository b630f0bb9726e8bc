"""The node that makes noise for the negative side of an image prompt."""

from typing import Any

import torch
from comfy_api.latest import io

from ..adapters.image_prompt.noise import NOISE_KINDS, Noise, noise_pictures
from .image_prompt_inputs import CATEGORY


class TillerImagePromptNoise(io.ComfyNode):
    """Noise to keep away from."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TillerImagePromptNoise",
            display_name="Image Prompt Noise",
            category=CATEGORY,
            description="A picture of noise for the negative input of Encode Image Prompt: the result keeps "
            "away from it, which often gives more contrast and detail.",
            search_aliases=["IPAdapterNoise", "negative image noise", "ipadapter noise"],
            inputs=[
                io.Combo.Input(
                    "kind",
                    options=list(NOISE_KINDS),
                    default="fade",
                    display_name="kind",
                    tooltip="fade: the picture faded into noise; dissolve: some of its values replaced; "
                    "gaussian: noise added; shuffle: pixels displaced, turned over, with noise.",
                ),
                io.Float.Input(
                    "strength",
                    default=1.0,
                    min=0.0,
                    max=1.0,
                    step=0.05,
                    display_name="strength",
                    tooltip="How much noise: 0 leaves the picture, 1 with fade or dissolve is noise alone.",
                ),
                io.Int.Input(
                    "blur",
                    default=0,
                    min=0,
                    max=32,
                    display_name="blur",
                    tooltip="Width of a blur behind the noise, in pixels. 0 is off.",
                ),
                io.Int.Input(
                    "size",
                    default=224,
                    min=16,
                    max=1024,
                    step=2,
                    display_name="size",
                    tooltip="The encoder's size, so that it sees the noise as it is: 224, for Kolors 336, "
                    "for SigLIP 384.",
                ),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=0xFFFFFFFFFFFFFFFF,
                    control_after_generate=True,
                    display_name="seed",
                    tooltip="Which noise. It is the node's own: no other node changes it. Picture n of a "
                    "batch has the seed + n.",
                ),
                io.Image.Input(
                    "image",
                    optional=True,
                    tooltip="The picture to put noise on, mostly the one of the prompt; its middle is cut to "
                    "a square. Without it there is only noise.",
                ),
            ],
            outputs=[
                io.Image.Output(
                    display_name="image",
                    tooltip="The noise, for the negative input of Encode Image Prompt.",
                ),
            ],
        )

    @classmethod
    def execute(
        cls,
        kind: Any,
        strength: float,
        blur: int,
        size: int,
        seed: int,
        image: torch.Tensor | None = None,
    ) -> io.NodeOutput:
        return io.NodeOutput(noise_pictures(image, Noise(kind, strength, blur), size, seed))


NODES = (TillerImagePromptNoise,)
