"""From pictures to faces: found, numbered, chosen, recognised."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ...preprocessors.image import check_image, from_uint8, to_uint8
from .align import crop_face
from .choose import Choice, choose, from_left_to_right
from .networks import SIDE, FaceNetworks
from .records import EMBEDDING, Face, Faces

STEP, SMALLEST, LARGEST = 64, 192, 2048
"""Sides at which the detector looks: from the one asked for down to the smallest, in these steps."""

OnImage = Callable[[int, int], None]


@dataclass(frozen=True)
class Search:
    """Which face of each picture is meant (`choice`, `index` from the left), and where looking begins.

    Raises ValueError for a detection size that is out of range or no multiple of 64.
    """

    choice: Choice = "largest"
    index: int = 0
    detection_size: int = 640

    def __post_init__(self) -> None:
        if not SMALLEST <= self.detection_size <= LARGEST or self.detection_size % STEP:
            raise ValueError(
                f"Faces are looked for at a size from {SMALLEST} to {LARGEST} that is a multiple of {STEP}, "
                f"got {self.detection_size}. 640 is the usual one; larger finds smaller faces."
            )

    @property
    def sizes(self) -> tuple[int, ...]:
        """The sides at which the detector looks in turn, until it finds somebody."""
        return tuple(range(self.detection_size, SMALLEST - 1, -STEP))


class NoFaceError(ValueError):
    """Nobody was found in at least one picture."""


class Analysis(NamedTuple):
    """The faces of pictures, and for each picture the (width, height) at which the detector found them."""

    faces: Faces
    sizes: tuple[tuple[int, int], ...]


class _Found(NamedTuple):
    """What was found in one picture, from left to right, and at which (width, height)."""

    faces: tuple[Face, ...]
    size: tuple[int, int]


def analyze(
    image: Tensor,
    networks: FaceNetworks,
    pack: tuple[str, str],
    search: Search = Search(),
    on_image: OnImage | None = None,
) -> Analysis:
    """The faces of every picture of an IMAGE (B,H,W,C) in 0..1, and the chosen one of each.

    Pictures become 8-bit BGR, as the networks want; gray is repeated, transparency laid over white. Each is
    looked at in one size after the other until somebody is found; every face found gets its vector. `pack`
    are the names of the pack and of its recogniser. `on_image(done, total)` is called after each picture.

    Raises:
        NoFaceError: naming the pictures without a face, their size and the sizes that were tried.
        ValueError: for what is no image, an index beyond the faces of a picture, a vector without length.

    Source: deepinsight/insightface: python-package/insightface/app/face_analysis.py (get).
    """
    check_image(image, "Face analysis")
    _check_shape(image)
    pictures = image if image.shape[-1] == 3 else from_uint8(to_uint8(image))
    found: list[_Found | None] = []
    for number, picture in enumerate(image, start=1):
        found.append(_find(to_uint8(picture[None])[0], networks, search, number))
        if on_image is not None:
            on_image(number, len(image))
    everybody = [one for one in found if one is not None]
    if len(everybody) < len(found):
        raise NoFaceError(_nobody(found, image, networks, search))
    size = (image.shape[1], image.shape[2])
    chosen = [
        choose(one.faces, search.choice, search.index, size, number)
        for number, one in enumerate(everybody, start=1)
    ]
    faces = Faces(pictures, tuple(one.faces for one in everybody), tuple(chosen), *pack)
    return Analysis(faces, tuple(one.size for one in everybody))


def describe(analysis: Analysis, search: Search) -> str:
    """The analysis in words: pack, and for each picture its faces and the chosen one."""
    faces, sizes = analysis
    height, width = faces.pictures.shape[1:3]
    lines = [f"Faces by {faces.pack}, recogniser: {faces.recogniser}."]
    for number, (found, index, (across, down)) in enumerate(
        zip(faces.found, faces.chosen, sizes, strict=True), start=1
    ):
        how = f"{search.choice} {search.index}" if search.choice == "index" else search.choice
        lines.append(
            f"Picture {number} of {len(sizes)} ({width} x {height}): {_count(len(found))} found at "
            f"{across} x {down}; chosen: face {index} ({how})."
        )
        for place, face in enumerate(found):
            x0, y0, x1, y1 = (round(one) for one in face.box.tolist())
            lines.append(
                f"  face {place}: {x1 - x0} x {y1 - y0} pixels at {x0}, {y0}; score {face.score:.2f}; "
                f"length of the vector {float(face.embedding.norm()):.1f}"
            )
    return "\n".join(lines)


def _check_shape(image: Tensor) -> None:
    """A side must be left of the picture when its other side is brought to the smallest size."""
    height, width = image.shape[1:3]
    if max(height, width) >= SMALLEST * min(height, width):
        raise ValueError(
            f"Face analysis needs pictures that are less than {SMALLEST} times as long as wide, got {width} "
            f"x {height} (width x height). Cut the picture to the part with the face."
        )


def _find(rgb: np.ndarray, networks: FaceNetworks, search: Search, number: int) -> _Found | None:
    """The faces in a picture (H,W,3) uint8, or None when there is nobody at any size."""
    bgr = np.ascontiguousarray(rgb[..., ::-1])
    fixed = networks.fixed_size
    for size in search.sizes:
        boxes, points = networks.detect(bgr, size)
        if len(boxes):
            faces = [_face(bgr, box, five, networks, number) for box, five in zip(boxes, points, strict=True)]
            return _Found(from_left_to_right(faces), fixed or (size, size))
        if fixed:
            break
    return None


def _face(bgr: np.ndarray, box: np.ndarray, points: np.ndarray, networks: FaceNetworks, number: int) -> Face:
    """A face with the vector of the recogniser."""
    vector = torch.from_numpy(np.array(networks.embed(crop_face(bgr, points, SIDE)), np.float32))
    if vector.shape != (EMBEDDING,) or not torch.isfinite(vector).all() or not vector.any():
        raise ValueError(
            f"A face needs a vector of {EMBEDDING} finite numbers that are not all zero, got "
            f"{tuple(vector.shape)} from the recogniser for picture {number}. Its file is broken, or another "
            "network: get the pack again."
        )
    return Face(
        torch.from_numpy(np.array(box[:4], np.float32)),
        torch.from_numpy(np.array(points, np.float32)),
        float(box[4]),
        vector,
    )


def _nobody(found: list[_Found | None], image: Tensor, networks: FaceNetworks, search: Search) -> str:
    """The sentence for pictures without a face."""
    without = [number for number, one in enumerate(found, start=1) if one is None]
    height, width = image.shape[1:3]
    fixed = networks.fixed_size
    sizes = [fixed] if fixed else [(size, size) for size in search.sizes]
    tried = ", ".join(f"{across} x {down}" for across, down in sizes)
    advice = "Take a picture in which the face is larger, upright and seen from the front, or leave it out."
    if not fixed and search.detection_size < min(max(height, width), LARGEST):
        advice += " For small faces in a large picture raise the detection size."
    return (
        f"Face analysis needs a face in every picture, found nobody in "
        f"{'picture' if len(without) == 1 else 'pictures'} {', '.join(map(str, without))} of {len(found)} "
        f"({width} x {height}). The detector looked at {tried}. {advice}"
    )


def _count(number: int) -> str:
    return "1 face" if number == 1 else f"{number} faces"
