"""Block weights from text.

OUTALL                         a preset
1,0,0,0,0,0,0,0,1,1,1,1,...    a vector of 12 or 20 (SDXL), 17 or 26 (SD1.5), 61 numbers (Flux)
IN04-IN08:0.5, MID:0           blocks by name, one or a range; the others stay as they are
IN:0.5, D:0                    all of one side (IN, OUT), all double or single blocks (D, S); ALL: all blocks
OUTALL, MID:0.5                names after a preset change it
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import NamedTuple

from .blocks import Layout
from .vectors import PRESETS, VECTORS

NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)")
NAME = re.compile(r"(ALL|BASE|MID|M00|CLIP|T5|IN|OUT|D|S|(?:IN|OUT|D|S)\d{1,2})", re.IGNORECASE)
LETTERS = frozenset("ABRU")
"""Entries of the Inspire pack's vectors that stand for a slider or a random number."""

HOW = (
    "Write for example OUTALL, or IN04-IN08:0.5, MID:0, or a vector of 12 or 20 (SDXL), 17 or 26 (SD1.5), "
    "61 (Flux) numbers."
)


class BlockTextError(ValueError):
    """A text is no set of block weights, or not one for the model at hand."""


class Entry(NamedTuple):
    """`first` to `last` (the same for one block) get the factor `value`."""

    first: str
    last: str
    value: float


@dataclass(frozen=True)
class BlockText:
    """What a text says: a vector, or a preset (None: the node's) with changes by name."""

    vector: tuple[float, ...] = ()
    preset: str | None = None
    entries: tuple[Entry, ...] = ()


def read_blocks(text: str) -> BlockText:
    """What a text says, before it meets a model; an empty one says nothing.

    Raises:
        BlockTextError: naming the entry that is wrong and what it may be.
    """
    items = [item.strip() for item in re.sub(r"[\s,;]*[\n;]\s*", ",", text.strip(" \t\n,;")).split(",")]
    if items == [""]:
        return BlockText()
    if NUMBER.fullmatch(items[0]):
        return BlockText(vector=_vector(items))
    preset = _preset(items[0])
    entries = [_entry(item, index) for index, item in enumerate(items) if index or preset is None]
    return BlockText(preset=preset, entries=tuple(entries))


def factors_of(preset: str, text: str, layout: Layout) -> dict[str, float]:
    """Block -> factor for every block of a model, in order: `text`, or the preset as the text changes it.

    Raises:
        BlockTextError: when the text cannot be read, or asks for blocks that the model does not have.
    """
    told = read_blocks(text)
    if told.vector:
        return _from_vector(told.vector, layout)
    factors = dict.fromkeys(layout.names, 1.0)
    for entry in (*_preset_entries(told.preset or preset, layout), *told.entries):
        for name in _names(entry, layout):
            factors[name] = entry.value
    return factors


def _is_number(text: str) -> bool:
    return NUMBER.fullmatch(text) is not None and math.isfinite(float(text))


def _vector(items: list[str]) -> tuple[float, ...]:
    for index, item in enumerate(items):
        if not _is_number(item):
            hint = (
                " Random and slider letters are not taken: write the number."
                if item.upper() in LETTERS
                else ""
            )
            raise BlockTextError(
                f"A vector of block weights needs a number in every place, got {item!r} in place "
                f"{index + 1}.{hint} {HOW}"
            )
    if len(items) not in VECTORS:
        raise BlockTextError(
            f"A vector of block weights needs {', '.join(map(str, VECTORS))} numbers, got {len(items)}. {HOW}"
        )
    return tuple(map(float, items))


def _preset(item: str) -> str | None:
    bare = re.sub(r"^(SD|SDXL|FLUX)-", "", item.upper())
    return next((name for name in PRESETS if name.upper() in (bare, item.upper())), None)


def _entry(item: str, index: int) -> Entry:
    names, colon, value = item.rpartition(":")
    first, dash, last = names.partition("-")
    first, last = first.strip(), last.strip() if dash else first.strip()
    if not colon or not (NAME.fullmatch(first) and NAME.fullmatch(last)):
        late = " A preset must come first." if _preset(item) else ""
        raise BlockTextError(
            f"Block weights need NAME:number in every entry, got {item!r} in entry {index + 1}.{late} {HOW} "
            f"Presets: {', '.join(PRESETS)}."
        )
    if not _is_number(value.strip()):
        raise BlockTextError(f"Block weights need a number after {names}:, got {value.strip()!r}. {HOW}")
    return Entry(_word(first), _word(last), float(value))


def _word(name: str) -> str:
    """A name in the form of the layouts: upper case, two digits, MID for the web UI's M00."""
    upper = name.upper()
    if upper in ("M00", "T5"):
        return "MID" if upper == "M00" else upper
    letters = upper.rstrip("0123456789")
    return letters if letters == upper else f"{letters}{int(upper.removeprefix(letters)):02}"


def _preset_entries(preset: str, layout: Layout) -> tuple[Entry, ...]:
    known = PRESETS[preset]
    if not known.fits(layout):
        others = ", ".join(name for name, other in PRESETS.items() if other.fits(layout))
        raise BlockTextError(
            f"The preset {preset} is for {known.family}, but this model's blocks are {layout}. Take one of "
            f"{others}, or name the blocks."
        )
    return read_blocks(known.text).entries


def _names(entry: Entry, layout: Layout) -> tuple[str, ...]:
    first, last = _group(entry.first, layout), _group(entry.last, layout)
    if entry.first == entry.last:
        return first
    start, end = sorted((layout.names.index(first[0]), layout.names.index(last[-1])))
    return layout.names[start : end + 1]


def _group(word: str, layout: Layout) -> tuple[str, ...]:
    """The blocks that a word means in a model: itself, or all of a side. In Flux, IN and OUT are blocks."""
    if word == "ALL":
        return layout.names
    if word in layout.names:
        return (word,)
    group = tuple(name for name in layout.names if re.fullmatch(rf"{word}\d\d", name))
    if group:
        return group
    if layout.kind == "other":
        raise BlockTextError(
            "Block weights by name are for UNets (SD1.5, SD2, SDXL) and Flux, but this model has other "
            f"blocks: {word} is none of them. Leave the blocks empty, or write ALL:0.5 for all at once."
        )
    raise BlockTextError(f"This model has no block {word}; its blocks are {layout}. Name one of them.")


def _from_vector(values: tuple[float, ...], layout: Layout) -> dict[str, float]:
    """The numbers by name. A block without a number gets 0, or, where all numbers are one, that one."""
    vector = VECTORS[len(values)]
    if not vector.fits(layout):
        fitting = [f"{length} numbers" for length, other in VECTORS.items() if other.fits(layout)]
        raise BlockTextError(
            f"A vector of {len(values)} numbers is for {vector.family}, but this model's blocks are "
            f"{layout}. Write {' or '.join([*fitting, 'factors by name'])}."
        )
    rest = values[0] if len(set(values)) == 1 else 0.0
    return dict.fromkeys(layout.names, rest) | dict(zip(vector.names, values, strict=True))
