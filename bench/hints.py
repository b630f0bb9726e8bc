"""Our hints and the reference's side by side, in one run: `python3 dev.py bench hints`.

Both sides go from a batch tensor to a batch tensor. The reference goes as the packs around it do: picture
by picture, tensor to 8-bit array, detector, back to a tensor, stack. Where controlnet-aux 0.0.10 has no
such hint, the formula of sd-webui-controlnet is restated here. The two sides take turns.
"""

from __future__ import annotations

import os
import statistics
import time
import warnings
from collections.abc import Callable
from typing import NamedTuple

import cv2  # noqa: TID253
import numpy as np
import torch
from _pack import maths

SIDE, COUNT, ROUNDS = 768, 8, 9
GOALS = {"canny": 2.0, "scribble xdog": 3.0, "shuffle": 2.0}
CONTROLNET_AUX = "controlnet-aux"
FORMULA = "webui formula"


class Pair(NamedTuple):
    """One hint, the two ways of making it, and where the second comes from."""

    name: str
    ours: Callable[[torch.Tensor], torch.Tensor]
    reference: Callable[[np.ndarray], np.ndarray]
    source: str


def pictures() -> torch.Tensor:
    """(8,768,768,3) float32 0..1: crops of three photographs, enlarged, with a little sensor noise."""
    from skimage import data

    random = np.random.default_rng(0)
    photographs = [data.astronaut(), data.coffee(), data.chelsea()]
    batch = []
    for index in range(COUNT):
        photograph = photographs[index % len(photographs)]
        top = 10 * index
        crop = photograph[top % 20 : top % 20 + 280, top : top + 280]
        enlarged = cv2.resize(crop, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
        batch.append(np.rint(enlarged + random.normal(0, 3, enlarged.shape)).clip(0, 255))
    return torch.from_numpy(np.stack(batch).astype(np.float32) / 255.0)


def as_packs_do(image: torch.Tensor, detector: Callable[[np.ndarray], np.ndarray]) -> torch.Tensor:
    out = []
    for one in image:
        result = detector(np.asarray(one.cpu().numpy() * 255.0, dtype=np.uint8))
        out.append(torch.from_numpy(result.astype(np.float32) / 255.0))
    return torch.stack(out)


def colours(array: np.ndarray) -> np.ndarray:
    """Gray to three channels, as the packs' HWC3 does."""
    return array if array.ndim == 3 else np.concatenate([array[:, :, None]] * 3, axis=2)


def sized(array: np.ndarray) -> np.ndarray:
    """The webui's resize with pad, for a picture that has its size already."""
    resized = cv2.resize(array, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    return np.ascontiguousarray(np.pad(resized, [[0, 0], [0, 0], [0, 0]], mode="edge").copy()).copy()


def xdog(array: np.ndarray) -> np.ndarray:
    picture = sized(array)
    fine = cv2.GaussianBlur(picture.astype(np.float32), (0, 0), 0.5)
    coarse = cv2.GaussianBlur(picture.astype(np.float32), (0, 0), 5.0)
    dog = (255 - np.min(coarse - fine, axis=2)).clip(0, 255).astype(np.uint8)
    result = np.zeros_like(picture)
    result[2 * (255 - dog) > 32] = 255
    return result


def threshold(array: np.ndarray) -> np.ndarray:
    picture = sized(array)
    result = np.zeros_like(picture)
    result[np.min(picture, axis=2) > 127] = 255
    return result


def scribble(array: np.ndarray) -> np.ndarray:
    picture = sized(array)
    result = np.zeros_like(picture)
    result[np.min(picture, axis=2) < 127] = 255
    return 255 - result


def recolor(array: np.ndarray, code: int, channel: int) -> np.ndarray:
    value = (cv2.cvtColor(array, code)[:, :, channel].astype(np.float32) / 255.0) ** 1.0
    return cv2.cvtColor((value * 255.0).clip(0, 255).astype(np.uint8), cv2.COLOR_GRAY2RGB)


def color_grid(array: np.ndarray) -> np.ndarray:
    resized = cv2.resize(array, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    grid = cv2.resize(resized, (SIDE // 64, SIDE // 64), interpolation=cv2.INTER_CUBIC)
    return cv2.resize(grid, (SIDE, SIDE), interpolation=cv2.INTER_NEAREST)


def pairs() -> list[Pair]:
    lines, tone = maths("lines"), maths("tone")
    from controlnet_aux import CannyDetector, ContentShuffleDetector, LineartStandardDetector

    edges, strokes, shuffled = CannyDetector(), LineartStandardDetector(), ContentShuffleDetector()
    aux = {"detect_resolution": SIDE, "output_type": "np"}
    return [
        Pair(
            "canny",
            lambda image: lines.canny(image, resolution=SIDE),
            lambda array: edges(array, 100, 200, image_resolution=SIDE, **aux),
            CONTROLNET_AUX,
        ),
        Pair("scribble xdog", lambda image: lines.scribble_xdog(image, resolution=SIDE), xdog, FORMULA),
        Pair(
            "shuffle",
            lambda image: maths("shuffle").shuffle(image, 0, SIDE),
            lambda array: shuffled(array, image_resolution=SIDE, **aux),
            CONTROLNET_AUX,
        ),
        Pair(
            "lineart standard",
            lambda image: lines.line_art_standard(image, resolution=SIDE),
            lambda array: strokes(array, 6.0, 8, **aux),
            CONTROLNET_AUX,
        ),
        Pair("threshold", lambda image: lines.threshold(image, resolution=SIDE), threshold, FORMULA),
        Pair("scribble", lambda image: lines.scribble(image, resolution=SIDE), scribble, FORMULA),
        Pair("invert", tone.invert, lambda array: 255 - array, FORMULA),
        Pair(
            "blur",
            lambda image: tone.blur(image, resolution=SIDE),
            lambda array: cv2.GaussianBlur(sized(array), (0, 0), 9.0),
            FORMULA,
        ),
        Pair(
            "tile resample",
            lambda image: tone.tile_resample(image, 2.0),
            lambda array: cv2.resize(array, (SIDE // 2, SIDE // 2), interpolation=cv2.INTER_AREA),
            FORMULA,
        ),
        Pair(
            "recolor luminance",
            tone.recolor_luminance,
            lambda array: recolor(array, cv2.COLOR_BGR2LAB, 0),
            FORMULA,
        ),
        Pair(
            "recolor intensity",
            tone.recolor_intensity,
            lambda array: recolor(array, cv2.COLOR_BGR2HSV, 2),
            FORMULA,
        ),
        Pair(
            "brightness",
            tone.brightness,
            lambda array: cv2.cvtColor(cv2.cvtColor(array, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB),
            "cv2 luma",
        ),
        Pair("color grid", lambda image: tone.color_grid(image, SIDE), color_grid, FORMULA),
    ]


def seconds(work: Callable[[], torch.Tensor]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def measure(pair: Pair, image: torch.Tensor) -> tuple[float, float, float, str]:
    """(our median s, reference median s, median of the ratios, level difference); the sides take turns."""

    def reference() -> torch.Tensor:
        return as_packs_do(image, pair.reference)

    difference = same_levels(pair, image)
    ours_s, reference_s = [], []
    for _ in range(ROUNDS):
        reference_s.append(seconds(reference))
        ours_s.append(seconds(lambda: pair.ours(image)))
    ratios = [theirs / mine for theirs, mine in zip(reference_s, ours_s, strict=True)]
    return statistics.median(ours_s), statistics.median(reference_s), statistics.median(ratios), difference


def same_levels(pair: Pair, image: torch.Tensor) -> str:
    """Greatest difference in levels. Shuffle is compared on the same draws: picture k takes seed k."""
    if pair.name != "shuffle":
        wanted = as_packs_do(image, pair.reference)
    else:
        drawn, wanted_parts = np.random.uniform, []
        for index in range(len(image)):
            np.random.uniform = np.random.default_rng(index).uniform
            wanted_parts.append(as_packs_do(image[index : index + 1], pair.reference))
        np.random.uniform = drawn
        wanted = torch.cat(wanted_parts)
    return f"{float((pair.ours(image) - wanted).abs().max()) * 255:.0f}"


def main() -> int:
    warnings.simplefilter("ignore")
    image = pictures()
    print(
        f"{COUNT} pictures of {SIDE} x {SIDE}, {os.cpu_count()} cores, OpenCV {cv2.__version__} with "
        f"{cv2.getNumThreads()} threads; median of {ROUNDS} rounds, the sides taking turns"
    )
    print(
        f"{'hint':<18} {'reference':<15} {'theirs ms':>10} {'ours ms':>8} {'ratio':>6} {'goal':>5} "
        f"{'levels':>7}"
    )
    missed = []
    for pair in pairs():
        ours, theirs, ratio, levels = measure(pair, image)
        goal = GOALS.get(pair.name, 1.0)
        if ratio < goal:
            missed.append(pair.name)
        print(
            f"{pair.name:<18} {pair.source:<15} {theirs * 1e3:>10.1f} {ours * 1e3:>8.1f} {ratio:>5.1f}x "
            f"{goal:>4.0f}x {levels:>7}",
            flush=True,
        )
    print("every goal reached" if not missed else f"below the goal: {', '.join(missed)}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
