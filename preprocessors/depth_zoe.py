"""Depth as ZoeDepth sees it: near white, far black."""

import logging

import numpy as np
import torch
from torch.nn import functional

from .image import check_image, map_images
from .padded import Network, padded_batch

INNER = (384, 512)
"""(height, width) that the network was trained at: the nearer of the two sides is met."""

INNER_MULTIPLE = 32
MOST_INNER_PIXELS = 1 << 20
"""What the network sees at most: it takes memory by the square of this."""

BORDER = 3.0
PERCENTILES = (2, 85)
"""Depths that become white and black; what is nearer or farther still is cut."""

LEAST_CONTRAST = 1e-5
"""Depths that differ by less than this share differ by rounding alone."""

logger = logging.getLogger("tiller")


def depth_zoe(image: torch.Tensor, network: Network, resolution: int = 512) -> torch.Tensor:
    """IMAGE (B,H,W,C) RGB 0..1 -> IMAGE (B,h,w,3) in 0..1, near white.

    `network` is a `ZoeDepth`: (B,3,h,w) RGB 0..1 -> (B,1,h,w) depth. It sees each picture and its mirror
    image, with reflected borders, at about 384 x 512. A picture that is equally deep everywhere gives a
    black map, and the log says so once.

    Raises:
        ValueError: for an image that is empty, not finite, or of another shape.

    Source: Mikubill/sd-webui-controlnet: annotator/zoe/__init__.py (ZoeDetector);
    isl-org/ZoeDepth: zoedepth/models/depth_model.py (infer_with_flip_aug).
    """
    check_image(image, "ZoeDepth")
    batch = padded_batch(image, resolution)
    border = _border(batch.array.shape[1]), _border(batch.array.shape[2])
    bordered = batch.array.shape[1] + 2 * border[0], batch.array.shape[2] + 2 * border[1]
    inner = inner_size(bordered)

    def prepared(picture: np.ndarray, _: int) -> np.ndarray:
        colours = torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 255.0
        sides = border[1], border[1], border[0], border[0]
        both = [functional.pad(one, sides, mode="reflect") for one in (colours, colours.flip(3))]
        return functional.interpolate(torch.cat(both), inner, mode="bilinear", align_corners=True).numpy()

    def finished(both: np.ndarray, _: int) -> np.ndarray:
        full = functional.interpolate(torch.from_numpy(both)[:, None], bordered, mode="bicubic")
        full = full[:, 0, border[0] : -border[0], border[1] : -border[1]]
        return near_is_white(((full[0] + full[1].flip(1)) / 2).numpy())

    pairs = torch.from_numpy(map_images(prepared, batch.array)).flatten(0, 1)
    depths = network(pairs)[:, 0].numpy().reshape(len(batch.array), 2, *inner)
    maps = map_images(finished, depths)
    flat = sum(not one.any() for one in maps)
    if flat:
        logger.warning("ZoeDepth sees no depth in %d of %d pictures: their maps are black.", flat, len(maps))
    return batch.hint(maps)


def near_is_white(depth: np.ndarray) -> np.ndarray:
    """Depth (H,W) float32, far = large -> (H,W) uint8, near = 255; all 0 when the depths do not differ.

    The 2nd percentile becomes white, the 85th black.

    Source: Mikubill/sd-webui-controlnet: annotator/zoe/__init__.py (ZoeDetector).
    """
    near, far = (np.percentile(depth, percent) for percent in PERCENTILES)
    if not far - near > LEAST_CONTRAST * abs(far):
        return np.zeros(depth.shape, np.uint8)
    share = (depth - near) / (far - near)
    return ((1.0 - share) * 255.0).clip(0, 255).astype(np.uint8)


def inner_size(size: tuple[int, int]) -> tuple[int, int]:
    """(height, width) of a picture -> the size that the network sees, multiples of 32, aspect nearly kept.

    One side becomes 384 or 512 long, the one that changes less. Pictures longer than about 7:1 are seen
    smaller than that.

    Source: isl-org/ZoeDepth: zoedepth/models/base_models/midas.py (Resize.get_size).
    """
    scales = INNER[1] / size[1], INNER[0] / size[0]
    scale = min(scales, key=lambda one: abs(1.0 - one))
    scale = min(scale, (MOST_INNER_PIXELS / (size[0] * size[1])) ** 0.5)
    height, width = (
        max(INNER_MULTIPLE, round(side * scale / INNER_MULTIPLE) * INNER_MULTIPLE) for side in size
    )
    return height, width


def _border(side: int) -> int:
    return int(np.sqrt(side / 2) * BORDER)
