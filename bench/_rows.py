"""What one row of a table of differences is, and the host that it runs in."""

from __future__ import annotations

import importlib
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parent.parent


def host() -> Any:
    """The module tests/host/inprocess.py: stand-in models of three families and the host's own sampler.

    The pack's root stays off `sys.path`, where its folder of nodes would hide the host's `nodes.py`.
    """
    for name, folder in (
        ("tiller", ROOT),
        ("devtools", ROOT / "devtools"),
        ("default_model", ROOT / "default_model"),
    ):
        if name not in sys.modules:
            package = types.ModuleType(name)
            package.__path__ = [str(folder)]
            sys.modules[name] = package
    real = importlib.import_module("tiller.tests.host.inprocess")
    real.host()
    return real


class Row(NamedTuple):
    """One comparison of what is ours with its reference, on random weights.

    `what` says what runs (a sampling, one call, one module), `reference` what it is held against. `measure`
    gives the greatest absolute difference and the greatest absolute value of the reference's effect: what
    it changes where there is a picture without it, else the values themselves. float32, one thread, zero
    convolutions re-drawn, under 20 seconds.
    """

    kind: str
    family: str
    what: str
    reference: str
    measure: Callable[[], tuple[float, float]]
