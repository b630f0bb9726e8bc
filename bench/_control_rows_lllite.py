"""Rows for ControlNet-LLLite: ours beside its authors' formula, hooked before each projection."""

from __future__ import annotations

import importlib
from collections.abc import Callable

from _rows import Row, host

STRENGTH = 2.5
"""At this the additions are about as large as the tokens: the effect stands clear of rounding."""


def _sampling(name: str, size: tuple[int, int]) -> Callable[[], tuple[float, float]]:
    def measure() -> tuple[float, float]:
        real = host()
        files = importlib.import_module("tiller.tests.host.lllite_files")
        of, run = real.family(name), real.Run(size=size, steps=2)
        positive, negative = real.conditioning(of, 1), real.conditioning(of, 2)
        image, weights = real.picture(8 * size[0], 8 * size[1]), files.file(name)
        plain = real.sample(of, positive, negative, run)
        with files.hooked(of, weights, image.movedim(-1, 1), STRENGTH):
            by_hand = real.sample(of, positive, negative, run)
        net = files.net(name, weights)
        ours = real.tiller_apply(positive, negative, net, image, strength=STRENGTH)
        return real.difference(real.sample(of, *ours, run), by_hand), real.difference(by_hand, plain)

    return measure


REFERENCE = "hand formula (kohya-ss/ControlNet-LLLite-ComfyUI)"
KIND = "ControlNet-LLLite"

ROWS = [
    Row(KIND, "SD1.5", "two steps", REFERENCE, _sampling("sd15", (8, 8))),
    Row(KIND, "SDXL", "two steps", REFERENCE, _sampling("sdxl", (8, 8))),
    Row(KIND, "SDXL", "two steps, odd latent", REFERENCE, _sampling("sdxl", (9, 14))),
]
