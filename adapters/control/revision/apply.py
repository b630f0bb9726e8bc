"""Puts image embeddings in place of the prompt's pooled vector, on SDXL conditioning."""

from collections.abc import Sequence
from typing import Any

import torch

from .embedding import WIDTH, WeightedImage, pooled_vector

Conditioning = list[list[Any]]


def revise(
    positive: Conditioning,
    negative: Conditioning,
    images: Sequence[WeightedImage],
    noise_augmentation: float = 0.0,
    seed: int = 0,
    ignore_prompt: bool = False,
) -> tuple[Conditioning, Conditioning]:
    """Conditioning of SDXL with the images as pooled vector: their sum on positive, zeros on negative.

    `ignore_prompt` makes the text of both zero as well. Nothing of what comes in is changed.

    Raises ValueError for conditioning that is not of SDXL or carries unCLIP images, and for embeddings that
    do not fit (`pooled_vector`).

    Source: Mikubill/sd-webui-controlnet: scripts/hook.py (Revision).
    """
    vector = pooled_vector(images, noise_augmentation, seed)
    return (
        _with_vector(positive, vector, ignore_prompt, "positive"),
        _with_vector(negative, torch.zeros_like(vector), ignore_prompt, "negative"),
    )


def _with_vector(
    conditioning: Conditioning, vector: torch.Tensor, ignore_prompt: bool, which: str
) -> Conditioning:
    entries = []
    for text, options in conditioning:
        pooled = options.get("pooled_output")
        if pooled is None or pooled.shape[-1] != WIDTH:
            got = "none" if pooled is None else f"one of {pooled.shape[-1]}"
            raise ValueError(
                f"Revision needs {which} conditioning of SDXL, with a pooled vector of {WIDTH}, got {got}. "
                "Encode the prompt with the CLIP of an SDXL checkpoint."
            )
        if "unclip_conditioning" in options:
            raise ValueError(
                f"Revision needs {which} conditioning without images, got one from unCLIP Conditioning, "
                "which would replace them. Use one of the two nodes."
            )
        context = torch.zeros_like(text) if ignore_prompt else text
        entries.append([context, {**options, "pooled_output": vector.to(pooled)}])
    return entries
