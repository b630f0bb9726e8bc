"""Depth as LeReS sees it: near is white, as the depth control models were trained.

The network's numbers have no unit, so each map is stretched from its own nearest to its own farthest point.
"""

import logging

import numpy as np
import torch

from .depth_boost import boosted_depth
from .image import check_image, map_images
from .padded import Network, as_levels, padded_batch

MEANS = (0.485, 0.456, 0.406)
DEVIATIONS = (0.229, 0.224, 0.225)
"""Of ImageNet's red, green and blue in 0..1."""

MOST = 2**16 - 1

logger = logging.getLogger("tiller")


def depth_leres(
    image: torch.Tensor,
    network: Network,
    remove_near: float = 0.0,
    remove_background: float = 0.0,
    resolution: int = 512,
    merge: Network | None = None,
) -> torch.Tensor:
    """IMAGE (B,H,W,C) RGB 0..1 -> IMAGE (B,h,w,3) in 0..1, near is white.

    `network` is a `LeReS`: (B,3,h,w) as `leres_input` gives it -> (B,1,h,w), far is greater. `remove_near`
    and `remove_background` are percent of the depth range, 0..100: what lies nearer than the first is drawn
    white, what lies behind the last of the second black. With `merge`, a `LeReSMerge`, each picture is seen
    at several sizes (leres++). A map of one value gives a black hint, and the log says so once.

    Raises:
        ValueError: for an image that is empty, not finite, or of another shape, or too large for the boost.

    Source: Mikubill/sd-webui-controlnet: annotator/leres/__init__.py (apply_leres).
    """
    check_image(image, "LeReS depth")
    batch = padded_batch(image, resolution)

    def estimate(pictures: np.ndarray) -> np.ndarray:
        return network(leres_input(pictures))[:, 0].numpy()

    if merge is None:
        depths = estimate(batch.array)
    else:
        depths = np.stack([boosted_depth(picture, estimate, merge) for picture in batch.array])
    flat = sum(_is_flat(depth) for depth in depths)
    if flat:
        logger.warning("LeReS sees no depth in %d of %d pictures: their maps are black.", flat, len(depths))
    return batch.hint(
        map_images(lambda depth, _: depth_levels(depth, remove_near, remove_background), depths)
    )


def leres_input(array: np.ndarray) -> torch.Tensor:
    """Array (B,h,w,3) uint8 RGB -> (B,3,h,w) float32 as `LeReS` reads it.

    Both references feed levels 0..255 in the order BGR, less the means and by the deviations that belong to
    RGB in 0..1. Published control models saw maps made so.

    Source: Mikubill/sd-webui-controlnet: annotator/leres/leres/depthmap.py (estimateleres, scale_torch).
    """
    levels = as_levels(array[..., ::-1])
    means, deviations = torch.tensor(MEANS), torch.tensor(DEVIATIONS)
    return levels.sub_(means[:, None, None]).div_(deviations[:, None, None])


def depth_levels(depth: np.ndarray, remove_near: float, remove_background: float) -> np.ndarray:
    """Depth (h,w) float, far is greater -> (h,w) uint8, near is 255; all 0 where it has only one value.

    By way of 16 bits, as in the reference.

    Source: Mikubill/sd-webui-controlnet: annotator/leres/__init__.py (apply_leres).
    """
    import cv2

    if _is_flat(depth):
        return np.zeros(depth.shape, np.uint8)
    low, high = depth.min(), depth.max()
    sixteen = (MOST * (depth - low) / (high - low)).astype(np.uint16)
    levels = cv2.convertScaleAbs(sixteen, alpha=255.0 / MOST)
    if remove_near:
        levels = cv2.threshold(levels, remove_near / 100 * 255, 255, cv2.THRESH_TOZERO)[1]
    levels = cv2.bitwise_not(levels)
    if remove_background:
        levels = cv2.threshold(levels, remove_background / 100 * 255, 255, cv2.THRESH_TOZERO)[1]
    return levels


def _is_flat(depth: np.ndarray) -> bool:
    """Whether a map has one value only, or values that are no numbers."""
    return not np.finfo(np.float64).eps < float(depth.max()) - float(depth.min()) < np.inf
