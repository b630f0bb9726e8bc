"""How well does the default model follow hints and prompts? `python -m default_model.evaluate [NARROW]`.

Scenes from seeds that training never saw, 20 Euler steps on the `simple` schedule: ComfyUI's KSampler with
the same seed gives the same picture (tests/host/test_default_model.py holds the two together).
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch

from . import expand, scenes
from .networks import Autoencoder, ControlNet, UNet
from .text import TextEncoder
from .train import noise_levels, pixels

STEPS = 20
CFG = 3.0
REACH = 2
"""Pixels by which an edge may be off and still count."""


class Models:
    """The narrow networks of a stored file, and a tokenizer."""

    def __init__(self, narrow: Path, tokenizer_folder: Path) -> None:
        from transformers import CLIPTokenizer

        parts = expand.unstore(expand.load(narrow))
        self.autoencoder, self.unet = Autoencoder().eval(), UNet().eval()
        self.controls = {"lines": ControlNet().eval(), "brightness": ControlNet().eval()}
        for name, module in {"autoencoder": self.autoencoder, "unet": self.unet, **self.controls}.items():
            module.load_state_dict(parts[name])
        self.encode = TextEncoder()
        self.tokenizer = CLIPTokenizer.from_pretrained(str(tokenizer_folder))

    def context(self, prompts: Sequence[str]) -> torch.Tensor:
        ids = self.tokenizer(list(prompts), padding="max_length", max_length=77, truncation=True)
        return self.encode(torch.tensor(ids["input_ids"]))


@dataclass(frozen=True)
class Control:
    """One control net over a batch: hints (B, 3, H, W) in 0..1."""

    net: str
    hints: torch.Tensor
    strength: float = 1.0


def sigmas(steps: int) -> torch.Tensor:
    """(steps + 1,) noise levels, largest first, 0 last: the host's `simple` schedule."""
    left = noise_levels()
    table = ((1 - left) / left).sqrt()
    return torch.cat([table[timesteps(steps)], torch.zeros(1)])


def timesteps(steps: int) -> list[int]:
    """The timestep of each step, largest first."""
    return [1000 - 1 - int(step * 1000 / steps) for step in range(steps)]


def noise_of(seeds: Sequence[int], side: int) -> torch.Tensor:
    return torch.cat(
        [torch.randn(1, 4, side, side, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
    )


@torch.inference_mode()
def sample(
    models: Models,
    prompts: Sequence[str],
    seeds: Sequence[int],
    controls: Sequence[Control] = (),
    cfg: float = CFG,
    steps: int = STEPS,
) -> np.ndarray:
    """Pictures (B, 256, 256, 3) uint8 of the prompts."""
    schedule, count = sigmas(steps), len(prompts)
    at = timesteps(steps)
    context = models.context([*prompts, *[""] * count])
    x = noise_of(seeds, scenes.SIDE // 8) * (1 + schedule[0] ** 2).sqrt()
    for step in range(steps):
        sigma, following = schedule[step], schedule[step + 1]
        rows = (x / (1 + sigma**2).sqrt()).repeat(2, 1, 1, 1)
        times = torch.full((2 * count,), at[step])
        extra = None
        for control in controls:
            hints = control.hints.repeat(2, 1, 1, 1)
            given = models.controls[control.net](rows, times, context, hints)
            given = [residual * control.strength for residual in given]
            extra = given if extra is None else [a + b for a, b in zip(extra, given, strict=True)]
        asked, unasked = models.unet(rows, times, context, extra).chunk(2)
        noise = unasked + (asked - unasked) * cfg
        x = x + noise * (following - sigma)
    return picture_of(models.autoencoder.decode(x))


def picture_of(x: torch.Tensor) -> np.ndarray:
    return x.clamp(0, 1).mul(255).round().byte().permute(0, 2, 3, 1).numpy()


def edge_agreement(picture: np.ndarray, hint: np.ndarray) -> float:
    """F1 of the picture's Canny edges (100, 200) and the hint's lines, each within REACH pixels."""
    found, wanted = cv2.Canny(picture, 100, 200) > 0, hint > 0
    kernel = np.ones((2 * REACH + 1, 2 * REACH + 1), np.uint8)
    if not found.any() or not wanted.any():
        return float(found.any() == wanted.any())
    right = (cv2.dilate(wanted.astype(np.uint8), kernel) > 0)[found].mean()
    seen = (cv2.dilate(found.astype(np.uint8), kernel) > 0)[wanted].mean()
    return float(2 * right * seen / (right + seen)) if right + seen else 0.0


def dominant_colour(picture: np.ndarray, mask: np.ndarray) -> str:
    """The palette colour to which most pixels under the mask are nearest, in Lab."""

    def lab(rgb: np.ndarray) -> np.ndarray:
        return cv2.cvtColor(rgb.astype(np.float32)[None] / 255, cv2.COLOR_RGB2LAB)[0]

    names = list(scenes.PALETTE)
    distance = np.linalg.norm(
        lab(picture[mask])[:, None] - lab(np.array([scenes.PALETTE[name] for name in names]))[None], axis=2
    )
    return names[int(np.bincount(distance.argmin(1), minlength=len(names)).argmax())]


def hints_of(pictures: Sequence[np.ndarray], kind: str) -> tuple[np.ndarray, torch.Tensor]:
    """Hints (B, H, W) uint8 and the same as network input."""
    if kind == "lines":
        drawn = np.stack([cv2.Canny(picture, 100, 200) for picture in pictures])
    else:
        drawn = np.stack([cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY) for picture in pictures])
    return drawn, pixels(np.repeat(drawn[..., None], 3, 3))


def in_batches(items: Sequence[scenes.Scene], size: int = 20):
    for start in range(0, len(items), size):
        yield range(start, min(start + size, len(items))), items[start : start + size]


def follow_lines(
    models: Models, count: int, strengths: Sequence[float], cfg: float
) -> dict[float, np.ndarray]:
    """Strength -> edge agreement of each scene."""
    found: dict[float, list[float]] = {strength: [] for strength in strengths}
    for seeds, batch in in_batches([scenes.draw(seed) for seed in range(count)]):
        drawn, hints = hints_of([scene.picture for scene in batch], "lines")
        for strength in strengths:
            control = [Control("lines", hints, strength)] if strength else []
            pictures = sample(models, [scene.prompt for scene in batch], seeds, control, cfg)
            found[strength] += [edge_agreement(p, hint) for p, hint in zip(pictures, drawn, strict=True)]
    return {strength: np.array(values) for strength, values in found.items()}


def keep_colour(models: Models, count: int, cfg: float) -> float:
    """Share of single objects, drawn under line control, that have the colour of the prompt."""
    items = [scenes.draw(seed, scenes.draw_object) for seed in range(count)]
    right = 0
    for seeds, batch in in_batches(items):
        _, hints = hints_of([scene.picture for scene in batch], "lines")
        pictures = sample(models, [scene.prompt for scene in batch], seeds, [Control("lines", hints)], cfg)
        right += sum(
            dominant_colour(p, scene.mask) == scene.colour for p, scene in zip(pictures, batch, strict=True)
        )
    return right / count


def keep_brightness(models: Models, count: int, cfg: float) -> tuple[np.ndarray, np.ndarray]:
    """Correlation of the picture's luma with the hint, under brightness control and without."""
    pairs: tuple[list[float], list[float]] = ([], [])
    for seeds, batch in in_batches([scenes.draw(seed) for seed in range(count)]):
        drawn, hints = hints_of([scene.picture for scene in batch], "brightness")
        for found, control in zip(pairs, ([Control("brightness", hints)], []), strict=True):
            pictures = sample(models, [scene.prompt for scene in batch], seeds, control, cfg)
            grey = [cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY) for picture in pictures]
            found += [np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in zip(grey, drawn, strict=True)]
    return np.array(pairs[0]), np.array(pairs[1])


def sheet(models: Models, path: Path, cfg: float, count: int = 16) -> None:
    """A grid to look at: scene, lines, picture by lines, by brightness, without control."""
    items = [scenes.draw(seed) for seed in range(500, 500 + count)]
    prompts, seeds = [scene.prompt for scene in items], range(count)
    drawn, lines = hints_of([scene.picture for scene in items], "lines")
    _, bright = hints_of([scene.picture for scene in items], "brightness")
    rows = [
        np.stack([scene.picture for scene in items]),
        np.repeat(drawn[..., None], 3, 3),
        sample(models, prompts, seeds, [Control("lines", lines)], cfg),
        sample(models, prompts, seeds, [Control("brightness", bright)], cfg),
        sample(models, prompts, seeds, [], cfg),
    ]
    half = count // 2
    bands = [
        np.concatenate(list(row[part]), 1) for part in (slice(0, half), slice(half, None)) for row in rows
    ]
    cv2.imwrite(str(path), np.concatenate(bands)[..., ::-1])


def spread(values: np.ndarray) -> str:
    return f"median {np.median(values):.3f}, 5 % quantile {np.quantile(values, 0.05):.3f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("narrow", type=Path, nargs="?", default=expand.STORED)
    parser.add_argument("--tokenizer", type=Path, required=True, help="ComfyUI's folder comfy/sd1_tokenizer")
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--cfg", type=float, default=CFG)
    parser.add_argument("--sheet", type=Path, help="write a grid of pictures here and stop")
    options = parser.parse_args()
    models = Models(options.narrow, options.tokenizer)
    if options.sheet:
        sheet(models, options.sheet, options.cfg)
        return
    scores = follow_lines(models, options.count, (0.0, 1.0), options.cfg)
    print(f"{options.count} unseen scenes, {STEPS} steps, cfg {options.cfg}")
    for strength, values in scores.items():
        print(f"edges within {REACH} px of the hint, F1, strength {strength}: {spread(values)}", flush=True)
    right = keep_colour(models, options.count, options.cfg)
    print(f"objects in the asked-for colour: {right:.1%}", flush=True)
    held, free = keep_brightness(models, options.count, options.cfg)
    print(f"luma against the brightness hint, correlation: {spread(held)}; without control: {spread(free)}")


if __name__ == "__main__":
    main()
