"""A narrow Flux network of random weights in the real host, and adapters for it."""

from __future__ import annotations

import importlib
from typing import Any

import torch
from tiller.tests.host import inprocess as real
from tiller.tests.host.small_unets import _random

HEADS, HEAD, TEXT, POOLED = 2, 16, 48, 24
CONFIG: dict[str, Any] = {
    "image_model": "flux",
    "in_channels": 16,
    "out_channels": 16,
    "patch_size": 2,
    "vec_in_dim": POOLED,
    "context_in_dim": TEXT,
    "hidden_size": HEADS * HEAD,
    "mlp_ratio": 4.0,
    "num_heads": HEADS,
    "axes_dim": [4, 6, 6],
    "theta": 10000,
    "qkv_bias": True,
    "guidance_embed": True,
    "txt_ids_dims": [],
}


@real.kept
def small_flux(double: int = 3, single: int = 4) -> real.Family:
    """A family whose model is a Flux of so many blocks, 32 wide; no control net."""
    real.host()
    supported = importlib.import_module("comfy.supported_models")
    patcher = importlib.import_module("comfy.model_patcher")
    config = {**CONFIG, "depth": double, "depth_single_blocks": single, "dtype": torch.float32}
    cpu = torch.device("cpu")
    model = supported.Flux(config).get_model({}, device=cpu)
    _random(model.diffusion_model, 7)
    loaded = patcher.CoreModelPatcher(model, load_device=cpu, offload_device=cpu)
    return real.Family("flux", loaded, None, TEXT, POOLED, 16)
