"""What every network reads: a batch at the working size, padded to multiples of 64."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch

from .image import from_uint8, map_images, pad_to_multiple, resize_short_side, short_side_size, to_uint8

Network = Callable[[torch.Tensor], torch.Tensor]
"""A whole prepared batch as CPU float32 -> the network's result for it, likewise."""


class PaddedBatch(NamedTuple):
    """Pictures (B,h,w,C) uint8 with sides of multiples of 64, and the size before the padding."""

    array: np.ndarray
    size: tuple[int, int]

    def hint(self, maps: np.ndarray) -> torch.Tensor:
        """Maps (B,h,w) uint8 -> IMAGE (B,H,W,3), the pad cut off."""
        return from_uint8(maps[:, : self.size[0], : self.size[1]])


def padded_batch(image: torch.Tensor, resolution: int) -> PaddedBatch:
    """IMAGE (B,H,W,C) 0..1 -> its pictures with shorter side `resolution` (0 keeps the size), padded.

    Source: Mikubill/sd-webui-controlnet: scripts/utils.py (resize_image_with_pad).
    """
    return padded_array(to_uint8(image), resolution)


def padded_array(array: np.ndarray, resolution: int) -> PaddedBatch:
    """Array (B,H,W,C) uint8 -> the same, each with shorter side `resolution` (0 keeps the size), padded."""

    def one(picture: np.ndarray, _: int) -> np.ndarray:
        return pad_to_multiple(resize_short_side(picture, resolution)).array

    size = short_side_size((array.shape[1], array.shape[2]), resolution)
    return PaddedBatch(map_images(one, array), size)


def as_levels(array: np.ndarray) -> torch.Tensor:
    """Array (B,h,w,C) uint8 -> contiguous tensor (B,C,h,w) float32, levels 0..255."""
    return torch.from_numpy(np.ascontiguousarray(array.transpose(0, 3, 1, 2))).float()
