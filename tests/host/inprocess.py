"""The real host inside the test process: stand-in models, conditioning, one sampling run.

Import it as `tiller.tests.host.inprocess`. Needs COMFYUI_PATH; small models want OMP_NUM_THREADS=1.
"""

from __future__ import annotations

import atexit
import importlib
import os
import sys
import types
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

ROOT = Path(__file__).resolve().parent.parent.parent
MODELS = ROOT / ".dev" / "standins"


def kept(function: Any) -> Any:
    """`functools.cache` whose models go before the interpreter does, as the host's patchers need."""
    cached = cache(function)
    atexit.register(cached.cache_clear)
    return cached


class Family(NamedTuple):
    """One model family's stand-ins, loaded, and the sizes of its conditioning and latents."""

    name: str
    model: Any
    control: Any
    text_width: int
    pooled_width: int
    latent_channels: int


SIZES = {"sd15": (768, 768, 4), "sdxl": (2048, 1280, 4), "flux": (4096, 768, 16)}


@cache
def host() -> Any:
    """The host's `nodes` module, imported for the CPU, or for what TILLER_DEVICE says ("cuda")."""
    path = os.environ.get("COMFYUI_PATH")
    if not path or not (Path(path) / "comfy").is_dir():
        pytest.fail(
            "Tests against the host need COMFYUI_PATH to point at a ComfyUI folder; set it and run again."
        )
    if path not in sys.path:
        sys.path.insert(0, path)
    arguments, sys.argv = sys.argv, sys.argv[:1]
    try:
        cli = importlib.import_module("comfy.cli_args")
        cli.args.cpu = os.environ.get("TILLER_DEVICE", "cpu") == "cpu"
        return importlib.import_module("nodes")
    finally:
        sys.argv = arguments


@cache
def pack_nodes(module: str) -> Any:
    """The module `nodes/<module>.py` of the pack, without its siblings."""
    host()
    if "tiller.nodes" not in sys.modules:
        package = types.ModuleType("tiller.nodes")
        package.__path__ = [str(ROOT / "nodes")]
        sys.modules["tiller.nodes"] = package
    return importlib.import_module(f"tiller.nodes.{module}")


@kept
def family(name: str) -> Family:
    """The stand-in checkpoint and control net of a family, loaded once per process."""
    host()
    controlnet = importlib.import_module("comfy.controlnet")
    sd = importlib.import_module("comfy.sd")
    standins = importlib.import_module("devtools.standins")
    checkpoint, control = f"tiller_standin_{name}", f"tiller_standin_control_{name}"
    paths = standins.ensure_standins(MODELS, [checkpoint, control])
    model = sd.load_checkpoint_guess_config(str(paths[checkpoint]), output_vae=False, output_clip=False)[0]
    return Family(name, model, controlnet.load_controlnet(str(paths[control])), *SIZES[name])


@cache
def annotators() -> Path:
    """The folder with random weight files for every annotator, shown to the host of this process."""
    host()
    folder = importlib.import_module("devtools.annotator_standins").ensure(MODELS)
    importlib.import_module("devtools.onnx_standins").ensure(MODELS)
    importlib.import_module("folder_paths").add_model_folder_path(folder.name, str(folder))
    return folder


def conditioning(of: Family, seed: int) -> list[list[Any]]:
    """One entry of random text embeddings, pooled vector and (for Flux) guidance."""
    generator = torch.Generator().manual_seed(seed)
    options: dict[str, Any] = {"pooled_output": torch.randn(1, of.pooled_width, generator=generator)}
    if of.name == "flux":
        options["guidance"] = 3.5
    return [[torch.randn(1, 16, of.text_width, generator=generator), options]]


def picture(height: int, width: int, seed: int = 5, batch: int = 1) -> torch.Tensor:
    """IMAGE (batch,height,width,3) of noise in 0..1."""
    return torch.rand(batch, height, width, 3, generator=torch.Generator().manual_seed(seed))


class Run(NamedTuple):
    """What a sampling run is made with, apart from the conditioning."""

    size: tuple[int, int] = (8, 8)
    batch: int = 1
    steps: int = 3
    sampler: str = "euler"
    scheduler: str = "normal"
    cfg: float = 4.0
    denoise: float = 1.0


def sample(of: Family, positive: Any, negative: Any, run: Run | None = None) -> torch.Tensor:
    """LATENT (B,C,h,w) that the host's KSampler makes."""
    run = run or Run()
    latent = {"samples": torch.zeros(run.batch, of.latent_channels, *run.size)}
    result = host().common_ksampler(
        of.model,
        11,
        run.steps,
        run.cfg,
        run.sampler,
        run.scheduler,
        positive,
        negative,
        latent,
        denoise=run.denoise,
    )
    return result[0]["samples"]


def core_apply(positive: Any, negative: Any, control: Any, image: Any, *settings: Any, **more: Any) -> Any:
    """The host's own Apply ControlNet: settings are strength, start_percent, end_percent."""
    return (
        host()
        .ControlNetApplyAdvanced()
        .apply_controlnet(positive, negative, control, image, *(settings or (1.0, 0.0, 1.0)), **more)
    )


DEFAULTS = {
    "strength": 1.0,
    "start_percent": 0.0,
    "end_percent": 1.0,
    "window": "noise",
    "resize_mode": "core",
}


def tiller_apply(positive: Any, negative: Any, control: Any, image: Any, **settings: Any) -> Any:
    """Our Apply Control, at the defaults of its widgets but for `settings`."""
    node = pack_nodes("control").TillerApplyControl
    return node.execute(positive, negative, control_net=control, image=image, **{**DEFAULTS, **settings}).args


def tiller_apply_units(positive: Any, negative: Any, units: list[Any], **more: Any) -> Any:
    """Our Apply Control Units with the units in the order given."""
    node = pack_nodes("control").TillerApplyControlUnits
    return node.execute(positive, negative, {f"unit{i}": unit for i, unit in enumerate(units)}, **more).args


def tiller_unit(control: Any, image: Any, **settings: Any) -> Any:
    """Our Control Unit, at the defaults of its widgets but for `settings`."""
    node = pack_nodes("control").TillerControlUnit
    return node.execute(control_net=control, image=image, **{**DEFAULTS, **settings}).args[0]


def options(layers: str = "", steps: str = "", union_type: str = "auto", mask: Any = None) -> Any:
    """Our Control Options, at the defaults of its widgets but for what is given."""
    node = pack_nodes("control_options").TillerControlOptions
    return node.execute(layers=layers, steps=steps, union_type=union_type, mask=mask).args[0]


def difference(one: torch.Tensor, other: torch.Tensor) -> float:
    """Largest absolute difference; both must be finite."""
    assert torch.isfinite(one).all()
    assert torch.isfinite(other).all()
    return float((one - other).abs().max())
