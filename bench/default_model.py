"""The default model in figures: size, expansion, one UNet call against the narrow one, sampling time.

The sampling time stands beside that of the random stand-in with SD1.5's true block layout at the same
width, in the same run, both through the host's sampler: 256 x 256, 20 steps, cfg 3, line control.
"""

import importlib
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parent.parent
REPEATS = 3
STEPS = 20


def expansion(folder: Path) -> None:
    expand, files = (importlib.import_module(f"default_model.{name}") for name in ("expand", "files"))
    print(f"stored: {files.STORED.stat().st_size / 1e6:.2f} MB")
    seconds = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        paths = expand.expand(folder)
        seconds.append(time.perf_counter() - start)
    sizes = " + ".join(f"{path.stat().st_size / 1e6:.0f}" for path in paths)
    print(f"expanded to {sizes} MB in {statistics.median(seconds):.2f} s (median of {REPEATS})")


def difference(folder: Path) -> None:
    """One call under control at several timesteps; random latents, a drawn picture's lines."""
    evaluate, files, scenes = (
        importlib.import_module(f"default_model.{n}") for n in ("evaluate", "files", "scenes")
    )
    sd, controlnet = importlib.import_module("comfy.sd"), importlib.import_module("comfy.controlnet")
    management = importlib.import_module("comfy.model_management")
    host = Path(os.environ["COMFYUI_PATH"])
    narrow = evaluate.Models(files.STORED, host / "comfy" / "sd1_tokenizer")
    model = sd.load_checkpoint_guess_config(str(folder / files.CHECKPOINT))[0]
    control = controlnet.load_controlnet(str(folder / files.CONTROLS["lines"]))
    management.load_models_gpu([model, control.control_model_wrapped], force_full_load=True)
    _, hints = evaluate.hints_of([scenes.draw(1).picture] * 4, "lines")
    x = torch.randn(4, 4, 32, 32, generator=torch.Generator().manual_seed(0))
    timesteps = torch.tensor([999.0, 700.0, 300.0, 5.0])
    context = narrow.context(["a red circle, blue background"] * 4)
    with torch.inference_mode():
        residuals = narrow.controls["lines"](x, timesteps, context, hints)
        wanted = narrow.unet(x, timesteps, context, residuals)
        wide = control.control_model(x=x, hint=hints, timesteps=timesteps, context=context)
        given = {"output": list(wide["output"]), "middle": list(wide["middle"])}
        got = model.model.diffusion_model(x, timesteps, context=context, control=given)
    print(
        f"expanded against narrow, one UNet call under control: maximum difference "
        f"{(got - wanted).abs().max():.1e} on values up to {wanted.abs().max():.1f}"
    )


def sampler(checkpoint: Path, control: Path) -> Any:
    """A function that samples one picture's latents and returns the seconds."""
    sd, controlnet = importlib.import_module("comfy.sd"), importlib.import_module("comfy.controlnet")
    nodes = importlib.import_module("nodes")
    model = sd.load_checkpoint_guess_config(str(checkpoint), output_vae=False, output_clip=False)[0]
    net = controlnet.load_controlnet(str(control))
    entry = [[torch.randn(1, 77, 768, generator=torch.Generator().manual_seed(1)), {}]]
    hint = (torch.rand(1, 256, 256, 3, generator=torch.Generator().manual_seed(2)) > 0.9).float()
    positive, negative = nodes.ControlNetApplyAdvanced().apply_controlnet(
        entry, entry, net, hint, 1.0, 0.0, 1.0
    )
    latent = {"samples": torch.zeros(1, 4, 32, 32)}

    def run() -> float:
        start = time.perf_counter()
        nodes.common_ksampler(model, 1, STEPS, 3.0, "euler", "simple", positive, negative, latent)
        return time.perf_counter() - start

    return run


def sampling(folder: Path) -> None:
    files, standins = (
        importlib.import_module("default_model.files"),
        importlib.import_module("devtools.standins"),
    )
    names = ("tiller_standin_sd15", "tiller_standin_control_sd15")
    checkpoint, control = standins.ensure_standins(ROOT / ".dev" / "standins", names).values()
    runs = {
        "default model": sampler(folder / files.CHECKPOINT, folder / files.CONTROLS["lines"]),
        "stand-in": sampler(checkpoint, control),
    }
    for threads in (1, 2):
        torch.set_num_threads(threads)
        seconds: dict[str, list[float]] = {name: [] for name in runs}
        for turn in range(REPEATS + 1):
            for name, run in runs.items():
                spent = run()
                if turn:
                    seconds[name].append(spent)
        ours, other = (statistics.median(values) for values in seconds.values())
        print(
            f"{threads} thread{'s' * (threads > 1)}: default model {ours:.1f} s, stand-in {other:.1f} s, "
            f"ratio {other / ours:.2f} ({STEPS} steps, median of {REPEATS})"
        )


def main() -> None:
    # At the end: the pack's nodes/ must not hide the host's nodes.py.
    sys.path[:] = [os.environ["COMFYUI_PATH"], *(p for p in sys.path if Path(p or ".").resolve() != ROOT)]
    for name in ("default_model", "devtools"):
        package = type(sys)(name)
        package.__path__ = [str(ROOT / name)]
        sys.modules[name] = package
    sys.argv = sys.argv[:1]
    importlib.import_module("comfy.cli_args").args.cpu = True
    with tempfile.TemporaryDirectory() as folder:
        expansion(Path(folder))
        difference(Path(folder))
        sampling(Path(folder))


if __name__ == "__main__":
    main()
