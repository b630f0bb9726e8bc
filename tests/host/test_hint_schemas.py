"""The all-in-one node is made from the hint nodes, through the host's own handling of dynamic inputs."""

import asyncio
import importlib
from typing import Any

import pytest
import torch
from tiller.tests.host.inprocess import annotators

from devtools.locales import load_pack, walk_inputs

NODES = load_pack()
HINT = NODES["TillerHint"]
COMBO = HINT.define_schema().inputs[0]
OPTIONS = {option.key: option.inputs for option in COMBO.options}
PARTS = importlib.import_module(f"{HINT.__module__}").HINTS


MASK = torch.rand(1, 20, 30, generator=torch.Generator().manual_seed(1))


def defaults(inputs: list[Any]) -> dict[str, Any]:
    return {entry.id: MASK if entry.id == "mask" else entry.default for entry in inputs}


def run_hint(inputs: dict[str, Any], image: torch.Tensor | None) -> torch.Tensor:
    """Runs the node as the host does, from the flat inputs of an API prompt."""
    execution = importlib.import_module("execution")
    data, _, dynamic = execution.get_input_data(dict(inputs), HINT, "1")
    if image is not None:
        data["image"] = [image]

    async def go() -> Any:
        tasks = await execution._async_map_node_over_list(
            "p", "1", HINT, data, HINT.FUNCTION, v3_data=dynamic
        )
        return await execution.resolve_map_node_over_list_results(tasks)

    return asyncio.run(go())[0].args[0]


def refusals(monkeypatch: pytest.MonkeyPatch, inputs: dict[str, Any]) -> str:
    """What the host's validation says against these inputs."""
    execution, host_nodes = importlib.import_module("execution"), importlib.import_module("nodes")
    monkeypatch.setitem(host_nodes.NODE_CLASS_MAPPINGS, "TillerHint", HINT)
    prompt = {"1": {"class_type": "TillerHint", "inputs": dict(inputs)}}
    return " ".join(e["details"] for e in asyncio.run(execution.validate_inputs("p", prompt, "1", {}))[1])


def test_every_hint_node_is_an_option():
    hints = {name for name, node in NODES.items() if node.define_schema().category == "Tiller/hints"}
    assert {node.__name__ for _, node in PARTS} == hints - {
        "TillerContactSheet",
        "TillerHint",
        "TillerFitHint",
        "TillerPixelPerfect",
    } | {"TillerQRCode"}
    assert list(OPTIONS) == [key for key, _ in PARTS]


@pytest.mark.parametrize(("key", "node"), PARTS)
def test_an_option_has_the_nodes_own_inputs(key, node):
    """Made at the same time on either side: which weight files are offered depends on the folders."""
    offered = {option.key: option.inputs for option in HINT.define_schema().inputs[0].options}
    own = [entry.as_dict() | {"id": entry.id} for entry in node.define_schema().inputs if entry.id != "image"]
    assert [entry.as_dict() | {"id": entry.id} for entry in offered[key]] == own


@pytest.mark.parametrize(("key", "node"), PARTS)
def test_an_option_gives_the_nodes_own_result(key, node):
    values = defaults(OPTIONS[key])
    if "weights" in values:
        annotators()
        values["resolution"] = 64
    own = dict(values)
    image = None
    if any(entry.id == "image" for entry in node.define_schema().inputs):
        image = own["image"] = torch.rand(2, 33, 47, 3, generator=torch.Generator().manual_seed(0))
    made = run_hint({"hint": key} | {f"hint.{name}": value for name, value in values.items()}, image)
    assert torch.equal(made, node.execute(**own).args[0])


def test_one_nested_name_has_one_text():
    texts: dict[str, set[tuple[str, str]]] = {}
    for key, entry in walk_inputs([COMBO]):
        texts.setdefault(key, set()).add((entry.display_name or entry.id, entry.tooltip))
    assert {key: said for key, said in texts.items() if len(said) > 1} == {}


def test_inputs_left_over_from_another_hint_are_ignored(monkeypatch):
    inputs = {"hint": "invert", "hint.low_threshold": 3, "hint.sigma": 1.0}
    image = torch.rand(1, 8, 8, 3)
    assert refusals(monkeypatch, inputs) == ""
    assert torch.equal(run_hint(inputs, image), NODES["TillerInvert"].execute(image=image).args[0])


def test_an_unknown_hint_is_refused_before_and_during_the_run(monkeypatch):
    said = refusals(monkeypatch, {"hint": "cany"})
    assert "needs one of the hints canny, " in said
    assert "got 'cany'. Choose one of them" in said
    with pytest.raises(ValueError, match=r"needs one of the hints canny, .* got 'cany'"):
        run_hint({"hint": "cany"}, torch.rand(1, 8, 8, 3))


def test_a_nested_value_out_of_range_is_refused(monkeypatch):
    inputs = {"hint": "threshold", "hint.level": 256, "hint.resolution": 512}
    assert "hint.level" in refusals(monkeypatch, inputs)


def test_a_resolution_between_the_steps_is_valid(monkeypatch):
    inputs = {"hint": "threshold", "hint.level": 127, "hint.resolution": 333}
    assert refusals(monkeypatch, inputs) == ""
    assert run_hint(inputs, torch.rand(1, 40, 50, 3)).shape == (1, 333, 416, 3)


def test_a_socket_inside_an_option_is_asked_for_with_that_option_alone(monkeypatch):
    inputs = {"hint": "inpaint_lama", "hint.resolution": 64, "hint.weights": "auto"}
    assert refusals(monkeypatch, inputs) == "mask"
    assert refusals(monkeypatch, {"hint": "invert"}) == ""


def test_a_missing_image_is_named():
    with pytest.raises(ValueError, match=r"The hint 'invert' needs an image, got none\. Connect"):
        run_hint({"hint": "invert"}, None)


def test_an_interrupt_stops_between_pictures():
    management = importlib.import_module("comfy.model_management")
    management.interrupt_current_processing(True)
    with pytest.raises(management.InterruptProcessingException):
        NODES["TillerInvert"].execute(image=torch.rand(4, 8, 8, 3))
    assert not management.interrupt_processing
