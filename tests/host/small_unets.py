"""Narrow UNets with all blocks of SD1.5 and SDXL, of random weights, in the real host.

The stand-ins of `devtools` have fewer blocks; what depends on a block's number needs all of them.
"""

from __future__ import annotations

import importlib
from typing import Any

import torch
from tiller.tests.host import inprocess as real

WIDTH = 32
CONFIGS: dict[str, dict[str, Any]] = {
    "sd15": {
        "num_res_blocks": [2, 2, 2, 2],
        "channel_mult": [1, 2, 4, 4],
        "transformer_depth": [1, 1, 1, 1, 1, 1, 0, 0],
        "transformer_depth_output": [1] * 9 + [0] * 3,
        "transformer_depth_middle": 1,
        "num_heads": 4,
        "num_head_channels": -1,
        "context_dim": 768,
        "use_linear_in_transformer": False,
    },
    "sdxl": {
        "num_res_blocks": [2, 2, 2],
        "channel_mult": [1, 2, 4],
        "transformer_depth": [0, 0, 1, 1, 2, 2],
        "transformer_depth_output": [0, 0, 0, 1, 1, 1, 2, 2, 2],
        "transformer_depth_middle": 2,
        "num_heads": -1,
        "num_head_channels": 16,
        "context_dim": 2048,
        "use_linear_in_transformer": True,
        "adm_in_channels": 2816,
        "num_classes": "sequential",
    },
}
CONFIGS["sdxl_full"] = {
    **CONFIGS["sdxl"],
    "transformer_depth": [0, 0, 2, 2, 10, 10],
    "transformer_depth_output": [0, 0, 0, 2, 2, 2, 10, 10, 10],
    "transformer_depth_middle": 10,
}
"""With all 70 cross-attentions of SDXL; "sdxl" has 17, which is enough where a layer is like the next."""


def _random(module: torch.nn.Module, seed: int) -> None:
    """Every matrix normal with std 0.7 / sqrt(fan_in), every gain near 1, every bias small.

    Self-attention has twice as much, so that what acts through it stands clear of rounding.
    """
    device = next(module.parameters()).device
    generator = torch.Generator(device).manual_seed(seed)
    for name, parameter in module.named_parameters():
        values = torch.randn(parameter.shape, generator=generator, device=device)
        if parameter.ndim > 1:
            gain = 1.4 if ".attn1.to_" in name else 0.7
            values = values * gain / parameter[0].numel() ** 0.5
        else:
            values = 0.1 * values + (1.0 if name.endswith("weight") else 0.0)
        parameter.data = values.to(parameter.dtype)


@real.kept
def small(name: str, in_channels: int = 4) -> real.Family:
    """A family whose model has every block of the published one, 32 channels wide; no control net."""
    cpu = torch.device("cpu")
    loaded = build(name, {**CONFIGS[name], "model_channels": WIDTH, "in_channels": in_channels}, cpu)
    return real.Family(name, loaded, None, *real.SIZES[_base(name)])


def build(name: str, config: dict[str, Any], device: torch.device, dtype: torch.dtype = torch.float32) -> Any:
    """MODEL of a configuration, random weights on the device."""
    real.host()
    supported = importlib.import_module("comfy.supported_models")
    patcher = importlib.import_module("comfy.model_patcher")
    whole = {
        "image_size": 32,
        "in_channels": 4,
        "out_channels": 4,
        "use_spatial_transformer": True,
        "legacy": False,
        "dtype": dtype,
        **config,
    }
    kind = {"sd15": supported.SD15, "sdxl": supported.SDXL}[_base(name)]
    model = kind(whole).get_model({}, device=device)
    if whole["in_channels"] == 9:
        model.set_inpaint()
    _random(model.diffusion_model, 7)
    return patcher.CoreModelPatcher(model, load_device=device, offload_device=device)


def _base(name: str) -> str:
    return name.removesuffix("_full")


class SmallVAE:
    """Stands in for a VAE: encodes a picture (B,8h,8w,3) to (B,4,h,w) by means of 8 x 8 pixels."""

    def __init__(self) -> None:
        self.encoded: list[tuple[int, ...]] = []

    def spacial_compression_encode(self) -> int:
        return 8

    def encode(self, pixels: torch.Tensor) -> torch.Tensor:
        self.encoded.append(tuple(pixels.shape))
        mean = torch.nn.functional.avg_pool2d(pixels.movedim(-1, 1), 8)
        return 6.0 * torch.cat([mean, mean.mean(1, keepdim=True)], dim=1) - 3.0
