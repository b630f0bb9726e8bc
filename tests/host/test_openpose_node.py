"""The OpenPose node with planned networks in place of the large ones."""

import importlib
import json

import pytest
import torch
from tiller.tests.host import inprocess as real
from tiller.tests.unit.pose_people import moved, skeleton_maps

HEIGHT, WIDTH = 192, 256
PARTS = {"body": True, "hands": False, "face": False, "scale_limbs": False}


@pytest.fixture
def asked(monkeypatch):
    """(key, weights, pictures) of every network that ran, the node's networks being planned."""
    node = real.pack_nodes("hints_pose")
    ran: list[tuple[str, str, int]] = []

    def network(key, build, weights, layout):
        def run(levels):
            ran.append((key, weights, len(levels)))
            if key == "openpose_body":
                each = [skeleton_maps([moved(20, 5, 1.2)], HEIGHT, WIDTH)] * len(levels)
                return tuple(torch.cat(maps) for maps in zip(*each, strict=True))
            return torch.ones(len(levels), 22 if key == "openpose_hand" else 71, 8, 8)

        return run

    monkeypatch.setattr(node, "network", network)
    return ran


def run(batch=1, weights=("auto", "auto", "auto"), **parts):
    node = real.pack_nodes("hints_pose").TillerOpenPose
    image = real.picture(HEIGHT, WIDTH, batch=batch)
    return node.execute(image, HEIGHT, *weights, **{**PARTS, **parts}).args


def test_only_what_is_switched_on_runs(asked):
    run(batch=2)
    assert asked == [("openpose_body", "auto", 2)]
    asked.clear()
    run(face=True, weights=("a.pth", "b.pth", "c.pth"))
    assert asked == [("openpose_body", "a.pth", 1), ("openpose_face", "c.pth", 1)]
    asked.clear()
    run(hands=True, batch=2, weights=("a.pth", "b.pth", "c.pth"))
    assert asked == [("openpose_body", "a.pth", 2)] + [("openpose_hand", "b.pth", 4)] * 4


def test_faceonly_draws_no_limbs(asked):
    hint, _ = run(body=False, face=True)
    assert hint.unique().tolist() == [0, 1], "white dots on black"


def test_the_key_points_give_the_same_picture_again(asked):
    hint, keypoints = run(batch=2)
    assert hint.shape == (2, HEIGHT, WIDTH, 3)
    again = real.pack_nodes("pose").TillerDrawPose.execute(
        json_text=json.dumps(keypoints), resolution=0, min_score=0.3, **PARTS
    )
    assert torch.equal(again.args[0], hint)
    assert hint.any()


def test_the_host_draws_the_key_points(asked):
    hint, keypoints = run()
    sdpose = importlib.import_module("comfy_extras.nodes_sdpose")
    theirs = sdpose.SDPoseDrawKeypoints.execute(keypoints, True, True, True, False, 4, 3, 0.3, True)
    assert torch.equal(theirs.args[0].amax(-1) > 0, hint.amax(-1) > 0)
