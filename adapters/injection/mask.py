"""A mask of any size, cut to the size of an attention layer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as functional


def usable(mask: torch.Tensor | None) -> torch.Tensor | None:
    """Mask (H,W), (N,H,W) or (N,1,H,W) -> (N,1,H,W) float in 0..1; None where it is 1 everywhere.

    Raises ValueError for what is no mask of finite values.
    """
    if mask is None:
        return None
    whole = shaped(check(mask))
    return None if bool((whole == 1.0).all()) else whole


def check(mask: torch.Tensor) -> torch.Tensor:
    """The mask itself; raises ValueError for another number of dimensions, an empty one, NaN or infinity."""
    if mask.ndim not in (2, 3, 4) or (mask.ndim == 4 and mask.shape[1] != 1):
        raise ValueError(
            f"A mask of shape (height, width) or (batch, height, width) is needed, got {tuple(mask.shape)}. "
            "Connect a MASK output."
        )
    if mask.numel() == 0:
        count, (height, width) = 1 if mask.ndim == 2 else len(mask), mask.shape[-2:]
        raise ValueError(
            f"A mask of at least 1 x 1 pixel is needed, got {count} of {width} x {height}. Look at the node "
            "that made it."
        )
    if not bool(torch.isfinite(mask).all()):
        raise ValueError(
            "A mask of finite values is needed, got NaN or infinite ones. Look at the node that made it."
        )
    return mask


def shaped(mask: torch.Tensor) -> torch.Tensor:
    """Mask (H,W), (N,H,W) or (N,1,H,W) -> (N,1,H,W) float in 0..1."""
    whole = mask[None, None] if mask.ndim == 2 else mask[:, None] if mask.ndim == 3 else mask
    return whole.float().clamp(0.0, 1.0)


class Area(NamedTuple):
    """The part of a latent that a conditioning is for, and the size of the whole."""

    top: int
    left: int
    height: int
    width: int
    whole: tuple[int, int]

    @classmethod
    def of(cls, area: Sequence[int], height: int, width: int) -> Area:
        """Of the host's (height, width, top, left), which may reach beyond the latent."""
        tall, wide, top, left = area
        return cls(top, left, min(tall, height - top), min(wide, width - left), (height, width))


WHOLE = Area(0, 0, 1, 1, (1, 1))


def fit(mask: torch.Tensor, height: int, width: int, area: Area | None = None) -> torch.Tensor:
    """Mask (N,1,H,W) -> (N, height * width, 1): the mean of what each place of a layer stands for.

    With `area` the layer stands for that part of the mask. A mask with less detail than the layer is
    enlarged smoothly first.
    """
    place = WHOLE if area is None else area
    tall = max(mask.shape[-2], math.ceil(height * place.whole[0] / place.height))
    wide = max(mask.shape[-1], math.ceil(width * place.whole[1] / place.width))
    if (tall, wide) != tuple(mask.shape[-2:]):
        mask = functional.interpolate(mask, (tall, wide), mode="bilinear")
    rows = _means(tall, place.top / place.whole[0], place.height / place.whole[0], height)
    columns = _means(wide, place.left / place.whole[1], place.width / place.whole[1], width)
    sized = rows.to(mask) @ mask @ columns.to(mask).T
    return sized.clamp(0.0, 1.0).flatten(2).movedim(1, 2)


def _means(size: int, start: float, share: float, count: int) -> torch.Tensor:
    """(count,size): means of `count` equal parts of the share 0..1 of a line of `size` that is at `start`."""
    edges = torch.linspace(start, start + share, count + 1, dtype=torch.float64) * size
    pixels = torch.arange(size, dtype=torch.float64)
    covered = torch.minimum(edges[1:, None], pixels + 1) - torch.maximum(edges[:-1, None], pixels)
    covered = covered.clamp(min=0.0)
    return covered / covered.sum(dim=1, keepdim=True)
