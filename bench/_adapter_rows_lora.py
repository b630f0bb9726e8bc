"""LoRAs beside ComfyUI's own loader and beside the formula: block factors, schedules, FaceID's half."""

from __future__ import annotations

import importlib
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from _adapter_rows import Row, host

LORA, SCHEDULE, FACEID = "LoRA", "LoRA on some steps", "FaceID, LoRA half"
FAMILIES = {"sd15": "SD1.5", "sdxl": "SDXL", "flux": "Flux"}
NAMINGS = {"sd15": "diffusers", "sdxl": "kohya", "flux": "kohya"}
FORMS = ("lora", "loha", "lokr", "dora")
BLOCKS = {
    "sd15": {"IN04": 0.5, "MID": -0.25, "OUT03": 2.0},
    "sdxl": {"IN04": 0.5, "MID": -0.25, "OUT03": 2.0},
    "flux": {"D03": 0.5, "S10": -0.25, "IN": 2.0},
}
"""The only blocks that act, and their factors."""

PLACES = {
    "IN04": "input_blocks.4.",
    "MID": "middle_block.",
    "OUT03": "output_blocks.3.",
    "D03": "double_blocks.3.",
    "S10": "single_blocks.10.",
    "IN": ("img_in", "vector_in"),
}
STRENGTH = 0.8


def _files() -> Any:
    host()
    return importlib.import_module("tiller.tests.host.lora_files")


def _family(name: str) -> Any:
    if name == "flux":
        return _files().small_flux()
    return importlib.import_module("tiller.tests.host.small_unets").small(name)


@contextmanager
def _saved(weights: dict[str, Any]) -> Iterator[str]:
    """The name of a file with the tensors, in the only folder of LoRAs that the host then has."""
    paths = importlib.import_module("folder_paths")
    kept = paths.folder_names_and_paths["loras"]
    with tempfile.TemporaryDirectory() as folder:
        importlib.import_module("safetensors.torch").save_file(weights, Path(folder) / "a.safetensors")
        paths.folder_names_and_paths["loras"] = ([folder], kept[1])
        try:
            yield "a.safetensors"
        finally:
            paths.folder_names_and_paths["loras"] = kept


def _picture(of: Any, model: Any) -> Any:
    real = host()
    return real.sample(
        of._replace(model=model), real.conditioning(of, 1), real.conditioning(of, 2), real.Run(steps=2)
    )


def _ones(name: str, form: str) -> tuple[float, float]:
    """A picture with every factor 1 against that of the host's own loader."""
    real, of, files = host(), _family(name), _files()
    with _saved(files.lora(of.model, NAMINGS[name], form)) as file:
        ours = files.load(of.model, None, file, strength_model=STRENGTH)[0]
        theirs = real.host().LoraLoader().load_lora(of.model, None, file, STRENGTH, 0.0)[0]
    wanted = _picture(of, theirs)
    return real.difference(_picture(of, ours), wanted), real.difference(wanted, _picture(of, of.model))


def _factors(name: str) -> tuple[float, float]:
    """The merged weights against W + factor * strength * alpha / rank * up @ down."""
    real, of, files = host(), _family(name), _files()
    weights = files.lora(of.model, NAMINGS[name])
    told = ", ".join(f"{block}:{factor}" for block, factor in BLOCKS[name].items())
    with _saved(weights) as file:
        merged = files.merged(
            files.load(of.model, None, file, strength_model=STRENGTH, blocks=f"NONE, {told}")[0]
        )
    state, worst, most = of.model.model.state_dict(), 0.0, 0.0
    for module, theirs in files.names_of(of.model, NAMINGS[name]).items():
        inner, key = module.removeprefix(files.PREFIX), f"{module}.weight"
        factor = next((f for block, f in BLOCKS[name].items() if inner.startswith(PLACES[block])), 0.0)
        up, down = (weights[f"{theirs}.lora_{part}.weight"].flatten(1) for part in ("up", "down"))
        change = factor * STRENGTH * files.ALPHA / files.RANK * (up @ down).reshape(state[key].shape)
        worst = max(worst, real.difference(merged.get(key, state[key]), state[key] + change))
        most = max(most, float(change.abs().max()))
    return worst, most


def _window(name: str) -> tuple[float, float]:
    """A LoRA in the last two of four steps against two runs, without it and with it."""
    real, of, files = host(), _family(name), _files()
    tests = importlib.import_module("tiller.tests.host.test_lora_schedule")
    with _saved(files.lora(of.model, NAMINGS[name])) as file:
        hooks = tests.schedule(of.model, file, start_percent=tests.halfway(of, 2))[0]
        changed = files.load(of.model, None, file)[0]
    with files.unscaled(of):
        wanted = tests.in_two_halves(of, [of.model, changed])
        got, plain = tests.sampled(of, of.model, hooks), tests.sampled(of, of.model)
    return real.difference(got, wanted), real.difference(wanted, plain)


def _half(name: str) -> tuple[float, float]:
    """The LoRA half of a FaceID file merged, against W + up @ down."""
    host()
    tests = importlib.import_module("tiller.tests.host.test_lora_faceid")
    return tests.merged_beside_formula(name, 1.0)


ROWS = [
    *(
        Row(LORA, f"{shown}", f"{form}, every block 1, 2 steps", "ComfyUI", partial(_ones, name, form))
        for name, shown in FAMILIES.items()
        for form in (FORMS if name == "sd15" else FORMS[:1])
    ),
    *(
        Row(LORA, shown, "merged weights, three blocks", "formula", partial(_factors, name))
        for name, shown in FAMILIES.items()
    ),
    *(
        Row(
            SCHEDULE,
            FAMILIES[name],
            "the last two of four steps",
            "ComfyUI, two runs",
            partial(_window, name),
        )
        for name in ("sd15", "sdxl")
    ),
    *(
        Row(FACEID, FAMILIES[name], "merged weights", "formula", partial(_half, name))
        for name in ("sd15", "sdxl")
    ),
]
