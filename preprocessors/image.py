"""The edge between the host's pictures and OpenCV's: checking, converting, resizing, padding.

Pictures are converted once on the way in and once on the way out; everything between works on uint8
RGB arrays, because the annotators' constants are defined on 8-bit values.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import torch

PAD_MULTIPLE = 64

OnImage = Callable[[int, int], None]


def check_image(image: object, needed_by: str) -> None:
    """Checks that `image` is an IMAGE (B,H,W,C), C in 1, 3, 4, at least 1 x 1, finite.

    Raises:
        ValueError: naming what `needed_by` needs, what came, and what to do.
    """
    if not isinstance(image, torch.Tensor) or image.ndim != 4:
        raise ValueError(
            f"{needed_by} needs an image of shape (batch, height, width, channels), got {_describe(image)}. "
            "Connect the IMAGE output of a node such as Load Image."
        )
    batch, height, width, channels = image.shape
    if batch == 0 or height == 0 or width == 0:
        raise ValueError(
            f"{needed_by} needs at least one picture of 1 x 1 pixel, got {batch} of {width} x {height} "
            "(width x height). Check the crop or resize in front of it."
        )
    if channels not in (1, 3, 4):
        raise ValueError(
            f"{needed_by} needs 1 (gray), 3 (RGB) or 4 (RGBA) channels, got {channels}. "
            "Convert the image to RGB first."
        )
    if not _is_finite(image):
        bad = int((~torch.isfinite(image)).sum())
        raise ValueError(
            f"{needed_by} needs finite pixel values from 0 to 1, got NaN or infinity in {bad} of "
            f"{image.numel()} values. A picture like that usually comes from a VAE that overflowed in "
            "half precision: decode it again in 32 bit."
        )


def to_uint8(image: torch.Tensor) -> np.ndarray:
    """IMAGE (B,H,W,C) float 0..1, C in 1, 3, 4 -> contiguous array (B,H,W,3) uint8 RGB 0..255.

    Values outside 0..1 are clamped, values between two levels are rounded to the nearest (never
    truncated), alpha is composited over white, one channel is repeated to three.

    Source: Mikubill/sd-webui-controlnet: annotator/util.py (HWC3).
    """
    pixels = image.detach().to(device="cpu", dtype=torch.float32)
    if pixels.shape[-1] == 4:
        alpha = pixels[..., 3:].clamp(0.0, 1.0)
        pixels = pixels[..., :3].clamp(0.0, 1.0) * alpha + (1.0 - alpha)
    levels = (pixels * 255.0).round_().clamp_(0.0, 255.0).to(torch.uint8)
    if levels.shape[-1] == 1:
        levels = levels.expand(-1, -1, -1, 3)
    return np.ascontiguousarray(levels.numpy())


def from_uint8(array: np.ndarray) -> torch.Tensor:
    """Array (B,H,W) or (B,H,W,3) uint8 0..255 -> IMAGE (B,H,W,3) float32 0..1 with memory of its own.

    The three channels of a gray map are real ones, not a view of one: nodes behind may write in place.
    """
    levels = torch.from_numpy(np.ascontiguousarray(array))
    if levels.ndim == 3:
        levels = levels.unsqueeze(-1).expand(-1, -1, -1, 3)
    out = torch.empty(levels.shape, dtype=torch.float32)
    return torch.div(levels, 255.0, out=out)


def short_side_size(size: tuple[int, int], resolution: int) -> tuple[int, int]:
    """(height, width) after the shorter side became `resolution`, aspect kept; 0 keeps the size.

    Source: Mikubill/sd-webui-controlnet: scripts/utils.py (resize_image_with_pad).
    """
    height, width = size
    if resolution <= 0:
        return height, width
    k = resolution / min(height, width)
    return max(1, round(height * k)), max(1, round(width * k))


def resize_short_side(array: np.ndarray, resolution: int) -> np.ndarray:
    """Array (H,W), (H,W,C) or (B,H,W,C) uint8 -> the same kind with shorter side `resolution`.

    0 keeps the size. Shrinking averages areas, enlarging is cubic. Nothing is padded.

    Source: Mikubill/sd-webui-controlnet: scripts/utils.py (resize_image_with_pad).
    """
    if array.ndim == 4:
        if resolution <= 0:
            return array
        return np.stack([resize_short_side(one, resolution) for one in array])
    size = (array.shape[0], array.shape[1])
    target = short_side_size(size, resolution)
    if target == size:
        return array
    import cv2

    interpolation = cv2.INTER_CUBIC if resolution > min(size) else cv2.INTER_AREA
    return cv2.resize(array, (target[1], target[0]), interpolation=interpolation)


class Padded(NamedTuple):
    """A picture padded on the right and at the bottom, and the size it had before."""

    array: np.ndarray
    size: tuple[int, int]

    def crop(self, result: np.ndarray) -> np.ndarray:
        """Cuts the pad off a map (H,W) or (H,W,C) made from the padded picture."""
        return result[: self.size[0], : self.size[1]]


def pad_to_multiple(array: np.ndarray, multiple: int = PAD_MULTIPLE) -> Padded:
    """Array (H,W) or (H,W,C) -> padded to multiples of `multiple` by repeating the last row and column.

    Source: Mikubill/sd-webui-controlnet: scripts/utils.py (resize_image_with_pad).
    """
    height, width = array.shape[:2]
    down, right = -height % multiple, -width % multiple
    if not down and not right:
        return Padded(array, (height, width))
    widths = [(0, down), (0, right)] + [(0, 0)] * (array.ndim - 2)
    return Padded(np.pad(array, widths, mode="edge"), (height, width))


def map_images(
    function: Callable[[np.ndarray, int], np.ndarray],
    array: np.ndarray,
    on_image: OnImage | None = None,
) -> np.ndarray:
    """Runs `function(picture, index)` on each picture of (B,...) and stacks what it gives.

    `on_image(done, total)` is called in the caller's thread after each picture; an exception in it (an
    interrupt, say) stops the rest.
    """
    total = len(array)
    results = []
    if total == 1:
        results.append(function(array[0], 0))
        if on_image is not None:
            on_image(1, 1)
        return np.stack(results)
    with ThreadPoolExecutor(max_workers=min(total, 2)) as pool:
        tasks = [pool.submit(function, one, index) for index, one in enumerate(array)]
        try:
            for done, task in enumerate(tasks, start=1):
                results.append(task.result())
                if on_image is not None:
                    on_image(done, total)
        finally:
            for task in tasks:
                task.cancel()
    return np.stack(results)


def _is_finite(image: torch.Tensor) -> bool:
    """A finite sum proves every value finite; an overflowing sum of finite values is looked at closely."""
    if not image.is_floating_point():
        return True
    return bool(torch.isfinite(image.sum())) or bool(torch.isfinite(image).all())


def _describe(value: object) -> str:
    if isinstance(value, torch.Tensor):
        return f"a tensor of shape {tuple(value.shape)}"
    return "nothing" if value is None else f"a {type(value).__name__}"
