"""The contact sheet in the real host: what is there is shown, what is missing is named."""

import pytest
import torch
from tiller.tests.host import inprocess as real

from devtools.locales import load_pack

IMAGE = torch.rand(2, 48, 64, 3, generator=torch.Generator().manual_seed(7))


@pytest.fixture
def sheet(monkeypatch):
    real.annotators()
    node = load_pack()["TillerContactSheet"]

    def run(hints, **settings):
        given = {"image": IMAGE, "hints": hints, "resolution": 64, "columns": 2, "tile_size": 64, **settings}
        return node.execute(**given).args

    return run


def test_named_hints_are_made_as_their_own_nodes_make_them(sheet):
    made, missing = sheet("canny, hed\nblur")
    assert missing == ""
    assert made.shape[0] == 1
    pack = load_pack()
    own = pack["TillerHED"].execute(image=IMAGE[:1], safe=False, resolution=64, weights="auto").args[0]
    alone, _ = sheet("hed")
    assert float(own.std()) > 0.01
    shown = alone[0, 8:72, 8:72]
    assert abs(float(shown[8:56].mean()) - float(own.mean())) < 0.02


def test_what_is_missing_is_named_and_the_rest_is_made(sheet, monkeypatch, tmp_path):
    monkeypatch.setattr("folder_paths.get_filename_list", lambda _: [])
    made, missing = sheet("canny, hed, mlsd")
    assert [line.split(":")[0] for line in missing.splitlines()] == ["hed", "mlsd"]
    assert "ControlNetHED.pth" in missing
    assert "https://huggingface.co/lllyasviel/Annotators" in missing
    canny, _ = sheet("canny")
    assert torch.equal(made[0, 8:72, 8:72], canny[0, 8:72, 8:72])


def test_an_unknown_name_is_refused_with_the_names_there_are(sheet):
    with pytest.raises(ValueError, match=r"got cany, qr_code\. There are canny, "):
        sheet("cany, hed, qr_code")


def test_every_hint_made_from_a_picture_alone_can_be_asked_for():
    import importlib

    node = importlib.import_module("tiller_pack.nodes.contact_sheet") if load_pack() else None
    assert node is not None
    keys = [key for key, _ in node._chosen("")]
    assert len(keys) == len(set(keys)) > 20
    assert "qr_code" not in keys
    assert {"canny", "hed", "mlsd", "openpose"} <= set(keys)
