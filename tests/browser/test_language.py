"""The pack's nodes in the language of the page: titles, labels and tooltips."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tiller.tests.browser.page import ComfyPage

LOCALES = Path(__file__).resolve().parent.parent.parent / "locales"
NODE = "TillerCanny"
DYNAMIC_COMBO = "COMFY_DYNAMICCOMBO_V3"
FRONT_END_WIDGETS = frozenset({"control_after_generate"})
"""Widgets that the front end adds and translates by itself."""


@pytest.fixture
def words(comfy: ComfyPage) -> dict[str, Any]:
    """The pack's entries for the language of the page."""
    return json.loads((LOCALES / comfy.face.locale / "nodeDefs.json").read_text(encoding="utf-8"))


def choices(info: dict[str, Any]) -> list[tuple[str, str]]:
    """(input, option) of every option of a node's DynamicCombos."""
    inputs = {**info["input"].get("required", {}), **info["input"].get("optional", {})}
    combos = {name: entry[1]["options"] for name, entry in inputs.items() if entry[0] == DYNAMIC_COMBO}
    return [(name, option["key"]) for name, options in combos.items() for option in options]


def wrong_names(node: dict[str, Any], entry: dict[str, Any]) -> list[str]:
    """Slots and widgets that show another name than the locale's entry.

    The page itself names grown slots (Autogrow) and nested slots without a widget.
    """
    widgets = {widget["name"] for widget in node["widgets"]} - FRONT_END_WIDGETS
    own = [slot for slot in node["inputs"] if "." not in slot["name"] or slot["name"] in widgets]
    own += [widget for widget in node["widgets"] if widget["name"] in widgets]
    said = [entry["inputs"].get(slot["name"].replace(".", "_"), {}).get("name") for slot in own]
    own += node["outputs"]
    said += [entry["outputs"][str(index)]["name"] for index in range(len(node["outputs"]))]
    return [
        f"{node['type']}.{slot['name']}: {slot['shown']} instead of {name}"
        for slot, name in zip(own, said, strict=True)
        if slot["shown"] != name
    ]


def texts(entry: dict[str, Any], prefix: str) -> Iterator[tuple[str, str]]:
    """(key as the page knows it, text) of every text of a locale entry."""
    for key, value in entry.items():
        if isinstance(value, dict):
            yield from texts(value, f"{prefix}.{key}")
        else:
            yield f"{prefix}.{key}", value


def test_every_node_and_slot_is_named_in_the_page_language(
    comfy: ComfyPage, words: dict[str, Any], object_info: dict[str, Any]
) -> None:
    assert set(words) == set(object_info)
    wrong: list[str] = []
    for name, info in sorted(object_info.items()):
        node = comfy.add(name)
        if node["title"] != words[name]["display_name"]:
            wrong.append(f"{name}: {node['title']} instead of {words[name]['display_name']}")
        wrong += wrong_names(node, words[name])
        for combo, option in choices(info):
            comfy.call("set", node["id"], combo, option)
            wrong += wrong_names(comfy.nodes()[node["id"]], words[name])
    assert not wrong, "\n".join(wrong)


def test_tooltips_appear_in_the_page_language(comfy: ComfyPage, words: dict[str, Any]) -> None:
    node = comfy.call("add", NODE)
    comfy.call("center", node)
    entry = words[NODE]
    assert comfy.hover(node) == entry["description"]
    assert comfy.hover(node, "low_threshold") == entry["inputs"]["low_threshold"]["tooltip"]


def test_the_page_knows_every_text(comfy: ComfyPage, words: dict[str, Any]) -> None:
    """Texts survive the page's message compiler, for which @ { } | have a meaning."""
    wrong = []
    for key, said in texts(words, "nodeDefs"):
        shown = comfy.call("text", key)
        if shown != said:
            wrong.append(f"{key}: {shown}")
    assert not wrong, "\n".join(wrong)
