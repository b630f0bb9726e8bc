"""DWPose: the people in a picture, found by a detector, and each of their 133 points by one network."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from ..image import check_image
from ..padded import padded_batch
from .drawing import Drawing, draw_poses
from .keypoints import Frame, Keypoint, Person
from .onnx_session import Dimensions, OnnxKind, OnnxNetwork, Size

STRIDES = (8, 16, 32)
COCO_CLASSES = 80
PAD_LEVEL = 114
SEEN_LEVEL, PERSON_LEVEL = 0.1, 0.3
MOST_OVERLAP = 0.45
FARTHEST = 1e5
"""Boxes that reach further, or are no numbers, are rubbish: the drawing could not hold their points."""

MARGIN = 1.25
MEAN, DEVIATION = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
MOST_AT_ONCE = 8
WHOLE_BODY_POINTS = 133
BINS_PER_PIXEL = 2
POINT_LEVEL = 0.3
LEFT_SHOULDER, RIGHT_SHOULDER = 5, 6
NECK = WHOLE_BODY_POINTS
"""Where the neck, which the network does not know, is put behind its points."""
BODY = (0, NECK, 6, 8, 10, 5, 7, 9, 12, 14, 16, 11, 13, 15, 2, 1, 4, 3)
"""Where the network's points hold the 18 of OpenPose's body."""
EYES = (14, 15)
FEET, FACE, LEFT_HAND, RIGHT_HAND = slice(17, 23), slice(23, 91), slice(91, 112), slice(112, 133)


def _detector_results(size: Size) -> tuple[Dimensions, ...]:
    cells = sum((size[0] // stride) * (size[1] // stride) for stride in STRIDES)
    return ((cells, 5 + COCO_CLASSES),)


def _pose_results(size: Size) -> tuple[Dimensions, ...]:
    height, width = size
    return (WHOLE_BODY_POINTS, BINS_PER_PIXEL * width), (WHOLE_BODY_POINTS, BINS_PER_PIXEL * height)


DETECTOR = OnnxKind("dwpose_detector", "detector", (640, 640), _detector_results)
POSE = OnnxKind("dwpose", "weights", (384, 288), _pose_results)
KINDS = (DETECTOR, POSE)


@dataclass(frozen=True)
class DWPoseNetworks:
    """The networks of `DETECTOR` and of `POSE`; the second one runs only for what the first one finds."""

    detector: OnnxNetwork
    pose: OnnxNetwork


def dw_pose(
    image: torch.Tensor,
    networks: DWPoseNetworks,
    drawing: Drawing,
    resolution: int = 512,
    on_image: Callable[[int, int], None] | None = None,
) -> tuple[torch.Tensor, tuple[Frame, ...]]:
    """IMAGE (B,H,W,C) RGB 0..1 -> IMAGE (B,h,w,3) with the poses on black, and their points in pixels of it.

    The points are all that were found, whatever `drawing` shows. A picture with nobody in it gives a black
    map, and the log says so once. `on_image(done, total)` is called after each picture.

    Raises:
        ValueError: for an image that is empty, not finite, or of another shape.

    Source: Yang et al. 2023 (Effective whole-body pose estimation with two-stages distillation);
    Mikubill/sd-webui-controlnet: annotator/openpose/__init__.py (detect_poses_dw).
    """
    check_image(image, "DWPose")
    batch = padded_batch(image, resolution)
    frames: list[Frame] = []
    for index, picture in enumerate(batch.array):
        frames.append(Frame(find_whole_bodies(picture, networks), *batch.size))
        if on_image is not None:
            on_image(index + 1, len(batch.array))
    return draw_poses(frames, drawing), tuple(frames)


def find_whole_bodies(picture: np.ndarray, networks: DWPoseNetworks) -> tuple[Person, ...]:
    """Picture (h,w,3) uint8 RGB -> its people in pixels, the surest first.

    Source: Mikubill/sd-webui-controlnet: annotator/openpose/wholebody.py (Wholebody).
    """
    boxes = person_boxes(picture, networks.detector)
    people: list[Person] = []
    for start in range(0, len(boxes), MOST_AT_ONCE):
        points = whole_body_points(picture, boxes[start : start + MOST_AT_ONCE], networks.pose)
        people += [_person(one) for one in points]
    return tuple(person for person in people if any(map(any, person.parts())))


def person_boxes(picture: np.ndarray, detector: OnnxNetwork) -> np.ndarray:
    """Picture (h,w,3) uint8 RGB -> boxes (n,4) float64 of people, x0, y0, x1, y1 in pixels, the surest first.

    A picture in which the detector sees something, but nobody surely, is one box; one in which it sees
    nothing at all has none. Both as in the reference.

    Source: Ge et al. 2021 (YOLOX); Mikubill/sd-webui-controlnet: annotator/openpose/cv_ox_det.py.
    """
    size = detector.size
    scale = min(size[0] / picture.shape[0], size[1] / picture.shape[1])
    (found,) = detector(_letterboxed(picture, size, scale)[None])
    boxes, scores = _decoded(found[0], size)
    if not (scores > SEEN_LEVEL).any():
        return np.empty((0, 4))
    boxes, sure = boxes / np.float32(scale), scores[:, 0]
    people = (sure > PERSON_LEVEL) & _is_usable(boxes)
    kept = _apart(boxes[people], sure[people])
    if not len(kept):
        kept = np.array([[0, 0, picture.shape[1], picture.shape[0]]])
    return kept.astype(float)


def whole_body_points(picture: np.ndarray, boxes: np.ndarray, pose: OnnxNetwork) -> np.ndarray:
    """Picture (h,w,3) uint8 RGB, boxes (n,4) in pixels -> (n,133,3) float64: x, y in pixels, and score.

    Each box, 1.25 times as large and in the shape of the network's input, is cut out; the network tells how
    likely each half pixel of the cut is for a point, across and down apart.

    Source: Jiang et al. 2023 (RTMPose); Mikubill/sd-webui-controlnet: annotator/openpose/cv_ox_pose.py.
    """
    height, width = pose.size
    centers = (boxes[:, :2] + boxes[:, 2:]) * 0.5
    across, down = np.hsplit((boxes[:, 2:] - boxes[:, :2]) * MARGIN, 2)
    aspect = width / height
    extents = np.where(
        across > down * aspect, np.hstack([across, across / aspect]), np.hstack([down * aspect, down])
    )
    crops = [_cut(picture, *one, (height, width)) for one in zip(centers, extents, strict=True)]
    likely_x, likely_y = pose(np.stack(crops))
    places = np.stack([likely_x.argmax(2), likely_y.argmax(2)], -1) / BINS_PER_PIXEL
    points = places / (width, height) * extents[:, None] + centers[:, None] - extents[:, None] / 2
    scores = np.minimum(likely_x.max(2), likely_y.max(2))
    return np.concatenate([points, scores[..., None]], -1)


def _letterboxed(picture: np.ndarray, size: Size, scale: float) -> np.ndarray:
    """Picture -> (3,height,width) float32 levels: scaled into the top left corner, grey around it."""
    import cv2

    height, width = (max(1, int(side * scale)) for side in picture.shape[:2])
    levels = np.full((*size, 3), PAD_LEVEL, np.uint8)
    levels[:height, :width] = cv2.resize(picture, (width, height), interpolation=cv2.INTER_LINEAR)
    return levels.transpose(2, 0, 1).astype(np.float32)


def _decoded(found: np.ndarray, size: Size) -> tuple[np.ndarray, np.ndarray]:
    """What the detector gives, (n,85) -> boxes (n,4) in its pixels and scores (n,80).

    Every cell of three grids tells a centre from its corner, in cells, and the logarithms of the sides.
    """
    corners, cells = [], []
    for stride in STRIDES:
        rows, columns = size[0] // stride, size[1] // stride
        y, x = np.mgrid[:rows, :columns]
        corners.append(np.stack([x.ravel(), y.ravel()], 1))
        cells.append(np.full((rows * columns, 1), stride))
    cell = np.concatenate(cells)
    with np.errstate(over="ignore", invalid="ignore"):
        centers = ((found[:, :2] + np.concatenate(corners)) * cell).astype(np.float32)
        sides = (np.exp(found[:, 2:4]) * cell).astype(np.float32)
        boxes = np.hstack([centers - sides / 2, centers + sides / 2])
        return boxes, found[:, 4:5] * found[:, 5:]


def _is_usable(boxes: np.ndarray) -> np.ndarray:
    """Boxes (n,4) -> (n,) bool: numbers, in reach, and at least a pixel wide and high."""
    with np.errstate(invalid="ignore"):
        fits = np.hstack([np.abs(boxes) < FARTHEST, boxes[:, 2:] - boxes[:, :2] >= 1])
    return np.asarray(fits.all(1))


def _apart(boxes: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """The boxes, surest first, without those that a surer one covers; pixels count, as in the reference."""
    boxes = boxes[np.argsort(-scores, kind="stable")]
    kept: list[np.ndarray] = []
    while len(boxes):
        first, boxes = boxes[0], boxes[1:]
        kept.append(first)
        common = np.minimum(boxes[:, 2:], first[2:]) - np.maximum(boxes[:, :2], first[:2]) + 1
        shared = common.clip(0).prod(1)
        areas = (boxes[:, 2:] - boxes[:, :2] + 1).prod(1)
        boxes = boxes[shared / ((first[2:] - first[:2] + 1).prod() + areas - shared) <= MOST_OVERLAP]
    return np.stack(kept) if kept else np.empty((0, 4))


def _cut(picture: np.ndarray, center: np.ndarray, extent: np.ndarray, size: Size) -> np.ndarray:
    """The part of the picture around `center` -> (3,height,width) float32, normalised; black outside."""
    import cv2

    height, width = size
    half, top = width / 2, (height - width) / 2
    middle, above = np.array([center, center - (0, extent[0] / 2)], np.float32)
    aside = above - (middle - above)[::-1]
    here = np.array([[half, height / 2], [half, top], [0, top]], np.float32)
    moved = cv2.warpAffine(
        picture,
        cv2.getAffineTransform(np.stack([middle, above, aside]), here),
        (width, height),
        flags=cv2.INTER_LINEAR,
    )
    return ((moved - np.array(MEAN)) / np.array(DEVIATION)).transpose(2, 0, 1).astype(np.float32)


def _person(points: np.ndarray) -> Person:
    """133 points (x, y, score) -> the person in OpenPose's order; a part without any point is ()."""
    neck = points[[LEFT_SHOULDER, RIGHT_SHOULDER]].mean(0)
    neck[2] = (points[[LEFT_SHOULDER, RIGHT_SHOULDER], 2] > POINT_LEVEL).all()
    found = tuple(
        Keypoint(*map(float, point)) if point[2] >= POINT_LEVEL else None for point in (*points, neck)
    )
    left_hand, right_hand, face, feet = (
        found[part] if any(found[part]) else () for part in (LEFT_HAND, RIGHT_HAND, FACE, FEET)
    )
    body = tuple(found[index] for index in BODY)
    eyes = tuple(body[index] for index in EYES) if face else ()
    return Person(body, left_hand, right_hand, (*face, *eyes), feet)
