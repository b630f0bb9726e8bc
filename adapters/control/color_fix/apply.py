"""Keeps the colours of a picture in every step of the sampling, on a clone of the model."""

import math
from dataclasses import dataclass
from typing import Any

import comfy.utils
import torch
from comfy.patcher_extension import WrappersMP

from ....preprocessors.fit import Size, fit_image
from ....preprocessors.image import check_image
from ..call import UNCOND
from ..window import is_outside
from .maths import blunted, color_fixed

KEY = "tiller_color_fix"
RADII = (1, 64)
PER_CENT = 0.01
"""One unit of sharpness as a share of the blur, as in the A1111 web UI."""


@dataclass(frozen=True)
class ColorFixSettings:
    """`strength` 0..1 mixes, `radius` is that of the blur in latent pixels, `sharpness` 0 is off.

    `start_percent` and `end_percent` are the window in 0..1, measured by noise.
    """

    strength: float = 1.0
    radius: int = 8
    sharpness: float = 0.0
    start_percent: float = 0.0
    end_percent: float = 1.0

    def __post_init__(self) -> None:
        if not 0.0 <= self.strength <= 1.0:
            raise ValueError(
                f"Tile Color Fix needs a strength from 0 to 1, got {self.strength}. 1 is all of it."
            )
        if not RADII[0] <= self.radius <= RADII[1]:
            raise ValueError(
                f"Tile Color Fix needs a kernel from {RADII[0]} to {RADII[1]}, got {self.radius}. 8 is usual."
            )
        if not (math.isfinite(self.sharpness) and self.sharpness >= 0.0):
            raise ValueError(
                f"Tile Color Fix needs a sharpness of 0 or more, got {self.sharpness}. 0 is off, 1 is usual."
            )
        if not 0.0 <= self.start_percent <= self.end_percent <= 1.0:
            raise ValueError(
                "Tile Color Fix needs a window inside 0 to 1 that ends after it starts, got "
                f"start_percent {self.start_percent} and end_percent {self.end_percent}."
            )


class ColorFix:
    """What a clone of the model carries: the picture, and its latents by the size asked for."""

    def __init__(self, image: torch.Tensor, vae: Any, settings: ColorFixSettings) -> None:
        self.image, self.vae, self.settings = image, vae, settings
        self._latents: dict[tuple[int, ...], torch.Tensor] = {}

    def before_sampling(
        self, executor: Any, noise: torch.Tensor, latent: torch.Tensor, *args: Any, **kwargs: Any
    ) -> Any:
        """Wrapper of the whole run: encodes the picture before the model takes the memory."""
        _check_latent(noise)
        shape = tuple(noise.shape[1:])
        if shape not in self._latents:
            self._latents[shape] = self._encoded(shape)
        return executor(noise, latent, *args, **kwargs)

    def predictions(
        self,
        executor: Any,
        model: Any,
        conds: Any,
        x_in: torch.Tensor,
        timestep: torch.Tensor,
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        """Wrapper of one step: fixes the denoised latent of each conditioning."""
        outputs = executor(model, conds, x_in, timestep, *args, **kwargs)
        settings, sampling = self.settings, model.model_sampling
        window = [sampling.percent_to_sigma(p) for p in (settings.start_percent, settings.end_percent)]
        if is_outside(timestep, window):
            return outputs
        original = self._original(model, x_in)
        return [
            output if cond is None else self._fixed(output, original, number)
            for number, (cond, output) in enumerate(zip(conds, outputs, strict=True))
        ]

    def _fixed(self, denoised: torch.Tensor, original: torch.Tensor, number: int) -> torch.Tensor:
        settings = self.settings
        fixed = color_fixed(denoised, original, settings.radius)
        if settings.sharpness and number == UNCOND:
            fixed = blunted(fixed, settings.radius, min(1.0, settings.sharpness * PER_CENT))
        return torch.lerp(denoised, fixed, settings.strength)

    def _original(self, model: Any, x_in: torch.Tensor) -> torch.Tensor:
        """The picture's latent as the model sees latents, one row for each of the call's."""
        latent = self._latents.get(tuple(x_in.shape[1:]))
        if latent is None:
            height, width = x_in.shape[-2:]
            raise ValueError(
                f"Tile Color Fix needs calls with the whole latent, got one of {width} x {height} (width x "
                "height), such as a tile. Sample without tiles, or take Tile Color Fix out."
            )
        rows = comfy.utils.repeat_to_batch_size(latent, x_in.shape[0])
        return model.process_latent_in(rows.to(x_in))

    def _encoded(self, shape: tuple[int, ...]) -> torch.Tensor:
        """Latent (B,C,h,w) of the picture for latents of `shape` (C,h,w)."""
        ratio = self.vae.spacial_compression_encode()
        fitted = fit_image(self.image, Size(shape[1] * ratio, shape[2] * ratio), "crop")
        latent = self.vae.encode(fitted[..., :3])
        if tuple(latent.shape[1:]) != shape:
            raise ValueError(
                f"Tile Color Fix needs the VAE of the model's family, which makes latents of {shape[0]} "
                f"channels, got one that makes {tuple(latent.shape[1:])} for {shape}. Connect the VAE of the "
                "model's checkpoint to vae."
            )
        return latent


def _check_latent(noise: torch.Tensor) -> None:
    if getattr(noise, "is_nested", False) or noise.ndim != 4:
        raise ValueError(
            "Tile Color Fix needs latents of pictures (batch, channels, height, width), got "
            f"{noise.ndim} dimensions. Models of videos, sound and several latents at once are not for it."
        )


def keep_colors(model: Any, image: torch.Tensor, vae: Any, settings: ColorFixSettings) -> Any:
    """MODEL -> a clone that keeps the colours of IMAGE (1 or B,H,W,C) in every step inside the window.

    At strength 0 the model itself comes back. The picture is fitted to the latent by scaling and a centre
    crop and read by `vae`. The fix acts on each denoised prediction, which is the reference's rule for the
    predicted noise: the two differ by a factor and the noisy latent, and mixing by strength keeps that.

    Raises ValueError for an unfit image or settings, and at sampling for latents that are not pictures, a
    VAE of another family, or calls with parts of the latent.

    Source: Mikubill/sd-webui-controlnet: scripts/hook.py (tile_colorfix, which ignores its own window).
    """
    check_image(image, "Tile Color Fix")
    if settings.strength == 0:
        return model
    if image.shape[-1] == 4:
        image = image[..., :3] * image[..., 3:] + (1.0 - image[..., 3:])
    fix = ColorFix(image.repeat(1, 1, 1, 3) if image.shape[-1] == 1 else image, vae, settings)
    clone = model.clone()
    clone.add_wrapper_with_key(WrappersMP.OUTER_SAMPLE, KEY, fix.before_sampling)
    clone.add_wrapper_with_key(WrappersMP.CALC_COND_BATCH, KEY, fix.predictions)
    return clone
