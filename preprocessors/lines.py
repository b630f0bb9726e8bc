"""Line and edge hints without a network: white lines on black, as the control models were trained.

All of them follow Mikubill/sd-webui-controlnet (the annotators of lllyasviel/ControlNet-v1-1-nightly
where it has them) and Fannovel16/comfyui_controlnet_aux, level for level.
"""

import numpy as np
import torch

from .image import OnImage, Scratch, check_image, hint_of, pad_to_multiple, resize_short_side

SCRIBBLE_LEVEL = 127
XDOG_SIGMAS = (0.5, 5.0)
LINE_ART_GAIN = 127.0
LINE_ART_FLOOR = 16.0


def canny(
    image: torch.Tensor,
    low: int = 100,
    high: int = 200,
    resolution: int = 512,
    on_image: OnImage | None = None,
) -> torch.Tensor:
    """IMAGE (B,H,W,C) RGB 0..1 -> IMAGE (B,h,w,3), exactly 0 or 1, edges white.

    `cv2.Canny` on the three 8-bit channels at the working size: aperture 3, L1 gradient, the strongest
    channel of each pixel. `low` and `high` are gradient levels 1..255; the smaller one is the lower. The
    picture is not padded, so that the border equals `cv2.Canny` at every size. The gradients are handed to
    it ready-made, which gives the same edges in about half the time.

    Raises:
        ValueError: for an image that is empty, not finite, or of another shape.

    Source: Mikubill/sd-webui-controlnet: scripts/preprocessor/model_free_preprocessors.py.
    """
    check_image(image, "Canny")
    import cv2

    def one(picture: np.ndarray, _: int) -> np.ndarray:
        return cv2.Canny(*_strongest_gradient(resize_short_side(picture, resolution)), low, high)

    return hint_of(image, one, on_image)


def threshold(
    image: torch.Tensor, level: int = 127, resolution: int = 512, on_image: OnImage | None = None
) -> torch.Tensor:
    """IMAGE (B,H,W,C) RGB 0..1 -> IMAGE (B,h,w,3), 1 where every channel is above `level` (0..255), else 0.

    Raises:
        ValueError: for an image that is empty, not finite, or of another shape.

    Source: Mikubill/sd-webui-controlnet: scripts/preprocessor/legacy/processor.py (threshold).
    """
    check_image(image, "Threshold")
    import cv2

    def one(picture: np.ndarray, _: int) -> np.ndarray:
        darkest = _least_channel(resize_short_side(picture, resolution))
        return cv2.threshold(darkest, level, 255, cv2.THRESH_BINARY)[1]

    return hint_of(image, one, on_image)


def scribble(
    image: torch.Tensor,
    dark_lines: bool = False,
    resolution: int = 512,
    on_image: OnImage | None = None,
) -> torch.Tensor:
    """IMAGE (B,H,W,C) RGB 0..1, a drawing -> IMAGE (B,h,w,3), 0 where any channel is below 127/255, else 1.

    The drawing keeps its polarity, as in the reference; `dark_lines` inverts the map, for a dark drawing
    on light paper (the control models expect white lines on black).

    Raises:
        ValueError: for an image that is empty, not finite, or of another shape.

    Source: Fannovel16/comfyui_controlnet_aux: src/custom_controlnet_aux/scribble/__init__.py.
    """
    check_image(image, "Scribble")
    import cv2

    kind = cv2.THRESH_BINARY_INV if dark_lines else cv2.THRESH_BINARY

    def one(picture: np.ndarray, _: int) -> np.ndarray:
        darkest = _least_channel(resize_short_side(picture, resolution))
        return cv2.threshold(darkest, SCRIBBLE_LEVEL - 1, 255, kind)[1]

    return hint_of(image, one, on_image)


def scribble_xdog(
    image: torch.Tensor, level: int = 32, resolution: int = 512, on_image: OnImage | None = None
) -> torch.Tensor:
    """IMAGE (B,H,W,C) RGB 0..1 -> IMAGE (B,h,w,3), 1 where the difference of Gaussians passes `level` / 2.

    Per pixel the least channel of blur(5) - blur(0.5) is rounded up to a whole level n in 0..255; white
    where 2 n > `level` (1..64). The reference doubles in 8 bits, so 2 n is taken modulo 256: a band just
    above n = 128, which only hard black detail on white reaches, stays black. That is kept. The blurs
    run on the picture padded to multiples of 64, as in the reference.

    Raises:
        ValueError: for an image that is empty, not finite, or of another shape.

    Source: Winnemoeller, Kyprianidis, Olsen 2012 (XDoG); Mikubill/sd-webui-controlnet:
    scripts/preprocessor/model_free_preprocessors.py.
    """
    check_image(image, "Scribble XDoG")
    import cv2

    response = 255 - np.arange(256, dtype=np.uint8)
    table = np.where(2 * response > level, 255, 0).astype(np.uint8)

    scratch = Scratch()

    def one(picture: np.ndarray, _: int) -> np.ndarray:
        padded = pad_to_multiple(resize_short_side(picture, resolution))
        names = ("values", "fine", "coarse", "least")
        values, fine, coarse, least = (scratch.plane(name, padded.array.shape[:2]) for name in names)
        least.fill(np.inf)
        for channel in cv2.split(padded.array):
            np.copyto(values, channel)
            cv2.GaussianBlur(values, (0, 0), XDOG_SIGMAS[0], fine)
            cv2.GaussianBlur(values, (0, 0), XDOG_SIGMAS[1], coarse)
            cv2.min(least, cv2.subtract(coarse, fine, coarse), least)
        inverse = np.subtract(np.float32(255.0), least, out=least).clip(0, 255, out=least)
        return cv2.LUT(padded.crop(inverse).astype(np.uint8), table)

    return hint_of(image, one, on_image)


def line_art_standard(
    image: torch.Tensor,
    sigma: float = 6.0,
    intensity_threshold: int = 8,
    resolution: int = 512,
    on_image: OnImage | None = None,
) -> torch.Tensor:
    """IMAGE (B,H,W,C) RGB 0..1 -> IMAGE (B,h,w,3) in 0..1, strokes darker than their surroundings white.

    v = least channel of blur(`sigma`) - picture, at least 0; v * 127 / max(16, median of v above
    `intensity_threshold`), cut to a level. Blur and median run on the picture padded to multiples of 64,
    as in the reference, so the repeated border counts. Where nothing passes the threshold (a flat
    picture) the median is taken as 0 and the floor of 16 holds.

    Raises:
        ValueError: for an image that is empty, not finite, or of another shape, or a sigma of 0 or less.

    Source: Mikubill/sd-webui-controlnet: scripts/preprocessor/legacy/processor.py (lineart_standard).
    """
    check_image(image, "Standard line art")
    if sigma <= 0:
        raise ValueError(f"Standard line art needs a sigma above 0, got {sigma}. Set it to 6, the default.")
    import cv2

    def one(picture: np.ndarray, _: int) -> np.ndarray:
        padded = pad_to_multiple(resize_short_side(picture, resolution))
        values = padded.array.astype(np.float32)
        blurred = cv2.GaussianBlur(values, (0, 0), sigma)
        strokes = _least_channel(cv2.subtract(blurred, values, blurred))
        strokes.clip(0, 255, out=strokes)
        passed = strokes[strokes > intensity_threshold]
        median = np.median(passed) if passed.size else np.float32(0.0)
        strokes /= max(np.float32(LINE_ART_FLOOR), median)
        strokes *= np.float32(LINE_ART_GAIN)
        return strokes.clip(0, 255, out=strokes).astype(np.uint8)[: padded.size[0], : padded.size[1]]

    return hint_of(image, one, on_image)


def _least_channel(array: np.ndarray) -> np.ndarray:
    """(H,W,3) -> (H,W), the least channel of each pixel."""
    import cv2

    red, green, blue = cv2.split(array)
    return cv2.min(cv2.min(red, green, red), blue, red)


def _strongest_gradient(picture: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(H,W,3) uint8 -> x and y derivative (H,W) int16 of each pixel's channel of largest |x| + |y|.

    Of equal channels the first one counts, as in `cv2.Canny`.
    """
    import cv2

    def derivatives(channel: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        across = cv2.Sobel(channel, cv2.CV_16S, 1, 0, ksize=3, borderType=cv2.BORDER_REPLICATE)
        down = cv2.Sobel(channel, cv2.CV_16S, 0, 1, ksize=3, borderType=cv2.BORDER_REPLICATE)
        return across, down, np.abs(across) + np.abs(down)

    best, *others = map(derivatives, cv2.split(picture))
    for other in others:
        stronger = (other[2] > best[2]).view(np.uint8)
        for mine, theirs in zip(best, other, strict=True):
            cv2.copyTo(theirs, stronger, mine)
    return best[0], best[1]
