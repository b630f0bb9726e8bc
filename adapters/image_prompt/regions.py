"""Several image prompts, each in its own part of the picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, NamedTuple

import torch
from torch.nn.functional import interpolate

from ..injection.mask import check, shaped
from .records import ImagePrompt
from .terms import InjectionSettings

Overlap = Literal["share", "add"]
OVERLAPS: tuple[Overlap, ...] = ("share", "add")


class Region(NamedTuple):
    """An image prompt and how it acts."""

    prompt: ImagePrompt
    settings: InjectionSettings


def regions_of(
    prompts: Mapping[str, Any], masks: Mapping[str, Any], settings: InjectionSettings, overlap: Overlap
) -> list[Region]:
    """Prompts and masks of growing sockets, image_prompt0 and mask0 on, as regions.

    `settings` holds the weights of the prompts in turn, the last one for those that come after it.

    Raises ValueError for a mask without a prompt, more weights than prompts, and masks that are none.
    """
    given = {_number(name): prompt for name, prompt in prompts.items() if prompt is not None}
    placed = {_number(name): mask for name, mask in masks.items() if mask is not None}
    alone = sorted(set(placed) - set(given))
    if not given or alone:
        raise ValueError(
            f"Image prompt regions need an image prompt for every mask, got none for mask "
            f"{', '.join(map(str, alone))}. Connect image_prompt{alone[0]}, or take the mask off."
            if alone
            else "Image prompt regions need at least one image prompt, got none. Connect one."
        )
    weights = settings.weight
    if len(weights) > len(given):
        raise ValueError(
            f"Image prompt regions need at most one weight per image prompt ({len(given)}), "
            f"got {len(weights)}. Take the rest away."
        )
    own = [placed.get(number) for number in sorted(given)]
    if overlap == "share":
        own = share(own)
    return [
        Region(given[number], replace(settings, weight=(weights[min(i, len(weights) - 1)],), mask=mask))
        for i, (number, mask) in enumerate(zip(sorted(given), own, strict=True))
    ]


def _number(name: str) -> int:
    return int(name.removeprefix("image_prompt").removeprefix("mask"))


def share(masks: Sequence[torch.Tensor | None]) -> list[torch.Tensor | None]:
    """Masks (H,W) or (N,H,W) of any sizes, None for ones -> masks that come to 1 at most, in sum.

    Where they come to less already, they stay as they are. Raises ValueError for masks that are none.
    """
    if len(masks) < 2:
        return list(masks)
    given = [torch.ones(1, 1, 1, 1) if mask is None else shaped(check(mask)) for mask in masks]
    height, width = (max(mask.shape[side] for mask in given) for side in (-2, -1))
    count = max(len(mask) for mask in given)
    alike = [_all_rows(_resized(mask, height, width), count) for mask in given]
    whole = torch.stack(alike).sum(dim=0).clamp(min=1.0)
    return [(mask / whole)[:, 0] for mask in alike]


def _resized(mask: torch.Tensor, height: int, width: int) -> torch.Tensor:
    if mask.shape[-2:] == (height, width):
        return mask
    return interpolate(mask, (height, width), mode="bilinear", antialias=True).clamp(0.0, 1.0)


def _all_rows(mask: torch.Tensor, count: int) -> torch.Tensor:
    """(N,…) -> (count,…): the last serves all that come after it."""
    return mask[[min(row, len(mask) - 1) for row in range(count)]]
