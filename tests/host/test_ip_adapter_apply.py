"""Image prompts in the host's own sampler: each weight type by the usual pack's formula, and nothing else."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch
from tiller.tests.host import inprocess as real
from tiller.tests.host.ip_adapter_by_hand import Given, adapter_of, by_hand, module, prompt_of
from tiller.tests.host.small_unets import small

TOLERANCE = 1e-5
ONE = real.Run(size=(8, 8), steps=1)
SCALINGS = ("V only", "K+V", "K+V w/ C penalty", "K+mean(V) w/ C penalty")
SPECIAL = ("style transfer precise", "composition precise", "style and composition")


def settings(**given: Any) -> Any:
    return module("adapters.image_prompt.terms").InjectionSettings(**given)


def applied(base: str, prompt: Any = None, composition: Any = None, model: Any = None, **given: Any) -> Any:
    """A clone of the small model with the random adapter."""
    apply = module("adapters.image_prompt.apply").apply_ip_adapter
    of = small(base)
    return apply(model or of.model, adapter_of(base), prompt or prompt_of(), settings(**given), composition)


def picture(base: str, model: Any, run: real.Run = ONE, positive: Any = None, negative: Any = None) -> Any:
    of = small(base)._replace(model=model)
    sides = (positive or real.conditioning(of, 1), negative or real.conditioning(of, 2))
    return real.sample(of, *sides, run)


@cache
def plain(base: str, run: real.Run = ONE) -> torch.Tensor:
    return picture(base, small(base).model, run)


def tokens(base: str, seed: int = 4) -> Any:
    return module("adapters.image_prompt.projectors").tokens_of(adapter_of(base), prompt_of(seed))


def weight_types() -> list[str]:
    from tiller.adapters.image_prompt.weight_types import WEIGHT_TYPES

    return list(WEIGHT_TYPES)


@pytest.mark.parametrize("weight_type", weight_types())
@pytest.mark.parametrize("base", ["sd15", "sdxl"])
def test_each_weight_type_is_the_formula_of_the_usual_pack(base: str, weight_type: str) -> None:
    if weight_type == "linear":
        given = Given(0.8, weight_type)
    else:
        given = Given(0.8, weight_type, composition=1.3, boost=0.6)
    wanted = picture(base, by_hand(small(base), adapter_of(base), tokens(base), given))
    weights = {"composition_weight": given.composition, "boost": given.boost}
    got = picture(base, applied(base, weight=(0.8,), weight_type=weight_type, **weights))
    effect = real.difference(wanted, plain(base))
    assert effect > 0.01
    assert real.difference(got, wanted) / effect < TOLERANCE
