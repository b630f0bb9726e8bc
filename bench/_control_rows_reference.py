"""Rows for references: the host's sampler against the formulas worked out by hand with hooks."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from typing import Any

from _rows import Row, host

KIND = "Reference"
BY_HAND = "formulas of sd-webui-controlnet by hand"
KINDS = ("reference_only", "reference_adain", "reference_adain+attn")
NAMES = {"SD1.5": "sd15", "SDXL": "sdxl"}


def _sampled(family: str, asked: Sequence[dict[str, Any]]) -> Callable[[], tuple[float, float]]:
    """One step of the sampler over a narrow UNet with all blocks; the effect is that of the references."""

    def measure() -> tuple[float, float]:
        real = host()
        small = importlib.import_module("tiller.tests.host.small_unets")
        by_hand = importlib.import_module("tiller.tests.host.reference_by_hand")
        node = real.pack_nodes("reference").TillerReference
        of, image, vae = small.small(NAMES[family]), real.picture(128, 128), small.SmallVAE()
        conditionings = real.conditioning(of, 1), real.conditioning(of, 2)
        run = real.Run(size=(16, 16), steps=1, cfg=2.0)
        ours = conditionings
        for each in asked:
            more = {"start_percent": 0.0, "end_percent": 1.0, "window": "noise"}
            settings = {"strength": each["weight"], "style_fidelity": each["fidelity"]}
            rest = {name: each[name] for name in ("kind", "mode", "seed")}
            ours = node.execute(*ours, image, vae=vae, **settings, **rest, **more).args
        mine = real.sample(of, *ours, run)
        latent = vae.encode(image)
        wanted = [by_hand.Asked(latent, **each) for each in asked]
        hand = by_hand.sampled_by_hand(of, wanted, *conditionings, run)
        plain = real.sample(of, *conditionings, run)
        return real.difference(mine, hand), real.difference(hand, plain)

    return measure


def _asked(
    kind: str, weight: float = 1.0, fidelity: float = 0.5, mode: str = "balanced", seed: int = 0
) -> Any:
    return {"kind": kind, "weight": weight, "fidelity": fidelity, "mode": mode, "seed": seed}


def _row(family: str, what: str, *asked: dict[str, Any]) -> Row:
    return Row(KIND, family, what, BY_HAND, _sampled(family, asked))


ROWS: list[Row] = [
    row
    for family in NAMES
    for row in (
        *(_row(family, f"{kind}, style fidelity 0.5", _asked(kind)) for kind in KINDS),
        _row(family, "reference_adain+attn, strength 0.5", _asked(KINDS[2], weight=0.5)),
        _row(family, "reference_only, mode control", _asked(KINDS[0], mode="control")),
        _row(
            family,
            "two references of different strength, style fidelity and seed",
            _asked(KINDS[2], weight=0.6, fidelity=0.9, seed=1),
            _asked(KINDS[2], fidelity=0.2, seed=2),
        ),
    )
]
