"""Makes the pack and its development tools importable without touching `sys.path`.

`tiller` is a bare module with `__path__`: unit tests import the maths (`tiller.preprocessors.…`)
without the host and without running the pack's `__init__`. `devtools` and `default_model` likewise.
The pack's root never goes on `sys.path`: its folder `nodes/` would hide the host's `nodes.py`.
"""

import sys
import types
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def _bare_package(name: str, folder: Path) -> None:
    if name not in sys.modules:
        package = types.ModuleType(name)
        package.__path__ = [str(folder)]
        sys.modules[name] = package


_bare_package("tiller", ROOT)
_bare_package("devtools", ROOT / "devtools")
_bare_package("default_model", ROOT / "default_model")


class RootIsNoTestPackage:
    """pytest imports the `__init__.py` of every folder above a test; the pack's own needs the host."""

    @pytest.hookimpl(tryfirst=True)
    def pytest_collect_directory(self, path: Path, parent: pytest.Collector) -> pytest.Collector | None:
        return pytest.Dir.from_parent(parent, path=path) if path == ROOT else None


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(RootIsNoTestPackage())
