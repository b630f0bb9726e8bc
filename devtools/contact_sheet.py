"""Lays pictures out on one sheet, row by row, with a title and a label under each.

    python devtools/contact_sheet.py SHEET.png LAYOUT

LAYOUT is JSON: {"title", "text", "rows": [{"title", "arrows", "cells": [{"file", "label"}]}]}.
"""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from PIL import Image, ImageDraw, ImageFont

SIDE = 256
GAP = 24
BETWEEN_LINES = 1.35
INK, PAPER = (24, 24, 28), (255, 255, 255)
TITLE, HEADING, TEXT = 26, 18, 14


class Sheet(NamedTuple):
    """A canvas that is longer than needed."""

    image: Image.Image
    draw: ImageDraw.ImageDraw

    def write(self, text: str, corner: tuple[int, int], width: int, size: int) -> int:
        """Write text below `corner`, wrapped to the width; returns where the next line goes."""
        font = font_of(size)
        x, y = corner
        for line in wrapped(text, font, width):
            self.draw.text((x, y), line, INK, font)
            y += round(size * BETWEEN_LINES)
        return y

    def arrow(self, x: int, y: int) -> None:
        """From one picture to the next, across the gap that begins at x."""
        start, end = x + 4, x + GAP - 4
        self.draw.line((start, y, end, y), INK, 2)
        self.draw.polygon([(end, y), (end - 6, y - 5), (end - 6, y + 5)], INK)


def font_of(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    from PIL import ImageFont

    return ImageFont.load_default(size)


def wrapped(text: str, font: Any, width: int) -> list[str]:
    """The text in lines no wider than `width` pixels; a longer word keeps a line of its own."""
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and font.getlength(longer) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


def draw_row(sheet: Sheet, row: dict[str, Any], top: int) -> int:
    """One row of pictures; returns where the next row begins."""
    from PIL import Image, ImageOps

    width = sheet.image.width - 2 * GAP
    top = sheet.write(row["title"], (GAP, top), width, HEADING) + GAP // 4
    bottom = top
    for index, cell in enumerate(row["cells"]):
        x = GAP + index * (SIDE + GAP)
        with Image.open(cell["file"]) as picture:
            # Cut to the middle square, as the hint is for the net.
            square = ImageOps.fit(picture.convert("RGB"), (SIDE, SIDE), Image.Resampling.LANCZOS)
            sheet.image.paste(square, (x, top))
        if index and row.get("arrows"):
            sheet.arrow(x - GAP, top + SIDE // 2)
        bottom = max(bottom, sheet.write(cell["label"], (x, top + SIDE + 6), SIDE, TEXT))
    return bottom + GAP


def draw(layout: dict[str, Any]) -> Image.Image:
    """The sheet, as wide as its longest row."""
    from PIL import Image, ImageDraw

    columns = max(len(row["cells"]) for row in layout["rows"])
    width = GAP + columns * (SIDE + GAP)
    image = Image.new("RGB", (width, 400 + len(layout["rows"]) * (SIDE + 200)), PAPER)
    sheet = Sheet(image, ImageDraw.Draw(image))
    bottom = sheet.write(layout["title"], (GAP, GAP), width - 2 * GAP, TITLE)
    bottom = sheet.write(layout["text"], (GAP, bottom), width - 2 * GAP, HEADING) + GAP
    for row in layout["rows"]:
        bottom = draw_row(sheet, row, bottom)
    return image.crop((0, 0, width, bottom))


def main(arguments: list[str]) -> int:
    if len(arguments) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    draw(json.loads(arguments[1])).save(arguments[0], "PNG")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
