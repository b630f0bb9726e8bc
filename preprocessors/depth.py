"""Depth of a picture as networks see it: near = white, far = black."""

import logging

import numpy as np
import torch
from torch.nn import functional

from .image import check_image, from_uint8, resize_short_side, to_uint8
from .padded import Network, PaddedBatch, as_levels, padded_batch

PATCH = 14
SEEN_SIDE = 518
"""Shorter side at which Depth Anything V2 was trained and is run, whatever the picture's size."""

SEEN_LONGEST = 8 * SEEN_SIDE
"""Most for the longer side: pictures longer than 8:1 would take memory by the square of their length."""

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_DEVIATION = (0.229, 0.224, 0.225)

logger = logging.getLogger("tiller")


def depth_midas(image: torch.Tensor, network: Network, resolution: int = 512) -> torch.Tensor:
    """IMAGE (B,H,W,C) RGB 0..1 -> IMAGE (B,h,w,3), each picture from 0 (farthest) to 1 (nearest).

    `network` is a `Midas`; it sees the whole picture at the working size. A picture without depth gives a
    black map, and the log says so once.

    Raises:
        ValueError: for an image that is empty, not finite, or of another shape.

    Source: Mikubill/sd-webui-controlnet: annotator/midas/__init__.py (apply_midas).
    """
    batch, depths = midas_depths(image, network, resolution, "MiDaS depth")
    return batch.hint(near_white(depths, "MiDaS depth"))


def midas_depths(
    image: torch.Tensor, network: Network, resolution: int, needed_by: str
) -> tuple[PaddedBatch, np.ndarray]:
    """The pictures as `Midas` reads them, and its inverse depths (B,h,w) float32 with the padding.

    Raises:
        ValueError: for an image that is empty, not finite, or of another shape.
    """
    check_image(image, needed_by)
    batch = padded_batch(image, resolution)
    return batch, network(as_levels(batch.array) / 127.5 - 1.0)[:, 0].numpy()


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
    levels = np.empty(maps.shape, np.uint8)
    flat = 0
    for one, written in zip(maps, levels, strict=True):
        relative = zero_to_one(one)
        written[...] = relative * 255.0
        flat += not relative.any()
    if flat:
        logger.warning(
            "%s sees no depth in %d of %d pictures: their maps are black.", needed_by, flat, len(maps)
        )
    return levels


def zero_to_one(depth: np.ndarray) -> np.ndarray:
    """Map (h,w) float -> (h,w) float32 from 0 to 1; all 0 where it is flat or not finite."""
    least, most = depth.min(), depth.max()
    if most == least or not np.isfinite((least, most)).all():
        return np.zeros(depth.shape, np.float32)
    return (depth - least) / (most - least)


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
