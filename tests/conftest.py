"""Puts the pack under the fixed name `tiller` without running its `__init__`.

A bare module with `__path__` lets unit tests import the maths (`tiller.preprocessors.…`) without
the host. The pack's root never goes on `sys.path`: its folder `nodes/` would hide the host's
`nodes.py`.
"""

import sys
import types
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

if "tiller" not in sys.modules:
    package = types.ModuleType("tiller")
    package.__path__ = [str(ROOT)]
    sys.modules["tiller"] = package
