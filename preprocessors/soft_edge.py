"""Soft edges and scribbles with a network: white on black, as the control models were trained.

All of them follow Mikubill/sd-webui-controlnet (the annotators of lllyasviel/ControlNet-v1-1-nightly): the
maps are cut to levels, not rounded, and scribbles are drawn after the padding was cut off.
"""

import numpy as np
import torch

from .image import check_image, from_uint8, map_images
from .padded import Network, PaddedBatch, as_levels, padded_batch

SAFE_STEPS = 2
SKETCH_LEVEL = 0.5
SCRIBBLE_SIGMA = 3.0
SCRIBBLE_LEVEL = 127
SCRIBBLE_WIDENING = 4


def soft_edges_hed(
    image: torch.Tensor, network: Network, safe: bool = False, resolution: int = 512
) -> torch.Tensor:
    """IMAGE (B,H,W,C) RGB 0..1 -> IMAGE (B,h,w,3) in 0..1, edges white; `safe`: only 0, 0.5 and 1.

    `network` is an `HED`: (B,3,h,w) levels 0..255 -> (B,1,h,w) logits.

    Raises:
        ValueError: for an image that is empty, not finite, or of another shape.

    Source: Mikubill/sd-webui-controlnet: annotator/hed/__init__.py (apply_hed).
    """
    return from_uint8(_hed_levels(image, network, "HED soft edges", safe, resolution))


def soft_edges_pidinet(
    image: torch.Tensor, network: Network, safe: bool = False, resolution: int = 512
) -> torch.Tensor:
    """IMAGE (B,H,W,C) RGB 0..1 -> IMAGE (B,h,w,3) in 0..1, edges white; `safe`: only 0, 0.5 and 1.

    `network` is a `PiDiNet`: (B,3,h,w) BGR 0..1 -> (B,1,h,w) 0..1.

    Raises:
        ValueError: for an image that is empty, not finite, or of another shape.

    Source: Mikubill/sd-webui-controlnet: annotator/pidinet/__init__.py (apply_pidinet).
    """
    return from_uint8(_pidinet_levels(image, network, "PiDiNet soft edges", safe, resolution))


def scribble_hed(image: torch.Tensor, network: Network, resolution: int = 512) -> torch.Tensor:
    """IMAGE (B,H,W,C) RGB 0..1 -> IMAGE (B,h,w,3), exactly 0 or 1: bold lines along the edges of `HED`.

    Raises:
        ValueError: for an image that is empty, not finite, or of another shape.

    Source: Mikubill/sd-webui-controlnet: scripts/preprocessor/legacy/processor.py (scribble_hed).
    """
    return _scribble(_hed_levels(image, network, "HED scribble", False, resolution))


def scribble_pidinet(image: torch.Tensor, network: Network, resolution: int = 512) -> torch.Tensor:
    """IMAGE (B,H,W,C) RGB 0..1 -> IMAGE (B,h,w,3), exactly 0 or 1: bold lines along the edges of `PiDiNet`.

    Raises:
        ValueError: for an image that is empty, not finite, or of another shape.

    Source: Mikubill/sd-webui-controlnet: scripts/preprocessor/legacy/processor.py (scribble_pidinet).
    """
    return _scribble(_pidinet_levels(image, network, "PiDiNet scribble", False, resolution))


def sketch_pidinet(image: torch.Tensor, network: Network, resolution: int = 512) -> torch.Tensor:
    """IMAGE (B,H,W,C) RGB 0..1 -> IMAGE (B,h,w,3), 1 where `PiDiNet` gives more than 0.5, else 0.

    Raises:
        ValueError: for an image that is empty, not finite, or of another shape.

    Source: Mikubill/sd-webui-controlnet: scripts/preprocessor/legacy/processor.py (pidinet_ts).
    """
    batch, edges = _pidinet_edges(image, network, "PiDiNet sketch", resolution)
    return batch.hint((edges > SKETCH_LEVEL).astype(np.uint8) * 255)


def quantise_safe(values: np.ndarray, steps: int = SAFE_STEPS) -> np.ndarray:
    """Array 0..1 -> float32 of the levels 0, 1/`steps`, 2/`steps`, ..., and 1 + 1/`steps` for exactly 1.

    Source: lllyasviel/ControlNet-v1-1-nightly: annotator/util.py (safe_step).
    """
    return np.floor(values.astype(np.float32) * np.float32(steps + 1)) / np.float32(steps)


def strongest_lines(
    levels: np.ndarray, level: int = SCRIBBLE_LEVEL, sigma: float = SCRIBBLE_SIGMA
) -> np.ndarray:
    """Array (H,W) uint8 -> (H,W) uint8: 255 on the ridges of the blurred map that rise above `level`, else 0.

    A pixel is on a ridge when neither neighbour along one of four directions is larger.

    Source: lllyasviel/ControlNet-v1-1-nightly: annotator/util.py (nms).
    """
    import cv2

    blurred = cv2.GaussianBlur(levels.astype(np.float32), (0, 0), sigma)
    diagonal = np.eye(3, dtype=np.uint8)
    flat = np.array([[0, 0, 0], [1, 1, 1], [0, 0, 0]], np.uint8)
    ridge = np.zeros(levels.shape, bool)
    for direction in (flat, flat.T.copy(), diagonal, np.fliplr(diagonal).copy()):
        ridge |= cv2.dilate(blurred, direction) == blurred
    return (ridge & (blurred > level)).astype(np.uint8) * 255


def scribble_lines(levels: np.ndarray) -> np.ndarray:
    """Array (H,W) uint8 -> (H,W) uint8, 0 or 255: the strongest lines, drawn bold.

    Source: Mikubill/sd-webui-controlnet: scripts/preprocessor/legacy/processor.py (scribble_hed).
    """
    import cv2

    blurred = cv2.GaussianBlur(strongest_lines(levels), (0, 0), SCRIBBLE_SIGMA)
    return cv2.threshold(blurred, SCRIBBLE_WIDENING, 255, cv2.THRESH_BINARY)[1]


def _scribble(levels: np.ndarray) -> torch.Tensor:
    return from_uint8(map_images(lambda one, _: scribble_lines(one), levels))


def _hed_levels(
    image: torch.Tensor, network: Network, needed_by: str, safe: bool, resolution: int
) -> np.ndarray:
    """(B,h,w) uint8 at the working size, the padding cut off."""
    check_image(image, needed_by)
    batch = padded_batch(image, resolution)
    logits = network(as_levels(batch.array))[:, 0].numpy()

    def one(picture: np.ndarray, _: int) -> np.ndarray:
        with np.errstate(over="ignore"):
            return _cut(1.0 / (1.0 + np.exp(-picture.astype(np.float64))), safe)

    return map_images(one, _cropped(batch, logits))


def _pidinet_levels(
    image: torch.Tensor, network: Network, needed_by: str, safe: bool, resolution: int
) -> np.ndarray:
    """(B,h,w) uint8 at the working size, the padding cut off."""
    batch, edges = _pidinet_edges(image, network, needed_by, resolution)
    return map_images(lambda one, _: _cut(one, safe), _cropped(batch, edges))


def _pidinet_edges(
    image: torch.Tensor, network: Network, needed_by: str, resolution: int
) -> tuple[PaddedBatch, np.ndarray]:
    """The pictures as the network read them, and its maps (B,h,w) float32 0..1 with the padding."""
    check_image(image, needed_by)
    batch = padded_batch(image, resolution)
    return batch, network(as_levels(batch.array[..., ::-1]) / 255.0)[:, 0].numpy()


def _cropped(batch: PaddedBatch, maps: np.ndarray) -> np.ndarray:
    return maps[:, : batch.size[0], : batch.size[1]]


def _cut(values: np.ndarray, safe: bool) -> np.ndarray:
    """Values 0..1 -> levels 0..255, rounded down."""
    levels = quantise_safe(values) if safe else values
    return (levels * 255.0).clip(0, 255).astype(np.uint8)
