"""Windows and curves as keyframes: where they start and how strong they are."""

import pytest
from tiller.adapters.control.curve import Constant, parse_curve
from tiller.adapters.lora.schedule.keyframes import POINTS, frames_of

ONE = Constant(1.0)


@pytest.mark.parametrize(
    ("start", "end", "frames"),
    [
        (0.0, 1.0, [(0.0, 1.0)]),
        (0.3, 1.0, [(0.0, 0.0), (0.3, 1.0)]),
        (0.0, 0.6, [(0.0, 1.0), (0.6, 0.0)]),
        (0.3, 0.6, [(0.0, 0.0), (0.3, 1.0), (0.6, 0.0)]),
        (0.5, 0.5, [(0.0, 0.0)]),
        (0.0, 0.0, [(0.0, 0.0)]),
        (1.0, 1.0, [(0.0, 0.0)]),
    ],
)
def test_a_window_is_a_pair_of_frames(start, end, frames):
    assert frames_of(start, end, ONE) == frames


def test_a_curve_lies_over_the_window():
    frames = frames_of(0.2, 0.8, parse_curve("0:1 1:0"))
    assert len(frames) == POINTS + 2
    assert frames[0] == (0.0, 0.0)
    assert frames[-1] == (0.8, 0.0)
    assert [frame.start for frame in frames[1:-1]] == pytest.approx([0.2 + 0.03 * i for i in range(POINTS)])
    assert [frame.strength for frame in frames[1:-1]] == pytest.approx(
        [1 - (i + 0.5) / POINTS for i in range(POINTS)]
    )


def test_neighbours_of_one_strength_are_one_frame():
    frames = frames_of(0.0, 1.0, parse_curve("0:1 .5:0 hold"))
    assert frames == [(0.0, 1.0), (0.5, 0.0)]


@pytest.mark.parametrize(("start", "end"), [(0.6, 0.4), (-0.1, 1.0), (0.0, 1.1), (float("nan"), 1.0)])
def test_a_window_outside_is_refused(start, end):
    with pytest.raises(ValueError, match=r"start and an end in 0\.\.1, the start first"):
        frames_of(start, end, ONE)


def test_a_curve_for_layers_is_refused():
    with pytest.raises(ValueError, match="layers"):
        frames_of(0.0, 1.0, parse_curve("soft .825"))
