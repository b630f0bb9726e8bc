"""Hints side by side on one picture, each with its name, or with the reason why it is not there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

if TYPE_CHECKING:
    from PIL import Image

GAP = 8
LABEL = 20
TEXT = 14
PAPER, INK, EMPTY = (255, 255, 255), (24, 24, 28), (224, 224, 228)


class Tile(NamedTuple):
    """A hint (1,h,w,3) with its name, or no picture and what is missing."""

    name: str
    picture: torch.Tensor | None = None
    note: str = ""


def contact_sheet(tiles: Sequence[Tile], columns: int = 5, side: int = 256) -> torch.Tensor:
    """Tiles -> one IMAGE (1,H,W,3) 0..1: rows of `columns` squares of `side` pixels, each above its name.

    A picture is fitted into its square with its aspect kept; a tile without one shows its note.

    Raises:
        ValueError: without a tile.
    """
    from PIL import Image

    if not tiles:
        raise ValueError("A contact sheet needs at least one hint, got none. Name one in hints.")
    wide = min(columns, len(tiles))
    rows = -(-len(tiles) // wide)
    sheet = Image.new("RGB", (GAP + wide * (side + GAP), GAP + rows * (side + LABEL + GAP)), PAPER)
    for index, tile in enumerate(tiles):
        corner = (GAP + index % wide * (side + GAP), GAP + index // wide * (side + LABEL + GAP))
        _put(sheet, tile, corner, side)
    return torch.from_numpy(np.asarray(sheet).astype(np.float32) / 255.0)[None]


def _put(sheet: Image.Image, tile: Tile, corner: tuple[int, int], side: int) -> None:
    """Draws one tile and its name."""
    from PIL import Image, ImageDraw, ImageFont, ImageOps

    draw, font, (x, y) = ImageDraw.Draw(sheet), ImageFont.load_default(TEXT), corner
    if tile.picture is None:
        draw.rectangle((x, y, x + side - 1, y + side - 1), EMPTY)
        for row, line in enumerate(_wrapped(tile.note, font, side - 2 * GAP)):
            draw.text((x + GAP, y + GAP + row * (TEXT + 4)), line, INK, font)
    else:
        array = (tile.picture[0].numpy() * 255).round().clip(0, 255).astype(np.uint8)
        fitted = ImageOps.contain(Image.fromarray(array), (side, side), Image.Resampling.LANCZOS)
        sheet.paste(fitted, (x + (side - fitted.width) // 2, y + (side - fitted.height) // 2))
    draw.text((x, y + side + 2), tile.name, INK, font)


def _wrapped(text: str, font: Any, width: int) -> list[str]:
    """The text in lines of at most `width` pixels, broken between words, within words that are longer."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if font.getlength(longer) <= width:
            lines[-1] = longer
            continue
        lines.append("")
        for letter in word:
            if font.getlength(lines[-1] + letter) > width:
                lines.append("")
            lines[-1] += letter
    return [line for line in lines if line]
