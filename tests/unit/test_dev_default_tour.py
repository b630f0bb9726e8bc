"""The quickstart without models: its graph, its pictures, its contact sheet."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from devtools import contact_sheet, default_tour, models
from devtools.client import ImageFile, RunResult
from devtools.default_tour import PROMPTS, STRENGTHS
from devtools.environment import Environment, Places
from devtools.messages import Trouble
from devtools.progress import say_times


def behind(prompt, name):
    """What one picture was made with: words, strength, and everything that should be common."""
    saved = prompt[f"{name} saved"]["inputs"]["images"][0]
    sampled = prompt[prompt[saved]["inputs"]["samples"][0]]["inputs"]
    control = prompt[sampled["positive"][0]]["inputs"]
    common = {key: value for key, value in sampled.items() if key not in ("positive", "negative")}
    words = prompt[control["positive"][0]]["inputs"]["text"]
    return words, control["strength"], (common, control["image"], control["control_net"])


def test_pictures_differ_in_words_or_strength_alone():
    prompt = default_tour.graph()
    made = {name: behind(prompt, name) for name in default_tour.pictures()}
    assert len({repr(common) for _, _, common in made.values()}) == 1
    pairs = [(words, strength) for words, strength, _ in made.values()]
    assert len(set(pairs)) == len(pairs)
    assert set(pairs) == {(words, 1.0) for words in PROMPTS} | {(PROMPTS[0], s) for s in STRENGTHS}


def test_every_link_of_the_graph_leads_to_a_node():
    prompt = default_tour.graph()
    links = [v for node in prompt.values() for v in node["inputs"].values() if isinstance(v, list)]
    assert links
    assert {link[0] for link in links} <= set(prompt)


def test_it_runs_on_the_default_model_at_the_size_that_it_was_trained_for():
    wanted = {
        ("checkpoints", "tiller_toy_sd15.safetensors"),
        ("controlnet", "tiller_toy_sd15_lines.safetensors"),
    }
    prompt = default_tour.graph()
    assert models.wanted_files([prompt]) == wanted
    assert (prompt["latent"]["inputs"]["width"], prompt["canny"]["inputs"]["resolution"]) == (256, 256)


def test_the_rows_tell_the_story_in_order(tmp_path):
    sheet = default_tour.layout(tmp_path, Path("photo.png"))
    names = [[Path(cell["file"]).stem for cell in row["cells"]] for row in sheet["rows"]]
    by_strength = ["strength_0.00", "strength_0.25", "strength_0.50", "strength_0.75", "prompt_1"]
    prompts = ["prompt_1", "prompt_2", "prompt_3", "prompt_4"]
    assert names == [["photo", "canny", "prompt_1"], prompts, by_strength]
    assert {name for row in names for name in row} == {"photo", "canny", *default_tour.pictures()}
    assert [cell["label"] for cell in sheet["rows"][1]["cells"]] == list(PROMPTS)
    assert [cell["label"].split(":")[0] for cell in sheet["rows"][2]["cells"]] == [
        f"strength {strength:g}" for strength in STRENGTHS
    ]


def test_the_sheet_says_that_it_is_a_toy_and_how_to_get_real_pictures():
    said = default_tour.TITLE + default_tour.TEXT
    for part in ("toy", "few million parameters", "drew", "not what pictures can look like", "--models DIR"):
        assert part in said


COLOURS = [(200, 0, 0), (0, 200, 0), (0, 0, 200), (200, 200, 0)]


@pytest.fixture
def drawn(tmp_path):
    """Two rows of two plain pictures, drawn by the program itself."""
    cells = []
    for index, colour in enumerate(COLOURS):
        Image.new("RGB", (64, 64), colour).save(tmp_path / f"{index}.png")
        cells.append({"file": str(tmp_path / f"{index}.png"), "label": "a label of many words " * 4})
    rows = [{"title": "one", "cells": cells[:2], "arrows": True}, {"title": "two", "cells": cells[2:]}]
    layout = {"title": "A title", "text": "some words " * 30, "rows": rows}
    assert contact_sheet.main([str(tmp_path / "sheet.png"), json.dumps(layout)]) == 0
    with Image.open(tmp_path / "sheet.png") as sheet:
        return sheet.convert("RGB")


def test_every_picture_is_on_the_sheet_at_full_size_in_its_row(drawn):
    pixels, boxes = np.asarray(drawn), []
    for colour in COLOURS:
        y, x = np.nonzero((pixels == colour).all(2))
        boxes.append((x.min(), y.min(), x.max() + 1, y.max() + 1))
    assert {(x1 - x0, y1 - y0) for x0, y0, x1, y1 in boxes} == {(256, 256)}
    assert boxes[0][1] == boxes[1][1] < boxes[2][1] == boxes[3][1]
    assert boxes[0][0] == boxes[2][0] < boxes[1][0] == boxes[3][0]
    for x0, _, x1, y1 in boxes:
        label = drawn.crop((x0, y1, x1, y1 + 60)).convert("L")
        assert label.getextrema()[0] < 100, "no label under the picture"
    gap = drawn.crop((boxes[0][2], boxes[0][1], boxes[1][0], boxes[0][3])).convert("L")
    other = drawn.crop((boxes[2][2], boxes[2][1], boxes[3][0], boxes[2][3])).convert("L")
    assert gap.getextrema()[0] < 100 <= other.getextrema()[0], "the arrow stands in the first row alone"


def test_the_sheet_has_a_margin_all_around(drawn):
    pixels = np.asarray(drawn)
    for edge in (pixels[:8], pixels[-8:], pixels[:, :8], pixels[:, -8:]):
        assert (edge == contact_sheet.PAPER).all()


def test_text_is_wrapped_to_the_width_and_keeps_every_word():
    font = contact_sheet.font_of(14)
    lines = contact_sheet.wrapped("some words and more words", font, 80)
    assert " ".join(lines) == "some words and more words"
    assert len(lines) > 1
    assert all(font.getlength(line) <= 80 for line in lines)


@pytest.fixture
def server(tmp_path):
    """A server that has made every picture of the graph; its pictures are their names."""
    client = SimpleNamespace(download=lambda image: image.node.encode())
    here = Environment(Places(tmp_path), Path(sys.executable), tmp_path / "host", True)
    return SimpleNamespace(
        client=client, environment=here, base=tmp_path / "base", log=tmp_path / "server.log"
    )


def everything():
    return {
        node: {"images": [{"filename": "x.png"}]}
        for node, made in default_tour.graph().items()
        if made["class_type"] == "SaveImage"
    }


def test_a_second_call_replaces_the_pictures_of_the_first(server, tmp_path):
    for _ in range(2):
        default_tour.keep(server, RunResult(outputs=everything()), tmp_path / "out")
    kept = {path.name: path.read_text() for path in (tmp_path / "out").iterdir()}
    assert kept == {f"{name}.png": f"{name} saved" for name in ("canny", *default_tour.pictures())}


def test_a_picture_that_was_not_made_is_told(server, tmp_path):
    outputs = everything()
    del outputs["strength_0.50 saved"]
    with pytest.raises(Trouble, match=r"made no picture strength_0\.50\. Look into .*server\.log"):
        default_tour.keep(server, RunResult(outputs=outputs), tmp_path / "out")


def test_a_sheet_that_cannot_be_drawn_is_told_and_the_pictures_are_named(server, tmp_path):
    with pytest.raises(Trouble, match=r"could not be drawn: .* The pictures are in"):
        default_tour.make_sheet(server, default_tour.layout(tmp_path, tmp_path / "gone.png"), tmp_path)


def test_the_path_of_the_sheet_is_printed_first(server, tmp_path, monkeypatch, capsys):
    images = [ImageFile(node, "x.png", "", "output") for node in everything()]
    done = RunResult(outputs=everything(), executed=["model"], seconds={"model": 2.0})
    assert done.images == images
    monkeypatch.setattr(default_tour, "follow", lambda server, prompt: done)
    monkeypatch.setattr(default_tour, "make_sheet", lambda server, what, target: target / "contact_sheet.png")
    default_tour.show(server, tmp_path / "out")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"Contact sheet: {tmp_path / 'out' / 'contact_sheet.png'}"
    assert f"  {tmp_path / 'out' / 'strength_0.25.png'}" in lines
    assert "     2.00 s  Toy model" in lines


def test_short_times_are_summed(capsys):
    prompt = {name: {"class_type": name} for name in "abc"}
    result = RunResult(executed=list("abc"), seconds={"a": 2.0, "b": 0.04, "c": 0.05}, total_seconds=3.0)
    say_times(prompt, result, 0.1)
    assert [line.split() for line in capsys.readouterr().out.splitlines()[1:]] == [
        ["2.00", "s", "a"],
        ["0.09", "s", "2", "others"],
        ["3.00", "s", "in", "all"],
    ]
    say_times(prompt, result)
    assert "others" not in capsys.readouterr().out
