"""The edge between the host's pictures and OpenCV's: checking, converting, resizing, padding.

Pictures are converted once on the way in and once on the way out; everything between works on uint8
RGB arrays, because the annotators' constants are defined on 8-bit values.
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Lock, local
from typing import NamedTuple

import numpy as np
import torch

PAD_MULTIPLE = 64
MAX_WORKERS = 4
MAX_PIXELS = 1 << 27

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
    out = np.empty((*image.shape[:3], 3), np.uint8)
    for one, picture in zip(image, out, strict=True):
        picture[...] = _picture(one)
    return out


def from_uint8(array: np.ndarray) -> torch.Tensor:
    """Array (B,H,W) or (B,H,W,3) uint8 0..255 -> IMAGE (B,H,W,3) float32 0..1 with memory of its own.

    The three channels of a gray map are real ones, not a view of one: nodes behind may write in place.
    """
    batch = _Batch(len(array))
    for index, one in enumerate(array):
        batch.write(index, one)
    return batch.image()


def hint_of(
    image: torch.Tensor,
    function: Callable[[np.ndarray, int], np.ndarray],
    on_image: OnImage | None = None,
    *,
    threads: bool = True,
) -> torch.Tensor:
    """IMAGE (B,H,W,C) float 0..1 -> IMAGE (B,h,w,3) float32 0..1, picture by picture.

    `function(picture, index)` gets (H,W,3) uint8 RGB and gives a map (h,w) or (h,w,3) uint8. Each picture
    is converted, worked on and written while it is in the processor's cache. `threads` runs pictures side
    by side; turn it off for functions in which OpenCV itself uses every core. `on_image(done, total)` is
    called in the caller's thread after each picture; an exception in it (an interrupt) stops the rest.
    """
    batch = _Batch(len(image))

    def one(index: int) -> None:
        batch.write(index, function(_picture(image[index]), index))

    _each(one, len(image), on_image, threads)
    return batch.image()


def short_side_size(size: tuple[int, int], resolution: int) -> tuple[int, int]:
    """(height, width) after the shorter side became `resolution`, aspect kept; 0 keeps the size.

    Raises:
        ValueError: if enlarging a very long picture would pass 2^27 pixels.

    Source: Mikubill/sd-webui-controlnet: scripts/utils.py (resize_image_with_pad).
    """
    height, width = size
    if resolution <= 0:
        return height, width
    k = resolution / min(height, width)
    target = max(1, round(height * k)), max(1, round(width * k))
    if k > 1 and target[0] * target[1] > MAX_PIXELS:
        raise ValueError(
            f"The enlarged picture needs at most {MAX_PIXELS} pixels, got {target[1]} x {target[0]}: a "
            f"resolution of {resolution} for a picture of {width} x {height}. Lower the resolution, or set "
            "it to 0 to keep the picture's size."
        )
    return target


def resize_short_side(array: np.ndarray, resolution: int, *, enlarge_by_area: bool = False) -> np.ndarray:
    """Array (H,W), (H,W,C) or (B,H,W,C) uint8 -> the same kind with shorter side `resolution`.

    0 keeps the size. Shrinking averages areas, enlarging is cubic (`enlarge_by_area`: by areas, too, as one
    reference does). Nothing is padded.

    Source: Mikubill/sd-webui-controlnet: scripts/utils.py (resize_image_with_pad).
    """
    if array.ndim == 4:
        if resolution <= 0:
            return array
        return np.stack(
            [resize_short_side(one, resolution, enlarge_by_area=enlarge_by_area) for one in array]
        )
    size = (array.shape[0], array.shape[1])
    target = short_side_size(size, resolution)
    if target == size:
        return array
    import cv2

    enlarges = resolution > min(size) and not enlarge_by_area
    interpolation = cv2.INTER_CUBIC if enlarges else cv2.INTER_AREA
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
    import cv2

    return Padded(cv2.copyMakeBorder(array, 0, down, 0, right, cv2.BORDER_REPLICATE), (height, width))


def map_images(
    function: Callable[[np.ndarray, int], np.ndarray],
    array: np.ndarray,
    on_image: OnImage | None = None,
) -> np.ndarray:
    """Runs `function(picture, index)` on each picture of (B,...) side by side and stacks what it gives.

    `on_image(done, total)` is called as in `hint_of`.
    """
    results: list[np.ndarray | None] = [None] * len(array)

    def one(index: int) -> None:
        results[index] = function(array[index], index)

    _each(one, len(array), on_image, threads=True)
    return np.stack([result for result in results if result is not None])


class Scratch(local):
    """Working planes that each thread keeps during one call: fresh memory costs more than the work in it."""

    def __init__(self) -> None:
        self._planes: dict[str, np.ndarray] = {}

    def plane(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        """The thread's float32 array of this name and shape; holds whatever was left in it."""
        kept = self._planes.get(name)
        if kept is None or kept.shape != shape:
            kept = self._planes[name] = np.empty(shape, np.float32)
        return kept


class _Batch:
    """The pictures of one IMAGE, allocated when the first of them tells its size."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._lock = Lock()
        self._array: np.ndarray | None = None

    def write(self, index: int, levels: np.ndarray) -> None:
        """Writes a map (H,W) or (H,W,3) uint8 as float32 k / 255, exactly."""
        import cv2

        target = self._slot(index, levels.shape[:2])
        values = np.arange(256, dtype=np.float32)[None] / np.float32(255.0)
        if levels.ndim == 2:
            written = cv2.cvtColor(cv2.LUT(levels, values), cv2.COLOR_GRAY2RGB, target)
        else:
            written = cv2.LUT(levels, values, target)
        if written is not target:
            target[...] = written

    def image(self) -> torch.Tensor:
        """IMAGE (B,H,W,3) float32 over the memory of this batch."""
        if self._array is None:
            return torch.empty(0, 0, 0, 3)
        return torch.from_numpy(self._array)

    def _slot(self, index: int, size: tuple[int, ...]) -> np.ndarray:
        with self._lock:
            if self._array is None:
                self._array = np.empty((self._total, *size, 3), np.float32)
            return self._array[index]


def _each(task: Callable[[int], None], total: int, on_image: OnImage | None, threads: bool) -> None:
    """Runs `task(index)` for every index, in threads when that can help, and reports in order."""
    workers = min(total, os.cpu_count() or 1, MAX_WORKERS) if threads else 1
    if workers < 2:
        for index in range(total):
            task(index)
            if on_image is not None:
                on_image(index + 1, total)
        return
    with ThreadPoolExecutor(max_workers=workers) as pool:
        running = [pool.submit(task, index) for index in range(total)]
        try:
            for done, one in enumerate(running, start=1):
                one.result()
                if on_image is not None:
                    on_image(done, total)
        finally:
            for one in running:
                one.cancel()


def _picture(one: torch.Tensor) -> np.ndarray:
    """(H,W,C) float 0..1, C in 1, 3, 4 -> contiguous (H,W,3) uint8 RGB, rounded."""
    import cv2

    values = np.ascontiguousarray(one.detach().to(device="cpu", dtype=torch.float32).numpy())
    low, high, _, _ = cv2.minMaxLoc(values.reshape(values.shape[0], -1))
    if low < 0.0 or high > 1.0:
        values = values.clip(0.0, 1.0)
    if values.shape[2] == 4:
        alpha = values[..., 3:]
        values = values[..., :3] * alpha + (np.float32(1.0) - alpha)
    levels = cv2.convertScaleAbs(values, alpha=255.0)
    if values.shape[2] == 1:
        return cv2.cvtColor(levels, cv2.COLOR_GRAY2RGB)
    return levels


def _is_finite(image: torch.Tensor) -> bool:
    """A finite sum proves every value finite; an overflowing sum of finite values is looked at closely."""
    if not image.is_floating_point():
        return True
    return bool(torch.isfinite(image.sum())) or bool(torch.isfinite(image).all())


def _describe(value: object) -> str:
    if isinstance(value, torch.Tensor):
        return f"a tensor of shape {tuple(value.shape)}"
    return "nothing" if value is None else f"a {type(value).__name__}"
