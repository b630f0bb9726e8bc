"""SparseCtrl nets and motion modules of random weights: diffusers' own, and the same as a published file."""

from __future__ import annotations

import importlib
import re
from typing import Any

import torch

PE_LENGTH = 32
SMALL = (32, 64, 64, 64)


def positions(frames: int, width: int) -> torch.Tensor:
    """The (1,frames,width) table of AnimateDiff's files: sines and cosines in turn."""
    steps = torch.exp(torch.arange(0, width, 2) * (-torch.log(torch.tensor(10000.0)) / width))
    angles = torch.arange(frames)[:, None] * steps
    return torch.stack([angles.sin(), angles.cos()], dim=-1).reshape(1, frames, width)


def redraw(module: torch.nn.Module, seed: int = 3) -> torch.nn.Module:
    """The module with every weight drawn anew, the zero convolutions included."""
    generator = torch.Generator().manual_seed(seed)
    for name, weight in module.named_parameters():
        drawn = torch.randn(weight.shape, generator=generator)
        gain = weight.ndim == 1 and "norm" in name and name.endswith("weight")
        scale = 0.7 / weight[0].numel() ** 0.5 if weight.ndim > 1 else 0.1
        weight.data = drawn * scale + (1.0 if gain else 0.0)
    return module.eval()


class FrameNorm(torch.nn.Module):
    """A group norm (B,C,T,h,w) of each frame by itself, as the authors' code takes it."""

    def __init__(self, norm: torch.nn.GroupNorm) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        frames = x.transpose(1, 2)
        return self.norm(frames.flatten(0, 1)).unflatten(0, frames.shape[:2]).transpose(1, 2)


def per_frame(module: torch.nn.Module) -> torch.nn.Module:
    """diffusers' module with the group norms of its motion modules as the authors' code has them."""
    motion = importlib.import_module("diffusers.models.unets.unet_motion_model")
    for part in module.modules():
        if isinstance(part, motion.AnimateDiffTransformer3D):
            part.norm = FrameNorm(part.norm)
    return module


def without_motion(module: torch.nn.Module) -> torch.nn.Module:
    """diffusers' module with motion modules that add nothing."""
    motion = importlib.import_module("diffusers.models.unets.unet_motion_model")
    for part in module.modules():
        if isinstance(part, motion.AnimateDiffTransformer3D):
            part.proj_out.weight.data.zero_()
            part.proj_out.bias.data.zero_()
    return module


MOTION_NAMES = (
    (r"\.motion_modules\.(\d+)\.", r".motion_modules.\1.temporal_transformer."),
    (r"\.norm\.norm\.", ".norm."),
    (r"\.norm1\.", ".norms.0."),
    (r"\.norm2\.", ".norms.1."),
    (r"\.norm3\.", ".ff_norm."),
    (r"\.attn1\.", ".attention_blocks.0."),
    (r"\.attn2\.", ".attention_blocks.1."),
)


def published(module: torch.nn.Module, frames: int = PE_LENGTH) -> dict[str, torch.Tensor]:
    """The weights under the names of the published file, with the table of positions."""
    weights = {}
    for key, tensor in module.state_dict().items():
        if ".motion_modules." not in key:
            weights[key] = tensor
            continue
        if "pos_embed" in key:
            continue
        for pattern, name in MOTION_NAMES:
            key = re.sub(pattern, name, key)
        weights[key] = tensor
        if key.endswith(".to_q.weight"):
            table = positions(frames, tensor.shape[0])
            weights[key.replace("to_q.weight", "pos_encoder.pe")] = table
    return weights


def sparse_net(latent: bool = True, **config: Any) -> torch.nn.Module:
    """diffusers' SparseCtrl net of random weights; `latent` for rgb, else scribble."""
    kind = importlib.import_module("diffusers.models.controlnets.controlnet_sparsectrl")
    settings = {
        "conditioning_channels": 4 if latent else 3,
        "use_simplified_condition_embedding": latent,
        "block_out_channels": SMALL,
        "cross_attention_dim": 48,
        "conditioning_embedding_out_channels": (16, 32, 96, 256),
        "motion_max_seq_length": PE_LENGTH,
    }
    return per_frame(redraw(kind.SparseControlNetModel(**{**settings, **config})))


def motion_unet(middle: bool = True, **config: Any) -> torch.nn.Module:
    """diffusers' UNet with motion modules, of random weights: v2 has one in the middle, v3 has not."""
    kind = importlib.import_module("diffusers.models.unets.unet_motion_model")
    settings = {
        "block_out_channels": SMALL,
        "cross_attention_dim": 48,
        "use_motion_mid_block": middle,
        "motion_max_seq_length": PE_LENGTH,
    }
    return per_frame(redraw(kind.UNetMotionModel(**{**settings, **config})))


def host_model(net: torch.nn.Module) -> Any:
    """The host's model with the spatial weights of a UNet of ours, behind its patcher."""
    base = importlib.import_module("comfy.supported_models")
    patcher = importlib.import_module("comfy.model_patcher")
    utils = importlib.import_module("comfy.utils")
    unet = {
        "image_size": 32,
        "in_channels": 4,
        "out_channels": 4,
        "model_channels": SMALL[0],
        "num_res_blocks": [2, 2, 2, 2],
        "channel_mult": [width // SMALL[0] for width in SMALL],
        "transformer_depth": [1, 1, 1, 1, 1, 1, 0, 0],
        "transformer_depth_output": [1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0],
        "transformer_depth_middle": 1,
        "num_heads": 8,
        "num_head_channels": -1,
        "context_dim": 48,
        "use_spatial_transformer": True,
        "use_linear_in_transformer": False,
        "legacy": False,
        "dtype": torch.float32,
    }
    config = base.SD15(unet)
    config.set_inference_dtype(torch.float32, None)
    model = config.get_model({}, "")
    names = utils.unet_to_diffusers(unet)
    spatial = {key: tensor for key, tensor in net.state_dict().items() if ".motion_modules." not in key}
    model.diffusion_model.load_state_dict({names[key]: tensor for key, tensor in spatial.items()})
    cpu = torch.device("cpu")
    return patcher.ModelPatcher(model.eval(), cpu, cpu)
