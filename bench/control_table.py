"""Every kind of control net beside its reference, same random weights: the table of differences.

    python3 dev.py bench control_table [-- [KIND ...] [--write]]

Rows come from bench/_control_rows_*.py. Prints the greatest difference, the greatest effect, and their
ratio; with --write into bench/control_table.md, where rows that were not run stay. The goal is 0 where
ComfyUI itself is the reference, and 1e-5 of the effect elsewhere.
"""

from __future__ import annotations

import sys
from pathlib import Path

from _tables import Table, run

TABLE = Table(
    Path(__file__).with_suffix(".md"),
    "_control_rows",
    "Control nets beside their references",
    "The same random weights on both sides, float32 on the processor, zero convolutions re-drawn. The goal "
    "is 0 where ComfyUI itself is the reference, else 1e-5 of the greatest effect.",
)

if __name__ == "__main__":
    raise SystemExit(run(TABLE, sys.argv[1:]))
