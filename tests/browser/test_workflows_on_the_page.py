"""Every shipped workflow, opened and run as a user does, in both languages and with both renderers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tiller.tests.browser.page import PACK, PICTURES, ComfyPage

from devtools.workflow_form import PAGE_ONLY, shipped, to_api

NOT_OFFERED = ".bin"
"""The page lists files of this form as missing, and offers no download of them."""

EACH_WORKFLOW = pytest.mark.parametrize("workflow", shipped(), ids=lambda path: path.stem)


def read(workflow: Path) -> dict[str, Any]:
    return json.loads(workflow.read_text(encoding="utf-8"))


def models_of(workflow: Path) -> set[tuple[str, str, str]]:
    """(node id, file, folder) of every model that the workflow names in its loaders."""
    return {
        (str(node["id"]), model["name"], model["directory"])
        for node in read(workflow)["nodes"]
        for model in node.get("properties", {}).get("models", [])
    }


def assert_page_holds(comfy: ComfyPage, workflow: Path) -> None:
    """Every node registered, every value as in the file, and the page's prompt is the API form."""
    file, nodes = read(workflow), comfy.nodes()
    assert comfy.call("missingNodes") == []
    assert comfy.call("missingMedia") == []
    assert [node["type"] for node in nodes.values() if not node["registered"]] == []
    assert {key: node["values"] for key, node in nodes.items()} == {
        str(node["id"]): node.get("widgets_values", []) for node in file["nodes"]
    }
    wanted = {key: (node["class_type"], node["inputs"]) for key, node in to_api(file).items()}
    prompt = {key: (node["class_type"], node["inputs"]) for key, node in comfy.call("prompt").items()}
    assert prompt == wanted
    missing = {(model["node"], model["name"], model["directory"]) for model in comfy.call("missingModels")}
    assert missing == models_of(workflow)


@EACH_WORKFLOW
def test_a_dropped_workflow_runs_and_its_pictures_appear(
    comfy: ComfyPage, workflow: Path, request: pytest.FixtureRequest
) -> None:
    comfy.drop(workflow)
    assert_page_holds(comfy, workflow)
    comfy.use_stand_ins(seed=sum(map(ord, request.node.name)))
    comfy.run()
    shown = [key for key, node in comfy.nodes().items() if node["type"] in PICTURES]
    assert shown, "a shipped workflow must end in a picture"
    assert any(
        node["type"] == "SaveImage" for node in comfy.nodes().values() if node["id"] in comfy.executed()
    )
    for node in shown:
        assert_picture_is_seen(comfy, node)


def assert_picture_is_seen(comfy: ComfyPage, node: str) -> None:
    files = comfy.call("files", node)
    comfy.page.wait_for_function(
        "([id, count]) => { const seen = tillerPage.pictures(id).filter(own => own.spread > 0);"
        " return count > 0 && seen.length >= Math.min(count, 1) }",
        arg=[node, len(files)],
        timeout=15_000,
    )
    seen = comfy.call("pictures", node)
    assert {picture["file"] for picture in seen} <= set(files)
    assert all(min(picture["size"]) > 0 and picture["spread"] > 0 for picture in seen)


@EACH_WORKFLOW
def test_the_templates_dialog_opens_a_workflow(comfy: ComfyPage, workflow: Path) -> None:
    from PIL import Image

    with comfy.page.expect_response(
        lambda answer: answer.url.endswith(f"/{PACK}/{workflow.stem}.jpg")
    ) as answer:
        card = comfy.open_template(workflow)
    assert answer.value.status == 200
    thumbnail = card.locator("img").first
    comfy.page.wait_for_function(
        "image => image.complete && image.naturalWidth > 0", arg=thumbnail.element_handle()
    )
    size = thumbnail.evaluate("image => [image.naturalWidth, image.naturalHeight]")
    with Image.open(workflow.with_suffix(".jpg")) as picture:
        assert size == list(picture.size)
    comfy.screenshot(f"templates-{'-'.join(comfy.face)}-{workflow.stem}")
    card.click()
    comfy.settle(len(read(workflow)["nodes"]))
    assert_page_holds(comfy, workflow)


@EACH_WORKFLOW
def test_the_errors_panel_names_the_missing_models(comfy: ComfyPage, workflow: Path) -> None:
    comfy.drop(workflow)
    wanted = models_of(workflow)
    if not wanted:
        assert comfy.page.get_by_test_id("error-overlay").count() == 0
        return
    comfy.page.get_by_test_id("error-overlay-see-errors").click()
    panel = comfy.page.get_by_test_id("error-group-missing-model")
    panel.wait_for()
    lines = [line.strip() for line in panel.inner_text().splitlines()]
    for _, name, folder in wanted:
        assert name in lines
        assert folder in lines
    offered = comfy.page.get_by_test_id("missing-model-download").count()
    downloadable = {(name, folder) for _, name, folder in wanted if not name.endswith(NOT_OFFERED)}
    assert offered == len(downloadable), "each missing model has a download button"


@EACH_WORKFLOW
def test_a_workflow_explains_itself(comfy: ComfyPage, workflow: Path) -> None:
    comfy.drop(workflow)
    notes = [node for node in comfy.nodes().values() if node["type"] in PAGE_ONLY]
    assert notes, "a shipped workflow carries a note"
    assert all(len(str(note["values"][0]).split()) >= 10 for note in notes)
