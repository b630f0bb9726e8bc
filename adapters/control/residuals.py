"""Sums the residuals of chained control nets."""

from collections.abc import Mapping, Sequence

import torch

Residuals = dict[str, list[torch.Tensor | None]]
PLACES = ("input", "middle", "output")


def _sum(own: torch.Tensor | None, previous: torch.Tensor | None) -> torch.Tensor | None:
    if own is None or previous is None:
        return previous if own is None else own
    return previous + own


def add_residuals(
    own: Mapping[str, Sequence[torch.Tensor | None]] | None,
    previous: Mapping[str, Sequence[torch.Tensor | None]] | None,
) -> Residuals | None:
    """Residuals (B,C,h,w) or (B,T,C) per place -> previous + own, place by place and block by block.

    A net that gives nothing (None), or nothing for a block, leaves the other's residual as it is; the
    longer list wins. The given tensors and lists stay untouched, since the model empties the lists it
    is handed and nets may share tensors.

    Source: the summing rule of ComfyUI: comfy/controlnet.py (ControlBase.control_merge).
    """
    if own is None and previous is None:
        return None
    merged: Residuals = {}
    for place in PLACES:
        mine = list((own or {}).get(place, ()))
        theirs = list((previous or {}).get(place, ()))
        length = max(len(mine), len(theirs))
        mine += [None] * (length - len(mine))
        theirs += [None] * (length - len(theirs))
        merged[place] = [_sum(*pair) for pair in zip(mine, theirs, strict=True)]
    return merged
