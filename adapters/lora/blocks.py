"""Names of a model's blocks, and which of them a weight belongs to.

BASE, IN00 to IN11, MID, OUT00 to OUT11    UNets: SD1.5, SD2; SDXL up to IN08 and OUT08
CLIP, T5, IN, D00 to D18, S00 to S37, OUT  Flux: text encoders, what stands before the blocks, double and
                                           single blocks, the last layer

In a UNet, BASE is the text encoders and whatever lies outside the numbered blocks; in a model of another
kind, it is everything.

Source: hako-mikan/sd-webui-lora-block-weight: scripts/lora_block_weight.py (BLOCKID26, BLOCKIDFLUX,
ratiodealer, get_flux_blocks).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Literal

Kind = Literal["UNet", "Flux", "other"]
PREFIX = "diffusion_model."
BASE, MID, CLIP, T5, IN, OUT = "BASE", "MID", "CLIP", "T5", "IN", "OUT"
NUMBERED = {"input_blocks": "IN", "output_blocks": "OUT", "double_blocks": "D", "single_blocks": "S"}
"""The host's name of a list of blocks -> the first part of their names here."""

PLACE = re.compile(r"(input_blocks|output_blocks|double_blocks|single_blocks)\.(\d+)\.")


@dataclass(frozen=True)
class Layout:
    """The blocks of one model, in order."""

    kind: Kind
    names: tuple[str, ...]

    def __str__(self) -> str:
        return spans(self.names)

    def block_of(self, key: str) -> str:
        """The block of a weight, by its key in the host's patches: that of the model or of a text encoder."""
        if self.kind == "other":
            return BASE
        if not key.startswith(PREFIX):
            return BASE if self.kind == "UNet" else (CLIP if key.startswith("clip_") else T5)
        inner = key.removeprefix(PREFIX)
        place = PLACE.match(inner)
        if place:
            return f"{NUMBERED[place[1]]}{int(place[2]):02}"
        if self.kind == "UNet":
            return MID if inner.startswith("middle_block.") else BASE
        return OUT if inner.startswith("final_layer.") else IN


def numbered(word: str, count: int) -> tuple[str, ...]:
    """IN00, IN01, ... for a word and a count."""
    return tuple(f"{word}{index:02}" for index in range(count))


def layout_of(keys: Iterable[str]) -> Layout:
    """The blocks of a model, from the keys of its weights (the host's, with `diffusion_model.` before)."""
    counts = dict.fromkeys(NUMBERED.values(), 0)
    for key in keys:
        place = PLACE.match(key.removeprefix(PREFIX))
        if place:
            word = NUMBERED[place[1]]
            counts[word] = max(counts[word], int(place[2]) + 1)
    if counts["D"]:
        names = (CLIP, T5, IN, *numbered("D", counts["D"]), *numbered("S", counts["S"]), OUT)
        return Layout("Flux", names)
    if counts["IN"]:
        return Layout("UNet", (BASE, *numbered("IN", counts["IN"]), MID, *numbered("OUT", counts["OUT"])))
    return Layout("other", (BASE,))


def spans(names: Iterable[str]) -> str:
    """Names of blocks in words, neighbours joined: BASE, IN00-IN11, MID."""
    return ", ".join(f"{first}-{last}" if first != last else first for first, last in _runs(names))


def _runs(names: Iterable[str]) -> list[tuple[str, str]]:
    def place(item: tuple[int, str]) -> tuple[str, int]:
        index, name = item
        parts = re.fullmatch(r"([A-Z]+)(\d\d)", name)
        return (parts[1], int(parts[2]) - index) if parts else (name, 0)

    runs = [[name for _, name in run] for _, run in groupby(enumerate(names), place)]
    return [(run[0], run[-1]) for run in runs]


def spans_of_factors(factors: Mapping[str, float]) -> str:
    """Blocks with their factors in words, neighbours of one factor joined: BASE 1, IN01-IN08 0.5, MID 0."""
    words = []
    for value, names in groupby(factors, factors.__getitem__):
        words += [f"{span} {value:g}" for span in spans(names).split(", ")]
    return ", ".join(words)
