"""The two networks of a pack, run by insightface's own classes over sessions that somebody else opened.

Only these two classes of insightface are used: the one that takes apart what a detector gives, and the one
that feeds a recogniser. Its search for packs, its downloads and its choice of providers stay out of it.
"""

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from .packs import Pack, missing_library

SCORE = 0.5
"""Faces that the detector is less sure of do not count; insightface's own limit."""

SIDE = 112
"""Of the upright face that a recogniser takes, in pixels."""


class FaceNetworks(Protocol):
    """A detector and a recogniser. Pictures are (H,W,3) uint8 in BGR, as both were trained with OpenCV's."""

    @property
    def fixed_size(self) -> tuple[int, int] | None:
        """(width, height) that the detector takes, where its file fixes it."""
        ...

    def detect(self, picture: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
        """Boxes and scores (n,5) and points (n,5,2) in pixels of the picture, found at `size` x `size`."""
        ...

    def embed(self, face: np.ndarray) -> np.ndarray:
        """The vector (512,) float32 of an upright face (112,112,3)."""
        ...


class InsightFaceNetworks:
    """Networks over two sessions of onnxruntime; `before_each` is called before either runs.

    Raises:
        ImportError: insightface is not installed, or is older than 2.1.

    Source: Guo et al. 2021 (SCRFD), Deng et al. 2019 (ArcFace); deepinsight/insightface:
    python-package/insightface/model_zoo/{scrfd,arcface_onnx}.py, app/face_analysis.py.
    """

    def __init__(
        self, pack: Pack, detector: Any, recogniser: Any, before_each: Callable[[], None] = lambda: None
    ) -> None:
        try:
            import insightface
            from insightface.model_zoo.arcface_onnx import ArcFaceONNX
            from insightface.model_zoo.scrfd import SCRFD
        except ImportError as error:
            raise ImportError(missing_library(str(error))) from error
        if not hasattr(SCRFD, "resolution_sessions"):
            raise ImportError(missing_library(f"insightface {insightface.__version__}"))
        self._before_each = before_each
        self._sessions = detector, recogniser
        self._detector: Any = SCRFD(session=detector)
        self._detector.prepare(0, det_thresh=SCORE)
        self._recogniser: Any = ArcFaceONNX(model_file=str(pack.recogniser), session=recogniser)

    @property
    def providers(self) -> tuple[str, str]:
        """What computes: the first provider of each session."""
        first, second = (session.get_providers()[0] for session in self._sessions)
        return first, second

    @property
    def fixed_size(self) -> tuple[int, int] | None:
        return self._detector.static_input_size

    def detect(self, picture: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
        self._before_each()
        return self._detector.detect(picture, input_size=(size, size))

    def embed(self, face: np.ndarray) -> np.ndarray:
        self._before_each()
        return self._recogniser.get_feat(face).flatten()
