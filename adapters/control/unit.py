"""One control net with the picture and the settings it is applied with."""

import math
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch

from .modes import CONTROL_MODES, ControlMode
from .options import ControlOptions

WindowUnit = Literal["noise", "steps"]
UnitResize = Literal["core", "stretch", "crop", "fill"]

WINDOW_UNITS: tuple[WindowUnit, ...] = get_args(WindowUnit)
UNIT_RESIZES: tuple[UnitResize, ...] = get_args(UnitResize)


@dataclass(frozen=True, eq=False)
class ControlUnit:
    """A control net, its hint `image` (B,H,W,C) in 0..1, and how it steers; changes nothing by itself.

    `start_percent` and `end_percent` are the window in 0..1 (0 = first step), measured by `window`:
    "noise" as the host does, or "steps" as a share of the sampler's steps. `resize_mode` fits the image
    to the size of the sampling: "core" leaves that to the host. `mode` says whether the prompt or the
    control counts more, `options` holds what few units need: curves, a mask, the type of a union net.
    `together` are the units that this one stands for, when one pass of a Union net serves them all.

    Raises ValueError for a window that ends before it starts, values out of range, unknown modes.
    """

    control_net: Any
    image: torch.Tensor
    strength: float = 1.0
    start_percent: float = 0.0
    end_percent: float = 1.0
    window: WindowUnit = "noise"
    resize_mode: UnitResize = "core"
    vae: Any = None
    mode: ControlMode = "balanced"
    options: ControlOptions | None = None
    together: tuple["ControlUnit", ...] = ()

    def __post_init__(self) -> None:
        if not math.isfinite(self.strength):
            raise ValueError(
                f"A control unit needs a finite strength, got {self.strength}. 1 is the usual one."
            )
        for name, value in (("start_percent", self.start_percent), ("end_percent", self.end_percent)):
            if not 0.0 <= value <= 1.0:
                raise ValueError(f"A control unit needs {name} from 0 to 1, got {value}. 0.5 is half-way.")
        if self.end_percent < self.start_percent:
            raise ValueError(
                "A control unit needs a window that ends after it starts, got "
                f"start_percent {self.start_percent} and end_percent {self.end_percent}: the control would "
                "never act. Swap the two values."
            )
        if self.window not in WINDOW_UNITS:
            raise ValueError(
                f"A control unit needs a window of {' or '.join(WINDOW_UNITS)}, got {self.window!r}."
            )
        if self.resize_mode not in UNIT_RESIZES:
            raise ValueError(
                f"A control unit needs a resize_mode of {', '.join(UNIT_RESIZES)}, got {self.resize_mode!r}."
            )
        if self.mode not in CONTROL_MODES:
            raise ValueError(f"A control unit needs a mode of {', '.join(CONTROL_MODES)}, got {self.mode!r}.")
        if self.options is not None and not isinstance(self.options, ControlOptions):
            raise ValueError(
                f"A control unit needs options from Control Options, got {type(self.options).__name__}. "
                "Connect that node, or nothing."
            )
