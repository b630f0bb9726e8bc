"""A mask of any size, cut to the size of an attention layer."""

from __future__ import annotations

import torch
import torch.nn.functional as functional


def usable(mask: torch.Tensor | None) -> torch.Tensor | None:
    """Mask (H,W), (N,H,W) or (N,1,H,W) -> (N,1,H,W) float in 0..1; None where it is 1 everywhere.

    Raises ValueError for another number of dimensions or an empty mask.
    """
    if mask is None:
        return None
    shaped = mask[None, None] if mask.ndim == 2 else mask[:, None] if mask.ndim == 3 else mask
    if shaped.ndim != 4 or shaped.shape[1] != 1 or shaped.numel() == 0:
        raise ValueError(
            f"A mask of shape (height, width) or (batch, height, width) is needed, got {tuple(mask.shape)}."
        )
    shaped = shaped.float().clamp(0.0, 1.0)
    return None if bool((shaped == 1.0).all()) else shaped


def fit(mask: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Mask (N,1,H,W) -> (N, height * width, 1), each value the mean of the area it stands for."""
    sized = functional.interpolate(mask, (height, width), mode="bilinear", antialias=True)
    return sized.clamp(0.0, 1.0).flatten(2).movedim(1, 2)
