"""Rows for ControlNet-XS: ours beside its authors' loop over the host's own blocks."""

from __future__ import annotations

import importlib
from collections.abc import Callable

from _rows import Row, host

STRENGTH = 0.7


def _sampling(name: str, learned: bool) -> Callable[[], tuple[float, float]]:
    def measure() -> tuple[float, float]:
        real = host()
        files, by_hand, load = (
            importlib.import_module(f"tiller.{module}")
            for module in ("tests.host.xs_files", "tests.host.xs_by_hand", "adapters.control.xs.apply")
        )
        identify = importlib.import_module("tiller.adapters.identify").identify
        of, run = real.family(name), real.Run(steps=2)
        positive, negative, image = real.conditioning(of, 1), real.conditioning(of, 2), real.picture(64, 64)
        weights = files.file(name, learned=learned)
        plain = real.sample(of, positive, negative, run)
        reference = real.sample(by_hand.controlled(of, weights, image, STRENGTH), positive, negative, run)
        net = load.load(weights, identify({key: tuple(tensor.shape) for key, tensor in weights.items()}))
        ours = real.tiller_apply(positive, negative, net, image, strength=STRENGTH)
        return real.difference(real.sample(of, *ours, run), reference), real.difference(reference, plain)

    return measure


REFERENCE = "the authors' loop over ComfyUI's blocks (vislearn/ControlNet-XS)"
KIND = "ControlNet-XS"

ROWS = [
    Row(KIND, "SD1.5", "two steps", REFERENCE, _sampling("sd15", False)),
    Row(KIND, "SDXL", "two steps", REFERENCE, _sampling("sdxl", False)),
    Row(KIND, "SDXL", "two steps, own time embedding", REFERENCE, _sampling("sdxl", True)),
]
