"""A workflow's two forms: the page's (UI) and the API's.

The UI form is the source; the API form is derived from it and shipped beside it in
`workflows/api/`. Source for both layouts: Comfy-Org/ComfyUI_frontend: src/schemas and
src/utils/executionUtil.ts.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
WORKFLOWS = ROOT / "workflows"

PAGE_ONLY = frozenset({"MarkdownNote", "Note"})
"""Node types that live on the page alone and never reach the server."""

SEED_CONTROLS = frozenset({"fixed", "increment", "decrement", "randomize"})
"""Values of the extra widget that the page puts behind every seed; it has no input of its own."""

MUTED, BYPASSED = 2, 4


def to_api(ui: dict[str, Any]) -> dict[str, Any]:
    """API form of a UI form: node id -> class_type, inputs and `_meta.title`.

    Raises ValueError for a muted or bypassed node, and where a node holds more or fewer widget
    values than widgets: a shipped workflow must not depend on either.
    """
    links = {link[0]: [str(link[1]), link[2]] for link in ui["links"]}
    return {
        str(node["id"]): {
            "inputs": _inputs(node, links),
            "class_type": node["type"],
            "_meta": {"title": node.get("title", node["type"])},
        }
        for node in sorted(ui["nodes"], key=lambda node: node["id"])
        if node["type"] not in PAGE_ONLY
    }


def _inputs(node: dict[str, Any], links: dict[int, list[Any]]) -> dict[str, Any]:
    if node.get("mode", 0) in (MUTED, BYPASSED):
        raise ValueError(f"Node {node['id']} ({node['type']}) must be active, got a muted or bypassed one.")
    values = list(node.get("widgets_values", []))
    inputs: dict[str, Any] = {}
    for entry in node.get("inputs", []):
        if "widget" in entry:
            if not values:
                raise ValueError(f"Node {node['id']} ({node['type']}) has no value for {entry['name']}.")
            value = values.pop(0)
            if (
                entry["name"].rsplit(".", 1)[-1] in ("seed", "noise_seed")
                and values
                and values[0] in SEED_CONTROLS
            ):
                values.pop(0)
            if entry["type"] != "IMAGEUPLOAD":
                inputs[entry["name"]] = value
        if entry.get("link") is not None:
            inputs[entry["name"]] = links[entry["link"]]
    if values:
        raise ValueError(f"Node {node['id']} ({node['type']}) has values without a widget: {values}.")
    return inputs


def shipped() -> list[Path]:
    """Paths of all shipped workflows in UI form."""
    return sorted(WORKFLOWS.glob("*.json"))


def main() -> int:
    """Write the API form of every shipped workflow."""
    for path in shipped():
        api = to_api(json.loads(path.read_text(encoding="utf-8")))
        target = WORKFLOWS / "api" / path.name
        target.write_text(json.dumps(api, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        print(f"{target.relative_to(ROOT)}: {len(api)} nodes")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
