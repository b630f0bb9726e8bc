"""Pictures the hint tests share, and every hint as a function of picture and working size."""

from collections.abc import Callable

import cv2
import numpy as np
import torch
from tiller.preprocessors import lines, shuffle, tone
from tiller.preprocessors.image import to_uint8

Hint = Callable[[torch.Tensor, int], torch.Tensor]

HINTS: dict[str, Hint] = {
    "canny": lambda image, resolution: lines.canny(image, resolution=resolution),
    "threshold": lambda image, resolution: lines.threshold(image, resolution=resolution),
    "scribble": lambda image, resolution: lines.scribble(image, resolution=resolution),
    "scribble_xdog": lambda image, resolution: lines.scribble_xdog(image, resolution=resolution),
    "line_art_standard": lambda image, resolution: lines.line_art_standard(image, resolution=resolution),
    "blur": lambda image, resolution: tone.blur(image, resolution=resolution),
    "color_grid": lambda image, resolution: tone.color_grid(image, resolution=resolution),
    "shuffle": lambda image, resolution: shuffle.shuffle(image, 5, resolution),
    "invert": lambda image, _: tone.invert(image),
    "recolor_luminance": lambda image, _: tone.recolor_luminance(image, 0.7),
    "recolor_intensity": lambda image, _: tone.recolor_intensity(image, 0.7),
    "brightness": lambda image, _: tone.brightness(image),
    "brightness L": lambda image, _: tone.brightness(image, "L"),
    "tile_resample": lambda image, _: tone.tile_resample(image, 2.5),
}
RESIZING = tuple(HINTS)[:8]


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    """(H,W,3) uint8: smooth colours, a few hard shapes and a little noise, like a photograph of a desk."""
    random = np.random.default_rng(seed)
    small = random.integers(0, 256, (5, 6, 3)).astype(np.uint8)
    canvas = cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR)
    for _ in range(6):
        x, y = random.integers(0, max(width, 2)), random.integers(0, max(height, 2))
        colour = [int(level) for level in random.integers(0, 256, 3)]
        cv2.circle(canvas, (int(x), int(y)), max(1, min(height, width) // 6), colour, -1)
        cv2.line(canvas, (int(x), 0), (width - 1, int(y)), (0, 0, 0), 2)
    noisy = canvas + random.normal(0, 3, canvas.shape)
    return np.rint(noisy).clip(0, 255).astype(np.uint8)


def as_image(*pictures: np.ndarray) -> torch.Tensor:
    """(B,H,W,3) float32 0..1, as the host loads pictures."""
    return torch.from_numpy(np.stack(pictures).astype(np.float32) / 255.0)


def levels(image: torch.Tensor) -> np.ndarray:
    """(B,H,W,3) int16 levels of a hint."""
    return to_uint8(image).astype(np.int16)


def worst(image: torch.Tensor, *wanted: np.ndarray) -> int:
    """Greatest difference in levels between a hint and what was wanted, gray maps repeated."""
    full = [np.repeat(one[..., None], 3, axis=2) if one.ndim == 2 else one for one in wanted]
    return int(np.abs(levels(image) - np.stack(full).astype(np.int16)).max())
