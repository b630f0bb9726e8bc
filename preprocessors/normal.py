"""Surface normals with a network, as colours."""

import numpy as np
import torch

from .image import check_image, map_images
from .padded import Network, as_levels, padded_batch


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


def _as_colours(vectors: np.ndarray) -> np.ndarray:
    """Vectors (h,w,3) -1..1 -> levels 0..255."""
    return (((vectors + 1.0) * 0.5).clip(0.0, 1.0) * 255.0).astype(np.uint8)
