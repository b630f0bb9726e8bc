"""Every family of image prompt and face beside its reference, same random weights: the table of differences.

    python3 dev.py bench adapter_table [-- [KIND ...] [--write]]

Rows come from bench/_adapter_rows_*.py; what they share is in bench/_adapter_rows.py. Prints the greatest
difference, the greatest effect, and their ratio; with --write into bench/adapter_table.md, where rows that
were not run stay. The goal is 1e-5 of the effect.
"""

from __future__ import annotations

import sys
from pathlib import Path

from _tables import Table, run

TABLE = Table(
    Path(__file__).with_suffix(".md"),
    "_adapter_rows",
    "Image prompts and faces beside their references",
    "The same random weights on both sides, in the layout of the published files, float32 on the processor "
    "where a row does not say otherwise; models have every block of the published ones and are narrow. The "
    "goal is 0 where ComfyUI itself is the reference, else 1e-5 of the greatest effect.",
)

if __name__ == "__main__":
    raise SystemExit(run(TABLE, sys.argv[1:]))
