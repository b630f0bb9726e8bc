"""What image-prompt adapters cost per step and in memory: ours beside what the usual packs do per step.

    python3 dev.py bench adapters [-- [--size N ...] [--family sd15 sdxl_full] [--write]]
    python3 dev.py bench adapters -- --device cuda --dtype float16 --full --size 64 128

Prints, for each family, the extra time per step over the plain model, ours against the projection of
the tokens in every layer at every step, in one run, the variants taking turns. Then what is kept in memory
while sampling, and how often a step waits for a tensor's value. `-- --write` keeps it in bench/adapters.md.
With --full the models have their published widths, which wants a device with memory.
"""

from __future__ import annotations

import argparse
import importlib
import math
import os
import sys
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from _adapter_speed_models import Adapter, Drawn, Place, Sampling, kept, model_of, ours, waits
from _adapter_speed_usual import usual
from _rows import host

ROUNDS = 20
GOALS = {"sdxl_full": 0.15}
PAGE = Path(__file__).with_name("adapters.md")
HEAD = (
    "# What image prompts cost\n\n"
    "Random weights, narrow models with all blocks of the published ones, CFG, one thread, float32. "
    "Extra milliseconds per step over the plain model, ours beside the projection of the tokens in "
    "every layer at every step as the usual packs do it (a stand-in that also does the middle block): "
    "the quickest of some calls, which take turns. The model itself attends as the host does on a GPU. "
    "A millisecond or two is noise. The goal is for SDXL; a narrow SD1.5 spends most of it in the "
    "attention itself. Made by `python3 dev.py bench adapters -- --write`."
)
VARIANTS = {
    "4 tokens, one adapter": Adapter(4, 1),
    "16 tokens, one adapter": Adapter(16, 1),
    "4 tokens, three adapters": Adapter(4, 3),
    "16 tokens, three adapters": Adapter(16, 3),
    "16 tokens, a mask": Adapter(16, 1, masked=True),
    "16 tokens, a window of steps": Adapter(16, 1, window=True),
}
COUNTED = tuple(VARIANTS)[3:]
"""Of these the looks at values are counted: the most that can come, a mask, a window."""
FAMILIES = {"sd15": "SD1.5 (16 layers)", "sdxl_full": "SDXL (70 layers)"}
LOOKS = (
    "## Waiting",
    "",
    "How often a step asks for a tensor's value beyond what the plain model does, counted at torch's "
    "methods; and how often torch says that the device was waited for.",
    "",
    "| model | what | ours | per step | waits, ours | waits, per step |",
    "|---|---|---|---|---|---|",
)
MEMORY = (
    "## Memory while sampling",
    "",
    "At the published widths, float16, CFG, one picture: the layers' weights, which the usual packs keep on "
    "the device, and the keys and values that ours keeps instead.",
    "",
    "| model | tokens | weights MB | ours MB | share |",
    "|---|---|---|---|---|",
)
TEXT = {"sd15": (768, 768), "sdxl_full": (2048, 1280)}


class Family:
    """A model of random weights, and its samplings: "plain", "ours: ..." and "usual: ..."."""

    def __init__(self, name: str, place: Place) -> None:
        real = host()
        self.name, self.place = name, place
        self.model = model_of(name, place)
        of = real.Family(name, self.model, None, *TEXT[name], 4)
        self.pair = real.conditioning(of, 1), real.conditioning(of, 2)
        drawn = Drawn(self.model, TEXT[name][0], place.dtype)
        self.sizes, self.models = drawn.sizes, {"plain": self.model}
        for variant, adapter in VARIANTS.items():
            found = drawn.injections(adapter)
            self.models[f"ours: {variant}"] = ours(self.model, found)
            self.models[f"usual: {variant}"] = usual(self.model, found, (place.device, place.dtype))

    def samplings(self, side: int) -> dict[str, Sampling]:
        return {
            name: Sampling(model, *self.pair, side, self.place.device) for name, model in self.models.items()
        }


def costs(runs: dict[str, Sampling]) -> tuple[float, dict[str, float]]:
    """Milliseconds of a step of the plain model, and what every other variant costs beyond it.

    The quickest of 20 calls of each, which take turns: other work on the machine only ever adds time.
    """
    calls = {name: run.call() for name, run in runs.items()}
    quickest = dict.fromkeys(calls, math.inf)
    for _ in range(ROUNDS):
        for name, call in calls.items():
            quickest[name] = min(quickest[name], call() * 1000)
    plain = quickest.pop("plain")
    return plain, {name: value - plain for name, value in quickest.items()}


def table(name: str, side: int, plain: float, found: dict[str, float]) -> list[str]:
    """The lines of one family at one size."""
    lines = [
        f"## {FAMILIES[name]}, latent {side} x {side}: {plain:.0f} ms per step without an adapter",
        "",
        "| what | ours ms | per step ms | ratio | goal |",
        "|---|---|---|---|---|",
    ]
    for variant in VARIANTS:
        own, other = found[f"ours: {variant}"], found[f"usual: {variant}"]
        lines.append(f"| {variant} | {own:.1f} | {other:.1f} | {own / other:.2f} | {GOALS.get(name, '-')} |")
    return [*lines, ""]


def looks(family: Family, runs: dict[str, Sampling]) -> list[str]:
    """The lines that say how often a step asks for a tensor's value, less what the plain model does."""
    plain, plain_waits = runs["plain"].looks(), waits(runs["plain"])
    lines = []
    for variant in COUNTED:
        both = runs[f"ours: {variant}"], runs[f"usual: {variant}"]
        asked = [one.looks() - plain for one in both]
        waited = [waits(one) - plain_waits for one in both]
        cells = [str(value) for value in (*asked, *waited)]
        if family.place.device.type != "cuda":
            cells[2:] = ["-", "-"]
        lines.append(f"| {FAMILIES[family.name]} | {variant} | {' | '.join(cells)} |")
    return lines


def memory(family: Family) -> list[str]:
    """The lines that say what is kept while sampling, at the published widths in float16."""
    lines = []
    for tokens in (4, 16):
        size = kept(family.sizes, tokens)
        cells = (f"{size.weights / 1e6:.0f}", f"{size.run / 1e6:.1f}", f"{size.run / size.weights:.3f}")
        lines.append(f"| {FAMILIES[family.name]} | {tokens} | {' | '.join(cells)} |")
    return lines


def use_torch_attention() -> None:
    """Let the host attend as it does on a GPU.

    What it takes on a processor needs large tables in each self-attention, whose time differs from call to
    call by more than an adapter costs.
    """
    sys.path.insert(0, os.environ["COMFYUI_PATH"])
    importlib.import_module("comfy.cli_args").args.use_pytorch_cross_attention = True


def main() -> int:
    """Measure, print and, when asked, keep the tables."""
    reader = argparse.ArgumentParser()
    reader.add_argument("--size", type=int, nargs="*", default=[16, 32], help="sides of the latent")
    reader.add_argument("--family", choices=list(FAMILIES), nargs="*", default=list(FAMILIES))
    reader.add_argument("--device", default="cpu")
    reader.add_argument("--dtype", choices=["float32", "float16", "bfloat16"], default="float32")
    reader.add_argument("--full", action="store_true", help="models of the published widths")
    reader.add_argument("--write", action="store_true", help="keep the tables in bench/adapters.md")
    given = reader.parse_args()
    os.environ["TILLER_DEVICE"] = given.device
    use_torch_attention()
    torch.set_num_threads(1)
    place = Place(torch.device(given.device), getattr(torch, given.dtype), given.full)
    lines, asked, sizes = [HEAD, ""], [], []
    for name in given.family:
        family = Family(name, place)
        for side in given.size:
            found = table(name, side, *costs(family.samplings(side)))
            print("\n".join(found), flush=True)
            lines += found
        asked += looks(family, family.samplings(given.size[0]))
        sizes += memory(family)
    rest = [*LOOKS, *asked, "", *MEMORY, *sizes, ""]
    print("\n".join(rest))
    lines += rest
    if given.write:
        PAGE.write_text("\n".join(lines), encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
