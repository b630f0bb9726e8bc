"""One call of the model as a control net sees it, and what a unit asks of its net in that call."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch

Layers = Callable[[int], Sequence[float]]
"""Number of a net's layers, shallowest first and the middle last -> one factor for each."""

UNCOND = 1
"""The host's number of the negative conditioning in `cond_or_uncond`."""


class Call(NamedTuple):
    """What the host hands a control object: `rows` of the batch are chunk by chunk, one per conditioning.

    `x` (rows,C,h,w) is the noisy latent, `t` (rows,) its noise level, `cond` the model's arguments,
    `chunks` the number of conditionings in the batch. `options` belongs to this call alone: what is put
    in there acts in this call and nowhere else.
    """

    x: torch.Tensor
    t: torch.Tensor
    cond: dict[str, Any]
    chunks: int
    options: dict[str, Any]


@dataclass(frozen=True)
class Steering:
    """How a net shall act in one call.

    `strength` has the factor of the step in it. `rows` (rows,) bool says which rows are steered (None:
    all). `layers` gives the layers' factors (None: all 1). `mask` (n,1,H,W) in 0..1 confines the effect,
    one for all rows (n = 1) or one per row, at any size (None: everywhere).
    """

    strength: float = 1.0
    rows: torch.Tensor | None = None
    layers: Layers | None = None
    mask: torch.Tensor | None = None


def cond_rows(cond_or_uncond: Sequence[int], rows: int) -> torch.Tensor:
    """(rows,) bool: True where a row belongs to a positive conditioning.

    `cond_or_uncond` has one number per chunk of rows / chunks neighbouring rows; the host puts the
    negative first. Source: ComfyUI: comfy/samplers.py (_calc_cond_batch).
    """
    per_chunk = rows // len(cond_or_uncond)
    return torch.tensor([number != UNCOND for number in cond_or_uncond]).repeat_interleave(per_chunk)
