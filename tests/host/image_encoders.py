"""Random image encoders in their published layouts, small files that the pack's loader takes."""

import dataclasses
import importlib
import json
from functools import cache
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tiller.tests.host.inprocess import host

STANDIN = {"tiller_standin": "test"}
LAYERS = 2


def pack(module: str) -> Any:
    """A module below adapters/image_prompt, with the host beside it."""
    host()
    return importlib.import_module(f"tiller.adapters.image_prompt.{module}")


NARROW = {"hidden_size": 64, "intermediate_size": 128, "projection_dim": 32}
"""Widths for tests of what goes in and comes out, for which the real ones would take long."""


@cache
def theirs(kind: str, narrow: bool = False) -> Any:
    """transformers' own model of the encoder, random, two layers at its published widths or narrow ones."""
    from transformers import (
        CLIPVisionConfig,
        CLIPVisionModelWithProjection,
        SiglipVisionConfig,
        SiglipVisionModel,
    )

    encoder = pack("encoders").ENCODERS[kind]
    config: dict[str, Any] = {
        "hidden_size": encoder.width,
        "intermediate_size": encoder.mlp,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": 16,
        "image_size": encoder.image_size,
        "patch_size": encoder.patch,
    }
    torch.manual_seed(3)
    if encoder.projection is None:
        model = SiglipVisionModel(SiglipVisionConfig(**config, hidden_act="gelu_pytorch_tanh"))
    else:
        act = "quick_gelu" if kind.startswith("CLIP-ViT-L") else "gelu"
        config |= {"projection_dim": encoder.projection, "hidden_act": act} | (NARROW if narrow else {})
        model = CLIPVisionModelWithProjection(CLIPVisionConfig(**config))
    state = {key: _numbers(key, tensor) for key, tensor in model.state_dict().items()}
    model.load_state_dict(state)
    return model.eval().requires_grad_(False)


def _numbers(key: str, tensor: torch.Tensor) -> torch.Tensor:
    """Numbers that half precision holds, since the host keeps encoders in it."""
    if not tensor.is_floating_point():
        return tensor
    generator = torch.Generator().manual_seed(len(key) + tensor.numel())
    drawn = torch.randn(tensor.shape, generator=generator)
    if tensor.ndim == 1:
        return (drawn * 0.1 + ("norm" in key and key.endswith("weight"))).half().float()
    return (drawn * 0.7 / tensor[0].numel() ** 0.5).half().float()


def narrow_encoder(kind: str) -> Any:
    """The pack's record of `theirs(kind, narrow=True)`, in the host's own class."""
    host()
    clip_vision = importlib.import_module("comfy.clip_vision")
    encoder = pack("encoders").ENCODERS[kind]
    path = Path(clip_vision.__file__).with_name(encoder.config)
    config = json.loads(path.read_text(encoding="utf-8")) | NARROW | {"num_hidden_layers": LAYERS}
    model = clip_vision.ClipVisionModel(config)
    missing, left = model.load_sd(theirs(kind, narrow=True).state_dict())
    assert not missing
    assert not left
    return pack("records").ImageEncoder(kind, model, None, "h.safetensors")


def tensors(kind: str) -> dict[str, torch.Tensor]:
    """The file's tensors in the names of transformers, two layers of it."""
    state = theirs(kind).state_dict()
    prefix = "" if any(key.startswith("vision_model.") for key in state) else "vision_model."
    return {
        prefix + key: tensor.half().contiguous() for key, tensor in state.items() if "position_ids" not in key
    }


def in_open_clip(named: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The same tensors in open_clip's names: query, key and value in one, the projection turned."""
    vision, made = "vision_model.", {}
    plain = {
        "embeddings.class_embedding": "class_embedding",
        "embeddings.patch_embedding.weight": "conv1.weight",
        "embeddings.position_embedding.weight": "positional_embedding",
    }
    for key, name in plain.items():
        made[f"visual.{name}"] = named[vision + key]
    for part in ("weight", "bias"):
        made[f"visual.ln_pre.{part}"] = named[f"{vision}pre_layrnorm.{part}"]
        made[f"visual.ln_post.{part}"] = named[f"{vision}post_layernorm.{part}"]
        for number in range(LAYERS):
            old, new = f"{vision}encoder.layers.{number}.", f"visual.transformer.resblocks.{number}."
            joined = torch.cat([named[f"{old}self_attn.{one}_proj.{part}"] for one in "qkv"])
            made[f"{new}attn.in_proj_{part}"] = joined
            made[f"{new}attn.out_proj.{part}"] = named[f"{old}self_attn.out_proj.{part}"]
            for ours, open_clip in (
                ("layer_norm1", "ln_1"),
                ("layer_norm2", "ln_2"),
                ("mlp.fc1", "mlp.c_fc"),
                ("mlp.fc2", "mlp.c_proj"),
            ):
                made[f"{new}{open_clip}.{part}"] = named[f"{old}{ours}.{part}"]
    return made | {"visual.proj": named["visual_projection.weight"].t().contiguous()}


def write(path: Any, named: dict[str, torch.Tensor], standin: bool = True) -> None:
    """A .safetensors file of these tensors, as a stand-in or as a real one."""
    save_file(named, path, metadata=STANDIN if standin else None)


def adapter(
    kind: str = "CLIP-ViT-H",
    state: str = "penultimate",
    base: str = "SD1.5",
    name: str = "",
    narrow: bool = False,
) -> Any:
    """An adapter that reads a state of the encoder; it has no weights of its own."""
    records, encoder = pack("records"), pack("encoders").ENCODERS[kind]
    variants = {"penultimate": "IP-Adapter Plus", "image_embeds": "IP-Adapter"}
    variant = variants.get(state, "Flux IP-Adapter (InstantX)")
    tokens = encoder.tokens if state == "penultimate" else 1
    width = (encoder.projection if state == "image_embeds" else None) or encoder.width
    if narrow:
        width = NARROW["projection_dim" if state == "image_embeds" else "hidden_size"]
    embeds = records.EmbedState(kind, state, tokens, width)
    spec = records.AdapterSpec(variant, base, embeds, None, 16, 768, (1, 3))
    return records.IPAdapter(spec, {}, {}, name or f"{variant.lower().replace(' ', '-')}.safetensors")


def replaced(spec: Any, **changes: Any) -> Any:
    """A spec with other fields."""
    return dataclasses.replace(spec, **changes)
