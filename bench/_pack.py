"""The pack's maths without the host, for the measurements."""

import importlib
import sys
import types
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parent.parent


def maths(name: str) -> ModuleType:
    """The module `preprocessors/<name>.py`."""
    if "tiller" not in sys.modules:
        package = types.ModuleType("tiller")
        package.__path__ = [str(ROOT)]
        sys.modules["tiller"] = package
    return importlib.import_module(f"tiller.preprocessors.{name}")
