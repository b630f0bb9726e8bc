"""Made-up people for the tests of poses, and the maps that OpenPose's body network would give for them."""

import random
from collections.abc import Collection
from typing import Any

import numpy as np
import torch
from tiller.preprocessors.pose.decoding import LIMB_CHANNELS, LIMBS
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


def moved(left: float, top: float, scale: float, missing: Collection[int] = ()) -> list[Any]:
    """The body points of somebody standing there, as x and y; None where they are missing."""
    return [
        None if i in missing else (left + x * scale, top + y * scale) for i, (x, y) in enumerate(STANDING)
    ]


def skeleton_maps(people, height, width, seen=184):
    """Limb and heat maps (1,38|19,h/8,w/8) as the network would give them for people of these 18 points."""
    scale = seen / height
    rows, columns = -(-seen // 8), -(-int(width * scale) // 8)
    y, x = np.mgrid[0:rows, 0:columns].astype(np.float32) * 8 + 3.5
    heat, limbs = np.zeros((19, rows, columns), np.float32), np.zeros((38, rows, columns), np.float32)
    for points in people:
        at = [point and (point[0] * scale, point[1] * scale) for point in points]
        for part, point in enumerate(at):
            if point:
                blob = np.exp(-((x - point[0]) ** 2 + (y - point[1]) ** 2) / (2 * 7.0**2))
                heat[part] = np.maximum(heat[part], blob)
        for (start, end), channel in zip(LIMBS, LIMB_CHANNELS, strict=True):
            if at[start] and at[end]:
                a, way = np.array(at[start]), np.array(at[end]) - at[start]
                length = max(np.hypot(*way), 1e-3)
                along = ((x - a[0]) * way[0] + (y - a[1]) * way[1]) / length
                aside = np.abs((x - a[0]) * way[1] - (y - a[1]) * way[0]) / length
                near = (along > -8) & (along < length + 8) & (aside < 9)
                limbs[channel][near], limbs[channel + 1][near] = way / length
    heat[18] = 1 - heat[:18].max(0)
    return torch.from_numpy(limbs)[None], torch.from_numpy(heat)[None]
