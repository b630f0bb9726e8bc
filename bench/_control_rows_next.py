"""Rows for ControlNeXt: our nets beside its authors' formulas, which forward hooks put on the model's layers."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from _control_rows import Row, host


def _cases() -> Any:
    host()
    return importlib.import_module("tiller.tests.host.control_next_case")


def _sampling(family: str) -> Callable[[], tuple[float, float]]:
    """Two steps at strength 0.8; for SVD three frames with a hint each and none on the negative rows."""

    def measure() -> tuple[float, float]:
        real, cases = host(), _cases()
        case = cases.Case(family, batch=3, hints=3) if family == "SVD" else cases.Case(family)
        if family == "SVD":
            case.run = real.Run(case.size, batch=3, steps=2, denoise=0.4)
        plain = case.plain()
        ours = case.controlled(cases.net_for(family), strength=0.8)
        hooked = case.hooked(0.8, [0.0, 1.0] if family == "SVD" else None)
        return real.difference(ours, hooked), real.difference(hooked, plain)

    return measure


REFERENCE = "hand formula (ControlNeXt)"

ROWS = [
    Row("ControlNeXt", family, "two steps", REFERENCE, _sampling(family))
    for family in ("SD1.5", "SDXL", "SVD")
]
