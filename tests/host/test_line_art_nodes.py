"""Line art and straight lines as nodes in the real host, with random weight files."""

import logging

import pytest
import torch
from tiller.tests.host import inprocess as real

from devtools.locales import load_pack

IMAGE = torch.rand(1, 64, 96, 3, generator=torch.Generator().manual_seed(7))


@pytest.fixture(scope="module")
def nodes():
    real.annotators()
    return load_pack()


def hint(nodes, name, **settings):
    return nodes[name].execute(**{"image": IMAGE, "resolution": 64, "weights": "auto", **settings}).args[0]


def test_either_line_art_file_works_in_either_node_and_auto_goes_by_the_name(nodes):
    fine, coarse = hint(nodes, "TillerLineArtRealistic"), hint(nodes, "TillerLineArtCoarse")
    assert not torch.equal(fine, coarse)
    assert torch.equal(hint(nodes, "TillerLineArtRealistic", weights="sk_model2.pth"), coarse)
    assert torch.equal(hint(nodes, "TillerLineArtCoarse", weights="sk_model.pth"), fine)


@pytest.mark.parametrize("name", ["TillerLineArtAnime", "TillerLineArtAnimeDenoise"])
def test_anime_line_art_keeps_size_and_range(nodes, name):
    made = hint(nodes, name)
    assert made.shape == IMAGE.shape
    assert 0.0 <= float(made.min()) < float(made.max()) <= 1.0


def test_each_threshold_drops_straight_lines(nodes, caplog):
    settings = {"value_threshold": 0.01, "distance_threshold": 0.01}
    every = hint(nodes, "TillerMLSD", **settings)
    assert set(every.unique().tolist()) == {0.0, 1.0}
    with caplog.at_level(logging.WARNING, "tiller"):
        assert float(hint(nodes, "TillerMLSD", **{**settings, "value_threshold": 2.0}).max()) == 0.0
    assert [record.message.split(":")[0] for record in caplog.records if record.name == "tiller"] == [
        "No straight line in 1 of 1 pictures"
    ]
    assert hint(nodes, "TillerMLSD", **{**settings, "distance_threshold": 20.0}).sum() < every.sum()
