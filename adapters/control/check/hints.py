"""What a hint looks like, and whether that is what a net of its kind wants to see."""

from typing import NamedTuple

import torch
from torch import Tensor

from ..options import UNION_TYPES

SAMPLES = 256
"""A hint is looked at on a grid of at most so many rows and columns."""

WHITE, BLACK = 0.9, 0.1
COLOURED = 0.12
"""Spread between a pixel's channels from which on it counts as coloured, not grey."""

LINES = frozenset({"hed/pidi/scribble/ted", "canny/lineart/anime_lineart/mlsd"})
LINE_WORDS = ("canny", "lineart", "line_art", "mlsd", "scribble", "softedge", "hed", "pidi", "sketch")
WORDS: dict[str, tuple[str, ...]] = {
    "openpose": ("openpose", "pose"),
    "depth": ("depth",),
    "normal": ("normal",),
}
"""Type of hint -> words that name it in a file's name."""


class Look(NamedTuple):
    """Shares of a hint's pixels in 0..1: nearly white, nearly black, between the two, coloured."""

    white: float
    black: float
    between: float
    coloured: float
    is_flat: bool
    is_finite: bool


def look_at(image: Tensor) -> Look:
    """How an IMAGE (B,H,W,C) looks, by a grid over its first picture."""
    picture = image[0].detach().float().cpu()
    rows = torch.linspace(0, picture.shape[0] - 1, min(SAMPLES, picture.shape[0])).round().long()
    columns = torch.linspace(0, picture.shape[1] - 1, min(SAMPLES, picture.shape[1])).round().long()
    pixels = picture[rows][:, columns, :3].flatten(0, 1)
    if not bool(torch.isfinite(pixels).all()):
        return Look(0.0, 0.0, 0.0, 0.0, False, False)
    grey = pixels.mean(1)
    white, black = float((grey > WHITE).float().mean()), float((grey < BLACK).float().mean())
    spread = pixels.amax(1) - pixels.amin(1)
    return Look(
        white=white,
        black=black,
        between=1.0 - white - black,
        coloured=float((spread > COLOURED).float().mean()),
        is_flat=bool(pixels.amax(0).sub(pixels.amin(0)).max() < 0.01),
        is_finite=True,
    )


def type_of_hint(union_types: tuple[int, ...] | None, file: str) -> str:
    """The type of hint that a net wants: as set for a Union net, else by words in its file's name; or ""."""
    if union_types:
        names = {number: name for name, number in UNION_TYPES.items()}
        known = {names.get(number, "") for number in union_types}
        return known.pop() if len(known) == 1 else ""
    name = file.lower()
    if union_types is not None or not name:
        return ""
    if any(word in name for word in LINE_WORDS):
        return "canny/lineart/anime_lineart/mlsd"
    return next((kind for kind, words in WORDS.items() if any(word in name for word in words)), "")


def unfit_look(look: Look, wanted: str) -> str | None:
    """A sentence on why the hint is not what the net wants to see, or None; `wanted` "" is not known."""
    if not look.is_finite:
        return "the hint holds NaN or infinite values. Look at the node that made it."
    if look.is_flat:
        return "the hint is of one colour all over, so it shows nothing. Look at the node that made it."
    is_inverted = look.white > 0.6 and look.between < 0.3 and look.coloured < 0.05
    if wanted in LINES:
        if is_inverted:
            return (
                "the hint is dark on white, but nets for lines want white lines on black. Put Invert Hint "
                "before it."
            )
        if look.between > 0.6 or look.coloured > 0.3:
            return (
                "the hint looks like a photograph, but this net wants lines. Make them of it with a hint "
                "node, such as Canny."
            )
    if wanted == "openpose" and look.black < 0.4:
        return (
            "the hint is not a pose drawn in colours on black, which this net wants. Make one with "
            "OpenPose or DWPose."
        )
    if wanted == "depth" and look.coloured > 0.2:
        return "the hint has colours, but a depth map is grey, near = white. Make one with a depth node."
    if wanted == "normal" and look.coloured < 0.05:
        return "the hint is grey, but a map of normals has colours. Make one with a normal node."
    if not wanted and is_inverted and look.black > 0.003 and look.white > 0.8:
        return (
            "the hint is dark on white. If this net is one for lines, which it wants white on black, put "
            "Invert Hint before it."
        )
    return None
