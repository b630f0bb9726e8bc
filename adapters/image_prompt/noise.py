"""Pictures of noise for the negative side of an image prompt: what to keep away from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from .pictures import Framing, Preparation, prepared

NoiseKind = Literal["fade", "dissolve", "gaussian", "shuffle"]
NOISE_KINDS: tuple[NoiseKind, ...] = ("fade", "dissolve", "gaussian", "shuffle")

DISPLACEMENT = 75.0
"""How far "shuffle" may move a pixel, in pixels and halves of them: a noise of -1..1 times this."""

SMOOTHEST = 3.5
SHUFFLE_NOISE = 0.75


@dataclass(frozen=True)
class Noise:
    """Which noise: `strength` 0..1, `blur` the width in pixels of a Gaussian behind it (0: none)."""

    kind: NoiseKind
    strength: float = 1.0
    blur: int = 0


def noised(picture: Tensor, noise: Noise, generator: torch.Generator) -> Tensor:
    """(1,S,S,3) float 0..1 -> the same with noise, 0..1, from the generator alone.

    fade: the picture faded into uniform noise by `strength`. dissolve: that share of its values replaced
    by noise. gaussian: normal noise times `strength` added. shuffle: pixels displaced at random, the
    smoother the weaker, the picture turned by half a turn, and normal noise laid over it.

    Source: cubiq/ComfyUI_IPAdapter_plus: IPAdapterPlus.py (IPAdapterNoise), with a seed of its own in place
    of one taken from the picture's sum, and borders repeated in place of black ones.
    """
    strength = noise.strength
    if noise.kind == "shuffle":
        turned = displaced(picture, (1.0 - strength) * SMOOTHEST, generator).flip(1, 2)
        field = torch.randn(picture.shape, generator=generator) * (strength * SHUFFLE_NOISE)
        made = turned * (1.0 - field) + field
    elif noise.kind == "gaussian":
        made = picture + torch.randn(picture.shape, generator=generator) * strength
    elif noise.kind == "dissolve":
        taken = torch.rand(picture.shape, generator=generator) < strength
        made = torch.where(taken, torch.rand(picture.shape, generator=generator), picture)
    else:
        field = torch.rand(picture.shape, generator=generator)
        made = picture * (1.0 - strength) + field * strength
    made = made.clamp(0.0, 1.0)
    return blurred(made, noise.blur + 1 - noise.blur % 2) if noise.blur > 0 else made


def displaced(picture: Tensor, sigma: float, generator: torch.Generator) -> Tensor:
    """(1,H,W,3) -> each pixel from a place beside it; `sigma` pixels smooth the field of displacements."""
    height, width = picture.shape[1:3]
    field = torch.rand(1, height, width, 2, generator=generator) * 2.0 - 1.0
    if sigma > 0.0:
        size = int(8 * sigma + 1)
        field = blurred(field, size + 1 - size % 2, sigma)
    rows = (torch.arange(height) * 2.0 + 1.0) / height - 1.0
    columns = (torch.arange(width) * 2.0 + 1.0) / width - 1.0
    places = torch.stack(torch.meshgrid(rows, columns, indexing="ij")[::-1], dim=-1)
    moved = places + field * DISPLACEMENT / torch.tensor([height, width])
    sampled = functional.grid_sample(
        picture.movedim(-1, 1), moved, mode="bilinear", padding_mode="border", align_corners=False
    )
    return sampled.movedim(1, -1)


def blurred(picture: Tensor, size: int, sigma: float | None = None) -> Tensor:
    """(1,H,W,C) -> Gaussian blur by a kernel of `size` (odd) pixels, the border mirrored.

    Without a `sigma` it is 0.15 size + 0.35 pixels. A kernel that reaches beyond the picture is cut down.
    """
    reach = min(size // 2, picture.shape[1] - 1, picture.shape[2] - 1)
    spread = 0.15 * size + 0.35 if sigma is None else sigma
    steps = torch.arange(-reach, reach + 1, dtype=torch.float32)
    kernel = torch.exp(-0.5 * (steps / spread) ** 2)
    kernel = kernel / kernel.sum()
    planes = picture.movedim(-1, 1).flatten(0, 1).unsqueeze(1)
    planes = functional.pad(planes, (reach, reach, reach, reach), mode="reflect")
    planes = functional.conv2d(planes, kernel.view(1, 1, 1, -1))
    planes = functional.conv2d(planes, kernel.view(1, 1, -1, 1))
    return planes.squeeze(1).unflatten(0, (len(picture), -1)).movedim(1, -1)


def noise_pictures(image: Tensor | None, noise: Noise, size: int, seed: int) -> Tensor:
    """IMAGE (B,H,W,C) float 0..1 or none -> IMAGE (B,size,size,3) of noise; picture n has the seed + n.

    The pictures' middles are cut to squares; without any, one black picture is taken.

    Raises ValueError for what is no image.
    """

    if image is None:
        squares = [torch.zeros(1, size, size, 3)]
    else:
        squares = [one.pictures for one in prepared(image, Preparation(Framing(size)))]
    made = []
    for number, picture in enumerate(squares):
        generator = torch.Generator().manual_seed((seed + number) % 2**64)
        made.append(noised(picture, noise, generator))
    return torch.cat(made)
