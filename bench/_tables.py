"""A table of differences: rows measured, printed, and written among those that were not run.

Its module is `bench/<name>.py`, its rows come from `bench/_<rows>_*.py`, and it is written into
`bench/<name>.md`. The goal is 0 where ComfyUI itself is the reference, and 1e-5 of the effect elsewhere.
"""

from __future__ import annotations

import argparse
import importlib
import os
import time
import warnings
from pathlib import Path
from typing import NamedTuple

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from _rows import Row

HEAD = ("kind", "family", "what runs", "reference", "greatest difference", "greatest effect", "ratio", "goal")
CORE = "ComfyUI"
GOAL = 1e-5
KEY = 4
"""How many cells tell a row from the others."""


class Table(NamedTuple):
    """The file of a table, the files of its rows by their common beginning, and what stands above it."""

    path: Path
    rows: str
    title: str
    above: str

    def known(self) -> list[Row]:
        found = [
            row
            for path in sorted(self.path.parent.glob(f"{self.rows}_*.py"))
            for row in importlib.import_module(path.stem).ROWS
        ]
        return sorted(found, key=lambda row: row[:KEY])

    def written(self) -> dict[tuple[str, ...], list[str]]:
        """The rows of the table as it is, by their first cells."""
        text = self.path.read_text(encoding="utf-8") if self.path.exists() else ""
        cells = [
            [cell.strip() for cell in row.strip("|").split("|")]
            for row in text.splitlines()
            if row[:2] == "| "
        ]
        return {tuple(row[:KEY]): row for row in cells[1:] if len(row) == len(HEAD)}

    def write(self, found: list[list[str]], known: list[Row]) -> None:
        """The whole table: rows just found in place of the older ones, rows that are gone left out."""
        new = self.written() | {tuple(row[:KEY]): row for row in found}
        kept = {tuple(row[:KEY]) for row in known}
        body = "\n".join(line(new[key]) for key in sorted(new) if key in kept)
        self.path.write_text(
            f"# {self.title}\n\n{self.above} Made by `python3 dev.py bench {self.path.stem} -- --write`.\n\n"
            f"{line(HEAD)}\n|{'---|' * len(HEAD)}\n{body}\n",
            encoding="utf-8",
        )


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


def run(table: Table, arguments: list[str]) -> int:
    """Measures the kinds asked for, or all: prints each row, and with --write puts it into the table."""
    known = table.known()
    reader = argparse.ArgumentParser(description=table.title)
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
            table.write(found, known)
    return 0
