"""The tones of one picture with the colours of another: what ends a recolouring."""

from collections.abc import Callable
from typing import Literal, get_args

import torch

from .fit import Size, fit_mask
from .image import check_image

RecolorChannel = Literal["luminance", "intensity"]
RECOLOR_CHANNELS: tuple[RecolorChannel, ...] = get_args(RecolorChannel)

XYZ_FROM_RGB = (
    (0.412453, 0.357580, 0.180423),
    (0.212671, 0.715160, 0.072169),
    (0.019334, 0.119193, 0.950227),
)
"""Linear sRGB -> XYZ, D65. Source: opencv/opencv: modules/imgproc/src/color_lab.cpp."""

LINEAR_BELOW = 0.04045
"""sRGB values up to this one are 12.92 times their linear value. Source: IEC 61966-2-1."""
LINEAR_LIGHTNESS_BELOW = (6.0 / 29.0) ** 3
"""Relative luminances up to this one have a linear lightness. Source: CIE 1976 L*a*b*."""
SLOPE = (29.0 / 6.0) ** 2 / 3.0

HALVINGS = 24
"""Steps of the search for the greatest chroma in the gamut: the last one changes less than 1e-7."""
ROUNDING = 1e-9
"""How far outside 0..1 a linear value still counts as inside: white and pure colours round to there."""


def recolor(
    image: torch.Tensor,
    original: torch.Tensor,
    channel: RecolorChannel = "luminance",
    gamma: float = 1.0,
) -> torch.Tensor:
    """IMAGE (B,H,W,C) RGB 0..1 and IMAGE (1 or B,h,w,C) -> IMAGE (B,H,W,3): its colours, the other's tones.

    "luminance" takes CIELAB's L from `original` and keeps a and b of `image`; where that leaves the sRGB
    gamut, a and b shrink together (the hue stays) until it fits, so L / 100 is that of the original within
    1e-6. "intensity" takes HSV's V and keeps hue and saturation, which always fits. Both are raised to
    the power `gamma`, in 0..1. Everything is computed in float, so no bands appear. An original of another
    size is scaled to cover the picture and cut around the centre, as ComfyUI cuts a hint.

    Raises:
        ValueError: for images that are empty, not finite, or of another shape, originals that are neither
            one nor as many as the pictures, an unknown channel, or a gamma of 0 or less.

    Source: CIE 1976 L*a*b*; Mikubill/sd-webui-controlnet: scripts/controlnet.py (recolor post-processing,
    which does the same in 8 bit and lets colours clip).
    """
    check_image(image, "Recolor")
    check_image(original, "The original of Recolor")
    _check(image, original, channel, gamma)
    tone_of, recolored = _CHANNELS[channel]
    tones = torch.stack([tone_of(_rgb(one)).pow(gamma).float() for one in original])
    tones = fit_mask(tones, Size(image.shape[1], image.shape[2]), "crop").clamp(0.0, 1.0)
    pairs = zip(image, tones.expand(len(image), -1, -1), strict=True)
    return torch.stack([recolored(_rgb(one), tone.double().to(one.device)) for one, tone in pairs])


def lightness(rgb: torch.Tensor) -> torch.Tensor:
    """(...,3) float64 sRGB 0..1 -> (...) CIELAB L / 100."""
    weights = torch.tensor(XYZ_FROM_RGB[1], dtype=rgb.dtype, device=rgb.device)
    return 1.16 * _cube_root(_linear(rgb) @ weights) - 0.16


def _check(image: torch.Tensor, original: torch.Tensor, channel: str, gamma: float) -> None:
    if len(original) not in (1, len(image)):
        raise ValueError(
            f"Recolor needs one original, or one for each of the {len(image)} pictures, got {len(original)}. "
            "Connect the pictures that the hints were made from, or a single one."
        )
    if channel not in RECOLOR_CHANNELS:
        raise ValueError(
            f"Recolor needs one of the channels {', '.join(RECOLOR_CHANNELS)}, got {channel!r}. "
            "Choose the one of the hint."
        )
    if gamma <= 0:
        raise ValueError(f"Recolor needs a gamma above 0, got {gamma}. Set it to the gamma of the hint.")


def _rgb(picture: torch.Tensor) -> torch.Tensor:
    """(H,W,1, 3 or 4) -> (H,W,3) float64 in 0..1; transparency is laid over white."""
    values = picture.detach().double().clamp(0.0, 1.0)
    if values.shape[-1] == 4:
        values = values[..., :3] * values[..., 3:] + (1.0 - values[..., 3:])
    return values.expand(-1, -1, 3)


def _intensity(rgb: torch.Tensor) -> torch.Tensor:
    return rgb.amax(dim=-1)


def _with_lightness(rgb: torch.Tensor, tone: torch.Tensor) -> torch.Tensor:
    """(H,W,3) and L / 100 (H,W) -> (H,W,3) float32 of that lightness, with the chroma that fits."""
    matrix = torch.tensor(XYZ_FROM_RGB, dtype=rgb.dtype, device=rgb.device)
    white = matrix.sum(dim=1)
    inverse = torch.linalg.inv(matrix)
    roots = _cube_root(_linear(rgb) @ matrix.T / white)
    opponent = roots - roots[..., 1:2]
    level = (tone.unsqueeze(-1) + 0.16) / 1.16
    linear = (_cube(level + opponent) * white) @ inverse.T
    outside = ~_fits(linear)
    if bool(outside.any()):
        levels, opponents = level[outside], opponent[outside]

        def linear_at(share: torch.Tensor) -> torch.Tensor:
            return (_cube(levels + share * opponents) * white) @ inverse.T

        linear[outside] = linear_at(_greatest_share(linear_at, torch.ones_like(levels)))
    return _encoded(linear.clamp(0.0, 1.0)).float()


def _fits(linear: torch.Tensor) -> torch.Tensor:
    """(...,3) -> (...) bool: whether every channel lies in 0..1."""
    return ((linear >= -ROUNDING) & (linear <= 1.0 + ROUNDING)).all(dim=-1)


def _greatest_share(linear_at: Callable[[torch.Tensor], torch.Tensor], ones: torch.Tensor) -> torch.Tensor:
    """(n,1): the greatest share of the chroma, 0 to 1, that fits into the gamut, found by halving."""
    low, high = torch.zeros_like(ones), ones
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        inside = _fits(linear_at(middle)).unsqueeze(-1)
        low, high = torch.where(inside, middle, low), torch.where(inside, high, middle)
    return low


def _with_intensity(rgb: torch.Tensor, tone: torch.Tensor) -> torch.Tensor:
    """(H,W,3) and V (H,W) -> (H,W,3) float32 whose greatest channel is V; black becomes gray."""
    value = rgb.amax(dim=-1, keepdim=True)
    share = torch.where(value > 0, rgb / value.clamp_min(1e-12), torch.ones_like(rgb))
    return (share * tone.unsqueeze(-1)).float()


def _linear(values: torch.Tensor) -> torch.Tensor:
    return torch.where(values <= LINEAR_BELOW, values / 12.92, ((values + 0.055) / 1.055).pow(2.4))


def _encoded(linear: torch.Tensor) -> torch.Tensor:
    curve = 1.055 * linear.clamp_min(1e-12).pow(1.0 / 2.4) - 0.055
    return torch.where(linear <= LINEAR_BELOW / 12.92, linear * 12.92, curve)


def _cube_root(ratio: torch.Tensor) -> torch.Tensor:
    """CIELAB's compression of a relative luminance: a cube root with a straight part near black."""
    root = ratio.clamp_min(1e-12).pow(1.0 / 3.0)
    return torch.where(ratio > LINEAR_LIGHTNESS_BELOW, root, ratio * SLOPE + 4.0 / 29.0)


def _cube(root: torch.Tensor) -> torch.Tensor:
    return torch.where(root > 6.0 / 29.0, root.pow(3), (root - 4.0 / 29.0) / SLOPE)


_CHANNELS = {
    "luminance": (lightness, _with_lightness),
    "intensity": (_intensity, _with_intensity),
}
