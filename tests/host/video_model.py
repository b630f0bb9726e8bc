"""The host's own Stable Video Diffusion model at a small size, with random weights."""

from __future__ import annotations

from typing import Any

import torch
from tiller.tests.host import inprocess as real

from devtools import standins

CONFIG: dict[str, Any] = {
    "use_checkpoint": False,
    "image_size": 32,
    "out_channels": 4,
    "use_spatial_transformer": True,
    "legacy": False,
    "num_classes": "sequential",
    "adm_in_channels": 768,
    "in_channels": 8,
    "model_channels": 320,
    "num_res_blocks": [2, 1],
    "transformer_depth": [1, 0, 0],
    "transformer_depth_output": [0, 0, 0, 0, 1],
    "transformer_depth_middle": 1,
    "channel_mult": [1, 1],
    "use_linear_in_transformer": True,
    "context_dim": 1024,
    "extra_ff_mix_layer": True,
    "use_spatial_context": True,
    "merge_strategy": "learned_with_images",
    "merge_factor": 0.0,
    "video_kernel_size": [3, 1, 1],
    "use_temporal_attention": True,
    "use_temporal_resblock": True,
    "disable_temporal_crossattention": False,
    "dtype": torch.float32,
}


@real.kept
def video_model() -> real.Family:
    """The model as a family without a control net; its conditioning is `video_conditioning`'s."""
    real.host()
    import comfy.model_management
    import comfy.model_patcher
    import comfy.supported_models

    model = comfy.supported_models.SVD_img2vid(CONFIG).get_model({}, device=torch.device("cpu"))
    shapes = {key: tuple(value.shape) for key, value in model.diffusion_model.state_dict().items()}
    tensors = standins.random_tensors(standins.Layout(shapes, {}))
    model.diffusion_model.load_state_dict({key: value.float() for key, value in tensors.items()})
    device = comfy.model_management.get_torch_device()
    patcher = comfy.model_patcher.CoreModelPatcher(model, device, torch.device("cpu"))
    return real.Family("svd", patcher, None, 1024, 768, 4)


def video_conditioning(seed: int) -> list[list[Any]]:
    """One image embedding, with the settings that the host's SVD node gives."""
    generator = torch.Generator().manual_seed(seed)
    options = {"motion_bucket_id": 127, "fps": 6, "augmentation_level": 0.0, "concat_latent_image": None}
    return [[torch.randn(1, 1, 1024, generator=generator), options]]
