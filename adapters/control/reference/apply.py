"""Reference control as a control object: it rides on the conditioning and needs no control net."""

from typing import Any

import comfy.latent_formats
import comfy.model_management
import torch
from comfy.controlnet import broadcast_image_to
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
from torch import Tensor

from ...identify import Identified
from .._host import model_family
from ..apply import Conditioning, apply_units
from ..call import Call, Steering, cond_rows
from ..patches.apply import ModelPatchNet
from ..unit import ControlUnit
from ._host import Gates, Reference, add_reference, gates_of
from .blend import Plain, reference_noise
from .settings import ReferenceSettings

FAMILIES = ("SD1.5", "SDXL")
INPAINT_CHANNELS = 9
"""Input channels of an inpainting UNet: the latent, a mask and the latent of what is around it."""


class ReferenceNet(ModelPatchNet):
    """Shows the model a picture in each call; the picture is the unit's hint, encoded by the unit's VAE.

    A call costs one pass of the model more per reference: over the positive rows alone where the negative
    rows are not to see the picture.
    """

    def __init__(self, settings: ReferenceSettings) -> None:
        super().__init__(
            Identified("control", "Reference", FAMILIES[0], also_for=FAMILIES[1:], file="Reference")
        )
        self.settings = settings
        self.latent_format = comfy.latent_formats.LatentFormat()
        self.compression_ratio = 1
        self._forget()

    def _forget(self) -> None:
        self._model: Any = None
        self._gates: Gates | None = None
        self._latents: dict[tuple[int, ...], Tensor] = {}

    def pre_run(self, model: Any, percent_to_timestep_function: Any) -> None:
        super().pre_run(model, percent_to_timestep_function)
        family, unet = model_family(model), model.diffusion_model
        if family not in FAMILIES or not isinstance(unet, UNetModel):
            raise ValueError(
                f"Reference needs a model of the {' or '.join(FAMILIES)} family, but the model is "
                f"{family or type(model).__name__}. Sample with such a model, or take Reference off the "
                "conditioning."
            )
        self._forget()
        self._model, self._gates = model, gates_of(unet, family == "SDXL")

    def _picture(self) -> tuple[Any, Any]:
        return self.vae, self.cond_hint_original

    def _latent(self, call: Call) -> Tensor:
        """The picture's latent (rows,C,h,w), at the model's scale."""
        size = tuple(call.x.shape[-2:])
        if size not in self._latents:
            loaded = comfy.model_management.loaded_models(only_currently_used=True)
            vae, picture = self._picture()
            encoded = vae.encode(picture.movedim(1, -1))
            comfy.model_management.load_models_gpu(loaded)
            if encoded.shape[1:] != call.x.shape[1:]:
                raise ValueError(
                    f"Reference needs a VAE that gives latents of shape {tuple(call.x.shape[1:])} for this "
                    f"model, got {tuple(encoded.shape[1:])}. Connect the VAE of the model's checkpoint."
                )
            self._latents[size] = self._model.process_latent_in(encoded)
        latent = broadcast_image_to(self._latents[size].to(call.x), call.x.shape[0], call.chunks)
        return latent.expand(call.x.shape[0], -1, -1, -1)

    def _noisy(self, latent: Tensor, call: Call) -> Tensor:
        """The latent as the UNet sees it at this call's noise level: sqrt(a) latent + sqrt(1 - a) noise."""
        sampling = self._model.model_sampling
        timestep = float(sampling.timestep(call.t)[0])
        noise = reference_noise(self.settings.seed, timestep, (1, *latent.shape[1:]))
        noise = noise.to(latent).expand_as(latent)
        noisy = sampling.calculate_input(call.t, sampling.noise_scaling(call.t, noise, latent))
        channels = self._model.diffusion_model.in_channels
        if channels == noisy.shape[1]:
            return noisy
        if channels != INPAINT_CHANNELS:
            raise ValueError(
                f"Reference needs a model that takes {noisy.shape[1]} channels, or {INPAINT_CHANNELS} for "
                f"inpainting, got one that takes {channels}. Take Reference off the conditioning."
            )
        return torch.cat([noisy, torch.zeros_like(noisy[:, :1]), latent], dim=1)

    def patch(self, call: Call, steering: Steering) -> None:
        if self._gates is None:
            raise RuntimeError("Reference was asked for its patches before pre_run.")
        is_uncond = ~cond_rows(call.options["cond_or_uncond"], call.x.shape[0])
        rows = is_uncond.float() * self.settings.fidelity(self._gates.is_sdxl)
        if steering.rows is not None:
            rows = torch.where(steering.rows.cpu(), rows, 1.0)
        plain = Plain(rows, None if steering.mask is None else steering.mask.cpu())
        attention, adain = self._gates.open(steering.strength, self.settings)
        noisy = self._noisy(self._latent(call), call)
        add_reference(call.options, Reference(noisy, attention, adain, plain))

    def copy(self) -> "ReferenceNet":
        clone = ReferenceNet(self.settings)
        self.copy_to(clone)
        return clone

    def cleanup(self) -> None:
        super().cleanup()
        self._forget()


def apply_reference(
    positive: Conditioning, negative: Conditioning, settings: ReferenceSettings, **unit: Any
) -> tuple[Conditioning, Conditioning]:
    """Positive and negative conditioning with the reference on both; `unit` is a ControlUnit without net.

    Its options may hold a curve over the steps and a mask. At strength 0 the conditioning comes back
    unchanged. Raises ValueError for a unit that cannot run, and for options that only control nets have.
    """
    options = unit.get("options")
    if options is not None and options.layers is not None:
        raise ValueError(
            "Reference needs options without factors over layers, since strength decides which layers act. "
            "Empty layers in Control Options."
        )
    reference = ControlUnit(ReferenceNet(settings), resize_mode="crop", **unit)
    return apply_units(positive, negative, [reference], "Reference")
