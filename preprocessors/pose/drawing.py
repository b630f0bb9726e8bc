"""Poses drawn as control nets learnt them: limbs and joints of the body, hands and faces on black."""

import colorsys
import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from ..image import MAX_PIXELS, from_uint8, short_side_size
from .keypoints import Frame, Keypoint, Points

LIMBS = (
    (1, 2), (1, 5), (2, 3), (3, 4), (5, 6), (6, 7), (1, 8), (8, 9), (9, 10), (1, 11), (11, 12), (12, 13),
    (1, 0), (0, 14), (14, 16), (0, 15), (15, 17),
)  # fmt: skip
"""Pairs of body points."""
COLORS = (
    (255, 0, 0), (255, 85, 0), (255, 170, 0), (255, 255, 0), (170, 255, 0), (85, 255, 0), (0, 255, 0),
    (0, 255, 85), (0, 255, 170), (0, 255, 255), (0, 170, 255), (0, 85, 255), (0, 0, 255), (85, 0, 255),
    (170, 0, 255), (255, 0, 255), (255, 0, 170), (255, 0, 85),
)  # fmt: skip
"""RGB of limb i and of body point i."""
BONES = (
    (0, 1), (1, 2), (2, 3), (3, 4), (0, 5), (5, 6), (6, 7), (7, 8), (0, 9), (9, 10),
    (10, 11), (11, 12), (0, 13), (13, 14), (14, 15), (15, 16), (0, 17), (17, 18), (18, 19), (19, 20),
)  # fmt: skip
"""Pairs of hand points: from the wrist along the five fingers."""
LIMB_LEVEL = 0.6
LIMB_HALF_WIDTH, JOINT_RADIUS, BONE_WIDTH, FACE_RADIUS = 4, 4, 2, 3
HAND_JOINT, FACE_DOT = (0, 0, 255), (255, 255, 255)


@dataclass(frozen=True)
class Drawing:
    """Which parts are drawn, and whether limbs grow with the picture (xinsir's SDXL control nets)."""

    body: bool = True
    hands: bool = True
    face: bool = True
    scale_limbs: bool = False


def draw_poses(frames: Sequence[Frame], drawing: Drawing = Drawing(), resolution: int = 0) -> torch.Tensor:
    """Frames of one size -> IMAGE (B,h,w,3) RGB 0..1 with the poses on black.

    `resolution` is the length of the shorter side at which they are drawn, 0 the canvas' own size; limbs
    and dots are equally thick at every size, unless `drawing.scale_limbs`. A picture with nobody in it is
    black, and the log says so.

    Raises:
        ValueError: for frames of different sizes, none at all, or more than 2^27 pixels.

    Source: Mikubill/sd-webui-controlnet: annotator/openpose/util.py; Fannovel16/comfyui_controlnet_aux:
    src/custom_controlnet_aux/dwpose/util.py (xinsir's limbs).
    """
    sizes = {(frame.height, frame.width) for frame in frames}
    if len(sizes) != 1:
        said = ", ".join(f"{width} x {height}" for height, width in sorted(sizes)) or "none"
        raise ValueError(
            f"Drawing poses needs entries of one canvas size, got {said} (width x height). Draw pictures of "
            "different sizes one by one."
        )
    height, width = short_side_size(sizes.pop(), resolution)
    if height * width * len(frames) > MAX_PIXELS * 4:
        raise ValueError(
            f"Drawing poses needs at most {MAX_PIXELS * 4} pixels in all, got {len(frames)} of {width} x "
            f"{height}. Draw fewer pictures at once, or lower the resolution."
        )
    empty = [str(index) for index, frame in enumerate(frames) if not frame.people]
    if empty:
        logging.getLogger("tiller").warning(
            "Nobody in picture %s of %d (counted from 0): its pose is black.", ", ".join(empty), len(frames)
        )
    return from_uint8(np.stack([draw_frame(_resized(frame, height, width), drawing) for frame in frames]))


def draw_frame(frame: Frame, drawing: Drawing = Drawing()) -> np.ndarray:
    """Frame -> (height,width,3) uint8 RGB, person over person: body, left hand, right hand, face.

    Source: Mikubill/sd-webui-controlnet: annotator/openpose/__init__.py (draw_poses).
    """
    canvas = np.zeros((frame.height, frame.width, 3), np.uint8)
    for person in frame.people:
        if drawing.body:
            _draw_body(canvas, person.body, _limb_half_width(frame, drawing))
        if drawing.hands:
            _draw_hand(canvas, person.left_hand)
            _draw_hand(canvas, person.right_hand)
        if drawing.face:
            _draw_dots(canvas, person.face, FACE_RADIUS, FACE_DOT)
    return canvas


def _draw_body(canvas: np.ndarray, points: Points, half_width: int) -> None:
    """Limbs as filled ellipses at 0.6 of their colour, then the joints."""
    import cv2

    if not points:
        return
    for (start, end), color in zip(LIMBS, COLORS, strict=False):
        one, other = points[start], points[end]
        if one is None or other is None:
            continue
        across, down = one.x - other.x, one.y - other.y
        center = int((one.x + other.x) / 2), int((one.y + other.y) / 2)
        axes = int((down**2 + across**2) ** 0.5 / 2), half_width
        outline = cv2.ellipse2Poly(center, axes, int(math.degrees(math.atan2(down, across))), 0, 360, 1)
        cv2.fillConvexPoly(canvas, np.array(outline), [int(level * LIMB_LEVEL) for level in color])
    for point, color in zip(points, COLORS, strict=True):
        if point is not None:
            cv2.circle(canvas, _pixel(point), JOINT_RADIUS, color, thickness=-1)


def _draw_hand(canvas: np.ndarray, points: Points) -> None:
    """Bones in the colours of the rainbow, then the joints in blue."""
    import cv2

    if not points:
        return
    for index, (start, end) in enumerate(BONES):
        one, other = points[start], points[end]
        if one is not None and other is not None and _is_drawn(one) and _is_drawn(other):
            color = [level * 255 for level in colorsys.hsv_to_rgb(index / len(BONES), 1.0, 1.0)]
            cv2.line(canvas, _pixel(one), _pixel(other), color, thickness=BONE_WIDTH)
    _draw_dots(canvas, points, JOINT_RADIUS, HAND_JOINT)


def _draw_dots(canvas: np.ndarray, points: Points, radius: int, color: tuple[int, int, int]) -> None:
    import cv2

    for point in points:
        if point is not None and _is_drawn(point):
            cv2.circle(canvas, _pixel(point), radius, color, thickness=-1)


def _is_drawn(point: Keypoint) -> bool:
    """Points of hands and faces in the first row or column, or outside, stand for points not seen."""
    return min(_pixel(point)) > 0


def _pixel(point: Keypoint) -> tuple[int, int]:
    return int(point.x), int(point.y)


def _limb_half_width(frame: Frame, drawing: Drawing) -> int:
    side = max(frame.height, frame.width)
    if not drawing.scale_limbs or side < 500:
        return LIMB_HALF_WIDTH
    return LIMB_HALF_WIDTH * min(2 + side // 1000, 7)


def _resized(frame: Frame, height: int, width: int) -> Frame:
    if (height, width) == (frame.height, frame.width):
        return frame
    across, down = width / frame.width, height / frame.height
    people = tuple(one.map(lambda p: p._replace(x=p.x * across, y=p.y * down)) for one in frame.people)
    return replace(frame, people=people, height=height, width=width)
