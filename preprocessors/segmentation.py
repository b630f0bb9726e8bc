"""Segmentation hints: each pixel in the colour of its class, flat, as segmentation control nets read them."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
import torch

from .image import check_image, map_images
from .networks.oneformer import semantic_map
from .networks.uniformer import resized
from .padded import Network, as_levels, padded_batch
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

UNIFORMER = Seen(512, 2048)
UNIFORMER_LEAST = 32
VALUES_AT_ONCE = 1 << 24


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


def segments_uniformer(image: torch.Tensor, network: Network, resolution: int = 512) -> torch.Tensor:
    """IMAGE (B,H,W,C) RGB 0..1 -> IMAGE (B,h,w,3) in 0..1: the colour of each pixel's class, flat.

    `network` is a `UniFormer` with the classes of ADE20K. It sees the picture at a size of its own, and blue
    in the place of red, as in the reference; the hint has the size that `resolution` says.

    Raises:
        ValueError: for an image that is empty, not finite, or of another shape.

    Source: Mikubill/sd-webui-controlnet: annotator/uniformer/inference.py (inference_segmentor), with the
    pipeline of annotator/uniformer/configs/_base_/datasets/ade20k.py.
    """
    check_image(image, "Segmentation")
    import cv2

    batch = padded_batch(image, resolution)
    outer = batch.array.shape[1], batch.array.shape[2]
    inner = uniformer_size(outer)

    def seen(picture: np.ndarray, _: int) -> np.ndarray:
        return cv2.resize(picture, (inner[1], inner[0]), interpolation=cv2.INTER_LINEAR)

    logits = network(as_levels(map_images(seen, batch.array)[..., ::-1]))
    with torch.inference_mode():
        labels = torch.stack([_likeliest(one, inner, outer) for one in logits])
    return batch.hint(colour_map(labels.numpy(), PALETTES["ade20k"]))


def uniformer_size(size: Size) -> Size:
    """(height, width) of a picture -> that at which UniFormer sees it: as large as fits into 512 x 2048.

    A side never falls below 32, where the reference fails.

    Source: Mikubill/sd-webui-controlnet: annotator/mmpkg/mmcv/image/geometric.py (rescale_size).
    """
    scale = min(UNIFORMER.longer / max(size), UNIFORMER.shorter / min(size))
    height, width = (max(UNIFORMER_LEAST, int(side * scale + 0.5)) for side in size)
    return height, width


def _likeliest(logits: torch.Tensor, inner: Size, outer: Size) -> torch.Tensor:
    """Logits (C,h,w) -> (height,width) int64 of `outer`: the class of the greatest, enlarged twice.

    A few classes at a time: a great picture with all of them would take gigabytes.
    """
    pixels = max(inner[0] * inner[1], outer[0] * outer[1])
    at_once = max(1, VALUES_AT_ONCE // pixels)
    best = torch.full(outer, -torch.inf)
    labels = torch.zeros(outer, dtype=torch.int64)
    for start in range(0, len(logits), at_once):
        part = resized(logits[None, start : start + at_once], inner)
        values, classes = (part if inner == outer else resized(part, outer))[0].max(dim=0)
        labels = torch.where(values > best, classes + start, labels)
        best = torch.maximum(best, values)
    return labels


def _resized(picture: np.ndarray, size: Size) -> np.ndarray:
    """Picture (H,W,3) uint8 -> (height,width,3), bilinear over the area that a pixel covers."""
    from PIL import Image

    return np.asarray(Image.fromarray(picture).resize((size[1], size[0]), Image.Resampling.BILINEAR))
