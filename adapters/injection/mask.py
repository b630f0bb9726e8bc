"""A mask of any size, cut to the size of an attention layer."""

from __future__ import annotations

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


def fit(mask: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Mask (N,1,H,W) -> (N, height * width, 1), each value the mean of the area it stands for."""
    sized = functional.interpolate(mask, (height, width), mode="bilinear", antialias=True)
    return sized.clamp(0.0, 1.0).flatten(2).movedim(1, 2)
