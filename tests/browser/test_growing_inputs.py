"""Inputs that change with the choice (TillerHint) and that grow with the links (TillerApplyControlUnits)."""

from __future__ import annotations

from typing import Any

import pytest
from tiller.tests.browser.page import ComfyPage

COMBO, AUTOGROW = "COMFY_DYNAMICCOMBO_V3", "COMFY_AUTOGROW_V3"
WIDGETS = frozenset({"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO"})


def input_of_kind(info: dict[str, Any], kind: str) -> tuple[str, dict[str, Any]]:
    inputs = {**info["input"].get("required", {}), **info["input"].get("optional", {})}
    return next((name, entry[1]) for name, entry in inputs.items() if entry[0] == kind)


def nested(option: dict[str, Any]) -> dict[str, Any]:
    return {**option["inputs"].get("required", {}), **option["inputs"].get("optional", {})}


def test_another_choice_brings_its_own_widgets(comfy: ComfyPage, object_info: dict[str, Any]) -> None:
    combo, spec = input_of_kind(object_info["TillerHint"], COMBO)
    node = comfy.call("add", "TillerHint")
    seen = set()
    for option in (*spec["options"][1:], spec["options"][0]):
        comfy.call("set", node, combo, option["key"])
        own = comfy.nodes()[node]
        wanted = [f"{combo}.{name}" for name in nested(option)]
        assert [slot["name"] for slot in own["inputs"] if slot["name"].startswith(f"{combo}.")] == wanted
        widgets = [
            f"{combo}.{name}"
            for name, entry in nested(option).items()
            if entry[0] in WIDGETS or isinstance(entry[0], list)
        ]
        present = [widget["name"] for widget in own["widgets"] if widget["name"].startswith(f"{combo}.")]
        assert [name for name in present if name in widgets] == widgets
        prompt = comfy.call("prompt")[node]["inputs"]
        assert prompt[combo] == option["key"]
        assert set(widgets) <= set(prompt)
        seen.add(tuple(present))
    assert len(seen) > 1, "no choice changed the widgets"


def test_a_chosen_option_and_its_values_survive_saving(comfy: ComfyPage, object_info: dict[str, Any]) -> None:
    combo, spec = input_of_kind(object_info["TillerHint"], COMBO)
    node = comfy.call("add", "TillerHint")
    option = next(
        own for own in spec["options"][1:] if any(entry[0] == "INT" for entry in nested(own).values())
    )
    comfy.call("set", node, combo, option["key"])
    name, entry = next((name, entry) for name, entry in nested(option).items() if entry[0] == "INT")
    value = entry[1].get("default", 0) + entry[1].get("step", 1)
    comfy.call("set", node, f"{combo}.{name}", value)
    before = comfy.call("prompt")[node]["inputs"]
    comfy.call("reload")
    assert comfy.call("prompt")[node]["inputs"] == before
    assert before[f"{combo}.{name}"] == value


@pytest.mark.parametrize("count", [3])
def test_unit_slots_grow_with_the_links(comfy: ComfyPage, object_info: dict[str, Any], count: int) -> None:
    units, _ = input_of_kind(object_info["TillerApplyControlUnits"], AUTOGROW)
    target = comfy.call("add", "TillerApplyControlUnits")

    def slots() -> list[str]:
        return [
            slot["name"] for slot in comfy.nodes()[target]["inputs"] if slot["name"].startswith(f"{units}.")
        ]

    wanted = []
    for number in range(count):
        free = next(slot for slot in slots() if slot not in comfy.call("linked", target))
        comfy.call("connect", comfy.call("add", "TillerControlUnit"), 0, target, free)
        wanted.append(free)
        comfy.page.wait_for_timeout(50)
        assert len(slots()) >= number + 2, "a free slot must remain"
    assert comfy.call("linked", target) == wanted
    assert len(set(wanted)) == count
    comfy.call("reload")
    assert comfy.call("linked", target) == wanted
    comfy.call("disconnect", target, wanted[-1])
    comfy.page.wait_for_timeout(200)
    assert comfy.call("linked", target) == wanted[:-1]
    assert len(slots()) == count
