"""Every shipped workflow: both forms agree, the page finds what it needs, and the real server runs it."""

import copy
import json

import pytest

from devtools.models import LOADERS, made_small, substitute
from devtools.workflow_form import PAGE_ONLY, WORKFLOWS, shipped, to_api

PATHS = shipped()
EVERY_WORKFLOW = pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
PICTURES = {
    "quickstart": 6,
    "canny": 2,
    "qr_code_art": 2,
    "every_hint": 1,
    "depth": 2,
    "pose": 2,
    "line_color_background": 2,
    "sdxl_union": 4,
    "reference": 1,
    "shuffle_style": 2,
    "hidden_light": 2,
    "ip2p_winter": 1,
    "recolor": 2,
    "image_prompt": 2,
    "image_prompt_style": 2,
    "image_prompt_composition": 2,
    "image_prompt_two_pictures": 2,
    "face_id": 2,
    "two_people": 1,
    "flux_image_prompt": 2,
}
"""How many pictures a run of each workflow makes."""
TEXTS = {
    "sdxl.safetensors": {"width": 2048, "pooled_width": 1280},
    "flux.safetensors": {"width": 4096, "pooled_width": 768},
}
"""Ending of a checkpoint's stand-in that cannot read texts -> the widths of what it takes in their place."""
PICKLED = {"ip-adapter-faceid_sd15.bin"}
"""Published in that form alone: the page names it, and does not offer to download it."""
WITHOUT_MODELS = {"every_hint"}


def ui_form(path):
    return json.loads(path.read_text(encoding="utf-8"))


def api_form(path):
    return json.loads((WORKFLOWS / "api" / path.name).read_text(encoding="utf-8"))


def test_the_recipes_are_there():
    assert {path.stem for path in PATHS} == set(PICTURES)
    assert {path.name for path in (WORKFLOWS / "api").glob("*.json")} == {path.name for path in PATHS}


@EVERY_WORKFLOW
def test_ui_form_and_api_form_hold_the_same_nodes_and_values(path):
    assert to_api(ui_form(path)) == api_form(path), "run `python3 dev.py workflows`"


@EVERY_WORKFLOW
def test_every_loader_tells_the_page_name_address_and_folder(path):
    loaders = [node for node in ui_form(path)["nodes"] if node["type"] in LOADERS]
    assert bool(loaders) == (path.stem not in WITHOUT_MODELS)
    for node in loaders:
        (model,) = node["properties"]["models"]
        assert model["name"] == node["widgets_values"][0]
        assert model["directory"] == LOADERS[node["type"]][1]
        assert model["url"].startswith("https://huggingface.co/")
        assert model["url"].endswith(".safetensors") or model["name"] in PICKLED


@EVERY_WORKFLOW
def test_a_note_explains_it_and_a_thumbnail_shows_it(path):
    from PIL import Image

    notes = [node for node in ui_form(path)["nodes"] if node["type"] in PAGE_ONLY]
    assert any(len(note["widgets_values"][0]) > 200 for note in notes)
    with Image.open(path.with_suffix(".jpg")) as picture:
        assert picture.format == "JPEG"
        assert min(picture.size) >= 300


@EVERY_WORKFLOW
def test_links_are_known_on_both_ends(path):
    ui = ui_form(path)
    nodes = {node["id"]: node for node in ui["nodes"]}
    for link, source, output, target, slot, kind in ui["links"]:
        assert link in nodes[source]["outputs"][output]["links"]
        assert nodes[source]["outputs"][output]["type"] == kind
        assert nodes[target]["inputs"][slot]["link"] == link


@EVERY_WORKFLOW
def test_the_server_knows_every_node_and_input(server, path):
    for node in api_form(path).values():
        info = server.object_info[node["class_type"]]["input"]
        known = {name for group in ("required", "optional") for name in info.get(group, {})}
        assert {name.split(".")[0] for name in node["inputs"]} <= known, node["class_type"]


def with_random_texts(prompt):
    """The recipe with random conditioning for texts, where its checkpoint's stand-in cannot read any."""
    names = [node["inputs"].get("ckpt_name") for node in prompt.values()]
    ours = [substitute("checkpoints", name).rpartition("_")[2] for name in names if name]
    width = next((widths for ending, widths in TEXTS.items() if ending in ours), None)
    if width is None:
        return prompt
    texts = {"class_type": "TestConditioning", "inputs": width}
    return {
        node_id: texts if node["class_type"] == "CLIPTextEncode" else node for node_id, node in prompt.items()
    }


@EVERY_WORKFLOW
def test_the_server_accepts_and_runs_it(server, path):
    result = server.run(with_random_texts(made_small(api_form(path), size=128, steps=2)))
    assert result.ok, result.errors
    assert len(result.images) == PICTURES[path.stem]
    assert all(server.pixels(image).std() > 0 for image in result.images)


@EVERY_WORKFLOW
def test_a_missing_file_is_refused_by_node_and_name(server, path):
    for node_id, node in made_small(api_form(path)).items():
        if node["class_type"] not in LOADERS:
            continue
        broken = copy.deepcopy(made_small(api_form(path)))
        broken[node_id]["inputs"][LOADERS[node["class_type"]][0]] = "not_here.safetensors"
        result = server.run(broken)
        assert node_id in result.node_errors
        assert any("not_here.safetensors" in text for text in result.errors)


def test_a_workflow_with_a_muted_node_is_not_turned_into_api_form():
    ui = ui_form(PATHS[0])
    ui["nodes"][0]["mode"] = 2
    ui["nodes"][0]["type"] = "KSampler"
    with pytest.raises(ValueError, match="must be active"):
        to_api(ui)


def test_a_value_without_a_widget_is_not_dropped_in_silence():
    ui = ui_form(PATHS[0])
    next(node for node in ui["nodes"] if node["type"] == "KSampler")["widgets_values"].append(1)
    with pytest.raises(ValueError, match="without a widget"):
        to_api(ui)
