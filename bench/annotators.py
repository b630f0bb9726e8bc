"""Our annotators beside the references, same random weights.

    python3 dev.py bench annotators [-- [NAME ...] [--speed] [--write]]

Prints the greatest and the mean difference in levels of 255 at three sizes; with --speed the seconds of CPU
and the peak memory for pictures of 768 x 768 as well, the sides taking turns; with --write into
bench/annotators.md, where rows that were not run stay. Both sides get pictures at the working size; the
rule that brings them there is tested in tests/unit.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import importlib
import sys
import time
import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from _pairs import Hint, Row

ROWS: tuple[Row, ...] = tuple(
    row
    for path in sorted(Path(__file__).parent.glob("_pairs_*.py"))
    for row in importlib.import_module(path.stem).ROWS
)

SIZES = {"512 x 512": (1, 512, 512), "777 x 523": (1, 523, 777), "3 of 640 x 512": (3, 512, 640)}
"""Name -> batch, height, width; the second is no multiple of 64."""

SPEED_SIDE = 768
ROUNDS = 2
TABLE = Path(__file__).with_suffix(".md")
DIFFERENCES = ("hint", "reference", *SIZES)
SPEEDS = ("hint", "pictures", "theirs, s of CPU", "ours", "ratio", "theirs, MB at the peak", "ours", "ratio")


class Cost(NamedTuple):
    """Seconds of CPU, and bytes above what was there before."""

    seconds: float
    peak: float


def pictures(batch: int, height: int, width: int) -> torch.Tensor:
    """(batch,height,width,3) float32 0..1: photographs, stretched."""
    import cv2
    from skimage import data

    photographs = [data.astronaut(), data.coffee(), data.chelsea()]
    stretched = [cv2.resize(photographs[i % 3], (width, height)) for i in range(batch)]
    return torch.from_numpy(np.stack(stretched).astype(np.float32) / 255.0)


def differences(row: Row) -> list[str]:
    """The row of the first table."""
    pair, cells = row.make(), []
    for size in SIZES.values():
        image = pictures(*size)
        wanted = (pair.theirs(image) * 255).round()
        apart = ((pair.ours(image) * 255).round() - wanted).abs()
        cells.append(f"{float(apart.max()):.0f} / {float(apart.mean()):.4f} ({wanted.unique().numel()})")
    return [row.name, row.reference, *cells]


def cost(hint: Hint, image: torch.Tensor) -> Cost:
    """What one run takes. The peak is the process's own, with free memory given back before."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    before, start = _kilobytes("VmRSS"), time.process_time()
    hint(image)
    return Cost(time.process_time() - start, (_kilobytes("VmHWM") - before) * 1024)


def _kilobytes(name: str) -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name))


def speed(row: Row) -> list[str]:
    """The row of the second table: the least of the rounds for either side."""
    pair, image = row.make(), pictures(row.timed, SPEED_SIDE, SPEED_SIDE)
    theirs, ours = [], []
    for _ in range(ROUNDS):
        theirs.append(cost(pair.theirs, image))
        ours.append(cost(pair.ours, image))
    seconds = [min(each.seconds for each in side) for side in (theirs, ours)]
    peaks = [min(each.peak for each in side) / 1e6 for side in (theirs, ours)]
    cells = [f"{seconds[0]:.1f}", f"{seconds[1]:.1f}", f"{seconds[0] / seconds[1]:.2f}x"]
    return [
        row.name,
        str(row.timed),
        *cells,
        *(f"{peak:.0f}" for peak in peaks),
        f"{peaks[0] / peaks[1]:.2f}x",
    ]


def written(title: str) -> dict[str, list[str]]:
    """Hint -> row of the table below that title in the file."""
    if not TABLE.is_file():
        return {}
    below = TABLE.read_text(encoding="utf-8").partition(f"## {title}\n")[2].partition("\n## ")[0]
    rows = [line.strip("| ").split(" | ") for line in below.splitlines() if line.startswith("| ")]
    return {row[0]: row for row in rows[1:]}


def as_table(head: tuple[str, ...], rows: dict[str, list[str]]) -> str:
    order = [row.name for row in ROWS if row.name in rows]
    lines = [list(head), ["---"] * len(head), *(rows[name] for name in order)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def write(found: dict[str, dict[str, list[str]]]) -> None:
    """Both tables, with the rows just found in place of the older ones."""
    parts = [
        "# The annotators beside their references\n\nSame random weights in the published key layout on both "
        "sides, float32 on the processor. Made by `python3 dev.py bench annotators -- --speed --write`.\n",
        "## Differences\n\nIn levels of 255: greatest / mean (distinct levels of the reference's map). "
        "Where a map has two levels only, a value within rounding of the threshold shows as 255. "
        "In a map of classes, a pixel whose two best classes tie shows as the distance of their colours.\n",
        as_table(DIFFERENCES, {**written("Differences"), **found["Differences"]}),
        f"## Speed\n\nPictures of {SPEED_SIDE} x {SPEED_SIDE}, one thread, both sides in one run, the lesser "
        f"of {ROUNDS} rounds; ratios are theirs / ours.\n",
        as_table(SPEEDS, {**written("Speed"), **found["Speed"]}),
    ]
    TABLE.write_text("\n".join(parts), encoding="utf-8")


def main(arguments: list[str]) -> int:
    reader = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    reader.add_argument("names", nargs="*", choices=[[], *(row.name for row in ROWS)], metavar="NAME")
    reader.add_argument("--speed", action="store_true")
    reader.add_argument("--write", action="store_true")
    given = reader.parse_args(arguments)
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    rows = [row for row in ROWS if not given.names or row.name in given.names]
    found: dict[str, dict[str, list[str]]] = {"Differences": {}, "Speed": {}}
    with torch.inference_mode():
        for title, head, measure in (("Differences", DIFFERENCES, differences), ("Speed", SPEEDS, speed)):
            if title == "Speed" and not given.speed:
                continue
            print(f"\n## {title}\n\n| {' | '.join(head)} |\n|{'---|' * len(head)}")
            for row in rows:
                found[title][row.name] = measure(row)
                print(f"| {' | '.join(found[title][row.name])} |", flush=True)
    if given.write:
        write(found)
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
