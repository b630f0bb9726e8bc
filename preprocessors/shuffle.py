"""Content shuffle: the picture warped by a smooth random field."""

import numpy as np
import torch

from .image import OnImage, check_image, hint_of, resize_short_side, short_side_size

CELL = 256
MAX_SIDE = 32766


def shuffle(
    image: torch.Tensor, seed: int = 0, resolution: int = 512, on_image: OnImage | None = None
) -> torch.Tensor:
    """IMAGE (B,H,W,C) RGB 0..1 -> IMAGE (B,h,w,3), each picture warped by a field of its own.

    Picture i uses `numpy.random.default_rng(seed + i)`, so it depends on nothing but the seed and its place
    in the batch. Every seed from 0 up is an ordinary one.

    Raises:
        ValueError: for an image that is empty, not finite, or of another shape, a negative seed, or a side
            over 32766 pixels.

    Source: lllyasviel/ControlNet-v1-1-nightly: annotator/shuffle/__init__.py; the seeding as in
    Fannovel16/comfyui_controlnet_aux: src/custom_controlnet_aux/shuffle/__init__.py.
    """
    check_image(image, "Shuffle")
    if seed < 0:
        raise ValueError(f"Shuffle needs a seed from 0 up, got {seed}. Any other whole number will do.")
    height, width = short_side_size((image.shape[1], image.shape[2]), resolution)
    if max(height, width) > MAX_SIDE:
        raise ValueError(
            f"Shuffle needs sides of at most {MAX_SIDE} pixels, got {width} x {height}. "
            "Lower the resolution or crop the picture."
        )
    import cv2

    rows, columns = _middle_weights(height), _middle_weights(width)

    def one(picture: np.ndarray, index: int) -> np.ndarray:
        random = np.random.default_rng(seed + index)
        across = smooth_noise(rows, columns, random) * float(width - 1)
        down = smooth_noise(rows, columns, random) * float(height - 1)
        sized = resize_short_side(picture, resolution)
        return cv2.remap(sized, across.astype(np.float32), down.astype(np.float32), cv2.INTER_LINEAR)

    return hint_of(image, one, on_image)


def smooth_noise(rows: np.ndarray, columns: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Array (H,W) float64 from 0 to 1: uniform noise on a grid of 256 px, enlarged cubically.

    `rows` (H,n) and `columns` (W,m) are the weights of the grid's n x m points. The reference enlarges the
    whole grid and cuts the middle out of it; the weights of the middle alone give the same numbers. One
    pixel has no range: it gives 0. (einsum, not matmul: these products are too small for BLAS threads.)
    """
    grid = random.uniform(0.0, 1.0, size=(rows.shape[1], columns.shape[1]))
    noise = np.einsum("ik,kj->ij", rows, np.einsum("kl,jl->kj", grid, columns))
    noise -= noise.min()
    peak = noise.max()
    if peak > 0:
        noise /= peak
    return noise


def _middle_weights(side: int) -> np.ndarray:
    """(side, side // 256 + 2) float64: cubic weights of the middle `side` pixels of side + 2 * 256."""
    points, total = side // CELL + 2, side + 2 * CELL
    position = ((np.arange(CELL, CELL + side) + 0.5) * (1.0 / (total / points)) - 0.5).astype(np.float32)
    base = np.floor(position)
    taps = _cubic_taps(position - base)
    weights = np.zeros((side, points))
    rows = np.arange(side)
    for offset, tap in zip((-1, 0, 1, 2), taps, strict=True):
        np.add.at(weights, (rows, np.clip(base.astype(np.int64) + offset, 0, points - 1)), tap)
    return weights


def _cubic_taps(x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Weights of the four neighbours at fraction `x`, a = -0.75, float32 as OpenCV computes them."""
    a = np.float32(-0.75)
    one = np.float32(1.0)
    before = ((a * (x + one) - 5 * a) * (x + one) + 8 * a) * (x + one) - 4 * a
    at = ((a + 2) * x - (a + 3)) * x * x + one
    after = ((a + 2) * (one - x) - (a + 3)) * (one - x) * (one - x) + one
    return before, at, after, one - before - at - after
