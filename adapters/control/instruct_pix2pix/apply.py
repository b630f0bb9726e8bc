"""InstructPix2Pix in one go: conditioning with the picture, and the guider of its two guidances."""

from typing import Any, NamedTuple

import comfy.model_base
import torch
from comfy_extras.nodes_custom_sampler import Guider_DualCFG
from comfy_extras.nodes_ip2p import InstructPixToPixConditioning

from ....preprocessors.image import check_image

Conditioning = list[list[Any]]

LATENT_PIXEL = 8
"""Pixels of the picture along the side of one of its latent."""


class Instruction(NamedTuple):
    """What a sampler needs: the guider, its three conditionings, an empty latent of the size."""

    guider: Any
    positive: Conditioning
    middle: Conditioning
    negative: Conditioning
    latent: dict[str, torch.Tensor]


class Guidance(NamedTuple):
    """How strongly the text and the picture are followed."""

    text: float = 7.5
    image: float = 1.5


def instruct(
    model: Any,
    positive: Conditioning,
    negative: Conditioning,
    vae: Any,
    pixels: torch.Tensor,
    guidance: Guidance,
) -> Instruction:
    """MODEL with 8 input channels, conditionings and IMAGE (B,H,W,C) -> an `Instruction`.

    Three predictions: e(0,0) from the negative text without the picture, e(I,0) with it, e(I,T) from the
    positive text with it; the result is e(0,0) + image * (e(I,0) - e(0,0)) + text * (e(I,T) - e(I,0)). The
    host scales the picture's latent as the checkpoint needs it.

    Raises ValueError for an image that is unfit and for a model that is no InstructPix2Pix checkpoint.

    Source: Brooks, Holynski, Efros 2023, "InstructPix2Pix: Learning to Follow Image Editing Instructions"
    (arXiv:2211.09800), equation 3; ComfyUI: comfy_extras/nodes_ip2p.py, nodes_custom_sampler.py.
    """
    check_image(pixels, "InstructPix2Pix")
    if min(pixels.shape[1:3]) < LATENT_PIXEL:
        raise ValueError(
            f"InstructPix2Pix needs a picture of at least 8 x 8 pixels, got {pixels.shape[2]} x "
            f"{pixels.shape[1]} (width x height). Connect a larger one; the models were trained at 512."
        )
    _check_model(model)
    with_picture, middle, latent = InstructPixToPixConditioning.execute(
        positive, negative, _rgb(pixels), vae
    ).args
    guider = Guider_DualCFG(model)
    guider.set_conds(with_picture, middle, negative)
    guider.set_cfg(guidance.text, guidance.image)
    return Instruction(guider, with_picture, middle, negative, latent)


def _rgb(pixels: torch.Tensor) -> torch.Tensor:
    """(B,H,W,1, 3 or 4) -> (B,H,W,3); transparency is laid over white."""
    if pixels.shape[-1] == 4:
        return pixels[..., :3] * pixels[..., 3:] + (1.0 - pixels[..., 3:])
    return pixels.expand(-1, -1, -1, 3)


def _check_model(model: Any) -> None:
    inner = model.model
    if isinstance(inner, comfy.model_base.IP2P):
        return
    channels = inner.model_config.unet_config.get("in_channels")
    raise ValueError(
        f"InstructPix2Pix needs a checkpoint whose UNet takes 8 channels, got {type(inner).__name__} with "
        f"{channels}. Load instruct-pix2pix-00-22000 (SD1.5) or cosxl_edit (SDXL); for an ordinary "
        "checkpoint take the control net control_v11e_sd15_ip2p with Apply Control instead."
    )
