"""OpenPose: the people in a picture, found by networks for bodies, hands and faces."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

from ..image import check_image
from ..padded import Network, as_levels, padded_batch
from .boxes import LEFT_ARM, RIGHT_ARM, Square, face_box, hand_box
from .decoding import Peak, Planes, face_points, find_bodies, hand_points
from .drawing import Drawing, draw_poses
from .keypoints import Frame, Keypoint, Person, Points

BOX = 368
BODY_HEIGHT = 0.5 * BOX
HAND_SIDES = (184, 368, 552, 736)
HAND_MAP = 128
FACE_SIDE = 384
STRIDE = 8
PAD_LEVEL = 128
HAND_BLUR = 0.8


@dataclass(frozen=True)
class PoseNetworks:
    """The three networks, `BodyPose`, `HandPose` and `FacePose`; the last two run only for what is found."""

    body: Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]]
    hand: Network
    face: Network


def open_pose(
    image: torch.Tensor, networks: PoseNetworks, drawing: Drawing, resolution: int = 512
) -> tuple[torch.Tensor, tuple[Frame, ...]]:
    """IMAGE (B,H,W,C) RGB 0..1 -> IMAGE (B,h,w,3) with the poses on black, and their points in pixels of it.

    Hands and faces are looked for where `drawing` shows them; bodies always, as they tell where the others
    are. A picture with nobody in it gives a black map, and the log says so once.

    Raises:
        ValueError: for an image that is empty, not finite, or of another shape.

    Source: Mikubill/sd-webui-controlnet: annotator/openpose/__init__.py (OpenposeDetector).
    """
    check_image(image, "OpenPose")
    batch = padded_batch(image, resolution)
    people = find_people(batch.array, networks, drawing.hands, drawing.face)
    frames = tuple(Frame(found, *batch.size) for found in people)
    return draw_poses(frames, drawing), frames


def find_people(
    pictures: np.ndarray, networks: PoseNetworks, hands: bool = True, faces: bool = True
) -> list[tuple[Person, ...]]:
    """Pictures (B,h,w,3) uint8 RGB -> the people of each, in pixels.

    The points went through fractions of the sides, bodies in 64 bit and the others in 32, as in the
    reference: cut to whole pixels, some of them lie one lower than the peaks.

    Source: Mikubill/sd-webui-controlnet: annotator/openpose/__init__.py (detect_poses).
    """
    size = (pictures.shape[1], pictures.shape[2])
    bodies = [(index, body) for index, found in enumerate(_bodies(pictures, networks)) for body in found]
    arms = [
        (index, hand_box(body, arm, size) if hands else None)
        for arm in (LEFT_ARM, RIGHT_ARM)
        for index, body in bodies
    ]
    heads = [(index, face_box(body, size) if faces else None) for index, body in bodies]
    hand = _parts(pictures, arms, lambda crops: _hands(crops, networks.hand))
    face = _parts(pictures, heads, lambda crops: _faces(crops, networks.face))
    left, right = hand[: len(bodies)], hand[len(bodies) :]
    people: list[list[Person]] = [[] for _ in pictures]
    for (index, body), *parts in zip(bodies, left, right, face, strict=True):
        people[index].append(Person(_body_points(body, size), *parts))
    return [tuple(found) for found in people]


def _bodies(pictures: np.ndarray, networks: PoseNetworks) -> list[list[tuple[Peak | None, ...]]]:
    """The bodies in each picture, seen at a height of 184 pixels."""
    import cv2

    height, width = pictures.shape[1:3]
    scale = BODY_HEIGHT / height
    seen = max(1, int(height * scale)), max(1, int(width * scale))
    grows = (height * scale + width * scale) / (height + width) >= 1
    border = (0, -seen[0] % STRIDE, 0, -seen[1] % STRIDE)
    small = [
        cv2.copyMakeBorder(_resized(one, seen, grows), *border, cv2.BORDER_CONSTANT, value=(PAD_LEVEL,) * 3)
        for one in pictures
    ]
    limbs, heat = networks.body(as_levels(np.stack(small)))

    def planes(maps: torch.Tensor) -> Planes:
        return lambda channel: _at_size(maps[channel].numpy(), seen, (height, width))

    return [find_bodies(planes(one), planes(other)) for one, other in zip(heat, limbs, strict=True)]


def _parts(
    pictures: np.ndarray,
    boxes: Sequence[tuple[int, Square | None]],
    find: Callable[[list[np.ndarray]], list[Sequence[tuple[int, int] | None]]],
) -> list[Points]:
    """For each (picture, box) the points found in it, in pixels of the picture; () without a box."""
    there = [(picture, box) for picture, box in boxes if box is not None]
    crops = [pictures[i, y : y + side, x : x + side] for i, (x, y, side) in there]
    found = iter(find(crops) if crops else [])
    size = (pictures.shape[1], pictures.shape[2])
    return [() if box is None else _part_points(next(found), box, size) for _, box in boxes]


def _hands(crops: list[np.ndarray], network: Network) -> list[Sequence[tuple[int, int] | None]]:
    """The 21 points of each hand in pixels of its crop: the mean of four sizes, decoded at 128 x 128."""
    import cv2

    blurred = [cv2.GaussianBlur(crop, (0, 0), HAND_BLUR) for crop in crops]
    heat = np.zeros((len(crops), 21, HAND_MAP, HAND_MAP))
    for side in HAND_SIDES:
        maps = network(as_levels(np.stack([_squared(crop, side) for crop in blurred]))).numpy()
        for total, one in zip(heat, maps, strict=True):
            for channel, plane in zip(total, one, strict=False):
                channel += _at_size(plane, (side, side), (HAND_MAP, HAND_MAP)) / len(HAND_SIDES)
    return [
        [
            point and (point[0] * crop.shape[1] // HAND_MAP, point[1] * crop.shape[0] // HAND_MAP)
            for point in hand_points(one)
        ]
        for one, crop in zip(heat, crops, strict=True)
    ]


def _faces(crops: list[np.ndarray], network: Network) -> list[Sequence[tuple[int, int] | None]]:
    """The 70 points of each face and the peak of its background, in pixels of its crop."""
    maps = network(as_levels(np.stack([_squared(crop, FACE_SIDE) for crop in crops])))
    found: list[Sequence[tuple[int, int] | None]] = []
    for one, crop in zip(maps, crops, strict=True):
        heat = functional.interpolate(one[None], crop.shape[:2], mode="bilinear", align_corners=True)
        found.append(face_points(heat[0].numpy()))
    return found


def _body_points(body: Sequence[Peak | None], size: tuple[int, int]) -> Points:
    height, width = size
    return tuple(
        peak and Keypoint(peak.x / width * width, peak.y / height * height, peak.score) for peak in body
    )


def _part_points(points: Sequence[tuple[int, int] | None], box: Square, size: tuple[int, int]) -> Points:
    """Crop -> picture; a point in the first row or column of its crop counts as not seen."""
    height, width = size

    def moved(point: tuple[int, int] | None) -> Keypoint | None:
        if point is None or 0 in point:
            return None
        x, y = np.float32(point[0] + box.x), np.float32(point[1] + box.y)
        return Keypoint(
            float(x / np.float32(width) * np.float32(width)),
            float(y / np.float32(height) * np.float32(height)),
        )

    return tuple(map(moved, points))


def _squared(picture: np.ndarray, side: int) -> np.ndarray:
    return _resized(picture, (side, side), grows=2 * side >= sum(picture.shape[:2]))


def _at_size(plane: np.ndarray, seen: tuple[int, int], size: tuple[int, int]) -> np.ndarray:
    """A map of the network, eighth-sized -> enlarged, without the padding, at the given size."""
    enlarged = _resized(plane, (plane.shape[0] * STRIDE, plane.shape[1] * STRIDE), grows=True)
    return _resized(enlarged[: seen[0], : seen[1]], size, grows=sum(size) >= sum(seen))


def _resized(array: np.ndarray, size: tuple[int, int], grows: bool) -> np.ndarray:
    import cv2

    interpolation = cv2.INTER_LANCZOS4 if grows else cv2.INTER_AREA
    return cv2.resize(array, (size[1], size[0]), interpolation=interpolation)
