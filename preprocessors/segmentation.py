"""Segmentation hints: each pixel in the colour of its class, flat, as segmentation control nets read them."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
import torch

from .image import check_image, map_images
from .networks.oneformer import semantic_map
from .padded import as_levels, padded_batch
from .palettes import PALETTES, colour_map

Size = tuple[int, int]
OneFormerNetwork = Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]]


class Seen(NamedTuple):
    """Size at which a network sees pictures: length of the shorter side, unless the longer gets too long."""

    shorter: int
    longer: int

    def size(self, size: Size) -> Size:
        """(height, width) of a picture -> that at which it is seen.

        Source: facebookresearch/detectron2: detectron2/data/transforms/augmentation_impl.py
        (ResizeShortestEdge).
        """
        height, width = size
        scale = self.shorter / min(height, width)
        sides = (self.shorter, scale * width) if height < width else (scale * height, self.shorter)
        shrinks = min(1.0, self.longer / max(sides))
        return max(1, int(sides[0] * shrinks + 0.5)), max(1, int(sides[1] * shrinks + 0.5))


ONEFORMER: Mapping[str, Seen] = {"ade20k": Seen(640, 2560), "coco": Seen(800, 1333)}
"""How OneFormer sees pictures, by the palette of its classes."""


def segments_oneformer(
    image: torch.Tensor, network: OneFormerNetwork, dataset: str, resolution: int = 512
) -> torch.Tensor:
    """IMAGE (B,H,W,C) RGB 0..1 -> IMAGE (B,h,w,3) in 0..1: the colour of each pixel's class, flat.

    `network` is a `OneFormer` with the classes of `dataset`, "ade20k" or "coco". It sees the picture at a
    size of its own; the hint has the size that `resolution` says. The reference draws white outlines around
    some of the segments; here there are none.

    Raises:
        ValueError: for an image that is empty, not finite, or of another shape.

    Source: Mikubill/sd-webui-controlnet: annotator/oneformer/api.py (semantic_run).
    """
    check_image(image, "Segmentation")
    batch = padded_batch(image, resolution)
    outer = batch.array.shape[1], batch.array.shape[2]
    inner = ONEFORMER[dataset].size(outer)
    seen = map_images(lambda picture, _: _resized(picture, inner), batch.array)
    found = zip(*network(as_levels(seen)), strict=True)
    with torch.inference_mode():
        labels = torch.stack([semantic_map(classes, masks, inner, outer) for classes, masks in found])
    return batch.hint(colour_map(labels.numpy(), PALETTES[dataset]))


def _resized(picture: np.ndarray, size: Size) -> np.ndarray:
    """Picture (H,W,3) uint8 -> (height,width,3), bilinear over the area that a pixel covers."""
    from PIL import Image

    return np.asarray(Image.fromarray(picture).resize((size[1], size[0]), Image.Resampling.BILINEAR))
