"""A picture with what was found in it: boxes, points, numbers."""

import numpy as np
from torch import Tensor

from ...preprocessors.image import from_uint8, to_uint8
from .records import Face, Faces

CHOSEN, OTHER = (40, 220, 70), (255, 170, 40)
"""RGB of the face that is meant, and of the others."""

POINTS = ((255, 60, 60), (60, 120, 255), (255, 255, 255), (255, 60, 255), (60, 255, 255))
"""RGB of the eye on the left, the eye on the right, the nose, the corners of the mouth left and right."""

FINEST = 512
"""Shorter side of a picture whose lines are one pixel wide, and of whom a larger one is a multiple."""


def draw_faces(faces: Faces) -> Tensor:
    """IMAGE (B,H,W,3) in 0..1: the pictures with each face's box, number and points, the chosen one in green.

    Numbers count from the left, from 0, as the index that chooses a face does.
    """
    drawn = to_uint8(faces.pictures)
    for picture, found, chosen in zip(drawn, faces.found, faces.chosen, strict=True):
        for number, face in enumerate(found):
            if number != chosen:
                _draw(picture, face, number, OTHER)
        _draw(picture, found[chosen], chosen, CHOSEN)
    return from_uint8(drawn)


def _draw(picture: np.ndarray, face: Face, number: int, colour: tuple[int, int, int]) -> None:
    """Draws one face into (H,W,3) uint8 RGB."""
    import cv2

    width = max(1, round(min(picture.shape[:2]) / FINEST))
    x0, y0, x1, y1 = (round(one) for one in face.box.tolist())
    cv2.rectangle(picture, (x0, y0), (x1, y1), colour, width)
    for (x, y), own in zip(face.points.tolist(), POINTS, strict=True):
        cv2.circle(picture, (round(x), round(y)), 2 * width, own, -1)
    text, scale = f"{number}: {face.score:.2f}", 0.5 * width
    (across, up), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, width)
    left = max(0, min(x0, picture.shape[1] - across))
    bottom = y0 - 3 * width if y0 - up - 3 * width >= 0 else y0 + up + 4 * width
    cv2.rectangle(
        picture, (left, bottom - up - width), (left + across, bottom + 2 * width), (0, 0, 0), cv2.FILLED
    )
    cv2.putText(picture, text, (left, bottom), cv2.FONT_HERSHEY_SIMPLEX, scale, colour, width, cv2.LINE_AA)
