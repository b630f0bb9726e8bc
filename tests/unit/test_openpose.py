"""OpenPose finds what the reference finds: the same networks, peaks, limbs, persons, hands and faces."""

import colorsys
import sys
import types

import cv2
import numpy as np
import pytest
import torch
from tiller.preprocessors.networks.openpose import BodyPose, FacePose, HandPose
from tiller.preprocessors.pose.boxes import LEFT_ARM, RIGHT_ARM, Square, face_box, hand_box
from tiller.preprocessors.pose.decoding import (
    Peak,
    face_points,
    find_bodies,
    hand_points,
)
from tiller.preprocessors.pose.drawing import Drawing
from tiller.preprocessors.pose.openpose import PoseNetworks, _parts, find_people, open_pose
from tiller.preprocessors.weights import WEIGHT_FILES
from tiller.tests.unit.annotators import at_working_size, listing, randomise, shapes_of
from tiller.tests.unit.pose_people import moved, skeleton_maps

NETWORKS = {"openpose_body": BodyPose, "openpose_hand": HandPose, "openpose_face": FacePose}
ALL = Drawing()


@pytest.fixture(scope="module")
def reference():
    """The modules of controlnet-aux; of matplotlib they only ask the colour of a hue."""
    from controlnet_aux import open_pose
    from controlnet_aux.open_pose import body, face, hand, model, util

    return types.SimpleNamespace(
        detector=open_pose.OpenposeDetector,
        draw=open_pose.draw_poses,
        body=body.Body,
        hand=hand.Hand,
        face=face.Face,
        util=util,
        networks={
            "openpose_body": model.bodypose_model,
            "openpose_hand": model.handpose_model,
            "openpose_face": face.FaceNet,
        },
    )


@pytest.fixture(autouse=True)
def matplotlib(monkeypatch):
    fake = types.ModuleType("matplotlib")
    fake.colors = types.SimpleNamespace(hsv_to_rgb=lambda hsv: np.array(colorsys.hsv_to_rgb(*hsv)))
    monkeypatch.setitem(sys.modules, "matplotlib", fake)


class Planned(torch.nn.Module):
    """Stands for a network: gives maps planned for a crop of its size, told by `plan`."""

    def __init__(self, plan):
        super().__init__()
        self.plan = plan
        self.device_holder = torch.nn.Parameter(torch.zeros(1))

    def forward(self, levels):
        return self.plan(levels)


def detector(reference, body, hand, face):
    """controlnet-aux's detector around other networks."""
    parts = [object.__new__(kind) for kind in (reference.body, reference.hand, reference.face)]
    for part, network in zip(parts, (body, hand, lambda levels: [face(levels)]), strict=True):
        part.model = Planned(network)
    return reference.detector(*parts)


def smooth_maps(seed, channels, rows, columns, level=0.3):
    """Rubbish with many peaks."""
    noise = np.random.default_rng(seed).normal(level / 2, level, (channels, rows, columns)).astype(np.float32)
    return np.stack([cv2.GaussianBlur(plane, (0, 0), 1.0) * 2 for plane in noise])


def part_plan(seed, channels):
    """Heat maps that depend on the size alone, with some points below the levels."""

    def plan(levels):
        rows, columns = levels.shape[2] // 8, levels.shape[3] // 8
        small = smooth_maps(seed, channels, 23, 23)
        small[::5] *= 0.02
        maps = np.stack([cv2.resize(plane, (columns, rows)) for plane in small])
        return torch.from_numpy(maps)[None].repeat(len(levels), 1, 1, 1)

    return plan


HEIGHT, WIDTH = 224, 256
PEOPLE = {
    "one": [moved(30, 15, 1.3)],
    "three": [moved(2, 10, 0.8), moved(75, 30, 0.95), moved(165, 5, 1.2)],
    "touching": [moved(50, 20, 1.1), moved(85, 30, 1.1)],
    "no legs": [moved(60, 30, 1.25, missing=range(8, 14))],
    "cut off": [moved(-60, 30, 1.5), moved(200, 75, 1.5)],
    "head alone": [moved(30, 15, 1.3, missing=range(2, 14))],
    "too few points": [moved(30, 15, 1.3, missing=range(3, 18))],
    "nobody": [],
}
WITH_PARTS = {"one"}
"""Hands and faces are looked for in these: their four sizes take the reference seconds per hand."""


def same_people(mine, theirs, height, width):
    """Every point of every person equal, to the bit where the reference keeps 64, else to the pixel."""
    assert len(mine) == len(theirs)
    for one, other in zip(mine, theirs, strict=True):
        assert [p and (p.x, p.y) for p in one.body] == [
            p and (p.x * width, p.y * height) for p in other.body.keypoints
        ]
        for points, keypoints in ((one.left_hand, other.left_hand), (one.right_hand, other.right_hand)):
            told = [p if p.x > 0 and p.y > 0 else None for p in keypoints or ()]
            assert [p and (p.x, p.y) for p in points] == [p and (p.x * width, p.y * height) for p in told]
        seen = [p for p in one.face if p]
        told = [p for p in other.face or () if p.x > 0 and p.y > 0]
        assert [(p.x, p.y) for p in seen] == [(p.x * width, p.y * height) for p in told]


@pytest.mark.parametrize("key", NETWORKS)
def test_networks_hold_the_published_tensors(key):
    with torch.device("meta"):
        module = NETWORKS[key]()
    assert shapes_of(module) == listing(key)
    assert all(listing(key)[name] == shape for name, shape in WEIGHT_FILES[key].signature)


@pytest.mark.parametrize("key", NETWORKS)
def test_networks_equal_controlnet_aux(reference, key):
    mine, theirs = NETWORKS[key](), reference.networks[key]()
    state = randomise(mine, seed=3)
    theirs.load_state_dict(state if key == "openpose_face" else reference.util.transfer(theirs, state))
    levels = torch.randint(0, 256, (2, 3, 40, 56), generator=torch.Generator().manual_seed(1)).float()
    with torch.inference_mode():
        made = mine(levels)
        wanted = theirs(levels.flip(1) / 256 - 0.5)
    if key == "openpose_face":
        wanted = wanted[-1]
    for one, other in zip(
        made if isinstance(made, tuple) else (made,),
        wanted if isinstance(wanted, tuple) else (wanted,),
        strict=True,
    ):
        assert one.std() > 1e-3, "random maps say something"
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("case", PEOPLE)
@pytest.mark.parametrize(("height", "width"), [(HEIGHT, WIDTH), (192, 704)])
def test_people_equal_controlnet_auxs(reference, case, height, width):
    """704: every twelfth whole pixel of such a side does not survive its way through a fraction."""
    picture = np.random.default_rng(5).integers(0, 256, (height, width, 3), np.uint8)
    plans = lambda _: skeleton_maps(PEOPLE[case], height, width), part_plan(1, 22), part_plan(2, 71)
    parts = case in WITH_PARTS and height == HEIGHT
    theirs = detector(reference, *plans).detect_poses(picture, include_hand=parts, include_face=parts)
    (mine,) = find_people(picture[None], PoseNetworks(*plans), parts, parts)
    same_people(mine, theirs, height, width)
    assert bool(mine) == (case not in ("too few points", "nobody"))
    assert not parts or (mine[0].left_hand and mine[0].right_hand and mine[0].face)


@pytest.mark.parametrize("seed", [0, 3])
def test_rubbish_is_decoded_as_controlnet_aux_does(reference, seed):
    picture = np.zeros((192, 256, 3), np.uint8)
    limbs, heat = (
        torch.from_numpy(smooth_maps(seed + i, maps, 23, 31))[None] for i, maps in ((0, 38), (9, 19))
    )
    plans = lambda _: (limbs, heat), part_plan(1, 22), part_plan(2, 71)
    theirs = detector(reference, *plans).detect_poses(picture)
    (mine,) = find_people(picture[None], PoseNetworks(*plans), False, False)
    assert len(theirs) > 1
    same_people(mine, theirs, 192, 256)


def test_a_known_skeleton_comes_back():
    """Two people are drawn into maps; the same 36 points are found, a network's pixel apart."""
    people = [moved(10, 15, 1.1), moved(130, 25, 1.0)]
    plans = lambda _: skeleton_maps(people, HEIGHT, WIDTH), None, None
    picture = np.zeros((1, HEIGHT, WIDTH, 3), np.uint8)
    (found,) = find_people(picture, PoseNetworks(*plans), hands=False, faces=False)
    assert len(found) == 2
    for person, points in zip(sorted(found, key=lambda person: person.body[0].x), people, strict=True):
        for point, (x, y) in zip(person.body, points, strict=True):
            assert abs(point.x - x) < 6
            assert abs(point.y - y) < 6
        assert person.left_hand == person.right_hand == person.face == ()


def test_points_of_one_person_never_go_to_two():
    limbs, heat = (maps[0].numpy() for maps in skeleton_maps(PEOPLE["touching"], HEIGHT, WIDTH))
    grown = [[cv2.resize(plane, (WIDTH, HEIGHT)) for plane in maps] for maps in (heat, limbs)]
    bodies = find_bodies(grown[0].__getitem__, grown[1].__getitem__)
    assert len(bodies) == 2
    for one, other in zip(*bodies, strict=True):
        assert one != other


@pytest.mark.parametrize(
    ("name", "drawing", "size"),
    [
        ("openpose", Drawing(True, False, False), (HEIGHT, WIDTH)),
        ("openpose_face", Drawing(True, False, True), (HEIGHT, WIDTH)),
        ("openpose_faceonly", Drawing(False, False, True), (HEIGHT, 700)),
        ("openpose_hand", Drawing(True, True, False), (HEIGHT, WIDTH)),
        ("openpose_full", Drawing(True, True, True), (149, 171)),
    ],
)
def test_pictures_equal_the_web_uis(reference, name, drawing, size):
    array = np.random.default_rng(7).integers(0, 256, (*size, 3), np.uint8)
    padded = at_working_size(array, size[0])
    height, width = padded.shape[:2]
    people = [moved(10, 5, 0.9), *([moved(110, 20, 1.2)] if not drawing.hands else [])]
    plans = lambda _: skeleton_maps(people, height, width), part_plan(1, 22), part_plan(2, 71)
    image = torch.from_numpy(array)[None].float() / 255
    made, frames = open_pose(image, PoseNetworks(*plans), drawing, size[0])
    poses = detector(reference, *plans).detect_poses(padded, drawing.hands, drawing.face)
    wanted = reference.draw(poses, height, width, drawing.body, drawing.hands, drawing.face)
    levels = (made[0].numpy() * 255).round().astype(np.uint8)
    np.testing.assert_array_equal(levels, wanted[: size[0], : size[1]], err_msg=name)
    assert made.any()
    assert [(frame.height, frame.width) for frame in frames] == [size]


def test_a_batch_is_its_pictures_one_by_one():
    calls = []

    def body(levels):
        calls.append(len(levels))
        people = [[], [moved(10, 15, 1.0)], [moved(50, 15, 1.0)]]
        each = [skeleton_maps(some, HEIGHT, WIDTH) for some in people]
        return tuple(torch.cat(maps) for maps in zip(*each, strict=True))

    def face(levels):
        calls.append(len(levels))
        return part_plan(2, 71)(levels)

    found = find_people(
        np.zeros((3, HEIGHT, WIDTH, 3), np.uint8), PoseNetworks(body, None, face), hands=False
    )
    assert calls == [3, 2], "one call for all pictures, one for all faces"
    assert [len(people) for people in found] == [0, 1, 1]
    assert found[1][0].body[0].x + 30 < found[2][0].body[0].x
    assert all(len(people[0].face) == 71 for people in found[1:])


def test_nobody_gives_a_black_map_and_one_line_in_the_log(caplog):
    networks = PoseNetworks(lambda _: skeleton_maps([], 64, 64), None, None)
    made, frames = open_pose(torch.rand(1, 64, 64, 3), networks, ALL, 64)
    assert made.shape == (1, 64, 64, 3)
    assert not made.any()
    assert frames[0].people == ()
    assert caplog.messages == ["Nobody in picture 0 of 1 (counted from 0): its pose is black."]


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1), (65, 33)])
def test_odd_sizes_run(size):
    def body(levels):
        assert levels.shape[2] % 8 == levels.shape[3] % 8 == 0
        grid = levels.shape[0], levels.shape[2] // 8, levels.shape[3] // 8
        return torch.zeros(grid[0], 38, *grid[1:]), torch.zeros(grid[0], 19, *grid[1:])

    made, _ = open_pose(torch.rand(2, *size, 3), PoseNetworks(body, None, None), ALL, 0)
    assert made.shape == (2, *size, 3)


def test_an_image_that_is_none_is_named():
    with pytest.raises(ValueError, match="OpenPose needs an image of shape"):
        open_pose(torch.rand(3), PoseNetworks(None, None, None), ALL)


def test_boxes_equal_controlnet_auxs(reference):
    draw = np.random.default_rng(0)
    found = 0
    for _ in range(300):
        size = tuple(draw.integers(30, 400, 2))
        points = draw.integers(0, [size[1], size[0]], (18, 2))
        body = [None if draw.random() < 0.15 else Peak(int(x), int(y), 0.9) for x, y in points]
        told = types.SimpleNamespace(keypoints=body)
        picture = np.zeros((*size, 3), np.uint8)
        hands = [(hand_box(body, arm, size), left) for arm, left in ((LEFT_ARM, True), (RIGHT_ARM, False))]
        assert [(*box, left) for box, left in hands if box] == reference.util.handDetect(told, picture)
        assert face_box(body, size) == reference.util.faceDetect(told, picture)
        found += face_box(body, size) is not None
    assert found > 50


def test_points_in_crops_go_through_fractions_in_32_bit_as_the_references():
    """Some of them land one pixel lower than the peak."""
    box, side = Square(20, 0, 680), 704
    peaks = np.arange(1, 680)
    fractions = (peaks + box.x).astype(np.float32) / np.float32(side)
    (points,) = _parts(
        np.zeros((1, side, side, 3), np.uint8), [(0, box)], lambda crops: [[(int(x), 9) for x in peaks]]
    )
    assert [point.x for point in points] == (fractions * np.float32(side)).tolist()
    assert any(int(point.x) != x + box.x for point, x in zip(points, peaks, strict=True))


def test_a_hand_without_response_has_no_points():
    assert hand_points(np.zeros((22, 128, 128))) == [None] * 21
    heat = np.zeros((22, 128, 128))
    heat[3, 40:50, 60:70] = 1.0
    heat[3, 45, 66] = 1.5
    assert hand_points(heat)[3] == (66, 45)


def test_a_face_keeps_its_order_where_points_are_missing():
    heat = np.zeros((71, 30, 40), np.float32)
    heat[5, 7, 9], heat[6, 7, 9] = 0.05, 0.06
    assert [index for index, point in enumerate(face_points(heat)) if point] == [6]
    assert face_points(heat)[6] == (9, 7)
