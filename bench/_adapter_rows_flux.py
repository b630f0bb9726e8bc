"""Flux adapters beside diffusers' network (XLabs) and the blocks written out (InstantX)."""

from __future__ import annotations

import importlib
from functools import partial
from typing import Any

from _adapter_rows import Row, host

XLABS, INSTANTX = "Flux IP-Adapter (XLabs)", "Flux IP-Adapter (InstantX)"
REFERENCES = {XLABS: "diffusers 0.42.1", INSTANTX: "formula of Shakker-Labs' processors"}
WEIGHT = 0.8


def _difference(variant: str, blocks: tuple[int, int], **run: Any) -> tuple[float, float]:
    """Embeddings through projector and blocks: ours against the reference, and the reference's effect."""
    real = host()
    fake = importlib.import_module("tiller.tests.host.flux_adapters")
    of = importlib.import_module("tiller.tests.host.small_flux").small_flux(*blocks)
    ours, held = fake.modules(), fake.published(variant, of)
    prompt = fake.prompt_for(held.spec)
    tokens = ours.projectors.tokens_of(held, prompt)

    def picture(model: Any) -> Any:
        of_model = of._replace(model=model)
        return real.sample(of_model, real.conditioning(of, 1), real.conditioning(of, 2), real.Run(**run))

    clone = ours.prompts.apply_ip_adapter(of.model, held, prompt, ours.terms.InjectionSettings((WEIGHT,)))
    wanted = picture(fake.reference(variant, of, held.ip_adapter, tokens, WEIGHT))
    return real.difference(picture(clone), wanted), real.difference(wanted, picture(of.model))


def _rows(variant: str, reference: str) -> list[Row]:
    whole = partial(_difference, variant, (3, 4), size=(9, 14), steps=3)
    once = partial(_difference, variant, (19, 38), size=(8, 8), steps=1, cfg=1.0)
    return [
        Row(variant, "Flux", "sampling of 3 steps, CFG 4, 9 x 14", reference, whole),
        Row(variant, "Flux", "one call, 19 double and 38 single blocks", reference, once),
    ]


ROWS = [row for variant, reference in REFERENCES.items() for row in _rows(variant, reference)]
