"""The pose nodes beside the host's own SDPose nodes."""

import importlib
import json

import numpy as np
import pytest
import torch

from devtools.locales import load_pack

NODES = load_pack()
HEIGHT, WIDTH = 240, 200
PARTS = {"body": True, "hands": True, "face": True, "scale_limbs": False}


@pytest.fixture(scope="module")
def sdpose():
    return importlib.import_module("comfy_extras.nodes_sdpose")


@pytest.fixture(scope="module")
def keypoints(sdpose):
    """What the host's extractor gives for one person: 133 points of COCO-WholeBody, left hand first."""
    generator = np.random.default_rng(0)
    points = generator.uniform(20, 180, (133, 2)).astype(np.float32)
    points[9], points[10] = (40, 60), (160, 60)
    points[91:112], points[112:133] = (40, 60), (160, 60)
    scores = np.full(133, 0.8, np.float32)
    scores[100] = 0.1
    return sdpose._to_openpose_frames([[points], []], [[scores], []], HEIGHT, WIDTH)


def draw(keypoints=None, json_text="", resolution=0, min_score=0.3, **parts):
    node = NODES["TillerDrawPose"]
    options = PARTS | parts
    return node.execute(
        json_text=json_text, resolution=resolution, min_score=min_score, keypoints=keypoints, **options
    ).args[0]


def to_json(keypoints, unit="pixels", match_hands=True, keep_scores=False, min_score=0.3):
    return NODES["TillerPoseToJSON"].execute(keypoints, unit, match_hands, keep_scores, min_score).args[0]


def test_the_hosts_key_points_are_drawn_where_the_host_draws_them(sdpose, keypoints):
    mine = draw(keypoints)
    theirs = sdpose.SDPoseDrawKeypoints.execute(keypoints[:1], True, True, True, False, 4, 3, 0.3, True).args[
        0
    ]
    assert mine.shape == (2, HEIGHT, WIDTH, 3)
    assert torch.equal(mine[0].amax(-1) > 0, theirs[0].amax(-1) > 0)
    assert not mine[1].any()


def test_the_hosts_hands_are_put_straight(keypoints):
    person = json.loads(to_json(keypoints))[0]["people"][0]
    kept = json.loads(to_json(keypoints, match_hands=False))[0]["people"][0]
    assert person["hand_left_keypoints_2d"][:3] == [40, 60, 1]
    assert person["hand_right_keypoints_2d"][:3] == [160, 60, 1]
    assert person["pose_keypoints_2d"][3 * 7 : 3 * 7 + 2] == [40, 60], "the left wrist"
    assert kept["hand_left_keypoints_2d"][:3] == [160, 60, 1]


def test_text_draws_the_same_picture_in_both_units(keypoints):
    wanted = draw(keypoints)
    assert torch.equal(draw(json_text=to_json(keypoints)), wanted)
    fractions = draw(json_text=to_json(keypoints, "fractions"))
    assert (fractions != wanted).float().mean() < 0.02, "a pixel's shift at most"


def test_the_host_draws_what_the_pack_writes(sdpose, keypoints):
    again = json.loads(to_json(keypoints))
    drawn = sdpose.SDPoseDrawKeypoints.execute(again, True, True, True, False, 4, 3, 0.3, True).args[0]
    assert torch.equal(drawn.amax(-1) > 0, draw(keypoints).amax(-1) > 0)


@pytest.mark.parametrize("part", ["body", "hands", "face"])
def test_each_switch_takes_its_part_away(keypoints, part):
    assert not torch.equal(draw(keypoints, **{part: False}), draw(keypoints))


def test_scores_survive_when_they_are_kept(keypoints):
    kept = json.loads(to_json(keypoints, keep_scores=True, min_score=0.0))
    again = json.loads(to_json(kept, keep_scores=True, min_score=0.0))
    assert kept == again
    assert kept[0]["people"][0]["pose_keypoints_2d"][2] == pytest.approx(0.8)
    assert "foot_keypoints_2d" in kept[0]["people"][0]


def test_a_missing_input_and_two_at_once_are_named(keypoints):
    with pytest.raises(ValueError, match="got neither"):
        draw()
    with pytest.raises(ValueError, match="got both"):
        draw(keypoints, to_json(keypoints))
