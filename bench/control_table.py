"""Every kind of control net beside its reference, same random weights: the table of differences.

    python3 dev.py bench control_table [-- [KIND ...] [--write]]

Rows come from bench/_control_rows_*.py. Prints the greatest difference, the greatest effect, and their
ratio; with --write into bench/control_table.md, where rows that were not run stay. The goal is 0 where
ComfyUI itself is the reference, and 1e-5 of the effect elsewhere.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import time
import warnings
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from _control_rows import Row

HEAD = ("kind", "family", "what runs", "reference", "greatest difference", "greatest effect", "ratio", "goal")
TABLE = Path(__file__).with_suffix(".md")
CORE = "ComfyUI"
GOAL = 1e-5
KEY = 4
"""How many cells tell a row from the others."""


def rows() -> list[Row]:
    found = [
        row
        for path in sorted(Path(__file__).parent.glob("_control_rows_*.py"))
        for row in importlib.import_module(path.stem).ROWS
    ]
    return sorted(found, key=lambda row: row[:KEY])


def measured(row: Row) -> list[str]:
    """The cells of one row."""
    difference, effect = row.measure()
    if effect == 0:
        raise ValueError(f"{row.kind}, {row.family}: the reference has no effect, so nothing was compared.")
    goal = 0.0 if row.reference.startswith(CORE) else GOAL
    ratio = difference / effect
    reached = "reached" if ratio <= goal else f"missed ({goal:.0e})"
    return [*row[:KEY], f"{difference:.2g}", f"{effect:.2g}", f"{ratio:.1e}", reached]


def line(cells: list[str] | tuple[str, ...]) -> str:
    return f"| {' | '.join(cells)} |"


def written() -> dict[tuple[str, ...], list[str]]:
    """The rows of the table as it is, by their first cells."""
    text = TABLE.read_text(encoding="utf-8") if TABLE.exists() else ""
    cells = [
        [cell.strip() for cell in row.strip("|").split("|")] for row in text.splitlines() if row[:2] == "| "
    ]
    return {tuple(row[:KEY]): row for row in cells[1:] if len(row) == len(HEAD)}


def write(found: list[list[str]], known: list[Row]) -> None:
    """The whole table: rows just found in place of the older ones, rows that are gone left out."""
    new = written() | {tuple(row[:KEY]): row for row in found}
    kept = {tuple(row[:KEY]) for row in known}
    body = "\n".join(line(new[key]) for key in sorted(new) if key in kept)
    TABLE.write_text(
        "# Control nets beside their references\n\nThe same random weights on both sides, float32 on the "
        "processor, zero convolutions re-drawn. The goal is 0 where ComfyUI itself is the reference, else "
        "1e-5 of the greatest effect. Made by `python3 dev.py bench control_table -- --write`.\n\n"
        f"{line(HEAD)}\n|{'---|' * len(HEAD)}\n{body}\n",
        encoding="utf-8",
    )


def main(arguments: list[str]) -> int:
    known = rows()
    reader = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    reader.add_argument("kinds", nargs="*", choices=[[], *{row.kind for row in known}], metavar="KIND")
    reader.add_argument("--write", action="store_true")
    given = reader.parse_args(arguments)
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    found: list[list[str]] = []
    print(f"{line(HEAD)}\n|{'---|' * len(HEAD)}")
    for row in known:
        if given.kinds and row.kind not in given.kinds:
            continue
        start = time.perf_counter()
        with torch.inference_mode():
            found.append(measured(row))
        print(f"{line(found[-1])}  {time.perf_counter() - start:.1f} s", flush=True)
        if given.write:
            write(found, known)
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
