"""Small files of random weights in the published layouts of control nets, made when they are asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from devtools import standins

from . import inprocess as real

Tensors = dict[str, torch.Tensor]


def random_tensors(shapes: Mapping[str, Any]) -> Tensors:
    """Float32 tensors whose numbers are those of the stand-ins: exact in float16, the same everywhere."""
    layout = standins.Layout({key: tuple(shape) for key, shape in shapes.items()}, {})
    return {key: tensor.float() for key, tensor in standins.random_tensors(layout).items()}


def of_module(make: Callable[[], Any]) -> Tensors:
    """Random tensors in the layout of a module that is built without memory."""
    with torch.device("meta"):
        module = make()
    return random_tensors({key: tensor.shape for key, tensor in module.state_dict().items()})


def _ops() -> dict[str, Any]:
    import comfy.ops

    return {"device": "meta", "dtype": torch.float32, "operations": comfy.ops.disable_weight_init}


def difference() -> Tensors:
    return random_tensors(standins._unet_control("control_model.", standins.SD15_UNET)) | {
        "difference": torch.zeros(1)
    }


def control_lora() -> Tensors:
    whole = random_tensors(standins._unet_control("", standins.SD15_UNET))
    kept = ("input_hint_block.", "zero_convs.", "middle_block_out.")
    weights = {key: tensor for key, tensor in whole.items() if key.startswith(kept)}
    name = "input_blocks.1.1.transformer_blocks.0.attn2.to_k"
    generator = torch.Generator().manual_seed(4)
    weights[f"{name}.up"] = torch.randn(320, 4, generator=generator)
    weights[f"{name}.down"] = torch.randn(4, 768, generator=generator) * 0.05
    return weights | {"lora_controlnet": torch.zeros(1)}


WIDTH = 32
"""First width of a full T2I-Adapter here; published ones have 320, and the host reads it from the file."""


def adapter(cin: int, xl: bool, ksize: int = 1, use_conv: bool = False) -> Tensors:
    from comfy.t2i_adapter.adapter import Adapter

    channels = [WIDTH, 2 * WIDTH, 4 * WIDTH, 4 * WIDTH]
    return of_module(
        lambda: Adapter(channels, nums_rb=2, cin=cin, ksize=ksize, sk=True, use_conv=use_conv, xl=xl)
    )


def light_adapter(cin: int = 192) -> Tensors:
    from comfy.t2i_adapter.adapter import Adapter_light

    return of_module(lambda: Adapter_light(channels=[320, 640, 1280, 1280], nums_rb=4, cin=cin))


def diffusers_adapter(kind: str, **sizes: Any) -> Tensors:
    from diffusers import T2IAdapter

    channels = [WIDTH, 2 * WIDTH, 4 * WIDTH, 4 * WIDTH]
    return of_module(lambda: T2IAdapter(adapter_type=kind, channels=channels, **sizes))


def mistoline() -> Tensors:
    from comfy.ldm.flux.controlnet import ControlNetFlux

    config = {key: value for key, value in standins.FLUX.items() if key != "image_model"}
    shapes = standins._published_flux(
        {
            key: tuple(tensor.shape)
            for key, tensor in ControlNetFlux(mistoline=True, **_ops(), **config).state_dict().items()
        }
    )
    return {
        key.replace("controlnet_single_blocks.", "single_controlnet_blocks."): tensor
        for key, tensor in random_tensors(shapes).items()
    }


def instantx_flux(modes: int | None = None, channels: int = 64) -> Tensors:
    from diffusers import FluxControlNetModel

    sizes = {"num_layers": 2, "num_single_layers": 2, "num_attention_heads": 2, "attention_head_dim": 128}
    weights = of_module(lambda: FluxControlNetModel(guidance_embeds=True, num_mode=modes, **sizes))
    weights["controlnet_x_embedder.weight"] = random_tensors({"hint": (256, channels)})["hint"]
    return weights


def sd3(extra: int = 0) -> Tensors:
    from diffusers import SD3ControlNetModel

    sizes = {
        "num_layers": 1,
        "num_attention_heads": 2,
        "caption_projection_dim": 128,
        "pos_embed_max_size": 16,
    }
    return of_module(lambda: SD3ControlNetModel(extra_conditioning_channels=extra, **sizes))


def sd35() -> Tensors:
    import comfy.cldm.dit_embedder

    weights = of_module(
        lambda: comfy.cldm.dit_embedder.ControlNetEmbedder(
            img_size=None,
            patch_size=2,
            in_chans=16,
            num_layers=1,
            main_model_double=2,
            double_y_emb=True,
            attention_head_dim=64,
            num_attention_heads=2,
            adm_in_channels=2048,
            **_ops(),
        )
    )
    published = {key: tensor for key, tensor in weights.items() if not key.startswith("orig_y_embedder.")}
    return published | {"control_type": torch.tensor(1.0)}


def qwen_fun() -> Tensors:
    from comfy.ldm.qwen_image.controlnet import QwenImageFunControlNetModel

    return of_module(lambda: QwenImageFunControlNetModel(inner_dim=256, num_attention_heads=2, **_ops()))


FILES: dict[str, Callable[[], Tensors]] = {
    "LDM SD1.5": lambda: random_tensors(standins._unet_control("control_model.", standins.SD15_UNET)),
    "LDM SDXL": lambda: random_tensors(standins._unet_control("", standins.SDXL_UNET)),
    "LDM difference": difference,
    "Control-LoRA": control_lora,
    "T2I full SD1.5 gray": lambda: adapter(64, xl=False),
    "T2I full SD1.5": lambda: adapter(192, xl=False, ksize=3, use_conv=True),
    "T2I full SDXL": lambda: adapter(768, xl=True),
    "T2I full SDXL gray": lambda: adapter(256, xl=True),
    "T2I colour": light_adapter,
    "T2I light gray": lambda: light_adapter(64),
    "T2I diffusers SD1.5": lambda: diffusers_adapter("full_adapter"),
    "T2I diffusers SDXL": lambda: diffusers_adapter("full_adapter_xl", downscale_factor=16),
    "Flux XLabs": lambda: random_tensors(standins._flux("", control=True)),
    "Flux MistoLine": mistoline,
    "Flux InstantX": instantx_flux,
    "Flux InstantX Union": lambda: instantx_flux(10),
    "Flux Alimama inpaint": lambda: instantx_flux(channels=68),
    "SD3": sd3,
    "SD3 inpaint": lambda: sd3(1),
    "SD3.5": sd35,
    "Qwen Fun": qwen_fun,
}
"""Layouts that the host loads, by name."""


def file(name: str, folder: Path) -> Path:
    """The file of a layout, in that folder."""
    real.host()
    path = folder / f"{name.replace(' ', '_')}.safetensors"
    save_file({key: tensor.contiguous() for key, tensor in FILES[name]().items()}, path)
    return path
