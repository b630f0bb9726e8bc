"""LaMa's filling as a node in the real host, with random weight files of every layout that people have."""

import importlib

import pytest
import torch
from safetensors.torch import save_file
from tiller.tests.host import inprocess as real

from devtools import annotator_standins
from devtools.locales import load_pack

IMAGE = torch.rand(2, 48, 80, 3, generator=torch.Generator().manual_seed(7))
MASK = torch.zeros(1, 48, 80)
MASK[:, 10:30, 20:60] = 1


@pytest.fixture
def node():
    """The node, where nothing is kept from before."""
    real.annotators()
    node = load_pack()["TillerInpaintLaMa"]
    _host()._KEPT.clear()
    return node


def _host():
    return importlib.import_module("tiller.preprocessors._host")


def fill(node, **settings):
    return node.execute(
        **{"image": IMAGE, "mask": MASK, "resolution": 64, "weights": "auto", **settings}
    ).args[0]


def test_only_what_is_masked_changes(node):
    made = fill(node)
    outside = MASK.expand(2, -1, -1) == 0
    assert torch.equal(made[outside], IMAGE[outside])
    assert (made[~outside] != IMAGE[~outside]).any()
    assert not torch.equal(made[0, 10:30, 20:60], made[1, 10:30, 20:60])


def test_an_empty_mask_needs_no_weights(node):
    assert torch.equal(fill(node, mask=torch.zeros(1, 64, 64), weights="gone.pth"), IMAGE)


@pytest.mark.parametrize("prefix", ["", "model.", "generator.model.", "model.model.", "module.model."])
def test_big_lama_works_from_models_inpaint_whatever_stands_before_its_keys(
    node, prefix, tmp_path, monkeypatch
):
    wanted = fill(node)
    paths = importlib.import_module("folder_paths")
    monkeypatch.setattr(paths, "models_dir", str(tmp_path))
    monkeypatch.setattr(paths, "filename_list_cache", {})
    known = {key: value for key, value in paths.folder_names_and_paths.items() if key not in _host().FOLDERS}
    monkeypatch.setattr(paths, "folder_names_and_paths", known)
    (tmp_path / "inpaint").mkdir()
    state = annotator_standins.random_state("lama")
    save_file(
        {prefix + key: tensor for key, tensor in state.items()}, tmp_path / "inpaint/big-lama.safetensors"
    )
    assert torch.equal(fill(node), wanted)
