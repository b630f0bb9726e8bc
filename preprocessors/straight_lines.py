"""Straight lines as M-LSD finds them: white lines, one pixel wide, on black."""

import logging

import numpy as np
import torch
from torch.nn import functional

from .image import check_image
from .padded import Network, as_levels, padded_batch

MAX_LINES = 200
"""Centres that are looked at per picture, the strongest first."""

logger = logging.getLogger("tiller")


def straight_lines(
    image: torch.Tensor,
    network: Network,
    value_threshold: float = 0.1,
    distance_threshold: float = 0.1,
    resolution: int = 512,
) -> torch.Tensor:
    """IMAGE (B,H,W,C) RGB 0..1 -> IMAGE (B,h,w,3), exactly 0 or 1, lines white, one pixel wide.

    `network` is an `MLSD`: (B,3,h,w) levels 0..255 -> (B,5,h/2,w/2). A picture without a line gives a black
    map, and the log says so once.

    Raises:
        ValueError: for an image that is empty, not finite, or of another shape.

    Source: Mikubill/sd-webui-controlnet: annotator/mlsd/__init__.py (apply_mlsd).
    """
    check_image(image, "Straight lines")
    import cv2

    batch = padded_batch(image, resolution)
    found = line_segments(network(as_levels(batch.array)), value_threshold, distance_threshold)
    maps = np.zeros(batch.array.shape[:3], np.uint8)
    for canvas, segments in zip(maps, found, strict=True):
        cv2.polylines(canvas, list(segments), False, 255, 1)
    empty = sum(len(segments) == 0 for segments in found)
    if empty:
        logger.warning(
            "No straight line in %d of %d pictures: their maps are black. Lower the value threshold (%g) "
            "or the distance threshold (%g) to find weaker and shorter lines.",
            empty,
            len(found),
            value_threshold,
            distance_threshold,
        )
    return batch.hint(maps)


def line_segments(maps: torch.Tensor, value_threshold: float, distance_threshold: float) -> list[np.ndarray]:
    """Maps (B,5,h,w) of `MLSD` -> per picture an array (N,2,2) int32: start and end of each line, x and y.

    Pixels of the full-sized picture, so twice those of the maps. A line's centre is the strongest in its
    3 x 3 neighbourhood, with sigmoid(centre) above `value_threshold`; start and end lie further apart than
    `distance_threshold`, in pixels of the maps. Of each picture the 200 strongest centres count.

    Source: Mikubill/sd-webui-controlnet: annotator/mlsd/utils.py (pred_lines).
    """
    batch, _, height, width = maps.shape
    heat = torch.sigmoid(maps[:, :1])
    heat = heat * (functional.max_pool2d(heat, 3, stride=1, padding=1) == heat)
    scores, places = heat.reshape(batch, -1).topk(min(MAX_LINES, height * width))
    ends = maps[:, 1:].reshape(batch, 4, -1).gather(2, places[:, None].expand(-1, 4, -1))
    ends = ends.transpose(1, 2).reshape(batch, -1, 2, 2)
    lengths = (ends[:, :, 0] - ends[:, :, 1]).square().sum(-1).sqrt()
    kept = ((scores > value_threshold) & (lengths > distance_threshold)).numpy()
    centres = torch.stack((places % width, places // width), dim=-1)[:, :, None]
    points = 2.0 * (centres.double() + ends.double()).numpy()
    limits = np.iinfo(np.int32)
    whole = np.trunc(points).clip(limits.min, limits.max)
    return [one[keep].astype(np.int32) for one, keep in zip(whole, kept, strict=True)]
