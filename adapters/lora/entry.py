"""One LoRA with its settings, and what becomes of it on a model."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from .blocks import Layout, spans, spans_of_factors
from .factors import factors_of, read_blocks

MOST_NAMED = 3


@dataclass(frozen=True)
class LoraEntry:
    """A file of models/loras, its strengths, and its block weights (see `factors`)."""

    lora_name: str
    strength_model: float = 1.0
    strength_clip: float = 1.0
    preset: str = "ALL"
    blocks: str = ""

    def __post_init__(self) -> None:
        read_blocks(self.blocks)

    def factors(self, layout: Layout) -> dict[str, float]:
        """Block -> factor for a model's blocks. Raises BlockTextError for blocks it does not have."""
        return factors_of(self.preset, self.blocks, layout)

    @property
    def is_off(self) -> bool:
        return self.strength_model == 0 and self.strength_clip == 0


def used_in_words(entry: LoraEntry, summary: str, present: Iterable[str], layout: Layout) -> str:
    """Two or three lines: the file and its strengths, its blocks with their factors, the other blocks."""
    factors, has = entry.factors(layout), set(present)
    lines = [
        f"{entry.lora_name}: {summary}; strength {entry.strength_model:g}, text {entry.strength_clip:g}",
        f"  blocks: {spans_of_factors({name: factors[name] for name in layout.names if name in has})}",
    ]
    lacking = [name for name in layout.names if name not in has]
    if lacking:
        lines.append(f"  not in the file: {spans(lacking)}")
    return "\n".join(lines)


def some(keys: Iterable[str]) -> str:
    """The first few of some keys, and how many more there are."""
    ordered = sorted(keys)
    more = len(ordered) - MOST_NAMED
    return ", ".join(ordered[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
