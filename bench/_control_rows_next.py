"""Rows for ControlNeXt: our nets beside the authors' formulas, put on the layers by forward hooks."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from _rows import Row, host


def _cases() -> Any:
    host()
    return importlib.import_module("tiller.tests.host.control_next_case")


STRENGTHS = {"SD1.5": 2.5, "SDXL": 1.0, "SVD": 5.0}
"""At these the additions are about as large as the hidden state: the effect stands clear of rounding."""


def _sampling(family: str) -> Callable[[], tuple[float, float]]:
    """The last two steps of five; for SVD three frames with a hint each and none on the negative rows."""

    def measure() -> tuple[float, float]:
        real, cases = host(), _cases()
        frames = 3 if family == "SVD" else 1
        case = cases.Case(family, batch=frames, hints=frames)
        case.run = real.Run(case.size, batch=frames, steps=2, cfg=1.5, denoise=0.4)
        plain, strength = case.plain(), STRENGTHS[family]
        ours = case.controlled(cases.net_for(family), strength=strength)
        hooked = case.hooked(strength, [0.0, 1.0] if family == "SVD" else None)
        return real.difference(ours, hooked), real.difference(hooked, plain)

    return measure


REFERENCE = "hand formula (dvlab-research/ControlNeXt)"

ROWS = [Row("ControlNeXt", family, "two steps", REFERENCE, _sampling(family)) for family in STRENGTHS]
