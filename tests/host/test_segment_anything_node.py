"""Segment Anything as a node in the real host, with a random weight file."""

import logging

import pytest
import torch
from tiller.tests.host import inprocess as real

from devtools.locales import load_pack

IMAGE = real.picture(60, 80, batch=2)
SETTINGS = {
    "image": IMAGE,
    "points_per_side": 6,
    "iou_threshold": 0.88,
    "stability_threshold": 0.95,
    "color_seed": 0,
    "points": "",
    "boxes": "",
    "resolution": 0,
    "weights": "auto",
}


@pytest.fixture(scope="module")
def node():
    real.annotators()
    return load_pack()["TillerSegmentAnything"]


def run(node, **changes):
    return node.execute(**{**SETTINGS, **changes}).args


def test_the_hint_and_all_masks_have_the_working_size(node):
    hint, masks = run(node, resolution=90)
    assert hint.shape == (2, 90, 120, 3)
    assert masks.shape[1:] == (90, 120)
    assert len(masks) > 2
    assert set(masks.unique().tolist()) == {0.0, 1.0}
    painted = hint.amax(3)[0] > 0
    assert painted.any()
    assert not painted.all()


def test_another_seed_changes_the_colours_alone(node):
    (one, masks), (other, same) = run(node), run(node, color_seed=1)
    assert torch.equal(masks, same)
    assert not torch.equal(one, other)
    assert torch.equal(one.amax(3) > 0, other.amax(3) > 0)


def test_each_threshold_and_the_grid_reach_the_masks(node):
    counts = [
        len(run(node, **changes)[1])
        for changes in ({}, {"points_per_side": 2}, {"iou_threshold": 0.0}, {"stability_threshold": 0.0})
    ]
    assert counts[1] < counts[0]
    assert counts[2] >= counts[0]
    assert counts[3] >= counts[0]
    assert len(set(counts)) > 2


def test_points_and_boxes_make_their_own_masks(node):
    _, masks = run(node, points="+10,12; +70,50; -65,45", boxes="5,5,40,30\n20,20,60,59")
    assert masks.shape == (6, 60, 80)
    _, alone = run(node, image=IMAGE[1:], boxes="20,20,60,59")
    assert torch.equal(masks[4], alone[0])


def test_bounding_boxes_are_boxes(node):
    box = {"x": 5, "y": 6, "width": 30, "height": 20}
    _, text = run(node, boxes="5,6,35,26")
    assert torch.equal(run(node, bboxes=box)[1], text)
    assert torch.equal(run(node, bboxes=[[box], []])[1], text[:1])


def test_nobody_found_by_a_detector_gives_an_empty_mask(node, caplog):
    with caplog.at_level(logging.WARNING, "tiller"):
        hint, masks = run(node, bboxes=[[], []])
    assert float(hint.max()) == 0.0
    assert torch.equal(masks, torch.zeros(1, 60, 80))
    assert [record.message.split(":")[0] for record in caplog.records if record.name == "tiller"][-1:] == [
        "No point and no box for 2 of 2 pictures"
    ]


def test_what_cannot_be_read_or_lies_outside_is_refused_before_anything_is_loaded(node):
    for changes, words in (
        ({"points": "12;8"}, "got ';' as character 3 of '12;8', where a comma belongs"),
        ({"boxes": "1,2,3"}, "got its end of '1,2,3'"),
        ({"points": "+81,5"}, "in the picture of 80 x 60 pixels"),
        ({"bboxes": "face"}, "Bounding boxes need x, y, width and height"),
    ):
        with pytest.raises(ValueError) as caught:
            run(node, weights="no such file.pth", **changes)
        assert words in str(caught.value)
