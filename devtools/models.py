"""Models: the user's own, found by their keys, or small ones of ours under the names that recipes use."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from default_model import files

from . import default_model, standins
from .client import Prompt
from .environment import ROOT, Environment
from .links import link_file
from .messages import DISK_FULL, Trouble, disk_full, last_line, no_space_left
from .processes import run_logged

LOADERS: dict[str, tuple[str, str]] = {
    "CheckpointLoaderSimple": ("ckpt_name", "checkpoints"),
    "ControlNetLoader": ("control_net_name", "controlnet"),
    "DiffControlNetLoader": ("control_net_name", "controlnet"),
    "TillerLoadControl": ("control_name", "controlnet"),
    "LoraLoader": ("lora_name", "loras"),
    "TillerLoadLoRA": ("lora_name", "loras"),
    "TillerLoRAUnit": ("lora_name", "loras"),
    "TillerLoRAInfo": ("lora_name", "loras"),
    "TillerScheduleLoRA": ("lora_name", "loras"),
    "TillerLoadIPAdapter": ("ip_adapter_name", "ipadapter"),
    "TillerLoadImageEncoder": ("encoder_name", "clip_vision"),
    "TillerLoadImagePrompt": ("prompt_name", "image_prompts"),
}
"""Loader node -> its input that names a file, and the models folder that file lies in."""

AUTO = "auto"
"""In place of a file's name: the loader finds the one that fits, here a stand-in under its own name."""

PACK_LOADER = ("TillerLoadFaceAnalysis", "pack")
"""The loader of a folder of files, and its input that names the folder."""

LATENT = "EmptyLatentImage"
LATENTS = (LATENT, "EmptySD3LatentImage")
SIZES = {"SD1.5": 512, "SDXL": 1024}
STEPS = 20
STANDIN_FAMILIES = {"xl": "sdxl", "flux": "flux"}
STANDIN_WORDS = {"controlnet": "control_", "loras": "lora_"}
CONTROL_WORDS = {
    "lines": ("canny", "lineart", "scribble", "softedge", "hed", "mlsd"),
    "brightness": ("brightness", "illumination", "qrcode", "color", "tile"),
}
"""Control net of the default model -> words in the names of those (SD1.5) that it is used in place of."""

UNION_WORDS = ("union", "promax")
"""In the name of a ControlNet-Union, which is for SDXL."""

UNREADABLE = {".ckpt", ".pt", ".pth", ".bin"}


class Found(NamedTuple):
    """One file of the user's models folder, and what its keys say it is."""

    path: Path
    role: str
    kind: str
    family: str


class Chosen(NamedTuple):
    """What the recipe is run with."""

    checkpoint: Found
    control: Found
    note: str


def _identify_module() -> ModuleType:
    """adapters/identify.py by its path: the pack's root must not get in the way of other modules."""
    name = "tiller_identify"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, ROOT / "adapters" / "identify.py")
        if spec is None or spec.loader is None:
            raise Trouble("adapters/identify.py is needed to know models by their keys. Restore the file.")
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
    return sys.modules[name]


def look_through(folder: Path) -> tuple[list[Found], list[str]]:
    """Every model that is known by its keys, and one line for every other file."""
    if not folder.is_dir():
        raise Trouble(
            f"--models must name a folder of models, got {folder}. Give the folder that holds yours."
        )
    identify = _identify_module()
    found: list[Found] = []
    others: list[str] = []
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        if path.suffix in UNREADABLE:
            others.append(f"{path.name}: a {path.suffix} file; only .safetensors files are looked into")
        elif path.suffix == ".safetensors":
            try:
                what = identify.identify(identify.read_shapes(path))
                found.append(Found(path.resolve(), what.role, what.kind, what.family))
            except (ValueError, OSError) as error:
                others.append(f"{path.name}: {str(error).split('. ')[0]}")
    return found, others


def choose(folder: Path) -> Chosen:
    """A checkpoint and a control net of one family. Raises Trouble that names what was seen instead."""
    found, others = look_through(folder)
    tillers = _identify_module().TILLER_KINDS
    controls = [f for f in found if f.role == "control" and f.kind not in tillers]
    for family in SIZES:
        checkpoints = [f for f in found if f.role == "checkpoint" and f.family == family]
        fitting = sorted(
            (c for c in controls if c.family == family), key=lambda c: "canny" not in c.path.name.lower()
        )
        if checkpoints and fitting:
            control = fitting[0]
            note = f"Using {checkpoints[0].path.name} ({family}) and {control.path.name} ({control.kind})."
            if "canny" not in control.path.name.lower():
                note += (
                    " Keys do not tell what a control net was trained on; for edges it should be a canny one."
                )
            return Chosen(checkpoints[0], control, note)
    seen = [f"{f.path.name}: {f.kind}, {f.role}, {f.family}" for f in found] + others
    listing = "; ".join(seen[:20]) + (f"; and {len(seen) - 20} more" if len(seen) > 20 else "")
    raise Trouble(
        f"A checkpoint of SD1.5 or SDXL and a control net of the same family are needed, {folder} has: "
        f"{listing or 'no model files'}. Add what is missing, or leave --models out for the toy model."
    )


def extra_paths(folders: Mapping[str, Iterable[Path]], target: Path) -> tuple[str, str]:
    """Write the host's list of extra model folders; returns the option that names it. (JSON is YAML, too.)"""
    table = {kind: "\n".join(sorted({str(folder) for folder in paths})) for kind, paths in folders.items()}
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps({"tiller_dev": table}, indent=1, ensure_ascii=False), encoding="utf-8")
    return "--extra-model-paths-config", str(target)


def with_models(prompt: Prompt, chosen: Chosen) -> Prompt:
    """The recipe with the user's files, the size of their family, and a full number of steps."""
    names = {"checkpoints": chosen.checkpoint.path.name, "controlnet": chosen.control.path.name}
    size = SIZES[chosen.checkpoint.family]
    return _patched(prompt, names, {"width": size, "height": size}, STEPS, (LATENT, "TillerPixelPerfect"))


def _patched(
    prompt: Prompt,
    names: dict[str, str],
    size: dict[str, int],
    steps: int,
    sized: Collection[str] = (LATENT,),
) -> Prompt:
    patched: Prompt = {}
    for node_id, node in prompt.items():
        inputs = dict(node["inputs"])
        if node["class_type"] in LOADERS:
            key, folder = LOADERS[node["class_type"]]
            inputs[key] = names.get(folder, inputs[key])
        if node["class_type"] in sized:
            inputs |= size
        if node["class_type"] in ("KSampler", "KSamplerAdvanced"):
            inputs["steps"] = steps
        patched[node_id] = {**node, "inputs": inputs}
    return patched


def made_small(prompt: Prompt, size: int = 192, steps: int = 4) -> Prompt:
    """The recipe at a size and number of steps that suit a test; two hints stand for a contact sheet."""
    patched = _patched(prompt, {}, {"width": size, "height": size}, steps, LATENTS)
    for node in patched.values():
        if node["class_type"] == "TillerContactSheet":
            node["inputs"] |= {"resolution": 64, "hints": "canny, hed"}
    return patched


def wanted_files(prompts: Iterable[Prompt]) -> set[tuple[str, str]]:
    """(models folder, file name) of every file that the loaders of the recipes name."""
    files: set[tuple[str, str]] = set()
    for prompt in prompts:
        for node in prompt.values():
            if node["class_type"] in LOADERS:
                key, folder = LOADERS[node["class_type"]]
                if isinstance(node["inputs"].get(key), str):
                    files.add((folder, node["inputs"][key]))
    return files


def wanted_packs(prompts: Iterable[Prompt]) -> set[str]:
    """The names of the packs of face models that the recipes ask for."""
    loader, key = PACK_LOADER
    nodes = [node for prompt in prompts for node in prompt.values() if node["class_type"] == loader]
    return {node["inputs"][key] for node in nodes if isinstance(node["inputs"].get(key), str)}


def substitute(folder: str, name: str) -> str:
    """The file of ours (below a models folder) that is used in place of the one named.

    The default model takes the places of SD1.5 checkpoints and of those control nets that it has learned;
    everything else is a random stand-in of the family that the name tells, adapters and LoRAs for SD1.5 one
    that fits the default model. Of SDXL it is the one with all its transformers, which weight types count.
    """
    low = name.lower()
    family = next((value for sign, value in STANDIN_FAMILIES.items() if sign in low), "sd15")
    if family == "sd15" and folder == "checkpoints":
        return files.CHECKPOINT
    if family == "sdxl" and folder == "checkpoints":
        return "checkpoints/tiller_standin_layers_sdxl.safetensors"
    words = re.split(r"[^a-z0-9]+", low)
    if folder == "controlnet" and not set(UNION_WORDS).isdisjoint(words):
        return "controlnet/tiller_standin_union_sdxl.safetensors"
    if folder == "ipadapter":
        kind = "faceid" if "faceid" in low else "ip_adapter"
        ours = f"tiller_standin_{kind}_{'toy' if family == 'sd15' else family}"
        is_pickled = low.endswith(".bin") and ours in standins.STANDINS and standins.STANDINS[ours].pickled
        return f"ipadapter/{ours}{'.bin' if is_pickled else '.safetensors'}"
    if folder == "image_prompts":
        return "image_prompts/tiller_standin_prompt.safetensors"
    if folder == "clip_vision":
        return f"clip_vision/tiller_standin_encoder_{'l' if 'large' in words else 'h'}.safetensors"
    if folder == "loras" and family == "sd15":
        return "loras/tiller_standin_lora_toy.safetensors"
    for part, known in CONTROL_WORDS.items():
        if family == "sd15" and any(word.startswith(known) for word in words):
            return files.CONTROLS[part]
    return f"{folder}/tiller_standin_{STANDIN_WORDS.get(folder, '')}{family}.safetensors"


def shipped_prompts(root: Path) -> dict[str, Any]:
    """API forms of the shipped recipes by name."""
    return {
        path.stem: json.loads(path.read_text(encoding="utf-8"))
        for path in sorted((root / "workflows/api").glob("*.json"))
    }


def ensure_standins(environment: Environment, names: Iterable[str] = ()) -> Path:
    """The folder with the default model, and a model of ours under every name that a shipped recipe asks for.

    `names` adds random stand-ins under their own names (see devtools/standins.py).
    """
    folder = environment.places.standins
    default = default_model.ensure(environment)
    wanted = wanted_files(shipped_prompts(environment.places.root).values())
    pairs = ((kind, name, substitute(kind, name)) for kind, name in wanted)
    used = {folder / (ours if name == AUTO else f"{kind}/{name}"): Path(ours) for kind, name, ours in pairs}
    used |= {folder / name: Path(name) for name in default_model.NAMES}
    needed = {*names, *(path.stem for path in used.values() if path.stem in standins.STANDINS)}
    _make_standins(environment, folder, needed)
    for link, path in used.items():
        source = (folder if path.stem in standins.STANDINS else default) / path
        if source != link:
            link_file(source, link)
    return folder


def _make_standins(environment: Environment, folder: Path, names: Iterable[str]) -> None:
    """Write the random stand-ins that are missing or older than their layouts."""
    paths = {name: folder / standins.STANDINS[name].folder / f"{name}.safetensors" for name in names}
    missing = sorted(name for name, path in paths.items() if not standins.is_current(path))
    if not missing:
        return
    log = environment.places.logs / "standins.log"
    command = [environment.python, ROOT / "devtools" / "standins.py", folder, *missing]
    code, text = run_logged(command, log, f"Making {len(missing)} stand-in models", environment.variables)
    if code:
        full = any(sign in text for sign in DISK_FULL) or no_space_left(folder.parent)
        said = f"The stand-ins could not be made: {last_line(text)} Details: {log}"
        raise Trouble(disk_full(folder) if full else said)


def standin_options(folder: Path, target: Path) -> tuple[str, str]:
    """The server's option that shows it the models of ours."""
    kinds = sorted({standin.folder for standin in standins.STANDINS.values()})
    return extra_paths({kind: [folder / kind] for kind in kinds}, target)
