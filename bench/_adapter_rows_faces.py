"""Rows for faces: found, cut out and recognised, beside insightface's own analysis of the same pack of files.

The pack is made, not published: its detector has the published interface and sees coloured squares, its
recogniser mixes mean colours; see tests/unit/face_networks.py.
"""

from __future__ import annotations

import importlib
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from _adapter_rows import Row, host

PICTURE = "one picture, three faces at three strides"
REFERENCE = "insightface's FaceAnalysis.get"
SQUARES = ((2, 611, 307, 190), (0, 100, 141, 52), (1, 401, 97, 101))
"""Channel, left, top and side of each square in a picture of 900 x 700."""

ASTRONAUT = ((201, 115), (247, 116), (226, 139), (207, 160), (245, 160))
"""Eyes, nose and mouth in scikit-image's photograph."""


def _found() -> tuple[Any, list[Any]]:
    """Our faces and theirs of one picture, both from left to right."""
    import torch
    from insightface.app import FaceAnalysis

    networks = importlib.import_module("tiller.tests.unit.face_networks")
    analysis = importlib.import_module("tiller.adapters.faces.analysis")
    image = torch.full((1, 700, 900, 3), 0.5)
    for channel, x0, y0, side in SQUARES:
        image[0, y0 : y0 + side, x0 : x0 + side] = torch.eye(3)[channel]
    with tempfile.TemporaryDirectory() as folder:
        pack = networks.blob_pack(Path(folder))
        ours = analysis.analyze(image, networks.opened(pack), ("blobs", "")).faces.found[0]
        theirs = FaceAnalysis(
            name=str(pack.folder), providers=["CPUExecutionProvider"], sess_options=networks.one_thread()
        )
        theirs.prepare(0, det_size=(640, 640))
        found = theirs.get((image[0] * 255).round().to(torch.uint8).numpy()[..., ::-1])
    assert len(ours) == len(found) == len(SQUARES)
    return ours, sorted(found, key=lambda face: face.bbox[0] + face.bbox[2])


def _of_faces(ours: str, theirs: str) -> Callable[[], tuple[float, float]]:
    """What both say of each face, by the names that they have for it."""

    def measure() -> tuple[float, float]:
        host()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            mine, other = _found()
        pairs = [
            (np.asarray(getattr(one, ours)), np.asarray(getattr(two, theirs)))
            for one, two in zip(mine, other, strict=True)
        ]
        return max(float(np.abs(a - b).max()) for a, b in pairs), max(
            float(np.abs(b).max()) for _, b in pairs
        )

    return measure


def _crop(size: int) -> Callable[[], tuple[float, float]]:
    """The upright face of a photograph, in levels from 0 to 255."""

    def measure() -> tuple[float, float]:
        import skimage.data
        from insightface.utils.face_align import norm_crop

        host()
        crop_face = importlib.import_module("tiller.adapters.faces.align").crop_face
        picture, points = skimage.data.astronaut(), np.array(ASTRONAUT, np.float32)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            theirs = norm_crop(picture, points, size).astype(float)
        return float(np.abs(crop_face(picture, points, size) - theirs).max()), float(theirs.max())

    return measure


def _restoration_crop() -> tuple[float, float]:
    """facexlib's align_warp_face, its lines by hand: it pins versions of its own."""
    import cv2
    import skimage.data

    host()
    align = importlib.import_module("tiller.adapters.faces.align")
    picture, points = skimage.data.astronaut(), np.array(ASTRONAUT, np.float32)
    template = np.array(align.FFHQ, np.float32)
    affine = cv2.estimateAffinePartial2D(points, template, method=cv2.LMEDS)[0]
    bgr = cv2.warpAffine(
        np.ascontiguousarray(picture[..., ::-1]), affine, (512, 512), borderValue=(135, 133, 132)
    )
    theirs = bgr[..., ::-1].astype(float)
    return float(np.abs(align.crop_face(picture, points, 512, "FFHQ") - theirs).max()), float(theirs.max())


ROWS = [
    Row("Analyze Faces: boxes", "faces", PICTURE, REFERENCE, _of_faces("box", "bbox")),
    Row("Analyze Faces: five points", "faces", PICTURE, REFERENCE, _of_faces("points", "kps")),
    Row("Analyze Faces: raw vector", "faces", PICTURE, REFERENCE, _of_faces("embedding", "embedding")),
    Row(
        "Analyze Faces: vector of length 1",
        "faces",
        PICTURE,
        REFERENCE,
        _of_faces("normed", "normed_embedding"),
    ),
    *(
        Row(
            "Crop Face: ArcFace",
            "faces",
            f"a photograph, {size} pixels",
            "insightface's norm_crop",
            _crop(size),
        )
        for size in (112, 224, 256, 336, 512)
    ),
    Row(
        "Crop Face: FFHQ", "faces", "a photograph, 512 pixels", "facexlib's lines by hand", _restoration_crop
    ),
]
