"""Key frames: the text form, their places in the clip, and in a window of it."""

import re

import pytest
from tiller.adapters.control.sparsectrl.frames import Clip, key_positions, parse_key_frames, pictures_in


@pytest.mark.parametrize(
    ("text", "frames"),
    [("0, 8, -1", (0, 8, -1)), ("3", (3,)), (" Spread ", None), ("-1,0", (-1, 0)), ("+2", (2,))],
)
def test_text_form(text, frames):
    assert parse_key_frames(text) == frames


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("0, a, 3", "'a'"),
        ("0,,3", "nothing between two commas"),
        ("1.5", "'1.5'"),
        ("", "''"),
        ("0;8", "'0;8'"),
    ],
)
def test_text_that_is_no_list_is_shown(text, shown):
    with pytest.raises(ValueError, match=re.escape(f"got {shown} in {text!r}")):
        parse_key_frames(text)


@pytest.mark.parametrize(
    ("pictures", "total", "expected"),
    [(1, 16, [0]), (2, 16, [0, 15]), (3, 16, [0, 7, 15]), (4, 16, [0, 5, 10, 15]), (3, 3, [0, 1, 2])],
)
def test_spread_goes_from_the_first_to_the_last(pictures, total, expected):
    assert key_positions(None, pictures, total) == expected


def test_negative_frames_count_from_the_end():
    assert key_positions((0, 8, -1), 3, 16) == [0, 8, 15]
    assert key_positions((-1, 2), 2, 10) == [9, 2]


@pytest.mark.parametrize(
    ("wanted", "pictures", "total", "message"),
    [
        ((0, 16), 2, 16, "key frames from 0 to 15 (or -1 to -16, from the end), got 16"),
        ((-17,), 1, 16, "got -17"),
        ((0, 8), 3, 16, "got 3 pictures and 2 key frames (0, 8)"),
        ((0, 8), 1, 16, "got 1 pictures and 2 key frames"),
        ((15, -1), 2, 16, "frame 15 comes twice in 15, -1"),
        (None, 5, 4, "got 5 pictures for a clip of 4 frames"),
    ],
)
def test_frames_that_cannot_be_are_refused(wanted, pictures, total, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        key_positions(wanted, pictures, total)


WINDOW = Clip(tuple(range(8, 16)), 32)


@pytest.mark.parametrize(
    ("positions", "expected"),
    [
        ([0, 10, 15], {2: 1, 7: 2}),
        ([0], {0: 0}),
        ([31], {7: 0}),
        ([2, 20], {7: 1}),
        ([5, 18], {0: 0, 7: 1}),
        ([3, 21], {0: 0}),
        ([30, 20, 1], {7: 1}),
    ],
)
def test_a_window_gets_its_own_pictures_or_the_nearest(positions, expected):
    assert pictures_in(WINDOW, positions, "nearest_hint") == expected
    inside = {place: picture for place, picture in expected.items() if positions[picture] == 8 + place}
    assert pictures_in(WINDOW, positions, "off") == inside


def test_one_picture_as_near_to_both_ends_goes_to_the_middle():
    looped = Clip((14, 15, 0, 1, 2, 3, 4), 16)
    assert pictures_in(looped, [9], "nearest_hint") == {3: 0}
    assert pictures_in(looped, [9, 5], "nearest_hint") == {6: 1}


def test_a_window_with_the_hosts_extra_frame_keeps_its_places():
    assert pictures_in(Clip((7, 8, 9, 10), 16), [8], "nearest_hint") == {1: 0}
