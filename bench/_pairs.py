"""What every comparison of annotators is made of: the same random weights in the reference and in ours."""

import importlib
from collections.abc import Callable
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import torch
from _pack import maths

Hint = Callable[[torch.Tensor], torch.Tensor]
"""IMAGE (B,H,W,3) 0..1 -> the hint (B,H,W,3) 0..1."""


class Pair(NamedTuple):
    """One hint, ours and the reference's, both made with the same weights."""

    ours: Hint
    theirs: Hint


class Row(NamedTuple):
    """One row of the table: the hint's name, what makes its pair, what the reference is, pictures to time."""

    name: str
    make: Callable[[], Pair]
    reference: str = "controlnet-aux"
    timed: int = 8


def shared() -> ModuleType:
    """What the annotators' tests share: random weights, and pictures at the working size."""
    maths("image")
    return importlib.import_module("tiller.tests.unit.annotators")


def network(module: torch.nn.Module, layout: str = "contiguous") -> Callable[[torch.Tensor], Any]:
    """The module as the host runs it on the processor: picture by picture, in its layout."""
    memory = torch.channels_last if layout == "channels_last" else torch.contiguous_format
    module = module.eval().to(memory_format=memory)  # pyright: ignore[reportCallIssue]

    def run(batch: torch.Tensor) -> Any:
        parts = [module(part.contiguous(memory_format=memory)) for part in batch.split(1)]
        if isinstance(parts[0], tuple):
            return tuple(torch.cat(maps).contiguous() for maps in zip(*parts, strict=True))
        return torch.cat(parts).contiguous()

    return run


def picture_by_picture(detect: Callable[[np.ndarray], np.ndarray]) -> Hint:
    """A detector of one uint8 picture as the usual packs run it: tensor to 8 bit, padded, cropped, back."""

    def hint(image: torch.Tensor) -> torch.Tensor:
        height, width = image.shape[1:3]
        made = []
        for one in image:
            levels = (one.numpy() * 255).round().astype(np.uint8)
            padded = np.pad(levels, [(0, -height % 64), (0, -width % 64), (0, 0)], mode="edge")
            made.append(detect(padded)[:height, :width])
        return torch.from_numpy(np.stack(made).astype(np.float32) / 255.0)

    return hint


def by_detector(detector: Any, **options: Any) -> Hint:
    """A detector of controlnet-aux at the picture's own size."""

    def detect(padded: np.ndarray) -> np.ndarray:
        short = min(padded.shape[:2])
        made = detector(padded, detect_resolution=short, image_resolution=short, output_type="np", **options)
        return made[0] if isinstance(made, tuple) else made

    return picture_by_picture(detect)
