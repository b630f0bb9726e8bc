"""Poses are drawn as the web UI draws them, pixel for pixel."""

import colorsys
import sys
import types

import numpy as np
import pytest
from tiller.preprocessors.pose.drawing import BONES, COLORS, LIMBS, Drawing, draw_frame, draw_poses
from tiller.preprocessors.pose.keypoints import Frame, Keypoint, Person
from tiller.tests.unit.pose_people import random_frame, standing

SIZES = ((512, 512), (333, 517), (64, 200), (7, 5))


@pytest.fixture
def reference(monkeypatch):
    """controlnet-aux's draw_poses; of matplotlib it only asks the colour of a hue."""
    matplotlib = types.ModuleType("matplotlib")
    matplotlib.colors = types.SimpleNamespace(hsv_to_rgb=lambda hsv: np.array(colorsys.hsv_to_rgb(*hsv)))
    monkeypatch.setitem(sys.modules, "matplotlib", matplotlib)
    from controlnet_aux.open_pose import BodyResult, PoseResult, draw_poses

    def draw(frame, drawing):
        def normalised(points):
            return [p and p._replace(x=p.x / frame.width, y=p.y / frame.height) for p in points]

        poses = [
            PoseResult(
                BodyResult(normalised(person.body), 0.0, 0),
                [p for p in normalised(person.left_hand)],
                [p for p in normalised(person.right_hand)],
                [p for p in normalised(person.face) if p],
            )
            for person in frame.people
        ]
        return draw_poses(poses, frame.height, frame.width, drawing.body, drawing.hands, drawing.face)

    return draw


def through_fractions(frame):
    """The reference keeps fractions of the canvas, and multiplying them back may lose the last bit."""
    return Frame(
        tuple(
            person.map(lambda p: Keypoint(p.x / frame.width * frame.width, p.y / frame.height * frame.height))
            for person in frame.people
        ),
        frame.height,
        frame.width,
    )


def with_whole_hands(frame, seed):
    """The reference cannot draw hands with points missing."""
    whole = random_frame(seed, frame.height, frame.width, len(frame.people), missing=0.0)
    people = zip(frame.people, whole.people, strict=True)
    return Frame(
        tuple(Person(one.body, other.left_hand, other.right_hand, one.face) for one, other in people),
        frame.height,
        frame.width,
    )


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("parts", [(1, 1, 1), (1, 0, 0), (0, 1, 0), (0, 0, 1), (0, 0, 0)])
def test_drawing_equals_controlnet_aux(reference, size, parts):
    drawing = Drawing(*map(bool, parts))
    for seed in range(5):
        frame = through_fractions(with_whole_hands(random_frame(seed, *size), seed + 50))
        np.testing.assert_array_equal(draw_frame(frame, drawing), reference(frame, drawing))


def test_somebody_standing_equals_controlnet_aux(reference):
    frame = through_fractions(Frame((standing(40, 20, 2.5), standing(-30, 60, 1.3)), 384, 320))
    drawn = draw_frame(frame)
    np.testing.assert_array_equal(drawn, reference(frame, Drawing()))
    assert len(np.unique(drawn.reshape(-1, 3), axis=0)) > 30, "the picture says something"


def test_a_hand_is_drawn_without_its_missing_points():
    seen = tuple(Keypoint(10 + 5 * i, 50) for i in range(21))
    missing = tuple(None if i == 2 else point for i, point in enumerate(seen))
    outside = tuple(Keypoint(-1, 50) if i == 2 else point for i, point in enumerate(seen))
    drawn = [draw_frame(Frame((Person(left_hand=hand),), 100, 200)) for hand in (seen, missing, outside)]
    assert not np.array_equal(drawn[0], drawn[1])
    np.testing.assert_array_equal(drawn[1], drawn[2])


def test_points_in_the_first_row_or_column_count_as_not_seen_in_hands_and_faces_alone():
    for point in (Keypoint(0.9, 30), Keypoint(30, 0.9)):
        assert not draw_frame(Frame((Person(face=(point,), left_hand=(point,) * 21),), 60, 60)).any()
        assert draw_frame(Frame((Person(body=(point, *(None,) * 17)),), 60, 60)).any()


@pytest.mark.parametrize(
    ("side", "half_width"), [(499, 4), (500, 8), (999, 8), (1000, 12), (5999, 28), (9000, 28)]
)
def test_scaled_limbs_follow_the_longer_side(side, half_width):
    limb = [None] * 18
    limb[1], limb[8] = Keypoint(20, 32), Keypoint(120, 32)
    drawn = draw_frame(Frame((Person(tuple(limb)),), 64, side), Drawing(scale_limbs=True))
    assert int(drawn[:, 70].any(axis=1).sum()) == 2 * half_width + 1


def test_drawing_at_another_resolution_moves_the_points_and_keeps_the_strokes():
    small, large = Frame((standing(),), 140, 100), Frame((standing(scale=3),), 420, 300)
    one, other = draw_poses([small], resolution=300), draw_poses([large])
    assert one.shape == (1, 420, 300, 3)
    assert (one - other).abs().mean() < 0.002, "a pixel's shift at most"
    assert draw_poses([small]).shape == (1, 140, 100, 3)


def test_frames_are_a_batch_and_nobody_is_black_with_one_line_in_the_log(caplog):
    frames = [Frame((standing(),), 140, 100), Frame((), 140, 100)]
    batch = draw_poses(frames)
    assert caplog.messages == ["Nobody in picture 1 of 2 (counted from 0): its pose is black."]
    assert batch.shape == (2, 140, 100, 3)
    assert batch[0].max() == 1.0
    assert not batch[1].any()
    assert (batch[:1] == draw_poses(frames[:1])).all()


def test_far_points_do_not_break_the_drawing():
    far = tuple(Keypoint(*side) for side in ((1e6, -1e6), (-1e6, 1e6)) * 9)
    frame = Frame((Person(far, far * 2, far * 2, far),), 48, 64)
    assert draw_frame(frame).shape == (48, 64, 3)


def test_tables_are_complete():
    assert len(LIMBS) == 17
    assert len(COLORS) == len(set(COLORS)) == 18
    assert {point for limb in LIMBS for point in limb} == set(range(18))
    assert {point for bone in BONES for point in bone} == set(range(21))


def test_entries_of_different_sizes_are_refused():
    with pytest.raises(ValueError, match=r"one canvas size, got 8 x 8, 20 x 10 \(width x height\)\. Draw"):
        draw_poses([Frame((), 8, 8), Frame((), 10, 20)])
    with pytest.raises(ValueError, match="got none"):
        draw_poses([])
    with pytest.raises(ValueError, match=r"at most \d+ pixels in all, got 9 of 8192 x 8192"):
        draw_poses([Frame((), 8192, 8192)] * 9)
