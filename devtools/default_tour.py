"""The quickstart without models: one run on the default model, and one contact sheet of what control does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

from default_model import files

from .client import Prompt, RunResult
from .environment import ROOT
from .messages import Trouble, last_line
from .processes import output_of, say
from .progress import follow, say_times
from .server_process import Server

SIDE = 256
PHOTOGRAPH = "coffee.png"
PROMPTS = (
    "a red and yellow collage",
    "a blue and white collage",
    "a portrait, yellow hair, red shirt, blue background",
    "a green and orange collage",
)
"""In the words that the model has learned (default_model/README.md). The first is used in every row."""

STRENGTHS = (0.0, 0.25, 0.5, 0.75, 1.0)
CANNY = {"low_threshold": 100, "high_threshold": 200, "resolution": SIDE}
CONTROL = {"start_percent": 0.0, "end_percent": 1.0, "window": "noise", "resize_mode": "core"}
SAMPLING = {
    "seed": 1,
    "steps": 12,
    "cfg": 3.0,
    "sampler_name": "euler",
    "scheduler": "simple",
    "denoise": 1.0,
}

TITLE = "Tiller: what control does, shown on a toy model"
TEXT = (
    "The model that made these pictures is a toy of a few million parameters, trained on pictures that this "
    "project drew itself. It shows that control works, not what pictures can look like. For real pictures, "
    "give the folder of your own models: python3 dev.py quickstart --models DIR"
)
SHEET = "contact_sheet.png"
LEAST_SECONDS = 0.1


class Picture(NamedTuple):
    """What makes one picture differ from the others."""

    prompt: str
    strength: float


def pictures() -> dict[str, Picture]:
    """Every picture of the sheet, once, by its name."""
    by_prompt = {f"prompt_{index}": Picture(prompt, 1.0) for index, prompt in enumerate(PROMPTS, 1)}
    by_strength = {f"strength_{strength:.2f}": Picture(PROMPTS[0], strength) for strength in STRENGTHS}
    return {name: one for name, one in (by_prompt | by_strength).items() if name == name_of(one)}


def name_of(picture: Picture) -> str:
    if picture.strength == 1.0:
        return f"prompt_{PROMPTS.index(picture.prompt) + 1}"
    return f"strength_{picture.strength:.2f}"


def _node(kind: str, title: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": kind, "inputs": inputs, "_meta": {"title": title}}


def _saved(name: str, image: list[Any]) -> Prompt:
    return {f"{name} saved": _node("SaveImage", f"Save {name}", images=image, filename_prefix=f"toy_{name}")}


def graph() -> Prompt:
    """The whole sheet as one prompt in API form: what is common is loaded and computed once."""
    prompt: Prompt = {
        "model": _node("CheckpointLoaderSimple", "Toy model", ckpt_name=Path(files.CHECKPOINT).name),
        "net": _node(
            "ControlNetLoader", "Toy control net", control_net_name=Path(files.CONTROLS["lines"]).name
        ),
        "photograph": _node("LoadImage", "Photograph", image=PHOTOGRAPH),
        "canny": _node("TillerCanny", "Canny edges", image=["photograph", 0], **CANNY),
        "no words": _node("CLIPTextEncode", "Negative prompt", text="", clip=["model", 1]),
        "latent": _node("EmptyLatentImage", "Empty latent", width=SIDE, height=SIDE, batch_size=1),
        **_saved("canny", ["canny", 0]),
    }
    for words in PROMPTS:
        prompt[words] = _node("CLIPTextEncode", f"Prompt: {words}", text=words, clip=["model", 1])
    for name, picture in pictures().items():
        prompt |= _branch(name, picture)
    return prompt


def _branch(name: str, picture: Picture) -> Prompt:
    """The nodes of one picture: control, sampling, decoding, saving."""
    control, sampled, decoded = (f"{name} {part}" for part in ("control", "sampled", "decoded"))
    applied = {"positive": [picture.prompt, 0], "negative": ["no words", 0], "control_net": ["net", 0]}
    conditioning = {"positive": [control, 0], "negative": [control, 1]}
    latent = {"model": ["model", 0], "latent_image": ["latent", 0]}
    strength = {"strength": picture.strength, "image": ["canny", 0]}
    return {
        control: _node("TillerApplyControl", f"Control {name}", **applied, **strength, **CONTROL),
        sampled: _node("KSampler", f"Sample {name}", **conditioning, **latent, **SAMPLING),
        decoded: _node("VAEDecode", f"Decode {name}", samples=[sampled, 0], vae=["model", 2]),
        **_saved(name, [decoded, 0]),
    }


def layout(folder: Path, photograph: Path) -> dict[str, Any]:
    """What contact_sheet.py draws: three rows of the pictures in `folder`."""

    def cell(name: str, label: str) -> dict[str, str]:
        return {"file": str(folder / f"{name}.png"), "label": label}

    first = Picture(PROMPTS[0], 1.0)
    story = [
        {"file": str(photograph), "label": "the photograph"},
        cell("canny", "its edges (Canny Edges)"),
        cell(name_of(first), PROMPTS[0]),
    ]
    by_prompt = [cell(name_of(Picture(words, 1.0)), words) for words in PROMPTS]
    by_strength = [
        cell(name_of(Picture(PROMPTS[0], s)), f"strength {s:g}" if s else "strength 0: no control")
        for s in STRENGTHS
    ]
    return {
        "title": TITLE,
        "text": TEXT,
        "rows": [
            {"title": "A picture that follows the edges of a photograph", "cells": story, "arrows": True},
            {"title": "The same edges, other words", "cells": by_prompt},
            {"title": "The same words, from no control to full control", "cells": by_strength},
        ],
    }


def show(server: Server, target: Path) -> None:
    """Run the graph, keep its pictures and the sheet in `target`, and print where they are."""
    prompt = graph()
    result = follow(server, prompt)
    names = keep(server, result, target)
    photograph = server.base / "input" / PHOTOGRAPH
    say(f"Contact sheet: {make_sheet(server, layout(target, photograph), target)}")
    say("Pictures on it:")
    for name in names:
        say(f"  {target / name}.png")
    say_times(prompt, result, LEAST_SECONDS)


def keep(server: Server, result: RunResult, target: Path) -> list[str]:
    """Fetch every picture under its own name, so that a second call replaces the first one's."""
    target.mkdir(parents=True, exist_ok=True)
    made = {image.node.removesuffix(" saved"): image for image in result.images}
    missing = [name for name in ("canny", *pictures()) if name not in made]
    if missing:
        raise Trouble(f"The run made no picture {', '.join(missing)}. Look into {server.log}.")
    for name, image in made.items():
        (target / f"{name}.png").write_bytes(server.client.download(image))
    return list(made)


def make_sheet(server: Server, what: dict[str, Any], target: Path) -> Path:
    """Drawn by a program of .venv: the pictures need a library, this tool has none."""
    sheet = target / SHEET
    program = ROOT / "devtools" / "contact_sheet.py"
    code, _, complaint = output_of([server.environment.python, program, sheet, json.dumps(what)])
    if code:
        raise Trouble(
            f"The contact sheet could not be drawn: {last_line(complaint)} The pictures are in {target}."
        )
    return sheet
