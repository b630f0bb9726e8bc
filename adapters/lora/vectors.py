"""Vectors of block weights by their length, and presets by their name.

Source: hako-mikan/sd-webui-lora-block-weight: scripts/lora_block_weight.py (BLOCKID12, 17, 20, 26,
BLOCKIDFLUX, DEF_WEIGHT_PRESET); ltdrdata/ComfyUI-Inspire-Pack: resources/lbw-preset.txt.
"""

from __future__ import annotations

from dataclasses import dataclass

from .blocks import BASE, CLIP, IN, MID, OUT, T5, Layout, numbered

SD15_INPUTS, SDXL_INPUTS = 12, 9


@dataclass(frozen=True)
class Vector:
    """The blocks that a vector's numbers are for, in order, and the models that it is made for."""

    names: tuple[str, ...]
    family: str

    def fits(self, layout: Layout) -> bool:
        return _family(layout) == self.family and set(self.names) <= set(layout.names)


def _family(layout: Layout) -> str:
    """Which of the families with vectors has such blocks; "" for none."""
    if layout.kind == "Flux":
        return "Flux"
    inputs = sum(name.startswith(IN) for name in layout.names)
    return {SD15_INPUTS: "SD1.5 and SD2", SDXL_INPUTS: "SDXL"}.get(inputs, "")


def _blocks(word: str, *indices: int) -> tuple[str, ...]:
    return tuple(f"{word}{index:02}" for index in indices)


VECTORS: dict[int, Vector] = {
    12: Vector((BASE, *_blocks(IN, 4, 5, 7, 8), MID, *numbered(OUT, 6)), "SDXL"),
    17: Vector(
        (BASE, *_blocks(IN, 1, 2, 4, 5, 7, 8), MID, *_blocks(OUT, *range(3, 12))),
        "SD1.5 and SD2",
    ),
    20: Vector((BASE, *numbered(IN, 9), MID, *numbered(OUT, 9)), "SDXL"),
    26: Vector((BASE, *numbered(IN, 12), MID, *numbered(OUT, 12)), "SD1.5 and SD2"),
    61: Vector((CLIP, T5, IN, *numbered("D", 19), *numbered("S", 38), OUT), "Flux"),
}
"""Length -> what the numbers are for. 12 and 17 name the blocks with attention, the others all blocks."""


@dataclass(frozen=True)
class Preset:
    """A named set of block weights: the text that it stands for, and the models that it is made for."""

    text: str
    family: str = "any model"

    def fits(self, layout: Layout) -> bool:
        return self.family in ("any model", layout.kind, _family(layout))


def _sd15(blocks: str) -> Preset:
    return Preset(f"ALL:0, BASE:1, {blocks}", "SD1.5 and SD2")


def _unet(blocks: str) -> Preset:
    return Preset(f"ALL:0, BASE:1, {blocks}", "UNet")


def _flux(blocks: str) -> Preset:
    return Preset(f"ALL:0, CLIP:1, T5:1, IN:1, OUT:1, {blocks}", "Flux")


PRESETS: dict[str, Preset] = {
    "ALL": Preset("ALL:1"),
    "NONE": Preset("ALL:0"),
    "ALL0.5": Preset("ALL:0.5"),
    "INALL": _unet("IN:1"),
    "MIDALL": _unet("MID:1"),
    "OUTALL": _unet("OUT:1"),
    "INS": _sd15("IN01:1, IN02:1, IN04:1"),
    "IND": _sd15("IN05:1, IN07:1, IN08:1"),
    "MIDD": _sd15("IN05:1, IN07:1, IN08:1, MID:1, OUT03-OUT06:1"),
    "MIDD0.2": _sd15("IN08:0.2, MID:0.4, OUT03:0.4, OUT04:0.2"),
    "MIDD0.8": _sd15("IN07:0.5, IN08:0.8, MID:0.8, OUT03:0.4"),
    "MOUT": _sd15("IN08:1, MID:1, OUT03-OUT08:1, OUT09:0.5"),
    "OUTD": _sd15("OUT03-OUT06:1"),
    "OUTS": _sd15("OUT07-OUT11:1"),
    "DBL-ALL": _flux("D:1"),
    "DBL-FRONT7": _flux("D00-D06:1"),
    "DBL-MID6": _flux("D07-D12:1"),
    "DBL-TAIL6": _flux("D13-D18:1"),
    "SINGLE-ALL": _flux("S:1"),
    "SINGLE-1to10": _flux("S00-S09:1"),
    "SINGLE-11to20": _flux("S10-S19:1"),
    "SINGLE-21to30": _flux("S20-S29:1"),
    "SINGLE-31to37": _flux("S30-S37:1"),
}
"""Name -> preset. INALL and OUTALL take every block of their side, also those without attention."""
