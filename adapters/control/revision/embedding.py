"""Image embeddings -> the pooled vector that steers SDXL, as Revision does it."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch

WIDTH = 1280
"""Width of the embeddings of CLIP-ViT-bigG, and of the part of SDXL's vector that they replace."""
TIMES = 1000
BETAS = (1e-4, 2e-2)
"""First and last variance of the noise; their square roots rise evenly between."""


class WeightedImage(NamedTuple):
    """One embedding (n,1280), a row for each picture, and the weight of all of them."""

    embedding: torch.Tensor
    weight: float


def parse_weights(text: str, images: int, needed_by: str = "Revision", what: str = "images") -> list[float]:
    """Text such as "1" or "1, 0.5" -> one number for each image; a single one holds for all.

    `needed_by` and `what` are the words for errors.

    Raises ValueError for what is not a number, not finite, or of another count.
    """
    parts = [part.strip() for part in text.replace(";", ",").split(",")]
    weights = []
    for part in parts:
        try:
            weight = float(part)
        except ValueError:
            weight = math.nan
        if not math.isfinite(weight):
            raise ValueError(
                f"{needed_by} needs weights that are numbers, separated by commas, got {part!r} in {text!r}. "
                f'Write "1" for all {what}, or "1, 0.5" for two.'
            )
        weights.append(weight)
    if len(weights) == 1:
        return weights * images
    if len(weights) != images:
        raise ValueError(
            f"{needed_by} needs one weight, or one for each of the {images} {what}, got {len(weights)}: "
            f"{text!r}. Add or take away weights."
        )
    return weights


def noised(embedding: torch.Tensor, amount: float, generator: torch.Generator) -> torch.Tensor:
    """(n,1280) -> (n,1280), carried `amount` (0..1) of the way into noise; 0 is the embedding itself.

    Source: Mikubill/sd-webui-controlnet: scripts/hook.py (AbstractLowScaleModel), which leaves 1 % of noise
    at 0; Ho, Jain, Abbeel 2020, "Denoising Diffusion Probabilistic Models" (arXiv:2006.11239), equation 4.
    """
    if amount <= 0.0:
        return embedding
    time = min(TIMES - 1, int(amount * TIMES))
    betas = torch.linspace(BETAS[0] ** 0.5, BETAS[1] ** 0.5, TIMES, dtype=torch.float64) ** 2
    kept = float((1.0 - betas)[: time + 1].prod())
    noise = torch.randn(embedding.shape, generator=generator)
    return math.sqrt(kept) * embedding + math.sqrt(1.0 - kept) * noise


def pooled_vector(images: Sequence[WeightedImage], noise_augmentation: float, seed: int) -> torch.Tensor:
    """Embeddings (n,1280) with weights -> (1,1280) float32 on the CPU, their noised and weighted sum.

    Picture number k of all has the noise of seed + k, so another picture behind it changes nothing of it.

    Raises ValueError for no image, for an embedding of another width, and for noise outside 0..1.
    """
    if not images:
        raise ValueError("Revision needs at least one image, got none. Connect CLIP Vision Encode to images.")
    if not 0.0 <= noise_augmentation <= 1.0:
        raise ValueError(
            f"Revision needs noise_augmentation from 0 to 1, got {noise_augmentation}. 0 is none."
        )
    total, number = torch.zeros(1, WIDTH), 0
    for image in images:
        for row in _checked(image.embedding).detach().cpu().float():
            generator = torch.Generator().manual_seed((seed + number) % 2**64)
            total += noised(row.unsqueeze(0), noise_augmentation, generator) * image.weight
            number += 1
    return total


def _checked(embedding: object) -> torch.Tensor:
    if isinstance(embedding, torch.Tensor) and embedding.ndim == 2 and embedding.shape[-1] == WIDTH:
        return embedding
    what = f"shape {tuple(embedding.shape)}" if isinstance(embedding, torch.Tensor) else str(embedding)
    raise ValueError(
        f"Revision needs image embeddings of CLIP-ViT-bigG, {WIDTH} wide, got {what}. Load clip_vision_g "
        "(CLIP-ViT-bigG-14-laion2B) with Load CLIP Vision; ViT-L gives 768 and ViT-H 1024."
    )
