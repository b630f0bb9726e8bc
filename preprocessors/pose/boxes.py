"""Where the hands and the face of a person lie, told from the points of the body."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from .decoding import Peak

LEFT_ARM, RIGHT_ARM = (5, 6, 7), (2, 3, 4)
"""Shoulder, elbow, wrist."""
NOSE, EYES, EARS = 0, (14, 15), (16, 17)
FEWEST_PIXELS = 20


class Square(NamedTuple):
    """A square crop: left, top and side in whole pixels."""

    x: int
    y: int
    side: int


def hand_box(body: Sequence[Peak | None], arm: tuple[int, int, int], size: tuple[int, int]) -> Square | None:
    """The hand at the end of `arm` in a picture of this (height, width); None: arm not seen, or too small.

    A third of the forearm beyond the wrist lies the centre; the side is 1.5 times the forearm, or 0.9 of
    the upper arm where that is longer.

    Source: CMU-Perceptual-Computing-Lab/openpose: src/openpose/hand/handDetector.cpp.
    """
    shoulder, elbow, wrist = (body[index] for index in arm)
    if shoulder is None or elbow is None or wrist is None:
        return None
    forearm = math.sqrt((wrist.x - elbow.x) ** 2 + (wrist.y - elbow.y) ** 2)
    upper_arm = math.sqrt((elbow.x - shoulder.x) ** 2 + (elbow.y - shoulder.y) ** 2)
    side = 1.5 * max(forearm, 0.9 * upper_arm)
    x = wrist.x + 0.33 * (wrist.x - elbow.x) - side / 2
    y = wrist.y + 0.33 * (wrist.y - elbow.y) - side / 2
    return _within(x, y, side, side, size)


def face_box(body: Sequence[Peak | None], size: tuple[int, int]) -> Square | None:
    """The face around the nose in a picture of this (height, width); None: not seen, or too small.

    Half its side is the largest of 3 times the way from the nose to an eye and 1.5 times that to an ear.
    At the right and the bottom border the side shrinks to what is left, as in the reference.

    Source: Mikubill/sd-webui-controlnet: annotator/openpose/util.py (faceDetect).
    """
    nose = body[NOSE]
    if nose is None:
        return None
    reach = 0.0
    for indices, times in ((EYES, 3.0), (EARS, 1.5)):
        for point in (body[index] for index in indices):
            if point is not None:
                reach = max(reach, max(abs(nose.x - point.x), abs(nose.y - point.y)) * times)
    return _within(nose.x - reach, nose.y - reach, reach, 2 * reach, size)


def _within(x: float, y: float, tested: float, side: float, size: tuple[int, int]) -> Square | None:
    """The square of this side, its corner moved into the picture, cut where `tested` passes the border."""
    x, y = max(x, 0), max(y, 0)
    across = size[1] - x if x + tested > size[1] else side
    down = size[0] - y if y + tested > size[0] else side
    shrunk = min(across, down)
    return Square(int(x), int(y), int(shrunk)) if shrunk >= FEWEST_PIXELS else None
