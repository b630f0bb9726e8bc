"""An adapter, image tokens and weights -> what is injected at each cross-attention."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ..injection.keys_values import SCALINGS, Projection, Term
from ..injection.sites import Site
from ..injection.tokens import Tokens
from ..lora.blocks import Layout, spans
from ..lora.factors import factors_of, read_blocks
from .weight_types import WEIGHT_TYPES, SiteWeight, Weights, read_layers, site_weights

NO_BLOCKS = Layout("other", ())
NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)")


@dataclass(frozen=True, eq=False)
class InjectionSettings:
    """How image tokens act.

    `weight` is one, or one per picture of the batch. `layers` is a text of layer weights, empty for none.
    `start` and `end` are the share of the sampling in 0..1. `mask` (H,W) or (N,H,W) in 0..1 of any size.
    `composition_weight` and `boost` are the second weights of the types that have one (None: as `weight`).

    Raises ValueError for weights that are no finite numbers, an unknown weight type or scaling, and a start
    after the end.
    """

    weight: tuple[float, ...] = (1.0,)
    weight_type: str = "linear"
    layers: str = ""
    start: float = 0.0
    end: float = 1.0
    scaling: str = "V only"
    mask: torch.Tensor | None = None
    composition_weight: float | None = None
    boost: float | None = None

    def __post_init__(self) -> None:
        seconds = [one for one in (self.composition_weight, self.boost) if one is not None]
        if not self.weight or not all(math.isfinite(one) for one in (*self.weight, *seconds)):
            raise ValueError(f"Weights must be finite numbers, at least one, got {self.weight}.")
        if self.weight_type not in WEIGHT_TYPES:
            raise ValueError(
                f"A weight_type of {', '.join(WEIGHT_TYPES)} is needed, got {self.weight_type!r}."
            )
        if self.scaling not in SCALINGS:
            raise ValueError(f"Embeds scaling must be one of {', '.join(SCALINGS)}, got {self.scaling!r}.")
        if not 0.0 <= self.start <= self.end <= 1.0:
            raise ValueError(
                "start_percent and end_percent must be in 0..1 with start first, got "
                f"{self.start:g} and {self.end:g}."
            )

    @property
    def weights(self) -> Weights:
        return Weights(self.weight, self.composition_weight, self.boost)


def read_weights(text: str) -> tuple[float, ...]:
    """Text "0.2, 0.5, 1" -> its numbers, one per picture of the batch; () for an empty text.

    Raises ValueError for anything else.
    """
    items = [item.strip() for item in re.split(r"[,;]\s*|\n", text.strip(" \t\n,;"))]
    if items == [""]:
        return ()
    for item in items:
        if not NUMBER.fullmatch(item):
            raise ValueError(
                f'Weights per picture are written "0.2, 0.5, 1", got {item!r} among them. Write numbers with '
                "commas between."
            )
    return tuple(map(float, items))


def weights_of(weight: float | Sequence[float], factors: str = "") -> tuple[float, ...]:
    """A weight or a list of them, and a text of factors per picture, as weights per picture.

    Raises ValueError for a text that cannot be read, and for two lists of different lengths.
    """
    weights = tuple(map(float, weight)) if isinstance(weight, Sequence) else (float(weight),)
    own = read_weights(factors)
    if not weights or not own:
        return weights or own
    if len(weights) > 1 and len(own) not in (1, len(weights)):
        raise ValueError(
            f"A list of weights and a text of factors need the same length, got {len(weights)} "
            f"and {len(own)}. Write as many factors."
        )
    count = max(len(weights), len(own))
    return tuple(weights[min(i, len(weights) - 1)] * own[min(i, len(own) - 1)] for i in range(count))


def settings_of(
    weight: float | Sequence[float],
    picture_weights: str = "",
    *,
    start_percent: float,
    end_percent: float,
    embeds_scaling: str,
    **more: Any,
) -> InjectionSettings:
    """The settings as the nodes' inputs name them; `weight` and `picture_weights` as `weights_of` takes them.

    Raises ValueError as `weights_of` and `InjectionSettings` do.
    """
    weights = weights_of(weight, picture_weights)
    return InjectionSettings(weights, start=start_percent, end=end_percent, scaling=embeds_scaling, **more)


def terms_of(
    projections: Mapping[Site, Projection],
    tokens: Tokens,
    settings: InjectionSettings,
    composition: Tokens | None = None,
    layout: Layout = NO_BLOCKS,
) -> dict[Site, Term]:
    """Site -> what is injected there. `composition` takes the place of the tokens in the layout's layers.

    `layout` has the blocks of the model, for layer weights by their names.

    Raises ValueError for another number of weights than of pictures, layer weights that cannot be read or are
    not of this model, a weight type that is not known for it, and a composition that no layer would get.
    """
    if len(settings.weight) > 1 and len(tokens.cond) not in (1, len(settings.weight)):
        raise ValueError(
            f"Weights per picture must be one, or as many as the image prompt has pictures "
            f"({len(tokens.cond)}), got {len(settings.weight)}."
        )
    layers = read_layers(settings.layers)
    weights = site_weights(settings.weight_type, settings.weights, projections, layers)
    if layers is None and settings.layers.strip():
        factors = block_factors(settings.layers, layout, projections)
        weights = {site: given.times(factors[site.name]) for site, given in weights.items()}
    acting = [given for given in weights.values() if any(given.weight) or not any(settings.weight)]
    if composition is not None and not any(given.layout for given in acting):
        raise ValueError(
            f'The composition image prompt acts in the layers of the layout; with "{settings.weight_type}"'
            f"{' and these layer weights' if settings.layers.strip() else ''} this model has none that act. "
            'Choose "style and composition", or leave composition_prompt open.'
        )
    return {
        site: Term(projections[site], _sides(tokens, composition, given), given.weight, settings.scaling)
        for site, given in weights.items()
    }


def block_factors(text: str, layout: Layout, sites: Iterable[Site]) -> dict[str, float]:
    """Block -> factor from a text of layer weights by name, in the notation of LoRA block weights.

    Raises ValueError for a text that cannot be read, for blocks that the model does not have, and for one
    without cross-attention that is named by itself.
    """
    factors = factors_of("ALL", text, layout)
    names = {site.name for site in sites}
    for entry in read_blocks(text).entries:
        if entry.first == entry.last and entry.first in factors and entry.first not in names:
            known = spans(name for name in layout.names if name in names)
            raise ValueError(
                f"{entry.first} has no attention to the prompt in this model: a weight for it does nothing. "
                f"The blocks that have are {known}."
            )
    return factors


def _sides(tokens: Tokens, composition: Tokens | None, given: SiteWeight) -> Tokens:
    """The tokens of one site: those of the layout where it carries that, and swapped where it should be."""
    cond, uncond = tokens.cond, tokens.uncond
    if given.swapped:
        cond, uncond = torch.zeros_like(cond), cond
    if composition is not None and given.layout:
        uncond = uncond if given.swapped else composition.uncond
        return Tokens(*_alike(composition.cond, uncond))
    return Tokens(cond, uncond)


def _alike(one: torch.Tensor, other: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens (N,T,X) of two sides, repeated to one shape; attention on repeated tokens is the same."""
    sets, count = max(len(one), len(other)), math.lcm(one.shape[1], other.shape[1])

    def repeated(tokens: torch.Tensor) -> torch.Tensor:
        return tokens.expand(sets, -1, -1).repeat(1, count // tokens.shape[1], 1)

    return repeated(one), repeated(other)
