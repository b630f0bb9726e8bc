"""The stand-in pack of face models: one face in the middle of any picture, under any name a recipe uses."""

import json

import pytest
import torch
from tiller.adapters.faces.analysis import analyze
from tiller.adapters.faces.packs import find_pack
from tiller.tests.unit.face_networks import opened

from devtools import face_standins, models


def recipe(**inputs):
    return {"1": {"class_type": "TillerLoadFaceAnalysis", "inputs": inputs}}


def test_recipes_tell_which_packs_they_want():
    linked = recipe(pack=["2", 0])
    other = {"1": {"class_type": "TillerAnalyzeFaces", "inputs": {"pack": "no"}}}
    wanted = models.wanted_packs([recipe(pack="buffalo_l"), recipe(pack="antelopev2"), linked, other])
    assert wanted == {"buffalo_l", "antelopev2"}


def test_shipped_recipes_get_their_packs_beside_the_stand_in_s_own_name(tmp_path):
    api = tmp_path / "workflows/api"
    api.mkdir(parents=True)
    (api / "face.json").write_text(json.dumps(recipe(pack="antelopev2")), encoding="utf-8")
    root = face_standins.ensure_for_recipes(tmp_path / "models", tmp_path)
    assert {path.name for path in (root / "models").iterdir()} == {face_standins.NAME, "antelopev2"}


def test_packs_are_written_once_and_again_when_they_are_old(tmp_path):
    root = face_standins.ensure(tmp_path, ["buffalo_l", "mine"])
    assert root == tmp_path / "insightface"
    detector, mark = (root / "models/mine" / name for name in ("det_middle.onnx", "version"))
    assert (root / "models/buffalo_l/mean_colours.onnx").is_file()
    assert find_pack("mine", [root]).detector == detector
    detector.write_bytes(b"mine")
    face_standins.ensure(tmp_path, ["mine"])
    assert detector.read_bytes() == b"mine"
    mark.write_text("0")
    face_standins.ensure(tmp_path, ["mine"])
    assert find_pack("mine", [root]).detector == detector
    assert not list(root.rglob("*.part"))


@pytest.mark.parametrize("size", [(64, 64), (300, 500), (500, 300), (1, 1), (33, 65), (130, 7)])
def test_one_face_stands_in_the_middle_of_any_picture(tmp_path, size):
    root = face_standins.ensure(tmp_path)
    height, width = size
    image = torch.rand(1, height, width, 3, generator=torch.Generator().manual_seed(1))
    networks = opened(find_pack(face_standins.NAME, [root]))
    (face,) = analyze(image, networks, ("", "")).faces.found[0]
    half = min(size) * face_standins.PART / 2
    expected = torch.tensor([width / 2 - half, height / 2 - half, width / 2 + half, height / 2 + half])
    torch.testing.assert_close(face.box, expected, rtol=0, atol=max(size) / 640 + 1e-3)
    assert analyze(torch.zeros(1, 64, 64, 3), networks, ("", "")).faces.found[0]
