"""Pictures brought to the square that an encoder sees: cut or padded, sharpened, in tiles.

The resampling is Pillow's bicubic, as in the processors that the encoders and adapters were trained with, so
what goes into an encoder equals theirs to the bit. The host's own resampling is up to five grey levels off on
photographs, and further where it rounds the longer side to another number of pixels, which moves the picture.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from ...preprocessors.image import check_image, to_uint8

CropPosition = Literal["official", "center", "top", "bottom", "left", "right", "pad", "stretch"]
CROP_POSITIONS: tuple[CropPosition, ...] = (
    "official",
    "center",
    "top",
    "bottom",
    "left",
    "right",
    "pad",
    "stretch",
)
Padding = Literal["black", "white", "edge"]
PADDINGS: tuple[Padding, ...] = ("black", "white", "edge")
Tiles = Literal["off", "tiled", "enhance mixed", "enhance side by side"]
TILES: tuple[Tiles, ...] = ("off", "tiled", "enhance mixed", "enhance side by side")

NEARLY_SQUARE = (0.75, 1.33)
MOST_IN_LINE = 4

LONGEST = 32
"""How many times longer than wide a picture may be before its far ends are cut off unseen: beyond that, the
resampled picture would fill the memory for ends that no square shows."""


@dataclass(frozen=True)
class Framing:
    """How a picture becomes a square of `size` pixels.

    `position`: the part that a cut keeps, "pad" for the whole picture with bars of `padding` colour,
    "stretch" for the whole picture pressed into the square.
    """

    size: int
    position: CropPosition = "center"
    padding: Padding = "black"


def _scaled(height: int, width: int, short: int) -> tuple[int, int]:
    """(height, width) with the shorter side at `short`, the longer one cut down to whole pixels."""
    if height <= width:
        return short, int(short * width / height)
    return int(short * height / width), short


def _resized(picture: np.ndarray, height: int, width: int) -> np.ndarray:
    from PIL import Image

    flat = picture[..., 0] if picture.shape[2] == 1 else picture
    made = Image.fromarray(np.ascontiguousarray(flat)).resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(made).reshape(height, width, picture.shape[2])


def _padded(picture: np.ndarray, padding: Padding) -> np.ndarray:
    """The picture in the middle of a square: an odd pixel of the bars goes to the right or the bottom."""
    height, width = picture.shape[:2]
    down, right = max(0, width - height), max(0, height - width)
    bars = ((down // 2, down - down // 2), (right // 2, right - right // 2), (0, 0))
    if padding == "edge":
        return np.pad(picture, bars, mode="edge")
    return np.pad(picture, bars, constant_values=255 if padding == "white" else 0)


def framed(picture: np.ndarray, framing: Framing) -> np.ndarray:
    """(H,W,C) uint8 -> (size,size,C) uint8, cut, padded or stretched, then resampled.

    A cut is that of CLIPImageProcessor: the shorter side is brought to `size`, then the rest cut away.

    Source: huggingface/transformers: models/clip/image_processing_clip.py, image_transforms.py
    (get_resize_output_image_size, center_crop).
    """
    if framing.position == "pad":
        picture = _padded(picture, framing.padding)
    if framing.position == "stretch":
        return _resized(picture, framing.size, framing.size)
    return _cuts(picture, framing, 1)[0]


def _cut(picture: np.ndarray, height: int, width: int, position: CropPosition) -> np.ndarray:
    """The part of at most that size at a position; the middle along a side that it does not name."""
    tall, wide = max(0, picture.shape[0] - height), max(0, picture.shape[1] - width)
    top = 0 if position == "top" else tall if position == "bottom" else tall // 2
    left = 0 if position == "left" else wide if position == "right" else wide // 2
    return picture[top : top + height, left : left + width]


def _cuts(picture: np.ndarray, framing: Framing, most: int) -> list[np.ndarray]:
    """Up to `most` squares side by side along the picture's longer side, overlapping evenly."""
    side, position = framing.size, framing.position
    farthest = LONGEST * min(picture.shape[:2])
    picture = _cut(picture, farthest, farthest, position)
    scaled = _resized(picture, *_scaled(picture.shape[0], picture.shape[1], side))
    row = _cut(scaled, most * side, most * side, position)
    long = max(row.shape[:2])
    count = math.ceil(long / side)
    overlap = (count * side - long) / max(1, count - 1)
    starts = [int(number * (side - overlap)) for number in range(count)]
    if row.shape[0] > row.shape[1]:
        return [row[start : start + side] for start in starts]
    return [row[:, start : start + side] for start in starts]


def _quartered(square: np.ndarray, across: int) -> list[np.ndarray]:
    side = square.shape[0] // across
    spans = [slice(number * side, (number + 1) * side) for number in range(across)]
    return [square[rows, columns] for rows in spans for columns in spans]


def tiled(picture: np.ndarray, framing: Framing) -> list[np.ndarray]:
    """(H,W,C) uint8 -> tiles (size,size,C) uint8 that show more of it than one square: row by row.

    A picture that is nearly square gives 2 x 2 tiles of its framed square, a longer one up to four along its
    longer side, evenly overlapping where its length is no whole number of tiles.

    Source: cubiq/ComfyUI_IPAdapter_plus: IPAdapterPlus.py (IPAdapterTiled), at the encoder's size for tiles
    of 256 pixels that are then scaled down to it.
    """
    height, width = picture.shape[:2]
    if NEARLY_SQUARE[0] < height / width < NEARLY_SQUARE[1]:
        return enhanced(picture, framing, 2)
    return _cuts(picture, framing, MOST_IN_LINE)


def enhanced(picture: np.ndarray, framing: Framing, across: int) -> list[np.ndarray]:
    """(H,W,C) uint8 -> across x across tiles (size,size,C) uint8 of its framed square, row by row."""
    large = Framing(framing.size * across, framing.position, framing.padding)
    return _quartered(framed(picture, large), across)


def sharpened(pictures: torch.Tensor, amount: float) -> torch.Tensor:
    """IMAGE (B,H,W,C) float 0..1 -> the same with more contrast at edges: amount 0 none .. 1 the most.

    Contrast adaptive sharpening: with the cross of a pixel e and its neighbours b, d, f, h, and the corners
    a, c, g, i, low = min(cross) + min(corners) and high = max(cross) + max(corners); the weight of the four
    neighbours is w = -sqrt(min(low, 2 - high) / high) * (1/8 + amount * (1/5 - 1/8)), and the result
    (e + w (b + d + f + h)) / (1 + 4 w). 0 leaves the picture as it is, to the bit. Beyond the border the
    border's pixels are repeated.

    Sources: GPUOpen-Effects/FidelityFX-CAS: ffx-cas/ffx_cas.h; cubiq/ComfyUI_IPAdapter_plus: utils.py
    (contrast_adaptive_sharpening, whose minimum and maximum of corners and cross are these).
    """
    if amount <= 0.0:
        return pictures
    planes = torch.nn.functional.pad(pictures.movedim(-1, 1), (1, 1, 1, 1), mode="replicate")
    tall, wide = pictures.shape[1], pictures.shape[2]

    def at(down: int, right: int) -> torch.Tensor:
        return planes[:, :, down : down + tall, right : right + wide]

    centre, near = at(1, 1), [at(0, 1), at(1, 0), at(1, 2), at(2, 1)]
    cross, corners = torch.stack([centre, *near]), torch.stack([at(0, 0), at(0, 2), at(2, 0), at(2, 2)])
    low = cross.amin(0) + corners.amin(0)
    high = cross.amax(0) + corners.amax(0)
    room = torch.minimum(low, 2.0 - high) / high.clamp(min=torch.finfo(torch.float32).tiny)
    weight = -room.clamp(min=0.0).sqrt() * (1 / 8 + min(amount, 1.0) * (1 / 5 - 1 / 8))
    around = near[0] + near[1] + near[2] + near[3]
    return ((centre + weight * around) / (1.0 + 4.0 * weight)).clamp(0.0, 1.0).movedim(1, -1)


@dataclass(frozen=True)
class Preparation:
    """Everything that is done to a picture in front of an encoder; `across`: tiles per side to enhance."""

    framing: Framing
    sharpening: float = 0.0
    tiles: Tiles = "off"
    across: int = 2


@dataclass(frozen=True, eq=False)
class Squares:
    """The squares of one picture: (P,S,S,3) float32 in steps of 1/255, and masks (P,S,S,1) or None.

    `whole`: the first square shows the whole picture, and the others are its parts.
    """

    pictures: torch.Tensor
    masks: torch.Tensor | None
    whole: bool


def _squares(picture: np.ndarray, preparation: Preparation) -> list[np.ndarray]:
    if preparation.tiles == "tiled":
        return tiled(picture, preparation.framing)
    whole = [framed(picture, preparation.framing)]
    if preparation.tiles == "off":
        return whole
    return whole + enhanced(picture, preparation.framing, preparation.across)


def _floats(squares: Sequence[np.ndarray]) -> torch.Tensor:
    return torch.from_numpy(np.stack(squares)).float() / 255.0


def prepared(
    image: torch.Tensor, preparation: Preparation, mask: torch.Tensor | None = None
) -> list[Squares]:
    """IMAGE (B,H,W,C) float 0..1, C in 1, 3, 4 -> the squares of each picture, as an encoder sees them.

    A mask (B or 1,H,W) goes through the same cut; one of another size is brought to the picture's first.

    Raises ValueError for what is no image, and for masks of another number than the pictures.
    """
    check_image(image, "An image prompt")
    masks = None if mask is None else _masks_for(image, mask)
    result = []
    for number, picture in enumerate(to_uint8(image)):
        pictures = sharpened(_floats(_squares(picture, preparation)), preparation.sharpening)
        seen = (pictures * 255.0).round() / 255.0
        cover = None if masks is None else _floats(_squares(masks[number], preparation))
        result.append(Squares(seen, cover, preparation.tiles.startswith("enhance")))
    return result


def _masks_for(image: torch.Tensor, mask: torch.Tensor) -> np.ndarray:
    """(B,H,W,1) uint8: one mask for each picture, at its size."""
    masks = mask if mask.ndim == 3 else mask.reshape(-1, *mask.shape[-2:])
    if len(masks) not in (1, len(image)):
        raise ValueError(
            f"An image prompt needs one mask, or one for each of its {len(image)} pictures, got "
            f"{len(masks)}. Connect one mask, or a batch of as many."
        )
    masks = masks.detach().to("cpu", torch.float32).unsqueeze(1)
    if masks.shape[-2:] != image.shape[1:3]:
        masks = torch.nn.functional.interpolate(
            masks, size=tuple(image.shape[1:3]), mode="bilinear", antialias=True
        )
    levels = (masks.clamp(0.0, 1.0) * 255.0).round().to(torch.uint8).movedim(1, -1).numpy()
    return levels if len(levels) == len(image) else np.repeat(levels, len(image), axis=0)
