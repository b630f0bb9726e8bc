"""Where a UNet has cross-attention, in the order in which adapter files number it.

Adapter files follow diffusers, which lists the blocks going down, then those going up, then the middle one;
the host runs the middle before going up.

Source: tencent-ailab/IP-Adapter: ip_adapter/ip_adapter.py (set_ip_adapter); ComfyUI:
comfy/ldm/modules/diffusionmodules/openaimodel.py (UNetModel._forward: "transformer_index").
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

NAME = re.compile(
    r"(?P<block>input|middle|output)_blocks?\.(?:(?P<id>\d+)\.)?\d+\.transformer_blocks\.(?P<n>\d+)\.attn2\.to_k"
)
AS_NUMBERED = ("input", "output", "middle")
AS_RUN = ("input", "middle", "output")


class Site(NamedTuple):
    """One cross-attention as the host's patches address it: ("input", 4, 1) is the second of block 4."""

    block: str
    id: int
    transformer: int

    @property
    def name(self) -> str:
        """The block's name in the notation of LoRA block weights: IN04, MID, OUT11."""
        short = {"input": "IN", "output": "OUT"}.get(self.block)
        return "MID" if short is None else f"{short}{self.id:02d}"


def cross_attention_sites(names: Iterable[str]) -> list[Site]:
    """The cross-attentions among the module names of a UNet, in the order of adapter files.

    The adapter's n-th pair of weights is numbered 2 n + 1.
    """
    found = [match for name in names if (match := NAME.fullmatch(name))]
    sites = {Site(match["block"], int(match["id"] or 0), int(match["n"])) for match in found}
    return sorted(sites, key=number_order)


def number_order(site: Site) -> tuple[int, int, int]:
    """Sorts sites as adapter files number them."""
    return AS_NUMBERED.index(site.block), site.id, site.transformer


def transformer_indices(sites: Iterable[Site]) -> dict[Site, int]:
    """Site -> number of its spatial transformer in the order of running: 0..15 for SD1.5, 0..10 for SDXL."""
    places = sorted({site[:2] for site in sites}, key=lambda place: (AS_RUN.index(place[0]), place[1]))
    return {site: places.index(site[:2]) for site in sites}
