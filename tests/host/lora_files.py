"""Random LoRA files in the namings and forms that people have, for the small models of the tests."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from tiller.tests.host import inprocess as real
from tiller.tests.host import small_flux as narrow_flux
from torch import Tensor

RANK, ALPHA = 4, 2.0
SCALE = 0.15
PREFIX = "diffusion_model."
PARTS = ("attn1.to_q", "attn2.to_k", "attn2.to_out.0", "ff.net.2", "proj_in", "in_layers.2", "emb_layers.1")
"""Of a UNet: projections, linear layers, convolutions of 1 x 1 and 3 x 3."""

FLUX_PARTS = ("img_attn.qkv", "txt_mlp.2", "linear1", "img_in", "final_layer.linear", "vector_in.in_layer")


def small_flux() -> real.Family:
    """Flux with all of its 19 double and 38 single blocks, narrow."""
    return narrow_flux.small_flux(19, 38)


class Encoders(torch.nn.Module):
    """The weights of text encoders that a LoRA may change, in the host's names; they encode nothing."""

    def __init__(self, names: tuple[str, ...], width: int = 8) -> None:
        super().__init__()
        for name in names:
            *folders, last = name.split(".")
            place: torch.nn.Module = self
            for folder in folders:
                if not hasattr(place, folder):
                    place.add_module(folder, torch.nn.Module())
                place = getattr(place, folder)
            place.add_module(last, torch.nn.Linear(width, width, bias=False))


def text_encoders(*encoders: str) -> Any:
    """The host's CLIP object over such weights: of clip_l, clip_g or t5xxl, one layer each."""
    real.host()
    sd = importlib.import_module("comfy.sd")
    patcher = importlib.import_module("comfy.model_patcher")
    layer = "transformer.text_model.encoder.layers.0"
    names = tuple(
        "t5xxl.transformer.encoder.block.0.layer.0.SelfAttention.q"
        if encoder == "t5xxl"
        else f"{encoder}.{layer}.mlp.fc1"
        for encoder in encoders
    )
    torch.manual_seed(0)
    clip = sd.CLIP(no_init=True)
    clip.cond_stage_model = Encoders(names)
    cpu = torch.device("cpu")
    clip.patcher = patcher.CoreModelPatcher(clip.cond_stage_model, load_device=cpu, offload_device=cpu)
    clip.tokenizer, clip.layer_idx, clip.tokenizer_options = None, None, {}
    clip.use_clip_schedule, clip.apply_hooks_to_conds = False, None
    return clip


def modules(model: Any) -> dict[str, tuple[int, ...]]:
    """The host's names, without .weight, of the weights that our files change, and their shapes."""
    state = model.model.state_dict()
    return {
        key.removesuffix(".weight"): tuple(tensor.shape)
        for key, tensor in state.items()
        if key.startswith(PREFIX) and key.removesuffix(".weight").endswith((*PARTS, *FLUX_PARTS))
    }


def names_of(model: Any, naming: str) -> dict[str, str]:
    """The host's name of a module -> its name in a file: kohya (by LDM), diffusers, processor or generic."""
    utils = importlib.import_module("comfy.utils")
    found = list(modules(model))
    if naming == "generic":
        return {name: name for name in found}
    if naming == "kohya":
        return {name: f"lora_unet_{name.removeprefix(PREFIX).replace('.', '_')}" for name in found}
    table = utils.unet_to_diffusers(model.model.model_config.unet_config)
    theirs = {
        f"{PREFIX}{ours}".removesuffix(".weight"): k.removesuffix(".weight") for k, ours in table.items()
    }
    known = {name: theirs[name] for name in found if name in theirs}
    if naming == "diffusers":
        return {name: f"lora_unet_{theirs.replace('.', '_')}" for name, theirs in known.items()}
    return {
        name: f"unet.{theirs.replace('.to_', '.processor.to_')}".removesuffix(".0")
        for name, theirs in known.items()
        if ".to_" in theirs
    }


def lora(model: Any, naming: str = "kohya", form: str = "lora", seed: int = 1) -> dict[str, Tensor]:
    """Tensors of a file for a model: `form` is lora, loha, lokr, dora or diff."""
    generator = torch.Generator().manual_seed(seed)
    shapes = modules(model)
    weights: dict[str, Tensor] = {}
    for name, theirs in names_of(model, naming).items():
        weights |= one(theirs, shapes[name], form, generator, naming)
    return weights


def one(
    name: str, shape: tuple[int, ...], form: str, generator: torch.Generator, naming: str = "kohya"
) -> dict[str, Tensor]:
    """The tensors of one module, in a form."""
    out, width, kernel = shape[0], shape[1], tuple(shape[2:])

    def normal(*size: int) -> Tensor:
        return SCALE * torch.randn(size, generator=generator)

    alpha = {f"{name}.alpha": torch.tensor(ALPHA)}
    if form == "loha":
        flat = width * (kernel[0] * kernel[1] if kernel else 1)
        sizes = {"w1_a": (out, RANK), "w1_b": (RANK, flat), "w2_a": (out, RANK), "w2_b": (RANK, flat)}
        return {f"{name}.hada_{part}": normal(*size) for part, size in sizes.items()} | alpha
    if form == "lokr":
        return {
            f"{name}.lokr_w1": normal(2, 2),
            f"{name}.lokr_w2": normal(out // 2, width // 2, *kernel),
        } | alpha
    if form == "diff":
        return {f"{name}.diff": normal(*shape), f"{name}.diff_b": normal(out)}
    up, down = normal(out, RANK, *(1 for _ in kernel)), normal(RANK, width, *kernel)
    if naming == "processor":
        return {f"{name}_lora.up.weight": up, f"{name}_lora.down.weight": down}
    if naming == "generic":
        return {f"{name}.lora_B.weight": up, f"{name}.lora_A.weight": down}
    magnitudes = {f"{name}.dora_scale": 1.0 + normal(out, *(1 for _ in shape[1:]))} if form == "dora" else {}
    return {f"{name}.lora_up.weight": up, f"{name}.lora_down.weight": down, **magnitudes, **alpha}


def text_lora(*encoders: str, seed: int = 9) -> dict[str, Tensor]:
    """The half for text encoders in kohya's names: te (SD1.5), te1, te2 (SDXL), te1, t5 (Flux: named te2)."""
    generator = torch.Generator().manual_seed(seed)
    weights: dict[str, Tensor] = {}
    for encoder in encoders:
        end = "text_model_encoder_layers_0_mlp_fc1"
        name = f"lora_{encoder}_{'encoder_block_0_layer_0_SelfAttention_q' if encoder == 't5' else end}"
        weights |= one(name.replace("lora_t5_", "lora_te2_"), (8, 8), "lora", generator)
    return weights


@pytest.fixture
def loras(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """`save(name, weights, metadata=None)` into a folder of LoRAs that only this test's host has."""
    real.host()
    paths = importlib.import_module("folder_paths")
    safetensors = importlib.import_module("safetensors.torch")
    kinds = paths.folder_names_and_paths["loras"][1]
    monkeypatch.setitem(paths.folder_names_and_paths, "loras", ([str(tmp_path)], kinds))
    monkeypatch.setattr(paths, "filename_list_cache", {})

    def save(name: str, weights: dict[str, Tensor], metadata: dict[str, str] | None = None) -> str:
        safetensors.save_file(weights, tmp_path / name, metadata=metadata)
        return name

    return save


@contextmanager
def unscaled(of: real.Family) -> Iterator[None]:
    """The family's latents without their factor, so that a run may be cut in two without rounding."""
    latents = of.model.model.latent_format
    kept, latents.scale_factor = latents.scale_factor, 1.0
    try:
        yield
    finally:
        latents.scale_factor = kept


def load(model: Any, clip: Any, name: str, **settings: Any) -> tuple[Any, Any, str]:
    """Our Load LoRA (Blocks), at the defaults of its widgets but for what is given."""
    given = {"strength_model": 1.0, "strength_clip": 1.0, "preset": "ALL", "blocks": "", **settings}
    return real.pack_nodes("lora").TillerLoadLoRA.execute(model, clip, lora_name=name, **given).args


def merged(patcher: Any) -> dict[str, Tensor]:
    """Name -> weight with its patches, for every weight of a ModelPatcher that has some."""
    comfy_lora = importlib.import_module("comfy.lora")
    state = patcher.model.state_dict()
    return {
        key: comfy_lora.calculate_weight(patches, state[key].clone(), key)
        for key, patches in patcher.patches.items()
    }
