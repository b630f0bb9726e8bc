"""Write locales/en from the node schemas, and hold locales/zh against them.

English is written once, in the schemas. `locales/en/nodeDefs.json` is exported from there, so that
the page has an entry for every string; `locales/zh/nodeDefs.json` is written by hand.
Needs the host: run it through `python3 dev.py locales`.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent


def load_pack() -> dict[str, Any]:
    """NODE_CLASS_MAPPINGS of this checkout, loaded under the fixed name `tiller_pack`.

    The host must be importable. The pack's root never goes on `sys.path`.
    """
    if "tiller_pack" not in sys.modules:
        spec = importlib.util.spec_from_file_location(
            "tiller_pack", ROOT / "__init__.py", submodule_search_locations=[str(ROOT)]
        )
        if spec is None or spec.loader is None:
            raise ImportError(f"{ROOT / '__init__.py'} cannot be loaded as a package.")
        module = importlib.util.module_from_spec(spec)
        sys.modules["tiller_pack"] = module
        spec.loader.exec_module(module)
    return sys.modules["tiller_pack"].NODE_CLASS_MAPPINGS


def walk_inputs(inputs: list[Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(locale key, input) of every input, nested ones of a DynamicCombo included.

    The page turns the dots of a nested id into underscores.
    """
    for entry in inputs:
        yield prefix + entry.id, entry
        for option in getattr(entry, "options", None) or []:
            if hasattr(option, "inputs"):
                yield from walk_inputs(option.inputs, f"{prefix}{entry.id}_")


def entry_of(schema: Any) -> dict[str, Any]:
    """The nodeDefs entry of one node schema."""
    inputs: dict[str, Any] = {}
    for key, entry in walk_inputs(schema.inputs):
        inputs.setdefault(key, {"name": entry.display_name or entry.id, "tooltip": entry.tooltip})
    outputs = {
        str(index): {"name": output.display_name or output.id or output.io_type, "tooltip": output.tooltip}
        for index, output in enumerate(schema.outputs)
    }
    return {
        "display_name": schema.display_name,
        "description": schema.description,
        "inputs": inputs,
        "outputs": outputs,
    }


def english() -> dict[str, Any]:
    """nodeDefs of every node, as the schemas say them."""
    return {name: entry_of(node.define_schema()) for name, node in sorted(load_pack().items())}


def paths(entry: dict[str, Any], prefix: str = "") -> set[str]:
    """Every leaf of a nodeDefs tree, as slash-separated paths."""
    found: set[str] = set()
    for key, value in entry.items():
        found |= paths(value, f"{prefix}{key}/") if isinstance(value, dict) else {prefix + key}
    return found


def main() -> int:
    """Export locales/en/nodeDefs.json; 1 when locales/zh does not hold the same entries."""
    sys.path.insert(0, os.environ["COMFYUI_PATH"])
    importlib.import_module("comfy.cli_args").args.cpu = True
    wanted = english()
    (ROOT / "locales/en/nodeDefs.json").write_text(
        json.dumps(wanted, indent=2, ensure_ascii=False) + "\n", encoding="utf-8"
    )
    chinese = json.loads((ROOT / "locales/zh/nodeDefs.json").read_text(encoding="utf-8"))
    missing, extra = paths(wanted) - paths(chinese), paths(chinese) - paths(wanted)
    for title, names in (("missing in zh", missing), ("unknown in zh", extra)):
        for name in sorted(names):
            print(f"{title}: {name}")
    print(f"locales: {len(wanted)} nodes, {len(missing)} missing, {len(extra)} unknown in zh")
    return 1 if missing or extra else 0


if __name__ == "__main__":
    raise SystemExit(main())
