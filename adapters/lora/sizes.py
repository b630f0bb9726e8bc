"""How many numbers a patch changes, so that one for another model is known before it is merged.

The host skips a patch whose size does not fit, with a line in its log.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

from torch import Tensor

Parts = Sequence[Any]


def _lora(parts: Parts) -> int | None:
    """up (out,r,...), down (r,in,...), alpha, mid or None, magnitudes, new shape or None."""
    up, down, _, middle, _, shape = parts
    if shape is not None:
        return None
    if middle is not None:
        return up.shape[0] * down.shape[1] * prod(middle.shape[2:])
    return up.shape[0] * down[0].numel()


def _loha(parts: Parts) -> int | None:
    """w1_a (out,r), w1_b (r,in), alpha, w2_a, w2_b, t1 or None, ..."""
    return None if parts[5] is not None else parts[0].shape[0] * parts[1][0].numel()


def _lokr(parts: Parts) -> int | None:
    """w1 or None, w2 or None, alpha, w1_a, w1_b, w2_a, w2_b, t2 or None, ..."""
    whole_1, whole_2, _, a_1, b_1, a_2, b_2, core, _ = parts
    if core is not None:
        return None
    one = whole_1.numel() if whole_1 is not None else a_1.shape[0] * b_1.shape[1]
    return one * (whole_2.numel() if whole_2 is not None else a_2.shape[0] * b_2[0].numel())


SIZES: dict[str, Callable[[Parts], int | None]] = {"lora": _lora, "loha": _loha, "lokr": _lokr}


def numbers_of(patch: Any) -> int | None:
    """Numbers that a patch of the host changes in its weight, or None where they cannot be told.

    A patch is ("diff" or "set", (tensor, ...)), or an adapter with `name` and `weights`.
    """
    if isinstance(patch, tuple):
        first = patch[1][0] if len(patch) == 2 and len(patch[1]) == 1 else None
        return first.numel() if isinstance(first, Tensor) else None
    size = SIZES.get(getattr(patch, "name", ""))
    return None if size is None else size(patch.weights)
