"""Masks from a segmentation map: where the picture has the colours of chosen classes."""

import logging
import re
from difflib import get_close_matches

import numpy as np
import torch

from .image import check_image, to_uint8
from .palettes import Palette

COLOUR = re.compile(r"#[0-9a-f]{6}")
COCO_SUFFIX = re.compile(r"(-other)?(-merged|-stuff)?$")
ROWS_AT_ONCE = 1 << 14

logger = logging.getLogger("tiller")


def class_mask(image: torch.Tensor, palette: Palette, classes: str, tolerance: int = 0) -> torch.Tensor:
    """IMAGE (B,H,W,C) RGB 0..1, a segmentation map -> MASK (B,H,W), exactly 0 or 1.

    `classes`: names of the palette's classes and colours as #rrggbb, several parted by commas. A pixel
    belongs to a class when no other class's colour is nearer and the two differ by at most `tolerance`
    levels in each channel; to a colour, when it differs from it by no more than that.

    Raises:
        ValueError: for no class or an unknown one, naming the nearest; for an image as in `check_image`.
    """
    check_image(image, "Color to Mask")
    numbers, colours = parse_classes(classes, palette)
    array = to_uint8(image).astype(np.int32)
    packed = array[..., 0] << 16 | array[..., 1] << 8 | array[..., 2]
    found, places = np.unique(packed, return_inverse=True)
    rows = np.stack((found >> 16, found >> 8 & 255, found & 255), axis=1).astype(np.int16)
    parts = [rows[start : start + ROWS_AT_ONCE] for start in range(0, len(rows), ROWS_AT_ONCE)]
    chosen = np.concatenate([_belongs(part, palette, numbers, colours, tolerance) for part in parts])
    masks = chosen[places].reshape(packed.shape)
    empty = int((~masks.any(axis=(1, 2))).sum())
    if empty:
        logger.warning(
            "No pixel of %s in %d of %d pictures: their masks are empty. If the picture is a photograph, "
            "make a segmentation map of it first; if it was scaled or is a JPEG, raise the tolerance (%d).",
            classes.strip(),
            empty,
            len(masks),
            tolerance,
        )
    return torch.from_numpy(masks.astype(np.float32))


def parse_classes(classes: str, palette: Palette) -> tuple[list[int], np.ndarray]:
    """Text -> class numbers, and the colours (N,3) int16 that were written as #rrggbb.

    A part of the text is a class's whole name (which may hold commas), one of the synonyms in it, or, of
    COCO, the name without -other, -merged or -stuff. A synonym that several classes share means them all.

    Raises:
        ValueError: for no part, or one that is neither.
    """
    parts = [" ".join(part.split()).lower() for part in re.split(r"[,\n]", classes)]
    parts = [part for part in parts if part]
    if not parts:
        raise ValueError(
            f"Color to Mask needs the name of a class of {palette.title} or a colour such as #96053d, got "
            "an empty text. Write for example person, or several names parted by commas."
        )
    whole, synonyms = _known(palette)
    numbers: list[int] = []
    colours: list[list[int]] = []
    while parts:
        taken = next((n for n in range(len(parts), 0, -1) if ", ".join(parts[:n]) in whole), 1)
        name, parts = ", ".join(parts[:taken]), parts[taken:]
        if COLOUR.fullmatch(name):
            colours.append(list(bytes.fromhex(name[1:])))
        elif name in whole:
            numbers.append(whole[name])
        elif name in synonyms:
            numbers += synonyms[name]
        else:
            raise ValueError(_unknown(name, palette, [*whole, *synonyms]))
    return numbers, np.array(colours, np.int16).reshape(-1, 3)


def _known(palette: Palette) -> tuple[dict[str, int], dict[str, list[int]]]:
    """Whole name -> class, and synonym -> classes."""
    whole = {name: number for number, name in enumerate(palette.names)}
    synonyms: dict[str, list[int]] = {}
    for name, number in whole.items():
        for one in name.split(", "):
            for spelling in {one, COCO_SUFFIX.sub("", one)}:
                synonyms.setdefault(spelling, []).append(number)
    return whole, synonyms


def _unknown(name: str, palette: Palette, known: list[str]) -> str:
    near = list(dict.fromkeys(get_close_matches(name, known, n=4, cutoff=0.5)))
    inside = [one for one in dict.fromkeys(known) if len(name) > 2 and name in one and one not in near]
    nearest = ", ".join([*near, *inside][:6])
    advice = (
        f"The nearest names are: {nearest}." if nearest else "No name comes near; the help page lists all."
    )
    return (
        f"Color to Mask needs names of classes of {palette.title} or colours such as #96053d, got {name!r}. "
        + advice
    )


def _belongs(
    rows: np.ndarray, palette: Palette, numbers: list[int], colours: np.ndarray, tolerance: int
) -> np.ndarray:
    """Colours (N,3) int16 -> (N,) bool: whether each is one of the wanted."""
    belongs = np.asarray((_differences(rows, colours) <= tolerance).any(axis=1))
    if numbers:
        differences = _differences(rows, palette.colours.astype(np.int16))
        wanted = differences[:, numbers].min(axis=1)
        belongs |= (wanted <= tolerance) & (wanted == differences.min(axis=1))
    return belongs


def _differences(rows: np.ndarray, colours: np.ndarray) -> np.ndarray:
    """(N,3) and (M,3) int16 -> (N,M): the greatest difference of the three channels."""
    return np.abs(rows[:, None] - colours[None]).max(axis=2)
