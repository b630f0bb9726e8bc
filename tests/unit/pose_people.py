"""Made-up people for the tests of poses."""

import random
from typing import Any

from tiller.preprocessors.pose.keypoints import Frame, Keypoint, Person

STANDING = (
    (50, 12), (50, 30), (38, 30), (30, 50), (26, 70), (62, 30), (70, 50), (74, 70), (43, 72), (41, 100),
    (40, 128), (57, 72), (59, 100), (60, 128), (47, 9), (53, 9), (43, 11), (57, 11),
)  # fmt: skip
"""The 18 body points of somebody 100 wide and 140 tall, facing the camera."""


def standing(left: float = 0.0, top: float = 0.0, scale: float = 1.0) -> Person:
    """Somebody standing there, body only."""
    return Person(tuple(Keypoint(left + x * scale, top + y * scale) for x, y in STANDING))


def random_frame(seed: int, height: int, width: int, people: int = 2, missing: float = 0.2) -> Frame:
    """People with all their parts anywhere in the picture and a little outside; some points are missing."""
    draw = random.Random(seed)

    def point() -> Keypoint | None:
        if draw.random() < missing:
            return None
        return Keypoint(draw.uniform(-0.1, 1.1) * width, draw.uniform(-0.1, 1.1) * height)

    def person() -> Person:
        return Person(*(tuple(point() for _ in range(count)) for count in (18, 21, 21, 70, 6)))

    return Frame(tuple(person() for _ in range(people)), height, width)


def entry(people: list[dict[str, Any]], width: int = 100, height: int = 200) -> dict[str, Any]:
    """One entry of POSE_KEYPOINT."""
    return {"people": people, "canvas_width": width, "canvas_height": height}


def body(*points: tuple[float, float, float], count: int = 18) -> list[float]:
    """Flat numbers of `count` points: these first, zeros behind."""
    flat = [float(number) for point in points for number in point]
    return flat + [0.0] * (3 * count - len(flat))
