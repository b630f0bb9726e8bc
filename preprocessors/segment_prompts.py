"""Prompts for masks: points and boxes on a picture, read from text and from the host's bounding boxes."""

import re
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import torch

from .image import check_image

NUMBER = re.compile(r"[ \t]*(\d+(?:\.\d*)?|\.\d+)[ \t]*")
BETWEEN = re.compile(r"[\s;]*")
ENDS = ";\n\r"

POINTS_FORM = "points of the form +x,y to include and -x,y to exclude, separated by ;"
BOXES_FORM = "boxes of the form x1,y1,x2,y2, separated by ;"


class Point(NamedTuple):
    """A place in pixels of the picture that the mask shall include or leave out."""

    x: float
    y: float
    included: bool = True


class Box(NamedTuple):
    """Two corners in pixels of the picture: left, top, right, bottom, the last two exclusive."""

    x0: float
    y0: float
    x1: float
    y1: float

    def holds(self, point: Point) -> bool:
        return self.x0 <= point.x <= self.x1 and self.y0 <= point.y <= self.y1


class Prompt(NamedTuple):
    """What one mask is asked for with: points, a box, or both."""

    points: tuple[Point, ...] = ()
    box: Box | None = None


def prompts_of_batch(
    image: torch.Tensor, points: str, boxes: str, bounding_boxes: Any
) -> list[list[Prompt]] | None:
    """The prompts of each picture of an IMAGE (B,H,W,C), from two texts and BOUNDING_BOX; None without any.

    Connected bounding boxes are prompts even where they are none, as a detector gives them that finds nobody.

    Raises:
        ValueError: for a spoiled image, and for points and boxes that cannot be read or lie outside.
    """
    check_image(image, "Segment Anything")
    placed, drawn = read_points(points), read_boxes(boxes)
    if not placed and not drawn and bounding_boxes is None:
        return None
    size = (image.shape[1], image.shape[2])
    return [
        prompts_of(placed, (*drawn, *connected), size)
        for connected in boxes_of_host(bounding_boxes, len(image))
    ]


def prompts_of(points: Sequence[Point], boxes: Sequence[Box], size: tuple[int, int]) -> list[Prompt]:
    """Points and boxes on a picture of (height, width) -> one prompt for each mask.

    Each box makes a mask, which the points within the box refine. Points outside every box make one more mask
    together, as long as one of them is to be included. Boxes are cut to the picture.

    Raises:
        ValueError: for a point or a box outside the picture, and for points that only exclude.
    """
    cut = [_within(box, size) for box in boxes]
    for point in points:
        if not (0 <= point.x <= size[1] and 0 <= point.y <= size[0]):
            raise ValueError(
                f"Points need to lie in the picture of {size[1]} x {size[0]} pixels (width x height), got "
                f"{point.x:g},{point.y:g}. Correct the point, or connect the picture that it was made for."
            )
    prompts = [Prompt(tuple(point for point in points if box.holds(point)), box) for box in cut]
    outside = tuple(point for point in points if not any(box.holds(point) for box in cut))
    if any(point.included for point in outside):
        prompts.append(Prompt(outside))
    elif points and not cut:
        raise ValueError(
            f"Points need at least one to include, got {len(points)} to exclude. Write +x,y for a place "
            "that belongs to the mask."
        )
    return prompts


def read_points(text: str) -> tuple[Point, ...]:
    """Text such as "+120,80; -40,30" -> points. Without a sign a point is included.

    Raises:
        ValueError: naming the first character that does not fit, and what belongs there.
    """
    found = []
    for place in _entries(text):
        included = text[place] != "-"
        (x, y), end = _numbers(text, place + (text[place] in "+-"), 2, POINTS_FORM)
        _check_end(text, end, POINTS_FORM)
        found.append(Point(x, y, included))
    return tuple(found)


def read_boxes(text: str) -> tuple[Box, ...]:
    """Text such as "10,20,110,220" -> boxes. Any two opposite corners will do.

    Raises:
        ValueError: naming the first character that does not fit, and what belongs there.
    """
    found = []
    for place in _entries(text):
        (x0, y0, x1, y1), end = _numbers(text, place, 4, BOXES_FORM)
        _check_end(text, end, BOXES_FORM)
        found.append(Box(min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1)))
    return tuple(found)


def boxes_of_host(given: Any, pictures: int) -> list[tuple[Box, ...]]:
    """BOUNDING_BOX -> the boxes of each picture of a batch.

    One box or a list of boxes counts for every picture; a list of lists has one list for each picture, and
    its last one counts for the pictures that it is too short for. None is no box.

    Raises:
        ValueError: for anything else.
    """
    if given is None or (isinstance(given, list) and not given):
        return [()] * pictures
    if isinstance(given, list) and all(isinstance(one, list) for one in given):
        lists = [_host_boxes(one) for one in given]
        return [lists[min(index, len(lists) - 1)] for index in range(pictures)]
    return [_host_boxes(given if isinstance(given, list) else [given])] * pictures


def _host_boxes(given: Iterable[Any]) -> tuple[Box, ...]:
    try:
        return tuple(
            Box(float(one["x"]), float(one["y"]), one["x"] + one["width"], one["y"] + one["height"])
            for one in given
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            "Bounding boxes need x, y, width and height as numbers, got something else "
            f"({type(error).__name__}: {error}). Connect a node that gives BOUNDING_BOX."
        ) from error


def _within(box: Box, size: tuple[int, int]) -> Box:
    cut = Box(max(box.x0, 0.0), max(box.y0, 0.0), min(box.x1, size[1]), min(box.y1, size[0]))
    if cut.x0 < cut.x1 and cut.y0 < cut.y1:
        return cut
    raise ValueError(
        f"Boxes need to cover a part of the picture of {size[1]} x {size[0]} pixels (width x height), got "
        f"{box.x0:g},{box.y0:g},{box.x1:g},{box.y1:g}. Correct the box, or connect the picture that it was "
        "made for."
    )


def _entries(text: str) -> Iterable[int]:
    """Where each entry of the text starts."""
    place = 0
    while (place := _end_of(BETWEEN, text, place)) < len(text):
        yield place
        place = next((at for at in range(place, len(text)) if text[at] in ENDS), len(text))


def _end_of(pattern: re.Pattern[str], text: str, place: int) -> int:
    match = pattern.match(text, place)
    return place if match is None else match.end()


def _numbers(text: str, place: int, count: int, form: str) -> tuple[list[float], int]:
    """So many numbers with commas between them, and where the text goes on."""
    values: list[float] = []
    while len(values) < count:
        if values:
            if text[place : place + 1] != ",":
                raise _misfit(text, place, form, "a comma")
            place += 1
        match = NUMBER.match(text, place)
        if match is None:
            raise _misfit(text, _end_of(re.compile(r"[ \t]*"), text, place), form, "a number from 0 on")
        values.append(float(match[1]))
        place = match.end()
    return values, place


def _check_end(text: str, place: int, form: str) -> None:
    if text[place : place + 1] not in ("", *ENDS):
        raise _misfit(text, place, form, "a semicolon or the end")


def _misfit(text: str, place: int, form: str, wanted: str) -> ValueError:
    came = f"{text[place]!r} as character {place + 1}" if place < len(text) else "its end"
    return ValueError(
        f"Masks need {form}, in pixels of the picture; got {came} of {text!r}, where {wanted} belongs. "
        "Correct it there."
    )
