"""The residuals of control nets: sums of them, factors per layer, masks, rows."""

import math
from collections.abc import Callable, Mapping, Sequence

import torch

from .call import Layers

Residuals = dict[str, list[torch.Tensor | None]]
Given = Mapping[str, Sequence[torch.Tensor | None]]
PLACES = ("input", "middle", "output")


def _sum(own: torch.Tensor | None, previous: torch.Tensor | None) -> torch.Tensor | None:
    if own is None or previous is None:
        return previous if own is None else own
    return previous + own


def add_residuals(
    own: Given | None,
    previous: Given | None,
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


def layer_slots(own: Given) -> list[tuple[str, int]]:
    """Places and indices of the residuals that are there: shallowest layer first, the middle last.

    The model takes residuals (B,C,h,w) of the place "input" from the end of their list, and all others,
    as well as those of transformers (B,T,C), in the order of the list.

    Source: ComfyUI: comfy/ldm/modules/diffusionmodules/openaimodel.py, comfy/ldm/flux/model.py.
    """
    slots = []
    for place in ("input", "output", "middle"):
        found = [index for index, value in enumerate(own.get(place, ())) if value is not None]
        if place == "input" and found and _first(own[place]).ndim == 4:
            found.reverse()
        slots += [(place, index) for index in found]
    return slots


def _first(values: Sequence[torch.Tensor | None]) -> torch.Tensor:
    return next(value for value in values if value is not None)


def _mapped(own: Given, change: Callable[[torch.Tensor], torch.Tensor]) -> Residuals:
    """Every tensor changed, once where several layers share it."""
    done: dict[int, torch.Tensor] = {}
    result: Residuals = {}
    for place, values in own.items():
        for value in values:
            if value is not None and id(value) not in done:
                done[id(value)] = change(value)
        result[place] = [None if value is None else done[id(value)] for value in values]
    return result


def scale_layers(own: Given, layers: Layers | None, step: float) -> Residuals:
    """Every residual times its layer's factor and the step's; a factor of 1 leaves the tensor itself."""
    slots = layer_slots(own)
    factors = [1.0] * len(slots) if layers is None else layers(len(slots))
    result: Residuals = {place: list(values) for place, values in own.items()}
    for (place, index), factor in zip(slots, factors, strict=True):
        value = result[place][index]
        if value is not None and factor * step != 1.0:
            result[place][index] = value * (factor * step)
    return result


def token_grid(tokens: int, latent: Sequence[int]) -> tuple[int, int, int]:
    """Frames, rows and columns of a transformer's tokens for a latent (..., h, w) or (..., frames, h, w).

    Raises ValueError when the tokens are not those of square patches.
    """
    height, width = latent[-2:]
    frames = latent[2] if len(latent) == 5 else 1
    for patch in range(1, max(height, width) + 1):
        rows, columns = math.ceil(height / patch), math.ceil(width / patch)
        if frames * rows * columns == tokens:
            return frames, rows, columns
    raise ValueError(
        f"A control mask needs a net whose {tokens} tokens are the picture's patches, but no patch size "
        f"gives that for a latent of {height} x {width}. Take the mask off this unit."
    )


def mask_residuals(own: Given, fit: Callable[[int, int], torch.Tensor], latent: Sequence[int]) -> Residuals:
    """Every residual (B,C,h,w) or (B,T,C) times the mask (n,1,h,w) that `fit` gives for its size."""

    def masked(value: torch.Tensor) -> torch.Tensor:
        if value.ndim == 4:
            return value * fit(value.shape[-2], value.shape[-1]).to(value)
        frames, rows, columns = token_grid(value.shape[1], latent)
        mask = fit(rows, columns).to(value).flatten(1).repeat(1, frames)
        return value * mask[..., None]

    return _mapped(own, masked)


def pad_rows(own: Given, rows: torch.Tensor) -> Residuals:
    """Residuals of the chosen rows, or one row for all, -> residuals of every row, 0 in the others.

    `rows` (n,) bool.
    """

    def padded(value: torch.Tensor) -> torch.Tensor:
        whole = value.new_zeros(rows.shape[0], *value.shape[1:])
        whole[rows.to(value.device)] = value
        return whole

    return _mapped(own, padded)
