"""Rows for weight types and embeds scalings: our layers, all of them, beside the usual pack's formulas."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable
from typing import Any

from _adapter_rows import Row, host

REFERENCE = "formulas of cubiq/ComfyUI_IPAdapter_plus by hand"
BASES = {"SD1.5": "sd15", "SDXL": "sdxl"}
WEIGHT, COMPOSITION, BOOST = 0.8, 1.3, 0.6


def _worst(base: str, ways: Callable[[Any], Iterable[Any]]) -> tuple[float, float]:
    """Of all ways the one with the greatest difference for its effect; one step."""
    real = host()
    hand = importlib.import_module("tiller.tests.host.ip_adapter_by_hand")
    small = importlib.import_module("tiller.tests.host.small_unets").small
    of, adapter, prompt = small(base), hand.adapter_of(base), hand.prompt_of()
    tokens = hand.module("adapters.image_prompt.projectors").tokens_of(adapter, prompt)
    settings = hand.module("adapters.image_prompt.terms").InjectionSettings
    apply = hand.module("adapters.image_prompt.apply").apply_ip_adapter

    def picture(model: Any) -> Any:
        sides = real.conditioning(of, 1), real.conditioning(of, 2)
        return real.sample(of._replace(model=model), *sides, real.Run(size=(8, 8), steps=1))

    plain, found = picture(of.model), []
    for given in ways(hand):
        theirs = picture(hand.by_hand(of, adapter, tokens, given))
        ours = apply(
            of.model,
            adapter,
            prompt,
            settings(
                weight=(given.weight,),
                weight_type=given.weight_type,
                composition_weight=given.composition,
                boost=given.boost,
                scaling=given.scaling,
            ),
        )
        found.append((real.difference(picture(ours), theirs), real.difference(theirs, plain)))
    return max(found, key=lambda pair: pair[0] / pair[1])


def _types(hand: Any) -> list[Any]:
    known = importlib.import_module("tiller.adapters.image_prompt.weight_types").WEIGHT_TYPES
    return [hand.Given(WEIGHT, kind, COMPOSITION, BOOST) for kind in known if kind != "linear"]


def _scalings(hand: Any) -> list[Any]:
    known = importlib.import_module("tiller.adapters.injection.keys_values").SCALINGS
    # the penalty is for narrow layers, and all of the small model's are
    return [
        hand.Given(10 * WEIGHT if "penalty" in scaling else WEIGHT, "linear", scaling=scaling)
        for scaling in known
    ]


ROWS = [
    row
    for family, base in BASES.items()
    for row in (
        Row(
            "IP-Adapter, weight types",
            family,
            "each type, one step: the worst",
            REFERENCE,
            lambda base=base: _worst(base, _types),
        ),
        Row(
            "IP-Adapter, embeds scalings",
            family,
            "each scaling, one step: the worst",
            REFERENCE,
            lambda base=base: _worst(base, _scalings),
        ),
    )
]
