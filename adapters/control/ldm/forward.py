"""Runs the host's UNet control net with the hint's encoding handed in, and fuses the hints of a Union net.

`net` is the host's control net module (comfy.cldm.cldm.ControlNet) throughout; only its parts are called,
so its weights are loaded, moved and cast as the host does it.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch

from .types import check_types

Residuals = dict[str, list[torch.Tensor | None]]


def timestep_embedding(timesteps: torch.Tensor, channels: int) -> torch.Tensor:
    """Timesteps (n,) -> cosines, then sines (n, channels) float32, for an even number of channels.

    Source: Ho, Jain, Abbeel: Denoising Diffusion Probabilistic Models, 2020, in the order of ComfyUI:
    comfy/ldm/modules/diffusionmodules/util.py.
    """
    half = channels // 2
    steps = torch.arange(start=0, end=half, dtype=torch.float32, device=timesteps.device)
    angles = timesteps[:, None].float() * torch.exp(-math.log(10000) * steps / half)[None]
    return torch.cat([torch.cos(angles), torch.sin(angles)], dim=-1)


def encode_hint(net: Any, hint: torch.Tensor) -> torch.Tensor:
    """Hint (n,3,8 * h,8 * w) -> encoding (n,C,h,w). It depends on neither step nor text."""
    return net.input_hint_block(hint, None, None)


def _alpha(net: Any, token: torch.Tensor) -> torch.Tensor:
    """Token (n,C) of one hint -> the shift (n,C) that the fusion transformer makes of it, by itself.

    Attention of a token to itself alone gives its own value: out_proj(value(token)).
    """
    x = token.unsqueeze(1)
    for layer in net.transformer_layes:
        value = layer.attn.in_proj(layer.ln_1(x)).chunk(3, dim=2)[2].contiguous()
        x = x + layer.attn.out_proj(value)
        x = x + layer.mlp(layer.ln_2(x))
    return net.spatial_ch_projs(x[:, 0])


def fuse_hints(
    net: Any, encodings: Sequence[torch.Tensor], types: Sequence[int], factors: Sequence[float]
) -> torch.Tensor:
    """Encodings (n,C,h,w) of hints of different types -> one (n,C,h,w), the sum of f * (c + alpha).

    Each hint has one factor, on its encoding, its token and its shift; 1 is what the net was trained
    with. A hint is fused by itself: neither other hints nor other rows of the batch change what it adds.

    Raises ValueError for types that the net does not have, and for as many hints as types not given.

    Source: xinsir6/ControlNetPlus: models/controlnet_union.py; the factors as in huggingface/diffusers:
    models/controlnets/controlnet_union.py (conditioning_scale). There the attention runs along the batch,
    which is this rule wherever all rows share their hints.
    """
    check_types(types, net.num_control_type)
    fused = None
    for encoding, kind, factor in zip(encodings, types, factors, strict=True):
        token = torch.mean(encoding, dim=(2, 3))
        token = token + net.task_embedding[kind].to(dtype=token.dtype, device=token.device)
        if factor == 1:
            part = encoding + _alpha(net, token)[:, :, None, None]
        else:
            part = encoding * factor + _alpha(net, token * factor)[:, :, None, None] * factor
        fused = part if fused is None else fused + part
    if fused is None:
        raise ValueError("A Union control net needs at least one hint to fuse, got none. Connect a hint.")
    return fused


def residuals(
    net: Any,
    x: torch.Tensor,
    guided: torch.Tensor,
    timesteps: torch.Tensor,
    context: torch.Tensor,
    y: torch.Tensor | None = None,
    types: Sequence[int] = (),
) -> Residuals:
    """Latent (n,4,h,w) and what is added to its first block (n or 1,C,h,w) -> the net's residuals.

    `types` are the control types told to a Union net; none is the host's "auto". Other nets ignore them.

    Raises ValueError for a net that needs the pooled text `y` and gets none, and for unknown types.

    Source: Zhang, Rao, Agrawala: Adding Conditional Control to Text-to-Image Diffusion Models, 2023; the
    order of sums of ComfyUI: comfy/cldm/cldm.py.
    """
    embedding = net.time_embed(timestep_embedding(timesteps, net.model_channels).to(x.dtype))
    if net.control_add_embedding is not None:
        check_types(types, net.num_control_type)
        told = net.control_add_embedding(list(types), embedding.dtype, embedding.device)
        embedding = embedding + told
    if net.num_classes is not None:
        if y is None:
            raise ValueError(
                "This control net needs the pooled text of an SDXL model (y), but the model passes none. "
                "Sample with an SDXL model, or take a control net of the model's family."
            )
        embedding = embedding + net.label_emb(y)
    hidden, output = x, []
    for index, (block, zero) in enumerate(zip(net.input_blocks, net.zero_convs, strict=True)):
        hidden = block(hidden, embedding, context)
        if index == 0:
            hidden = hidden + guided
        output.append(zero(hidden, embedding, context))
    hidden = net.middle_block(hidden, embedding, context)
    return {"middle": [net.middle_block_out(hidden, embedding, context)], "output": output}
