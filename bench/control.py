"""What control costs, ours beside the host's own nodes: `python3 dev.py bench control`.

Stand-in models with random weights (SD1.5, SDXL) through the host's sampler, and a Union net by itself, one
thread; `-- --size 32` takes another latent than 64 x 64. All variants take turns, three rounds; a number is
the median processor time, and the cost of a control is its sampling's time less that of the sampling without
control. `-- --write` keeps the tables in bench/control.md.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("OMP_NUM_THREADS", "1")

import _control_speed_union as union
import torch
from _rows import host

ROUNDS, STEPS = 3, 3
FAMILIES = ["sd15", "sdxl", "union"]
PAGE = Path(__file__).with_name("control.md")
HEAD = (
    "# What control costs\n\nOne thread, float32, random weights, ours beside ComfyUI's own nodes in one "
    "run. Made by `python3 dev.py bench control -- --write`."
)
GOAL = 0.6
"""Of balanced's control cost: the goal of the modes that spare the negative."""


class Ratio(NamedTuple):
    """One line: what is held against what, by which part of the time, and the goal."""

    what: str
    ours: str
    other: str
    cost: bool
    goal: float


RATIOS = (
    Ratio("one unit against the host's node", "balanced", "core", True, 1.05),
    Ratio("the same, whole sampling", "balanced", "core", False, 1.05),
    Ratio("mode control against balanced", "control", "balanced", True, GOAL),
    Ratio("mode unbalanced against balanced", "unbalanced", "balanced", True, GOAL),
    Ratio(
        "mode control against the host's with control on the positive alone", "control", "positive", True, 1.0
    ),
    Ratio("the same, whole sampling", "control", "positive", False, 1.0),
    Ratio("layers, steps and a mask against balanced", "everything", "balanced", True, 1.05),
    Ratio("three units against three of the host's nodes", "three", "core three", True, 1.05),
    Ratio("three units against one", "three", "balanced", True, 3.1),
    Ratio("outside the window against no control", "outside", "plain", False, 1.03),
    Ratio("an empty mask against no control", "empty mask", "plain", False, 1.03),
)


def variants(real: Any, of: Any, size: int) -> dict[str, tuple[Any, Any]]:
    """Name -> positive and negative conditioning."""
    positive, negative = real.conditioning(of, 1), real.conditioning(of, 2)
    image = real.picture(size * 8, size * 8)
    net, options = of.control, real.options

    def ours(**settings: Any) -> tuple[Any, Any]:
        return real.tiller_apply(positive, negative, net, image, **settings)

    three, core_three = (positive, negative), (positive, negative)
    for _ in range(3):
        three = real.tiller_apply(*three, net, image, strength=0.3)
        core_three = real.core_apply(*core_three, net, image, 0.3, 0.0, 1.0)
    mask = torch.zeros(1, size * 8, size * 8)
    mask[..., : size * 4] = 1.0
    everything = options(layers="0:.2 1:1", steps="0:1 1:.5", mask=mask)
    return {
        "plain": (positive, negative),
        "core": real.core_apply(positive, negative, net, image),
        "positive": (real.core_apply(positive, [], net, image)[0], negative),
        "balanced": ours(),
        "control": ours(mode="control"),
        "unbalanced": ours(mode="unbalanced"),
        "everything": ours(options=everything),
        "three": three,
        "core three": core_three,
        "outside": ours(start_percent=0.02, end_percent=0.021, window="steps", mode="control"),
        "empty mask": ours(options=options(mask=torch.zeros(1, 8, 8))),
    }


def times(runs: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Name -> median processor seconds; the variants take turns, after a round that is not counted."""
    found: dict[str, list[float]] = {name: [] for name in runs}
    for round_number in range(ROUNDS + 1):
        for name, run in runs.items():
            start = time.process_time()
            run()
            if round_number:
                found[name].append(time.process_time() - start)
    return {name: statistics.median(values) for name, values in found.items()}


def samplings(real: Any, name: str, size: int) -> dict[str, Callable[[], object]]:
    """Name -> a whole sampling of that variant."""
    of, run = real.family(name), real.Run(size=(size, size), steps=STEPS)
    return {
        variant: lambda pair=pair: real.sample(of, *pair, run)
        for variant, pair in variants(real, of, size).items()
    }


def table(name: str, size: int, seconds: dict[str, float]) -> list[str]:
    """The lines of one family's table."""
    lines = [
        f"{name}, latent {size} x {size}, {STEPS} steps, cfg 4: {seconds['plain']:.2f} s without control"
    ]
    lines += ["", "| what | ours s | other s | ratio | goal |", "|---|---|---|---|---|"]
    for ratio in RATIOS:
        base = seconds["plain"] if ratio.cost else 0.0
        ours, other = seconds[ratio.ours] - base, seconds[ratio.other] - base
        cells = (ratio.what, f"{ours:.2f}", f"{other:.2f}", f"{ours / other:.2f}", f"{ratio.goal:.2f}")
        lines.append(f"| {' | '.join(cells)} |")
    return [*lines, ""]


def main() -> int:
    """Measure, print and, when asked, keep the tables."""
    reader = argparse.ArgumentParser()
    reader.add_argument("--size", type=int, default=64, help="side of the latent")
    reader.add_argument("--family", choices=FAMILIES, nargs="*", default=FAMILIES)
    reader.add_argument("--write", action="store_true", help="keep the tables in bench/control.md")
    given = reader.parse_args()
    torch.set_num_threads(1)
    real, lines = host(), [HEAD, ""]
    for name in given.family:
        if name == "union":
            with torch.inference_mode():
                lines += union.table(given.size, times(union.variants(real, given.size)))
        else:
            lines += table(name, given.size, times(samplings(real, name, given.size)))
        print(f"{name}: done", flush=True)
    print("\n".join(lines))
    if given.write:
        PAGE.write_text("\n".join(lines), encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
