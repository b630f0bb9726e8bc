"""Prompts for masks: read from text and from the host's boxes, and sorted into one prompt for each mask."""

import pytest
import torch
from tiller.preprocessors.segment_prompts import (
    Box,
    Point,
    Prompt,
    boxes_of_host,
    prompts_of,
    prompts_of_batch,
    read_boxes,
    read_points,
)

SIZE = (100, 200)


@pytest.mark.parametrize(
    "text",
    ["+120,80; -40,30.5", "120,80;-40,30.5;", " + 120 , 80 \n - 40 , 30.5 ", ";;+120.0,80.\r\n-40,30.50"],
)
def test_points_are_read_with_their_signs(text):
    assert read_points(text) == (Point(120, 80), Point(40, 30.5, included=False))


@pytest.mark.parametrize("text", ["10,20,110,220.5; 5,6,7,8", "110,220.5,10,20\n7,6,5,8"])
def test_boxes_are_read_from_any_two_corners(text):
    assert read_boxes(text) == (Box(10, 20, 110, 220.5), Box(5, 6, 7, 8))


@pytest.mark.parametrize("text", ["", "  ", ";\n; "])
def test_no_text_is_no_prompt(text):
    assert read_points(text) == read_boxes(text) == ()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("+120 80", "got '8' as character 6 of '+120 80', where a comma belongs"),
        ("+120,8a", "got 'a' as character 7 of '+120,8a', where a semicolon or the end belongs"),
        ("+1,2; x3,4", "got 'x' as character 7 of '+1,2; x3,4', where a number from 0 on belongs"),
        ("+1,-2", "got '-' as character 4 of '+1,-2', where a number from 0 on belongs"),
        ("+1,2,3", "got ',' as character 5 of '+1,2,3', where a semicolon or the end belongs"),
        ("+-1,2", "got '-' as character 2"),
        ("+1,", "got its end of '+1,', where a number from 0 on belongs"),
        ("+", "got its end of '+', where a number"),
        ("+1,nan", "got 'n' as character 4"),
        ("(1,2)", "got '(' as character 1"),
        ("1e5,2", "got 'e' as character 2"),
    ],
)
def test_the_first_character_that_does_not_fit_is_named(text, words):
    with pytest.raises(ValueError) as caught:
        read_points(text)
    said = str(caught.value)
    assert said.startswith(
        "Masks need points of the form +x,y to include and -x,y to exclude, separated by ;"
    )
    assert words in said
    assert said.endswith("belongs. Correct it there.")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("1,2,3", "got its end of '1,2,3', where a comma belongs"),
        ("1,2,3,4,5", "got ',' as character 8 of '1,2,3,4,5', where a semicolon or the end belongs"),
        ("+1,2,3,4", "got '+' as character 1 of '+1,2,3,4', where a number from 0 on belongs"),
    ],
)
def test_a_misfit_in_boxes_is_named(text, words):
    with pytest.raises(ValueError, match=r"boxes of the form x1,y1,x2,y2, separated by ;") as caught:
        read_boxes(text)
    assert words in str(caught.value)


def test_each_box_makes_a_mask_refined_by_the_points_within_and_the_rest_one_more():
    one, two = Box(0, 0, 50, 50), Box(40, 40, 90, 90)
    both, first, free, not_there = Point(45, 45), Point(5, 50, False), Point(150, 80), Point(190, 9, False)
    assert prompts_of([both, free, first, not_there], [one, two], SIZE) == [
        Prompt((both, first), one),
        Prompt((both,), two),
        Prompt((free, not_there)),
    ]


def test_points_to_exclude_outside_every_box_ask_for_nothing():
    box = Box(0, 0, 50, 50)
    assert prompts_of([Point(150, 80, False)], [box], SIZE) == [Prompt((), box)]
    with pytest.raises(ValueError, match="Points need at least one to include, got 1 to exclude"):
        prompts_of([Point(150, 80, False)], [], SIZE)
    assert prompts_of([], [], SIZE) == []


def test_boxes_are_cut_to_the_picture():
    assert prompts_of([], [Box(-5, -5, 300, 20)], SIZE) == [Prompt((), Box(0, 0, 200, 20))]


@pytest.mark.parametrize("box", [Box(200, 0, 300, 9), Box(0, 100, 9, 200), Box(-9, 0, 0, 9), Box(5, 5, 5, 9)])
def test_a_box_without_a_part_in_the_picture_is_refused(box):
    with pytest.raises(ValueError, match=r"of the picture of 200 x 100 pixels \(width x height\), got"):
        prompts_of([], [box], SIZE)


@pytest.mark.parametrize("point", [Point(200.5, 0), Point(0, 101)])
def test_a_point_outside_the_picture_is_refused(point):
    with pytest.raises(ValueError, match=rf"picture of 200 x 100 pixels .* got {point.x:g},{point.y:g}\."):
        prompts_of([point], [], SIZE)
    prompts_of([Point(200, 100), Point(0, 0)], [], SIZE)


def host(x, y, width, height):
    return {"x": x, "y": y, "width": width, "height": height}


def test_the_hosts_boxes_count_for_every_picture_or_each_for_its_own():
    one, two = host(1, 2, 10, 20), host(3.5, 4, 5, 6)
    a, b = Box(1, 2, 11, 22), Box(3.5, 4, 8.5, 10)
    assert boxes_of_host(one, 2) == [(a,), (a,)]
    assert boxes_of_host([one, two], 2) == [(a, b), (a, b)]
    assert boxes_of_host([[one], [one, two]], 3) == [(a,), (a, b), (a, b)]
    assert boxes_of_host([[], [two]], 2) == [(), (b,)]
    assert boxes_of_host(None, 2) == boxes_of_host([], 2) == [(), ()]


@pytest.mark.parametrize(
    "given", ["boxes", {"x": 1}, [3], [host("a", 1, 2, 3)], [host(None, 1, 2, 3)], [[7]]]
)
def test_what_is_no_bounding_box_is_refused(given):
    with pytest.raises(ValueError, match="Bounding boxes need x, y, width and height as numbers, got"):
        boxes_of_host(given, 1)


IMAGE = torch.zeros(2, *SIZE, 3)


def test_texts_count_for_every_picture_beside_its_own_bounding_boxes():
    asked = prompts_of_batch(IMAGE, "+5,6", "1,2,3,4", [[host(10, 20, 30, 40)], []])
    drawn, point = Prompt((), Box(1, 2, 3, 4)), Prompt((Point(5, 6),))
    assert asked == [[drawn, Prompt((), Box(10, 20, 40, 60)), point], [drawn, point]]


def test_without_prompts_everything_is_asked_for_but_not_when_a_detector_found_nobody():
    assert prompts_of_batch(IMAGE, " ", "", None) is None
    assert prompts_of_batch(IMAGE, "", "", [[], []]) == prompts_of_batch(IMAGE, "", "", []) == [[], []]


def test_a_spoiled_picture_is_refused_before_its_prompts():
    with pytest.raises(ValueError, match="Segment Anything needs at least one picture of 1 x 1 pixel"):
        prompts_of_batch(IMAGE[:0], "nonsense", "", None)
