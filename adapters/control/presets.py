"""One slider from 0 to 100 % for each kind of control: strength, start and end by a table.

Host-free. The idea is that of Krita's control layers (Acly/krita-ai-diffusion: ai_diffusion/model/control.py,
ai_diffusion/presets/control.json). The numbers are ours, set around what is customary for each kind of net:
nearly full strength until about 0.8 for SD1.5, less for SDXL, the ranges of QR and light recipes, 1.5 for
hands.
"""

from typing import Literal, NamedTuple, get_args

Base = Literal["SD1.5", "SDXL", "Flux"]
BASES: tuple[Base, ...] = get_args(Base)

ANCHORS = (25, 50, 100)
"""Where on the slider the three settings of a row stand: gentle, customary, strong."""


class Setting(NamedTuple):
    """Strength and window of a control, as the widgets of Apply Control take them."""

    strength: float
    start_percent: float
    end_percent: float


Row = tuple[Setting, Setting, Setting]


def _row(*settings: tuple[float, float, float]) -> Row:
    gentle, customary, strong = (Setting(*setting) for setting in settings)
    return gentle, customary, strong


PRESETS: dict[str, dict[Base, Row]] = {
    "line art": {
        "SD1.5": _row((0.6, 0.0, 0.55), (0.9, 0.0, 0.8), (1.1, 0.0, 1.0)),
        "SDXL": _row((0.4, 0.0, 0.5), (0.7, 0.0, 0.8), (1.0, 0.0, 1.0)),
        "Flux": _row((0.4, 0.0, 0.4), (0.7, 0.0, 0.75), (0.9, 0.0, 1.0)),
    },
    "soft edge": {
        "SD1.5": _row((0.5, 0.0, 0.5), (0.85, 0.0, 0.75), (1.1, 0.0, 1.0)),
        "SDXL": _row((0.35, 0.0, 0.45), (0.65, 0.0, 0.7), (0.95, 0.0, 0.95)),
        "Flux": _row((0.4, 0.0, 0.4), (0.7, 0.0, 0.8), (0.9, 0.0, 1.0)),
    },
    "scribble": {
        "SD1.5": _row((0.5, 0.0, 0.45), (0.8, 0.0, 0.7), (1.0, 0.0, 1.0)),
        "SDXL": _row((0.4, 0.0, 0.45), (0.7, 0.0, 0.7), (1.0, 0.0, 0.9)),
        "Flux": _row((0.35, 0.0, 0.35), (0.6, 0.0, 0.65), (0.85, 0.0, 0.9)),
    },
    "canny": {
        "SD1.5": _row((0.5, 0.0, 0.5), (0.9, 0.0, 0.8), (1.1, 0.0, 1.0)),
        "SDXL": _row((0.35, 0.0, 0.5), (0.65, 0.0, 0.75), (0.95, 0.0, 1.0)),
        "Flux": _row((0.4, 0.0, 0.4), (0.7, 0.0, 0.8), (0.9, 0.0, 1.0)),
    },
    "straight lines": {
        "SD1.5": _row((0.5, 0.0, 0.6), (0.9, 0.0, 0.85), (1.1, 0.0, 1.0)),
        "SDXL": _row((0.35, 0.0, 0.55), (0.65, 0.0, 0.8), (0.95, 0.0, 1.0)),
    },
    "depth": {
        "SD1.5": _row((0.5, 0.0, 0.5), (0.9, 0.0, 0.8), (1.1, 0.0, 1.0)),
        "SDXL": _row((0.35, 0.0, 0.45), (0.6, 0.0, 0.75), (0.9, 0.0, 1.0)),
        "Flux": _row((0.4, 0.0, 0.4), (0.8, 0.0, 0.8), (1.0, 0.0, 1.0)),
    },
    "normal": {
        "SD1.5": _row((0.5, 0.0, 0.5), (0.9, 0.0, 0.8), (1.1, 0.0, 1.0)),
        "SDXL": _row((0.35, 0.0, 0.45), (0.65, 0.0, 0.75), (0.95, 0.0, 1.0)),
    },
    "pose": {
        "SD1.5": _row((0.6, 0.0, 0.6), (1.0, 0.0, 0.85), (1.3, 0.0, 1.0)),
        "SDXL": _row((0.5, 0.0, 0.55), (0.85, 0.0, 0.8), (1.1, 0.0, 1.0)),
        "Flux": _row((0.5, 0.0, 0.4), (0.9, 0.0, 0.65), (1.0, 0.0, 0.85)),
    },
    "segmentation": {
        "SD1.5": _row((0.5, 0.0, 0.5), (0.9, 0.0, 0.75), (1.1, 0.0, 1.0)),
        "SDXL": _row((0.4, 0.0, 0.5), (0.7, 0.0, 0.75), (1.0, 0.0, 0.95)),
    },
    "tile": {
        "SD1.5": _row((0.4, 0.0, 0.8), (0.7, 0.0, 1.0), (1.0, 0.0, 1.0)),
        "SDXL": _row((0.3, 0.0, 0.7), (0.55, 0.0, 0.9), (0.85, 0.0, 1.0)),
        "Flux": _row((0.3, 0.0, 0.5), (0.6, 0.0, 0.8), (0.9, 0.0, 1.0)),
    },
    "stencil": {
        "SD1.5": _row((0.9, 0.4, 0.6), (1.05, 0.3, 0.7), (1.15, 0.2, 0.8)),
        "SDXL": _row((0.8, 0.35, 0.6), (1.0, 0.25, 0.7), (1.2, 0.15, 0.85)),
    },
    "light": {
        "SD1.5": _row((0.4, 0.0, 0.6), (0.5, 0.0, 0.68), (0.65, 0.0, 0.75)),
    },
    "hands": {
        "SD1.5": _row((1.0, 0.0, 0.8), (1.5, 0.0, 1.0), (2.0, 0.0, 1.0)),
    },
    "inpaint": {
        "SD1.5": _row((0.6, 0.0, 0.9), (1.0, 0.0, 1.0), (1.2, 0.0, 1.0)),
        "SDXL": _row((0.5, 0.0, 0.8), (0.9, 0.0, 1.0), (1.1, 0.0, 1.0)),
        "Flux": _row((0.5, 0.0, 0.8), (0.9, 0.0, 1.0), (1.0, 0.0, 1.0)),
    },
    "recolor": {
        "SD1.5": _row((0.6, 0.0, 0.9), (1.0, 0.0, 1.0), (1.2, 0.0, 1.0)),
        "SDXL": _row((0.5, 0.0, 0.9), (0.9, 0.0, 1.0), (1.1, 0.0, 1.0)),
    },
    "shuffle": {
        "SD1.5": _row((0.4, 0.0, 0.6), (0.7, 0.0, 0.8), (1.0, 0.0, 1.0)),
    },
    "instruction": {
        "SD1.5": _row((0.6, 0.0, 0.8), (1.0, 0.0, 1.0), (1.4, 0.0, 1.0)),
    },
    "reference": {
        "SD1.5": _row((0.4, 0.2, 0.8), (0.75, 0.1, 0.9), (1.0, 0.0, 1.0)),
        "SDXL": _row((0.4, 0.2, 0.8), (0.7, 0.1, 0.9), (1.0, 0.0, 1.0)),
        "Flux": _row((0.3, 0.0, 0.2), (0.6, 0.0, 0.6), (1.0, 0.0, 1.0)),
    },
    "style": {
        "SD1.5": _row((0.4, 0.2, 0.85), (0.8, 0.1, 0.95), (1.1, 0.0, 1.0)),
        "SDXL": _row((0.4, 0.2, 0.85), (0.75, 0.1, 0.95), (1.1, 0.0, 1.0)),
        "Flux": _row((0.3, 0.0, 0.4), (0.6, 0.0, 0.8), (1.0, 0.0, 1.0)),
    },
    "face": {
        "SD1.5": _row((0.5, 0.35, 0.9), (0.8, 0.2, 1.0), (1.15, 0.1, 1.0)),
        "SDXL": _row((0.5, 0.3, 0.9), (0.8, 0.15, 1.0), (1.1, 0.05, 1.0)),
        "Flux": _row((0.5, 0.2, 0.9), (0.85, 0.1, 1.0), (1.1, 0.0, 1.0)),
    },
}
"""Kind of control -> base family -> gentle, customary and strong setting."""

KINDS = tuple(PRESETS)


def preset(kind: str, base: str, percent: float) -> Setting:
    """The setting of a kind of control for a base family at 0 to 100 percent.

    At 25, 50 and 100 it is the table's, and between them on the straight line; below 25 only the strength
    falls, to 0 at 0. With the slider nothing ever gets weaker: strength and end rise, the start falls.

    Raises ValueError for a kind or family that is not there, naming what is, or a percent out of range.
    """
    if kind not in PRESETS:
        raise ValueError(f"A control preset needs a kind of {', '.join(KINDS)}; got {kind!r}.")
    rows: dict[str, Row] = {family: row for family, row in PRESETS[kind].items()}
    if base not in rows:
        there = [name for name in KINDS if base in PRESETS[name]] if base in BASES else []
        more = f" For {base} there are {', '.join(there)}." if there else ""
        raise ValueError(
            f"A control preset for {kind} is there for {', '.join(rows)}, but not for {base}: no control net "
            f"of that kind is in common use there.{more}"
        )
    if not 0 <= percent <= 100:
        raise ValueError(
            f"A control preset needs a slider from 0 to 100 %, got {percent}. 50 is the usual one."
        )
    gentle, customary, strong = rows[base]
    if percent <= ANCHORS[0]:
        return Setting(round(gentle.strength * percent / ANCHORS[0], 3), *gentle[1:])
    if percent <= ANCHORS[1]:
        return _between(gentle, customary, (percent - ANCHORS[0]) / (ANCHORS[1] - ANCHORS[0]))
    return _between(customary, strong, (percent - ANCHORS[1]) / (ANCHORS[2] - ANCHORS[1]))


def _between(one: Setting, other: Setting, share: float) -> Setting:
    mixed = (a + (b - a) * share for a, b in zip(one, other, strict=True))
    return Setting(*(round(value, 3) for value in mixed))


def table_rows() -> list[str]:
    """The table as lines of Markdown, for the help page: kind, family, and the settings at the anchors."""
    lines = []
    for kind, rows in PRESETS.items():
        for base, row in rows.items():
            cells = " | ".join(f"{s.strength:g} ({s.start_percent:g}-{s.end_percent:g})" for s in row)
            lines.append(f"| {kind} | {base} | {cells} |")
    return lines
