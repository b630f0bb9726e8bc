"""Hints that carry tone or colour instead of lines: inversion, luminance, blur, tiles, colour grid."""

from typing import Literal, get_args

import numpy as np
import torch

from .image import OnImage, check_image, hint_of, resize_short_side

BrightnessScale = Literal["luma", "L"]
BRIGHTNESS_SCALES: tuple[BrightnessScale, ...] = get_args(BrightnessScale)

TILE_UNCHANGED_BELOW = 1.1
COLOR_CELL = 64


def invert(image: torch.Tensor, on_image: OnImage | None = None) -> torch.Tensor:
    """IMAGE (B,H,W,C) RGB 0..1 -> IMAGE (B,H,W,3), 255 - level; the size stays.

    Raises:
        ValueError: for an image that is empty, not finite, or of another shape.

    Source: Mikubill/sd-webui-controlnet: scripts/preprocessor/model_free_preprocessors.py.
    """
    check_image(image, "Invert")
    import cv2

    return hint_of(image, lambda picture, _: cv2.bitwise_not(picture), on_image)


def recolor_luminance(
    image: torch.Tensor, gamma: float = 1.0, on_image: OnImage | None = None
) -> torch.Tensor:
    """IMAGE (B,H,W,C) RGB 0..1 -> gray IMAGE (B,H,W,3), lightness L / 100 to the power `gamma`.

    The references hand RGB to a conversion that expects BGR, which swaps the weights of red and blue; the
    recolor models' users know these numbers, so they are kept. `brightness` with scale "L" is the correct
    lightness. The size stays.

    Raises:
        ValueError: for an image that is empty, not finite, or of another shape, or a gamma of 0 or less.

    Source: Mikubill/sd-webui-controlnet: scripts/preprocessor/legacy/processor.py (recolor_luminance).
    """
    check_image(image, "Recolor luminance")
    table = _gamma_table(gamma)
    import cv2

    def one(picture: np.ndarray, _: int) -> np.ndarray:
        lightness = cv2.extractChannel(cv2.cvtColor(picture, cv2.COLOR_BGR2LAB), 0)
        return lightness if gamma == 1.0 else cv2.LUT(lightness, table)

    return hint_of(image, one, on_image)


def recolor_intensity(
    image: torch.Tensor, gamma: float = 1.0, on_image: OnImage | None = None
) -> torch.Tensor:
    """IMAGE (B,H,W,C) RGB 0..1 -> gray IMAGE (B,H,W,3), HSV value (greatest channel) to the power `gamma`.

    Raises:
        ValueError: for an image that is empty, not finite, or of another shape, or a gamma of 0 or less.

    Source: Mikubill/sd-webui-controlnet: scripts/preprocessor/legacy/processor.py (recolor_intensity).
    """
    check_image(image, "Recolor intensity")
    table = _gamma_table(gamma)
    import cv2

    def one(picture: np.ndarray, _: int) -> np.ndarray:
        red, green, blue = cv2.split(picture)
        value = cv2.max(cv2.max(red, green, red), blue, red)
        return value if gamma == 1.0 else cv2.LUT(value, table)

    return hint_of(image, one, on_image)


def brightness(
    image: torch.Tensor, scale: BrightnessScale = "luma", on_image: OnImage | None = None
) -> torch.Tensor:
    """IMAGE (B,H,W,C) RGB 0..1 -> gray IMAGE (B,H,W,3), the input of brightness and illumination models.

    "luma" is Rec. 601 (0.299 R + 0.587 G + 0.114 B), "L" the lightness of CIE Lab. No reference names the
    conversion used in training; the size stays.

    Raises:
        ValueError: for an image that is empty, not finite, or of another shape, or an unknown scale.

    Source: ITU-R BT.601; CIE 1976 L*a*b*.
    """
    check_image(image, "Brightness")
    if scale not in BRIGHTNESS_SCALES:
        raise ValueError(
            f"Brightness needs one of the scales {', '.join(BRIGHTNESS_SCALES)}, got {scale!r}. Choose luma."
        )
    import cv2

    def one(picture: np.ndarray, _: int) -> np.ndarray:
        if scale == "luma":
            return cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
        return cv2.extractChannel(cv2.cvtColor(picture, cv2.COLOR_RGB2LAB), 0)

    return hint_of(image, one, on_image)


def blur(
    image: torch.Tensor, sigma: float = 9.0, resolution: int = 512, on_image: OnImage | None = None
) -> torch.Tensor:
    """IMAGE (B,H,W,C) RGB 0..1 -> IMAGE (B,h,w,3), Gaussian blur of `sigma` pixels at the working size.

    Raises:
        ValueError: for an image that is empty, not finite, or of another shape, or a sigma of 0 or less.

    Source: Mikubill/sd-webui-controlnet: scripts/preprocessor/model_free_preprocessors.py (blur_gaussian).
    """
    check_image(image, "Blur")
    if sigma <= 0:
        raise ValueError(f"Blur needs a sigma above 0, got {sigma}. Set it to 9, the default.")
    import cv2

    def one(picture: np.ndarray, _: int) -> np.ndarray:
        return cv2.GaussianBlur(resize_short_side(picture, resolution), (0, 0), sigma)

    return hint_of(image, one, on_image)


def tile_resample(image: torch.Tensor, rate: float = 1.0, on_image: OnImage | None = None) -> torch.Tensor:
    """IMAGE (B,H,W,C) RGB 0..1 -> IMAGE (B,h,w,3), sides cut to int(side / `rate`), at least 1, by areas.

    A rate under 1.1 leaves the picture as it is.

    Raises:
        ValueError: for an image that is empty, not finite, or of another shape, or a rate under 1.

    Source: Mikubill/sd-webui-controlnet: scripts/preprocessor/legacy/processor.py (tile_resample).
    """
    check_image(image, "Tile resample")
    if rate < 1.0:
        raise ValueError(f"Tile resample needs a rate from 1 up, got {rate}. Set it to 1 to keep the size.")
    import cv2

    size = max(1, int(image.shape[2] / rate)), max(1, int(image.shape[1] / rate))

    def one(picture: np.ndarray, _: int) -> np.ndarray:
        if rate < TILE_UNCHANGED_BELOW:
            return picture
        return cv2.resize(picture, size, interpolation=cv2.INTER_AREA)

    return hint_of(image, one, on_image, threads=False)


def color_grid(image: torch.Tensor, resolution: int = 512, on_image: OnImage | None = None) -> torch.Tensor:
    """IMAGE (B,H,W,C) RGB 0..1 -> IMAGE (B,h,w,3) of flat cells of about 64 x 64 pixels.

    The shorter side becomes `resolution` (0 keeps the size), then w // 64 by h // 64 cells, at least one,
    are taken with cubic resampling and enlarged without smoothing. The reference fails below 64 pixels.

    Raises:
        ValueError: for an image that is empty, not finite, or of another shape.

    Source: Mikubill/sd-webui-controlnet: annotator/color/__init__.py.
    """
    check_image(image, "Color grid")
    import cv2

    def one(picture: np.ndarray, _: int) -> np.ndarray:
        sized = resize_short_side(picture, resolution, enlarge_by_area=True)
        height, width = sized.shape[:2]
        cells = max(1, width // COLOR_CELL), max(1, height // COLOR_CELL)
        grid = cv2.resize(sized, cells, interpolation=cv2.INTER_CUBIC)
        return cv2.resize(grid, (width, height), interpolation=cv2.INTER_NEAREST)

    return hint_of(image, one, on_image)


def _gamma_table(gamma: float) -> np.ndarray:
    """(256,) uint8: the level of (k / 255) ** gamma, rounded."""
    if gamma <= 0:
        raise ValueError(f"Recolor needs a gamma above 0, got {gamma}. Set it to 1 to leave the tones alone.")
    levels = np.arange(256, dtype=np.float64) / 255.0
    return np.rint(levels**gamma * 255.0).astype(np.uint8)
