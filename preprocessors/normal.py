"""Surface normals with a network, as colours."""

import math

import numpy as np
import torch

from .depth import midas_depths, zero_to_one
from .image import check_image, map_images
from .padded import Network, as_levels, padded_batch

STEEPNESS = 2.0 * math.pi
"""Length of the normal's part towards the viewer, beside gradients of MiDaS's depths: larger is flatter."""


def normals_bae(image: torch.Tensor, network: Network, resolution: int = 512) -> torch.Tensor:
    """IMAGE (B,H,W,C) RGB 0..1 -> IMAGE (B,h,w,3) in 0..1: blue faces the camera, red left, green up.

    `network` is a `NormalBae`: (B,3,h,w) levels 0..255 -> (B,3,h,w) unit vectors -1..1. The maps are cut to
    levels, not rounded, as in the references.

    Raises:
        ValueError: for an image that is empty, not finite, or of another shape.

    Source: Mikubill/sd-webui-controlnet: annotator/normalbae/__init__.py (NormalBaeDetector).
    """
    check_image(image, "BAE normals")
    batch = padded_batch(image, resolution)
    vectors = network(as_levels(batch.array)).numpy().transpose(0, 2, 3, 1)
    return batch.hint(map_images(lambda one, _: _as_colours(one), vectors))


def normals_midas(
    image: torch.Tensor, network: Network, background_threshold: float = 0.4, resolution: int = 512
) -> torch.Tensor:
    """IMAGE (B,H,W,C) RGB 0..1 -> IMAGE (B,h,w,3): normals from the slopes of `Midas`'s depth.

    Parts of a unit vector, -1..1 as 0..1: red is the part towards the viewer, green and blue tell how much
    nearer the surface comes downwards and to the right. Where depth is below `background_threshold` (0 = the
    farthest, 1 = the nearest point of the picture), and in pictures without depth, all face the viewer.

    Raises:
        ValueError: for an image that is empty, not finite, or of another shape.

    Source: Mikubill/sd-webui-controlnet: annotator/midas/__init__.py (apply_midas).
    """
    batch, depths = midas_depths(image, network, resolution, "MiDaS normals")
    return batch.hint(map_images(lambda one, _: _slopes_as_colours(one, background_threshold), depths))


def _as_colours(vectors: np.ndarray) -> np.ndarray:
    """Vectors (h,w,3) -1..1 -> levels 0..255."""
    return (((vectors + 1.0) * 0.5).clip(0.0, 1.0) * 255.0).astype(np.uint8)


def _slopes_as_colours(depth: np.ndarray, background_threshold: float) -> np.ndarray:
    """Inverse depth (h,w) float32 -> (h,w,3) uint8: the parts towards the viewer, down and to the right."""
    import cv2

    relative = zero_to_one(depth)
    is_flat = (relative < background_threshold) | (not relative.any())
    right, down = (cv2.Sobel(depth, cv2.CV_32F, *axis, ksize=3) for axis in ((1, 0), (0, 1)))
    right[is_flat] = down[is_flat] = 0.0
    normals = np.stack([right, down, np.full_like(right, STEEPNESS)], axis=2)
    normals /= np.sqrt((normals**2).sum(axis=2, keepdims=True))
    return (normals * 127.5 + 127.5).clip(0, 255).astype(np.uint8)[..., ::-1]
