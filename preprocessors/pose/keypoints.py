"""Key points of people: the records, the type POSE_KEYPOINT and its JSON text.

POSE_KEYPOINT is a list with one dict per picture: `people`, `canvas_width`, `canvas_height`, and per person
flat lists x, y, score in pixels or in fractions of the canvas (lllyasviel's web UI annotators,
comfyui_controlnet_aux, the host's SDPose, CMU's OpenPose). The records here are always in pixels.
"""

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import numpy as np

from ..image import MAX_PIXELS

MIN_SCORE = 0.3
BODY_POINTS, HAND_POINTS, FACE_POINTS, FOOT_POINTS = 18, 21, 70, 6
BODY_25_POINTS = 25
BODY_25 = (0, 1, 2, 3, 4, 5, 6, 7, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18)
"""Where CMU's 25 points hold the 18 that are drawn."""
RIGHT_WRIST, LEFT_WRIST = 4, 7
FRACTION_LIMIT = 2.0
"""Coordinates up to here are fractions of the canvas: a point outside it may pass 1, a person in pixels is
never that small."""
FARTHEST = 1e6

Unit = Literal["pixels", "fractions"]
UNITS: tuple[Unit, ...] = ("pixels", "fractions")


class Keypoint(NamedTuple):
    """A point in pixels and how sure it is, from 0 to 1."""

    x: float
    y: float
    score: float = 1.0


Points = tuple[Keypoint | None, ...]


@dataclass(frozen=True)
class Person:
    """The points of one person in OpenPose's order; None is a point not seen, () a part not looked for.

    Body: nose, neck, right shoulder, elbow and wrist, left ones, right hip, knee and ankle, left ones, right
    and left eye, right and left ear. Right and left are the person's own.
    """

    body: Points = ()
    left_hand: Points = ()
    right_hand: Points = ()
    face: Points = ()
    feet: Points = ()

    def map(self, change: Callable[[Keypoint], Keypoint | None]) -> "Person":
        """The same person with every point changed, or gone where `change` gives None."""

        def each(points: Points) -> Points:
            return tuple(point and change(point) for point in points)

        return Person(*map(each, self.parts()))

    def parts(self) -> tuple[Points, ...]:
        """Body, left hand, right hand, face and feet."""
        return self.body, self.left_hand, self.right_hand, self.face, self.feet


@dataclass(frozen=True)
class Frame:
    """The people of one picture of this height and width in pixels."""

    people: tuple[Person, ...]
    height: int
    width: int


@dataclass(frozen=True)
class Writing:
    """How key points are written: their unit, and whether scores are kept or every seen point gets 1."""

    unit: Unit = "pixels"
    keep_scores: bool = False


def read_keypoints(value: object, min_score: float = MIN_SCORE) -> tuple[Frame, ...]:
    """POSE_KEYPOINT, or what its JSON text holds -> frames in pixels, points below `min_score` dropped.

    One dict stands for a list of one. Fractions of the canvas are told from pixels by their size, frame by
    frame. 25 body points (CMU's OpenPose) become the 18 that are drawn; faces may have any number of
    points; `animals` are not read.

    Raises:
        ValueError: for anything else, naming the frame, person and part.

    Source: CMU-Perceptual-Computing-Lab/openpose: doc/02_output.md; Mikubill/sd-webui-controlnet:
    annotator/openpose/__init__.py (JSON), annotator/openpose/util.py (is_normalized).
    """
    frames = [value] if isinstance(value, Mapping) else value
    if not isinstance(frames, Sequence) or isinstance(frames, str) or not frames:
        raise ValueError(
            f"Key points need a list with one entry per picture, got {_named(value)}. Connect a "
            "POSE_KEYPOINT output, or paste the JSON text of one."
        )
    return tuple(_frame(frame, f"entry {index}", min_score) for index, frame in enumerate(frames))


def read_json(text: str, min_score: float = MIN_SCORE) -> tuple[Frame, ...]:
    """The JSON text of POSE_KEYPOINT or of one of its entries -> frames, as `read_keypoints` gives them.

    Raises:
        ValueError: for a text that is not JSON or holds something else.
    """
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"Key points need JSON text, got something else ({error}). Paste the whole text, from the first "
            "bracket to the last."
        ) from error
    return read_keypoints(value, min_score)


def read_either(keypoints: object, text: str, min_score: float = MIN_SCORE) -> tuple[Frame, ...]:
    """POSE_KEYPOINT or JSON text, whichever is there -> frames, as `read_keypoints` gives them.

    Raises:
        ValueError: for both, for neither (None and a blank text), or for something else.
    """
    if (keypoints is None) == (not text.strip()):
        raise ValueError(
            f"Key points need a connection or JSON text, got {'neither' if keypoints is None else 'both'}. "
            "Connect a POSE_KEYPOINT output and leave the text empty, or paste the text alone."
        )
    return read_json(text, min_score) if keypoints is None else read_keypoints(keypoints, min_score)


def write_keypoints(frames: Iterable[Frame], writing: Writing = Writing()) -> list[dict[str, Any]]:
    """Frames -> POSE_KEYPOINT: every part is there, with zeros for what was not seen.

    Body, face and hands always have 18, 70 and 21 points, as the host's own nodes need them; feet are
    written only where there are any.

    Raises:
        ValueError: for another unit.
    """
    if writing.unit not in UNITS:
        raise ValueError(f"Key points are written in {' or '.join(UNITS)}, got {writing.unit!r}. Pick one.")
    return [_written_frame(frame, writing) for frame in frames]


def write_json(frames: Iterable[Frame], writing: Writing = Writing()) -> str:
    """Frames -> the JSON text of their POSE_KEYPOINT, on one line.

    Raises:
        ValueError: for another unit.
    """
    return json.dumps(write_keypoints(frames, writing))


def hands_by_wrist(frame: Frame) -> Frame:
    """The same frame with each hand on the wrist it starts at.

    Two hands change sides where that brings their first points nearer to the wrists; a person without
    both wrists and a hand stays. The host's SDPose names the right hand left and the left one right.

    Source: Comfy-Org/ComfyUI: comfy_extras/nodes_sdpose.py (_to_openpose_frames).
    """
    return replace(frame, people=tuple(_with_matched_hands(person) for person in frame.people))


def _with_matched_hands(person: Person) -> Person:
    wrists = [person.body[index] if person.body else None for index in (LEFT_WRIST, RIGHT_WRIST)]
    roots = [hand[0] if hand else None for hand in (person.left_hand, person.right_hand)]
    if None in wrists:
        return person

    def reach(order: list[Keypoint | None]) -> float:
        pairs = zip(roots, order, strict=True)
        return sum(math.dist(a[:2], b[:2]) for a, b in pairs if a is not None and b is not None)

    if reach(wrists) <= reach(wrists[::-1]):
        return person
    return replace(person, left_hand=person.right_hand, right_hand=person.left_hand)


def _frame(frame: object, where: str, min_score: float) -> Frame:
    if not isinstance(frame, Mapping) or not {"people", "canvas_width", "canvas_height"} <= set(frame):
        raise ValueError(
            f"Key points need people, canvas_width and canvas_height, got {_named(frame)} in {where}. Add "
            "the size of the picture in pixels; key points of animals are another format."
        )
    width, height = (frame[side] for side in ("canvas_width", "canvas_height"))
    if not _is_size(width) or not _is_size(height) or width * height > MAX_PIXELS:
        raise ValueError(
            f"Key points need a canvas of 1 x 1 to {MAX_PIXELS} pixels, got {width} x {height} (width x "
            f"height) in {where}. Set canvas_width and canvas_height to the size of the picture."
        )
    people = frame["people"]
    if not isinstance(people, Sequence) or isinstance(people, str):
        raise ValueError(
            f"Key points need people as a list, got {_named(people)} in {where}. Leave it empty for nobody."
        )
    found = [_person(person, f"{where}, person {i}", min_score) for i, person in enumerate(people)]
    if all(abs(side) <= FRACTION_LIMIT for person in found for side in _coordinates(person)):
        found = [person.map(lambda p: p._replace(x=p.x * width, y=p.y * height)) for person in found]
    return Frame(tuple(found), int(height), int(width))


def _person(person: object, where: str, min_score: float) -> Person:
    if not isinstance(person, Mapping):
        raise ValueError(
            f"Key points need a dict per person, got {_named(person)} in {where}. See the node's help page."
        )

    def part(key: str, *counts: int) -> Points:
        points = _points(person.get(f"{key}_keypoints_2d"), f"{key} of {where}", min_score)
        if points and counts and len(points) not in counts:
            raise ValueError(
                f"Key points need {' or '.join(map(str, counts))} points, got {len(points)} for the {key} of "
                f"{where}. Leave a part out, or give all of its points, with zeros for those not seen."
            )
        return points

    body, feet = part("pose", BODY_POINTS, BODY_25_POINTS), part("foot", FOOT_POINTS)
    if len(body) > BODY_POINTS:
        feet = feet or body[-FOOT_POINTS:]
        body = tuple(body[index] for index in BODY_25)
    hands = [part(f"hand_{side}", HAND_POINTS) for side in ("left", "right")]
    return Person(body, hands[0], hands[1], part("face"), feet)


def _points(numbers: object, where: str, min_score: float) -> Points:
    if numbers is None or numbers == []:
        return ()
    if not isinstance(numbers, Sequence) or len(numbers) % 3 or not all(map(_is_coordinate, numbers)):
        raise ValueError(
            f"Key points need x, y and score per point as finite numbers (no NaN) up to {FARTHEST:.0f}, got "
            f"{_named(numbers)} for the {where}. Check the text, or the node that made the key points."
        )
    triples = (Keypoint(*map(float, numbers[i : i + 3])) for i in range(0, len(numbers), 3))
    return tuple(point if point.score > 0 and point.score >= min_score else None for point in triples)


def _written_frame(frame: Frame, writing: Writing) -> dict[str, Any]:
    across, down = (1, 1) if writing.unit == "pixels" else (frame.width, frame.height)

    def triple(point: Keypoint | None) -> tuple[float, float, float]:
        if point is None:
            return 0.0, 0.0, 0.0
        return point.x / across, point.y / down, point.score if writing.keep_scores else 1.0

    def flat(points: Points, count: int) -> list[float]:
        filled = (*points, *(None,) * count)[:count]
        return [float(number) for point in filled for number in triple(point)]

    def person(one: Person) -> dict[str, list[float]]:
        parts = {
            "pose_keypoints_2d": flat(one.body, BODY_POINTS),
            "face_keypoints_2d": flat(one.face, FACE_POINTS),
            "hand_left_keypoints_2d": flat(one.left_hand, HAND_POINTS),
            "hand_right_keypoints_2d": flat(one.right_hand, HAND_POINTS),
        }
        return parts | ({"foot_keypoints_2d": flat(one.feet, FOOT_POINTS)} if one.feet else {})

    people = [person(one) for one in frame.people]
    return {"people": people, "canvas_height": frame.height, "canvas_width": frame.width}


def _coordinates(person: Person) -> Iterable[float]:
    return (side for points in person.parts() for point in points if point for side in point[:2])


def _is_size(value: object) -> bool:
    return isinstance(value, (int, float)) and 1 <= value <= MAX_PIXELS and int(value) == value


def _is_coordinate(value: object) -> bool:
    """Whether it is a number, NumPy's included, that is finite and near enough to be drawn."""
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
        return False
    return bool(-FARTHEST <= value <= FARTHEST)


def _named(value: object) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, Mapping):
        return f"a dict of {', '.join(map(str, list(value)[:6])) or 'nothing'}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        odd = next((entry for entry in value if not _is_coordinate(entry)), None)
        said = f"a list of {len(value)}"
        return said if odd is None or isinstance(odd, Mapping) else f"{said} with {odd!r:.60}"
    return f"{type(value).__name__} {value!r:.60}"
