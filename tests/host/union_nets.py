"""ControlNet-Union at a small size with random weights: the host's class, and diffusers' with the same ones.

Import it as `tiller.tests.host.union_nets`. SDXL and SD1.5 shaped; zero convolutions have weights.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch

from . import inprocess as real

SHARED = {
    "image_size": 32,
    "in_channels": 4,
    "model_channels": 320,
    "use_spatial_transformer": True,
    "legacy": False,
}
SMALL: dict[str, dict[str, Any]] = {
    "sdxl": {
        "num_res_blocks": [1, 1],
        "channel_mult": [1, 2],
        "transformer_depth": [0, 1],
        "transformer_depth_middle": 1,
        "num_heads": -1,
        "num_head_channels": 64,
        "context_dim": 2048,
        "use_linear_in_transformer": True,
        "adm_in_channels": 2816,
        "num_classes": "sequential",
    },
    "sd15": {
        "num_res_blocks": [1, 1],
        "channel_mult": [1, 1],
        "transformer_depth": [1, 0],
        "transformer_depth_middle": 1,
        "num_heads": 8,
        "num_head_channels": -1,
        "context_dim": 768,
        "use_linear_in_transformer": False,
    },
}
IN_DIFFUSERS: dict[str, dict[str, Any]] = {
    "sdxl": {
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
        "block_out_channels": (320, 640),
        "transformer_layers_per_block": (1, 1),
        "attention_head_dim": (5, 10),
        "cross_attention_dim": 2048,
        "use_linear_projection": True,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 256,
        "projection_class_embeddings_input_dim": 2816,
    },
    "sd15": {
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "block_out_channels": (320, 320),
        "attention_head_dim": 8,
        "cross_attention_dim": 768,
        "addition_time_embed_dim": 256,
    },
}


GAINS = {"cond_embedding": 1.8, "input_hint_block": 1.8, "task_embedding": 18.0, "spatial_ch_projs": 2.0}


def redraw(module: torch.nn.Module, seed: int = 3) -> None:
    """Gives every weight random numbers; those of the fusion are large, so that a type's token matters."""
    generator = torch.Generator().manual_seed(seed)
    for key, weight in sorted(module.state_dict().items()):
        fan_in = max(1, weight[0].numel()) if weight.dim() > 1 else 1
        gain = next((gain for part, gain in GAINS.items() if part in key), 0.8)
        numbers = torch.randn(weight.shape, generator=generator)
        if weight.dim() > 1:
            weight.copy_(numbers * (gain / fan_in**0.5))
        else:
            weight.copy_(numbers * 0.1 + (1.0 if "norm" in key or "ln_" in key else 0.0) * ("weight" in key))


def hosts_net(config: dict[str, Any], types: int | None, weights: Any = None) -> Any:
    """The host's control object over a module of its class, with these weights or random ones."""
    real.host()
    from comfy import cldm, controlnet, model_management, ops  # noqa: F401
    from comfy.cldm.cldm import ControlNet

    module = ControlNet(
        **SHARED,
        **config,
        hint_channels=3,
        union_controlnet_num_control_type=types,
        dtype=torch.float32,
        operations=ops.disable_weight_init,
    ).eval()
    with torch.no_grad():
        redraw(module) if weights is None else module.load_state_dict(weights)
    return controlnet.ControlNet(module, load_device=model_management.get_torch_device())


@real.kept
def union_for_sampling(types: int) -> Any:
    """A Union net that goes with the SDXL stand-in of the samplings."""
    from devtools.standins import SDXL_UNET

    return hosts_net(dict(SDXL_UNET), types)


class Pair(NamedTuple):
    """The same Union weights in the host's class and in diffusers'."""

    family: str
    net: Any
    reference: Any

    @property
    def module(self) -> Any:
        return self.net.control_model


def converted(state: dict[str, torch.Tensor], family: str) -> dict[str, torch.Tensor]:
    """State dict of diffusers' class -> of the host's."""
    from comfy.utils import unet_to_diffusers

    config = {**SMALL[family], "transformer_depth_output": [1] * 4}
    names = unet_to_diffusers(config)
    for ending in ("weight", "bias"):
        names[f"controlnet_mid_block.{ending}"] = f"middle_block_out.0.{ending}"
        names[f"controlnet_cond_embedding.conv_in.{ending}"] = f"input_hint_block.0.{ending}"
        names[f"controlnet_cond_embedding.conv_out.{ending}"] = f"input_hint_block.14.{ending}"
        for index in range(6):
            key = f"controlnet_cond_embedding.blocks.{index}.{ending}"
            names[key] = f"input_hint_block.{2 * index + 2}.{ending}"
        for index in range(16):
            names[f"controlnet_down_blocks.{index}.{ending}"] = f"zero_convs.{index}.0.{ending}"
    return {names.get(key, key.replace("in_proj_", "in_proj.")): value for key, value in state.items()}


@real.kept
def pair(family: str, types: int) -> Pair:
    """A Union net of a family's shape with so many types, in both classes."""
    real.host()
    from diffusers import ControlNetUnionModel

    reference = ControlNetUnionModel(
        **IN_DIFFUSERS[family],
        layers_per_block=1,
        conditioning_embedding_out_channels=(16, 32, 96, 256),
        num_control_type=types,
    ).eval()
    with torch.no_grad():
        redraw(reference)
    weights = converted(reference.state_dict(), family)
    return Pair(family, hosts_net(SMALL[family], types, weights), reference)


class Inputs(NamedTuple):
    """One call: latent, timesteps, text, pooled text and sizes (SDXL)."""

    x: torch.Tensor
    timesteps: torch.Tensor
    context: torch.Tensor
    pooled: torch.Tensor
    sizes: torch.Tensor


def inputs(family: str, rows: int = 1, size: tuple[int, int] = (8, 8), seed: int = 4) -> Inputs:
    generator = torch.Generator().manual_seed(seed)
    width = SMALL[family]["context_dim"]
    return Inputs(
        torch.randn(rows, 4, *size, generator=generator),
        torch.full((rows,), 411.0),
        torch.randn(rows, 7, width, generator=generator),
        torch.randn(rows, 1280, generator=generator),
        torch.tensor([[1024.0, 1024, 0, 0, 1024, 1024]]).repeat(rows, 1),
    )


def row_of(given: Inputs, row: int) -> Inputs:
    return Inputs(*(tensor[row : row + 1] for tensor in given))


def hint(seed: int, rows: int = 1, size: tuple[int, int] = (8, 8)) -> torch.Tensor:
    """Hint (rows,3,8 * h,8 * w) of noise in 0..1, each of a colour of its own."""
    generator = torch.Generator().manual_seed(seed)
    colour = torch.rand(rows, 3, 1, 1, generator=generator)
    return (colour + torch.rand(rows, 3, size[0] * 8, size[1] * 8, generator=generator)) / 2


def _y(of: str, given: Inputs) -> torch.Tensor | None:
    if of != "sdxl":
        return None
    return torch.cat(
        [given.pooled, forward().timestep_embedding(given.sizes.flatten(), 256).reshape(-1, 1536)], 1
    )


def forward() -> Any:
    """Our module `adapters/control/ldm/forward.py`."""
    from tiller.adapters.control.ldm import forward

    return forward


def ours_of(of: Pair, given: Inputs, guided: torch.Tensor, types: list[int]) -> Any:
    """Our residuals for what is added to the first block: output blocks first and the middle last."""
    found = forward().residuals(
        of.module, given.x, guided, given.timesteps, given.context, _y(of.family, given), types
    )
    return [*found["output"], *found["middle"]]


def ours(of: Pair, given: Inputs, hints: list[torch.Tensor], types: list[int], factors: Any = None) -> Any:
    """Our residuals for several hints, one per type."""
    encodings = [forward().encode_hint(of.module, one) for one in hints]
    guided = forward().fuse_hints(of.module, encodings, types, factors or [1.0] * len(types))
    return ours_of(of, given, guided, types)


def cores(of: Pair, given: Inputs, hints: list[torch.Tensor], types: list[int]) -> Any:
    """The same of the host's class, which takes one hint."""
    (one,) = hints
    found = of.module(
        given.x, one, given.timesteps, given.context, y=_y(of.family, given), control_type=types
    )
    return [*found["output"], *found["middle"]]


def diffusers(
    of: Pair, given: Inputs, hints: list[torch.Tensor], types: list[int], factors: Any = None
) -> Any:
    """The same of diffusers' class."""
    active = torch.zeros(given.x.shape[0], of.module.num_control_type)
    active[:, types] = 1.0
    more = {"text_embeds": given.pooled, "time_ids": given.sizes} if of.family == "sdxl" else None
    down, middle = of.reference(
        given.x,
        given.timesteps,
        given.context,
        hints,
        active,
        types,
        factors or [1.0] * len(types),
        added_cond_kwargs=more,
        return_dict=False,
    )
    return [*down, middle]


def gap(one: Any, other: Any) -> float:
    """Largest difference over all residuals, relative to the largest value of `other`."""
    largest = max(float(tensor.abs().max()) for tensor in other)
    return max(real.difference(a, b) for a, b in zip(one, other, strict=True)) / largest
