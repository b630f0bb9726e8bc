"""DWPose decodes what its ONNX files give as the reference does, down to coordinates worked out by hand."""

import logging
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from tiller.adapters.identify import UnknownWeightsError
from tiller.preprocessors.pose import dwpose
from tiller.preprocessors.pose.drawing import Drawing
from tiller.preprocessors.pose.dwpose import (
    DETECTOR,
    POSE,
    DWPoseNetworks,
    dw_pose,
    find_whole_bodies,
    person_boxes,
    whole_body_points,
)
from tiller.preprocessors.pose.onnx_session import OnnxSession
from tiller.tests.unit.onnx_networks import brightest, constant, detections, opened

PERSON, DOG = 0, 16
ALL = Drawing()


class Planned:
    """Stands for an ONNX network: gives what is planned, and remembers what it saw."""

    def __init__(self, *results, size=(640, 640)):
        self.size, self.results, self.seen = size, results, []

    def __call__(self, batch):
        self.seen.append(batch)
        return self.results


class Points:
    """Stands for the pose network: the same 133 places, in pixels of the cut, and scores for each cut."""

    size = (384, 288)

    def __init__(self, places, scores):
        self.maps = [np.zeros((133, 2 * side), np.float32) for side in (288, 384)]
        for axis, likely in enumerate(self.maps):
            likely[np.arange(133), (np.asarray(places)[:, axis] * 2).astype(int)] = scores
        self.seen = []

    def __call__(self, batch):
        self.seen.append(batch)
        return [np.stack([likely] * len(batch)) for likely in self.maps]


def grey(height=320, width=240):
    return np.full((height, width, 3), 100, np.uint8)


def found(picture, *boxes, size=(640, 640)):
    return person_boxes(picture, Planned(detections(*boxes, size=size), size=size))


# The detector


def test_the_picture_lies_scaled_in_the_top_left_corner_on_grey():
    detector = Planned(detections())
    picture = np.random.default_rng(0).integers(0, 256, (100, 160, 3), np.uint8)
    person_boxes(picture, detector)
    (seen,) = detector.seen
    assert seen.shape == (1, 3, 640, 640)
    assert seen.dtype == np.float32
    scaled = cv2.resize(picture, (640, 400), interpolation=cv2.INTER_LINEAR)
    assert np.array_equal(seen[0, :, :400].transpose(1, 2, 0), scaled)
    assert (seen[0, :, 400:] == 114).all()


@pytest.mark.parametrize("first", range(3), ids=["stride 8", "stride 16", "stride 32"])
def test_boxes_come_back_from_the_grids_in_pixels_of_the_picture(first):
    """The picture is 320 high, so the detector sees it twice as large."""
    blank = [(9, 9, 19, 19, 0.0, PERSON, 0.0)] * first
    boxes = found(grey(), *blank, (100, 60, 340, 500, 0.9, PERSON, 0.8))
    np.testing.assert_allclose(boxes, [(50, 30, 170, 250)], rtol=1e-5)


def test_boxes_are_sorted_by_score_and_overlapping_ones_go():
    one, other, third = (0, 0, 200, 400), (20, 0, 220, 400), (300, 0, 450, 300)
    boxes = found(
        grey(),
        (*one, 0.9, PERSON, 0.6),
        (*third, 0.9, PERSON, 0.5),
        (*other, 0.9, PERSON, 0.9),
    )
    np.testing.assert_allclose(boxes * 2, [other, third], atol=1e-3)


def test_a_box_goes_from_an_overlap_of_45_percent_on():
    """Pixels count with both borders: 100 x 100 at 1:1 overlap 101 * (101 - d) of 101 * (101 + d)."""
    picture = grey(640, 640)

    def count(moved):
        first, second = (
            (100, 100, 200, 200, 1, PERSON, 0.9),
            (100 + moved, 100, 200 + moved, 200, 1, PERSON, 0.8),
        )
        return len(found(picture, first, second))

    assert (101 - 38) / (101 + 38) > 0.45 > (101 - 39) / (101 + 39)
    assert [count(38), count(39)] == [1, 2]


def test_a_box_needs_a_score_above_the_third():
    sure, unsure = (10, 10, 110, 210, 0.6, PERSON, 0.6), (300, 10, 400, 210, 0.6, PERSON, 0.4)
    np.testing.assert_allclose(found(grey(), sure, unsure) * 2, [sure[:4]], rtol=1e-5)


@pytest.mark.parametrize(
    ("box", "count"),
    [((0.5, PERSON, 0.5), 1), ((0.9, DOG, 0.9), 1), ((0.3, PERSON, 0.3), 0), ((0.3, DOG, 0.3), 0)],
    ids=["unsure of a person", "a dog", "nothing", "no dog"],
)
def test_a_picture_with_something_but_no_sure_person_is_one_box(box, count):
    """As the reference: only where nothing at all passes 0.1 there is nobody."""
    boxes = found(grey(), (10, 10, 110, 210, *box))
    assert boxes.tolist() == [[0, 0, 240, 320]] * count


def test_rubbish_in_boxes_is_left_out():
    good = (10, 10, 110, 210, 0.9, PERSON, 0.9)
    results = detections(good)
    results[0, 1, :] = np.nan
    results[0, 2, :6] = (0, 0, 500, 500, 0.9, 0.9)
    results[0, 3, :6] = (0, 0, 20, 20, 0.9, 0.9)
    results[0, 4, :6] = (0, 0, -50, 1, 0.9, 0.9)
    boxes = person_boxes(grey(), Planned(results))
    np.testing.assert_allclose(boxes * 2, [good[:4]], rtol=1e-5)


def reference_boxes(results, scale):
    """YOLOX's decoding and suppression, restated loop by loop from the reference."""
    rows = []
    index = 0
    for stride in (8, 16, 32):
        for y in range(640 // stride):
            for x in range(640 // stride):
                a = results[0, index].astype(float)
                index += 1
                cx, cy = np.float32((a[0] + x) * stride), np.float32((a[1] + y) * stride)
                w, h = (np.float32(np.float64(np.exp(np.float32(side))) * stride) for side in a[2:4])
                score = np.float32(results[0, index - 1, 4]) * results[0, index - 1, 5]
                if score > 0.3:
                    box = np.array([cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2], np.float32)
                    rows.append((score, box / np.float32(scale)))
    rows.sort(key=lambda row: -row[0])
    kept = []
    for _, box in rows:
        for other in kept:
            wide = min(box[2], other[2]) - max(box[0], other[0]) + 1
            high = min(box[3], other[3]) - max(box[1], other[1]) + 1
            common = max(0, wide) * max(0, high)
            areas = [(b[2] - b[0] + 1) * (b[3] - b[1] + 1) for b in (other, box)]
            if common / (areas[0] + areas[1] - common) > 0.45:
                break
        else:
            kept.append(box)
    return np.array(kept)


@pytest.mark.parametrize("seed", range(3))
def test_many_boxes_equal_the_references_formulas(seed):
    draw = np.random.default_rng(seed)
    results = np.zeros((1, 8400, 85), np.float32)
    results[0, :, :2] = draw.normal(0.5, 0.5, (8400, 2))
    results[0, :, 2:4] = draw.normal(1.5, 0.5, (8400, 2))
    results[0, :, 4:] = draw.uniform(0, 0.62, (8400, 81))
    made = person_boxes(grey(400, 320), Planned(results))
    wanted = reference_boxes(results, 1.6)
    assert 20 < len(wanted) < (results[0, :, 4] * results[0, :, 5] > 0.3).sum()
    assert np.array_equal(made, wanted)


# The points


def test_the_box_is_cut_out_a_quarter_larger_in_the_shape_of_the_input():
    """A box 96 x 192 around (120, 160) becomes 180 x 240: its edges are the edges of the cut."""
    picture = np.zeros((320, 240, 3), np.uint8)
    picture[40:280, 30:210] = 255
    pose = Points(np.zeros((133, 2)), 1.0)
    whole_body_points(picture, np.array([(72, 64, 168, 256)], np.float32), pose)
    (cut,) = pose.seen[0]
    assert cut.shape == (3, 384, 288)
    white = (255 - np.array([123.675, 116.28, 103.53])) / (58.395, 57.12, 57.375)
    np.testing.assert_allclose(cut[:, 2:-2, 2:-2].reshape(3, -1).mean(1), white, rtol=1e-6)
    wider = Points(np.zeros((133, 2)), 1.0)
    whole_body_points(picture, np.array([(60, 64, 180, 256)], np.float32), wider)
    black = -np.array([123.675, 116.28, 103.53]) / (58.395, 57.12, 57.375)
    np.testing.assert_allclose(wider.seen[0][0][:, 150, :20].mean(1), white, rtol=1e-6)
    wide = Points(np.zeros((133, 2)), 1.0)
    whole_body_points(picture, np.array([(20, 100, 220, 220)], np.float32), wide)
    np.testing.assert_allclose(wide.seen[0][0][:, 150, :20].mean(1), black, rtol=1e-6)


def test_points_go_back_through_the_cut():
    """(72, 64)-(168, 256) cut as (30, 40)-(210, 280): 0.625 pixels of the picture to one of the cut."""
    places = np.tile([(144.0, 192.0), (0.0, 0.0), (287.5, 383.5)], (45, 1))[:133]
    points = whole_body_points(grey(), np.array([(72, 64, 168, 256)], np.float32), Points(places, 0.7))
    assert points.shape == (1, 133, 3)
    np.testing.assert_allclose(points[0, :3, :2], [(120, 160), (30, 40), (209.6875, 279.6875)])
    np.testing.assert_allclose(points[0, :, 2], 0.7)


def test_a_point_is_as_sure_as_the_less_sure_of_its_two_coordinates():
    pose = Points(np.full((133, 2), 50.0), 0.8)
    pose.maps[1] *= 0.5
    (points,) = whole_body_points(grey(), np.array([(72, 64, 168, 256)], np.float32), pose)
    np.testing.assert_allclose(points[:, 2], 0.4)


def numbered(scores=None):
    """The person whose point i of the network lies at x = 2 i, y = 3 of the cut, 1:1 in the picture."""
    places = np.stack([np.arange(133) * 2.0, np.full(133, 3.0)], 1)
    scores = np.full(133, 0.9) if scores is None else scores
    networks = DWPoseNetworks(Planned(detections((0, 0, 230.4, 307.2, 1, PERSON, 1))), Points(places, scores))
    return find_whole_bodies(grey(640, 640), networks)


def indices(points):
    """Which of the network's points these are; the box is cut with a margin of 28.8 and 38.4."""
    return [point and round((point.x + 28.8) / 2, 3) for point in points]


def test_points_are_brought_into_openposes_order():
    (person,) = numbered()
    neck = 5.5
    assert indices(person.body) == [0, neck, 6, 8, 10, 5, 7, 9, 12, 14, 16, 11, 13, 15, 2, 1, 4, 3]
    assert indices(person.feet) == list(range(17, 23))
    assert indices(person.face) == [*range(23, 91), 2, 1], "68 points and both eyes"
    assert indices(person.left_hand) == list(range(91, 112))
    assert indices(person.right_hand) == list(range(112, 133))
    assert {round(point.y, 3) for point in person.body} == {-38.4 + 3}


def test_points_below_the_level_are_not_seen_and_a_part_without_any_is_none():
    scores = np.full(133, 0.9)
    scores[[0, 91, 30]] = 0.29
    scores[[1, 92, 31]] = 0.3
    scores[112:133] = 0.0
    scores[17:23] = 0.1
    (person,) = numbered(scores)
    assert person.body[0] is None
    assert person.body[15].score == pytest.approx(0.3)
    assert [person.left_hand[0], person.face[7]] == [None, None]
    assert person.left_hand[1]
    assert person.face[8]
    assert person.right_hand == person.feet == ()


def test_the_neck_needs_both_shoulders():
    scores = np.full(133, 0.9)
    scores[6] = 0.29
    (person,) = numbered(scores)
    assert person.body[1] is None
    scores[6] = 0.31
    (person,) = numbered(scores)
    assert person.body[1].score == 1.0


def test_a_face_without_any_point_has_no_eyes_either():
    scores = np.full(133, 0.9)
    scores[23:91] = 0.0
    assert numbered(scores)[0].face == ()


def test_somebody_without_any_point_is_nobody():
    assert numbered(np.full(133, 0.2)) == ()
    assert numbered(np.full(133, np.nan)) == ()


def test_crowds_go_through_the_network_in_parts():
    boxes = [(x, y, x + 50, y + 60, 1, PERSON, 0.5 + x / 2000 + y / 5000) for x in range(0, 600, 60)
             for y in range(0, 500, 250)]  # fmt: skip
    results = np.concatenate([detections(box) for box in boxes]).max(0, keepdims=True)
    pose = Points(np.full((133, 2), 9.0), 0.9)
    people = find_whole_bodies(grey(640, 640), DWPoseNetworks(Planned(results), pose))
    assert len(people) == 20
    assert [len(batch) for batch in pose.seen] == [8, 8, 4]


# From the picture to the map, with real ONNX files


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("onnx")


def dotted(height, width, x, y):
    """A black picture with a white disk of radius 6."""
    picture = np.zeros((height, width, 3), np.uint8)
    cv2.circle(picture, (x, y), 6, (255, 255, 255), -1)
    return torch.from_numpy(picture)[None].float() / 255


@pytest.mark.parametrize(("batch", "size"), [("batch", (384, 288)), (1, (384, 288)), ("n", (192, 144))])
def test_points_lie_where_the_network_sees_them_in_the_picture(folder, batch, size):
    """Two boxes: the first one's cut shows the disk, the other one's is black and has no points."""
    detector = constant(
        folder / "two.onnx",
        output=detections((64, 64, 320, 384, 1, PERSON, 0.9), (400, 64, 480, 200, 1, PERSON, 0.8)),
    )
    networks = DWPoseNetworks(
        opened(detector, DETECTOR), opened(brightest(folder / "brightest.onnx", size, batch), POSE)
    )
    hint, (frame,) = dw_pose(dotted(320, 320, 90, 120), networks, ALL, 0)
    (person,) = frame.people
    assert (frame.height, frame.width) == (320, 320)
    for point in (*person.body, *person.face, *person.left_hand, *person.right_hand):
        assert abs(point.x - 90) < 8
        assert abs(point.y - 120) < 8
    assert hint.shape == (1, 320, 320, 3)
    lit = torch.nonzero(hint[0].amax(-1))
    assert (lit.float().mean(0) - torch.tensor([120.0, 90.0])).abs().max() < 8


def test_a_detector_of_another_size_is_asked_in_its_own(folder):
    size = (416, 320)
    detector = opened(
        constant(
            folder / "small.onnx", (1, 3, *size), output=detections((0, 0, 160, 208, 1, 0, 1), size=size)
        ),
        DETECTOR,
    )
    assert detector.size == size
    np.testing.assert_allclose(
        person_boxes(grey(832, 640), detector), [(0, 0, 320, 416)], rtol=1e-5, atol=1e-4
    )


def test_a_batch_is_its_pictures_alone_and_progress_is_told(folder):
    detector = constant(folder / "one.onnx", output=detections((64, 64, 320, 384, 1, PERSON, 0.9)))
    networks = DWPoseNetworks(opened(detector, DETECTOR), opened(brightest(folder / "brightest.onnx"), POSE))
    pictures = [dotted(100, 130, *place) for place in ((30, 30), (50, 40), (25, 50))]
    told = []
    hint, frames = dw_pose(torch.cat(pictures), networks, ALL, 128, lambda *done: told.append(done))
    assert told == [(1, 3), (2, 3), (3, 3)]
    assert hint.shape == (3, 128, 166, 3)
    for index, picture in enumerate(pictures):
        alone, (frame,) = dw_pose(picture, networks, ALL, 128)
        assert torch.equal(alone[0], hint[index])
        assert frame == frames[index]
    assert not torch.equal(hint[0], hint[1])


def test_nobody_gives_a_black_map_and_one_log_line(caplog):
    networks = DWPoseNetworks(Planned(detections()), Planned())
    with caplog.at_level(logging.WARNING, "tiller"):
        hint, frames = dw_pose(torch.rand(2, 70, 50, 3), networks, ALL, 64)
    assert not hint.any()
    assert [frame.people for frame in frames] == [(), ()]
    assert caplog.messages == ["Nobody in picture 0, 1 of 2 (counted from 0): its pose is black."]


def test_switches_draw_parts_and_the_key_points_stay():
    networks = DWPoseNetworks(
        Planned(detections((0, 0, 400, 600, 1, PERSON, 0.9))),
        Points(np.random.default_rng(0).uniform(40, 280, (133, 2)), 0.9),
    )
    image = torch.rand(1, 160, 120, 3)
    _, whole = dw_pose(image, networks, ALL, 0)
    for drawing in (Drawing(True, False, False), Drawing(False, True, False), Drawing(False, False, True)):
        hint, frames = dw_pose(image, networks, drawing, 0)
        assert hint.any()
        assert frames == whole


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1), (65, 33)])
@pytest.mark.parametrize("channels", [1, 4])
def test_odd_sizes_run(size, channels):
    networks = DWPoseNetworks(
        Planned(detections((0, 0, 400, 600, 1, PERSON, 0.9))), Points(np.full((133, 2), 99.0), 0.9)
    )
    image = torch.rand(2, *size, channels).half()
    for resolution in (0, 64):
        assert dw_pose(image, networks, ALL, resolution)[0].isfinite().all()


def test_an_image_that_is_none_is_named():
    with pytest.raises(ValueError, match="DWPose needs an image of shape"):
        dw_pose(torch.rand(3), DWPoseNetworks(Planned(), Planned()), ALL)


# Files of other networks


def test_the_published_interfaces():
    assert DETECTOR.results(DETECTOR.size) == ((8400, 85),)
    assert POSE.results(POSE.size) == ((133, 576), (133, 768))
    assert dwpose.KINDS == (DETECTOR, POSE)


def bad(kind, path):
    with pytest.raises(UnknownWeightsError) as caught:
        opened(path, kind)
    return str(caught.value)


def test_each_file_is_named_when_it_is_given_for_the_other(folder):
    detector = constant(folder / "a.onnx", output=detections())
    pose = brightest(folder / "b.onnx")
    said = bad(POSE, detector)
    assert said.startswith(
        "DWPose needs a network like dw-ll_ucoco_384.onnx, which takes (1, 3, 384, 288) in 32 bit and gives "
        "(133, 576) and (133, 768) per picture; got a.onnx, which holds DWPose's person detector "
        "(yolox_l.onnx): it takes images (1, 3, 640, 640) tensor(float) and gives output (1, 8400, 85) "
        "tensor(float). "
    )
    assert said.endswith(
        "Get dw-ll_ucoco_384.onnx from https://huggingface.co/yzd-v/DWPose, or choose another file in "
        "weights."
    )
    said = bad(DETECTOR, pose)
    assert "got b.onnx, which holds DWPose (dw-ll_ucoco_384.onnx)" in said
    assert said.endswith("or choose another file in detector.")


OTHERS = {
    "one class": (DETECTOR, (1, 3, 640, 640), {"output": (1, 8400, 6)}),
    "another grid": (DETECTOR, (1, 3, 640, 640), {"output": (1, 25200, 85)}),
    "boxes and labels": (DETECTOR, (1, 3, 640, 640), {"dets": (1, 100, 5), "labels": (1, 100, 1)}),
    "gray": (DETECTOR, (1, 1, 640, 640), {"output": (1, 8400, 85)}),
    "five at once": (POSE, (5, 3, 384, 288), {"x": (5, 133, 576), "y": (5, 133, 768)}),
    "17 points": (POSE, (1, 3, 384, 288), {"x": (1, 17, 576), "y": (1, 17, 768)}),
    "other bins": (POSE, (1, 3, 384, 288), {"x": (1, 133, 288), "y": (1, 133, 384)}),
    "x and y exchanged": (POSE, (1, 3, 384, 288), {"y": (1, 133, 768), "x": (1, 133, 576)}),
    "a vector": (POSE, (1, 288), {"x": (1, 133, 576), "y": (1, 133, 768)}),
}


@pytest.mark.parametrize("case", OTHERS)
def test_a_network_with_another_interface_is_refused_with_it(folder, case):
    kind, taken, given = OTHERS[case]
    path = constant(folder / "other.onnx", taken, **{name: np.zeros(shape) for name, shape in given.items()})
    said = bad(kind, path)
    for name, shape in given.items():
        assert f"{name} ({', '.join(map(str, shape))})" in said
    assert "got other.onnx: it takes images" in said


class Open:
    """Stands for a session over a file that says nothing of its lengths."""

    def get_inputs(self):
        return [SimpleNamespace(name="images", type="tensor(float)", shape=["b", 3, "h", "w"])]

    def get_outputs(self):
        return [SimpleNamespace(name="output", type="tensor(float)", shape=["b", "n", 85])]

    def run(self, _, inputs):
        return [np.zeros((1, 8000 if inputs["images"].shape[2] == 640 else 0, 85), np.float32)]


def test_what_a_file_leaves_open_is_checked_when_it_runs():
    network = OnnxSession(Open(), DETECTOR, "open.onnx")
    assert network.size == (640, 640)
    with pytest.raises(
        UnknownWeightsError, match=r"gives \(8400, 85\) per picture, got \(8000, 85\) from open"
    ):
        person_boxes(grey(), network)
