"""Depth of a picture as networks see it: near = white, far = black."""

import logging

import numpy as np
import torch
from torch.nn import functional

from .image import check_image, from_uint8, resize_short_side, to_uint8
from .padded import Network

PATCH = 14
SEEN_SIDE = 518
"""Shorter side at which Depth Anything V2 was trained and is run, whatever the picture's size."""

SEEN_LONGEST = 8 * SEEN_SIDE
"""Most for the longer side: pictures longer than 8:1 would take memory by the square of their length."""

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_DEVIATION = (0.229, 0.224, 0.225)

logger = logging.getLogger("tiller")


def depth_anything_v2(image: torch.Tensor, network: Network, resolution: int = 512) -> torch.Tensor:
    """IMAGE (B,H,W,C) RGB 0..1 -> IMAGE (B,h,w,3), each picture from 0 (farthest) to 1 (nearest).

    `network` is a `DepthAnything`. It sees the picture at the working size, brought to a shorter side of 518
    and multiples of 14, without a pad; its map is brought back. With a resolution of 0 that is the original
    authors' way. A picture without depth gives a black map, and the log says so once.

    Raises:
        ValueError: for an image that is empty, not finite, or of another shape.

    Source: DepthAnything/Depth-Anything-V2: depth_anything_v2/dpt.py (infer_image).
    """
    check_image(image, "Depth Anything V2")
    array = resize_short_side(to_uint8(image), resolution)
    size = array.shape[1], array.shape[2]
    maps = network(_seen(array, seen_size(size)))
    maps = functional.interpolate(maps, size, mode="bilinear", align_corners=True)
    return from_uint8(near_white(maps[:, 0].numpy(), "Depth Anything V2"))


def seen_size(size: tuple[int, int]) -> tuple[int, int]:
    """(height, width) of a picture -> those at which Depth Anything V2 sees it, multiples of 14.

    The shorter side is 518, the aspect is kept as far as that allows. Beyond 8:1 the longer side is 4144 and
    the shorter one less.

    Source: DepthAnything/Depth-Anything-V2: depth_anything_v2/util/transform.py (Resize.get_size).
    """
    scale, least = SEEN_SIDE / min(size), SEEN_SIDE
    if max(size) * scale > SEEN_LONGEST:
        scale, least = SEEN_LONGEST / max(size), PATCH
    height, width = (max(least, round(side * scale / PATCH) * PATCH) for side in size)
    return height, width


def near_white(maps: np.ndarray, needed_by: str) -> np.ndarray:
    """Maps (B,h,w) float, near = large -> (B,h,w) uint8, each 0 to 255; flat ones are 0, with a log line.

    Source: lllyasviel/ControlNet-v1-1-nightly: annotator/midas/__init__.py.
    """
    levels = np.zeros(maps.shape, np.uint8)
    flat = 0
    for one, written in zip(maps, levels, strict=True):
        least, most = float(one.min()), float(one.max())
        if np.isfinite(most - least) and most > least:
            written[...] = ((one - least) / (most - least) * 255.0).clip(0, 255)
        else:
            flat += 1
    if flat:
        logger.warning(
            "%s sees no depth in %d of %d pictures: their maps are black.", needed_by, flat, len(maps)
        )
    return levels


def _seen(array: np.ndarray, size: tuple[int, int]) -> torch.Tensor:
    """Pictures (B,h,w,3) uint8 RGB -> (B,3,`size`) float32 by ImageNet's mean and deviation."""
    import cv2

    mean, deviation = np.array(IMAGENET_MEAN, np.float32), np.array(IMAGENET_DEVIATION, np.float32)
    seen = np.empty((len(array), *size, 3), np.float32)
    for picture, written in zip(array, seen, strict=True):
        values = picture.astype(np.float32) / np.float32(255.0)
        resized = cv2.resize(values, (size[1], size[0]), interpolation=cv2.INTER_CUBIC)
        written[...] = (resized - mean) / deviation
    return torch.from_numpy(seen).permute(0, 3, 1, 2).contiguous()
