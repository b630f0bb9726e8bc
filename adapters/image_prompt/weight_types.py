"""Weight types: how much of an image prompt each layer gets, and where the two sides change places.

Layers are counted as the host runs them: transformer 0..15 of SD1.5, 0..10 of SDXL. Half-way in, SDXL has
one layer that carries the layout (3) and one that carries the style (6); SD1.5 has 4 and 5 for the layout.

Source: cubiq/ComfyUI_IPAdapter_plus: IPAdapterPlus.py (ipadapter_execute), CrossAttentionPatch.py
(ipadapter_attention); Wang et al., "InstantStyle" (arXiv 2404.02733), section 3.2.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Literal

from ..injection.sites import Site, transformer_indices

Role = Literal["weight", "second"]
Table = Mapping[int, tuple[Role, float]]
"""Transformer -> whose weight it gets, and how much of it; those that are not named get nothing."""

SD15, SDXL = 16, 11
"""Numbers of transformers."""

LAYOUT: Mapping[int, frozenset[int]] = MappingProxyType({SD15: frozenset({4, 5}), SDXL: frozenset({3})})
"""Number of transformers -> those that carry the layout of a picture."""


def _ease_in(t: int, count: int) -> float:
    return 0.05 + 0.95 * (1 - t / count)


def _ease_out(t: int, count: int) -> float:
    return 0.05 + 0.95 * t / count


def _ease_in_out(t: int, count: int) -> float:
    return 0.05 + 0.95 * (1 - abs(t - count / 2) / (count / 2))


def _reverse_in_out(t: int, count: int) -> float:
    return 0.05 + 0.95 * abs(t - count / 2) / (count / 2)


EASINGS: Mapping[str, Callable[[int, int], float]] = MappingProxyType(
    {
        "ease in": _ease_in,
        "ease out": _ease_out,
        "ease in-out": _ease_in_out,
        "reverse in-out": _reverse_in_out,
    }
)

WEAK = 0.2
WEAK_BLOCKS: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        "weak input": frozenset({"input"}),
        "weak output": frozenset({"output"}),
        "weak middle": frozenset({"middle"}),
        "strong middle": frozenset({"input", "output"}),
    }
)
"""Weight type -> the blocks that get `WEAK` of the weight; the others get all of it."""


def _all(role: Role, transformers: Iterable[int], factor: float = 1.0) -> dict[int, tuple[Role, float]]:
    return {t: (role, factor) for t in transformers}


_STYLE15 = (0, 1, 2, 3, 9, 10, 11, 12, 13, 14, 15)
_LAYOUT15: dict[int, tuple[Role, float]] = {4: ("second", 0.25), 5: ("second", 1.0)}
_OWN_LAYOUT15: dict[int, tuple[Role, float]] = {4: ("weight", 0.25), 5: ("weight", 1.0)}
_NO_LAYOUT15 = (0, 1, 2, 3, *range(6, SD15))
_NO_LAYOUTXL = (0, 1, 2, *range(4, SDXL))

TABLES: Mapping[str, Mapping[int, Table]] = MappingProxyType(
    {
        "style transfer": {SD15: _all("weight", _STYLE15), SDXL: _all("weight", [6])},
        "composition": {SD15: _OWN_LAYOUT15, SDXL: _all("weight", [3])},
        "strong style transfer": {
            SD15: _all("weight", _NO_LAYOUT15),
            SDXL: _all("weight", _NO_LAYOUTXL),
        },
        "style and composition": {
            SD15: _all("weight", _STYLE15) | _LAYOUT15,
            SDXL: _all("weight", [6]) | _all("second", [3]),
        },
        "strong style and composition": {
            SD15: _all("weight", _NO_LAYOUT15) | _all("second", [4, 5]),
            SDXL: _all("weight", _NO_LAYOUTXL) | _all("second", [3]),
        },
        "style transfer precise": {
            SD15: _all("weight", _STYLE15) | _LAYOUT15,
            SDXL: _all("weight", [6]) | _all("second", [3]),
        },
        "composition precise": {
            SD15: _all("second", _STYLE15) | _all("second", [6, 7, 8], 0.1) | _OWN_LAYOUT15,
            SDXL: _all("second", _NO_LAYOUTXL, 0.1) | _all("second", [6]) | _all("weight", [3]),
        },
    }
)
"""Weight type -> number of transformers -> table. "second" is the composition's weight or the boost."""

PRECISE_STYLE, PRECISE_COMPOSITION = "style transfer precise", "composition precise"
PRECISE = (PRECISE_STYLE, PRECISE_COMPOSITION)
COMPOSITION_WEIGHTED = ("style and composition", "strong style and composition")
WEIGHT_TYPES = (
    "linear",
    *EASINGS,
    "weak input",
    "weak output",
    "weak middle",
    "strong middle",
    *TABLES,
)
"""Every weight type, by the names that users know."""


@dataclass(frozen=True)
class SiteWeight:
    """What one site gets: `weight`, one or one per picture of the batch.

    `swapped`: the positive side gets nothing and the negative side the picture, so that its trait is
    pushed away. `layout`: the site carries the layout of a picture.
    """

    weight: tuple[float, ...]
    swapped: bool = False
    layout: bool = False

    def times(self, factor: float) -> SiteWeight:
        """The same with another weight."""
        return replace(self, weight=tuple(one * factor for one in self.weight))


@dataclass(frozen=True)
class Weights:
    """The weights that a weight type deals out.

    `weight` is one, or one per picture of the batch. `composition` is that of the layout in "style and
    composition" (None: as `weight`), `boost` that of the other side in the precise types (None: the same).
    """

    weight: tuple[float, ...]
    composition: float | None = None
    boost: float | None = None

    def second(self, weight_type: str) -> tuple[float, ...]:
        """What tables call "second"."""
        other = self.boost if weight_type in PRECISE else self.composition
        return self.weight if other is None else (other,)


def site_weights(
    weight_type: str, weights: Weights, sites: Iterable[Site], layers: Mapping[int, float] | None = None
) -> dict[Site, SiteWeight]:
    """Site -> its weight, for the sites that get one; `layers` (transformer -> factor) replaces the table.

    Raises ValueError for an unknown type, for one that is known for SD1.5 and SDXL alone on another model,
    and for transformers in `layers` that the model does not have.
    """
    if weight_type not in WEIGHT_TYPES:
        raise ValueError(f"A weight_type of {', '.join(WEIGHT_TYPES)} is needed, got {weight_type!r}.")
    indices = transformer_indices(sites)
    count = len(set(indices.values()))
    known = count in LAYOUT
    if layers is not None:
        _check_layers(layers, count)
        table: Table = {t: ("weight", factor) for t, factor in layers.items()}
    elif weight_type in TABLES and known:
        table = TABLES[weight_type][count]
    else:
        table = {}
    if not known and weight_type in TABLES:
        raise ValueError(
            f'The weight type "{weight_type}" is known for SD1.5 ({SD15} transformers) and SDXL ({SDXL}); '
            f"this model has {count}. Choose linear, or one of the ease and weak types."
        )
    layout = LAYOUT.get(count, frozenset())
    dealt = {"weight": weights.weight, "second": weights.second(weight_type)}
    given = {}
    for site, t in indices.items():
        if layers is not None or weight_type in TABLES:
            role, factor = table.get(t, ("weight", 0.0))
        else:
            role, factor = "weight", _factor(weight_type, site, t, count)
        if factor:
            own = tuple(one * factor for one in dealt[role])
            given[site] = SiteWeight(own, _swaps(weight_type, t in layout), t in layout)
    return given


def _factor(weight_type: str, site: Site, t: int, count: int) -> float:
    if weight_type in EASINGS:
        return EASINGS[weight_type](t, count)
    return WEAK if site.block in WEAK_BLOCKS.get(weight_type, ()) else 1.0


def _swaps(weight_type: str, is_layout: bool) -> bool:
    return weight_type in PRECISE and is_layout == (weight_type == PRECISE_STYLE)


def _check_layers(layers: Mapping[int, float], count: int) -> None:
    unknown = sorted(t for t in layers if not 0 <= t < count)
    if unknown:
        raise ValueError(
            f"Layer weights by number need transformers 0 to {count - 1} of this model, got "
            f"{', '.join(map(str, unknown))}. Name those, or blocks: OUT01:1."
        )


LAYER_ENTRY = re.compile(r"\s*(\d+)\s*:\s*([+-]?(?:\d+\.?\d*|\.\d+))\s*")
IS_NUMBERED = re.compile(r"\s*\d+\s*:")


def read_layers(text: str) -> dict[int, float] | None:
    """Text "3:1, 6:0.5" -> {3: 1.0, 6: 0.5}, transformer -> factor; None for a text of another form.

    Raises ValueError for a text that begins like this and goes on differently, or names one twice.
    """
    if not IS_NUMBERED.match(text):
        return None
    found: dict[int, float] = {}
    for item in text.strip().strip(",").split(","):
        entry = LAYER_ENTRY.fullmatch(item)
        if entry is None:
            raise ValueError(
                f'Layer weights by number are written "3:1, 6:0.5", got {item.strip()!r} among them. Write '
                "transformer:factor, with commas between."
            )
        if int(entry[1]) in found:
            raise ValueError(f"Layer weights name the transformer {int(entry[1])} twice. Name each once.")
        found[int(entry[1])] = float(entry[2])
    return found
