"""Loads any control net file, by what its keys say it is.

Source: ComfyUI: comfy/controlnet.py (load_controlnet, load_controlnet_state_dict), which loads every kind
that it has; the other kinds come from the packages beside this one.
"""

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import comfy.controlnet
import comfy.model_detection
import comfy.utils
import folder_paths
import torch
from comfy.controlnet import ControlBase
from torch import Tensor

from ....preprocessors._host import read_weight_file
from ...identify import (
    DIFFERENCE,
    LIGHT_ADAPTER_DIFFUSERS,
    TILLER_KINDS,
    Identified,
    UnknownWeightsError,
    identify,
)
from ...nested import flat
from .._host import check_family
from ..controlnext.apply import load as load_controlnext
from ..lllite.apply import load as load_lllite
from ..sparsectrl.apply import load as load_sparsectrl
from ..xs.apply import load as load_xs
from .about import About, describe
from .pooling import Pooling, PoolingChoice, pooling_of

logger = logging.getLogger("tiller")

FOLDER = "controlnet"
MODES_KEY = "controlnet_mode_embedder.weight"
POOLABLE = "ControlNet"
"""How the host's kinds begin whose residuals can be averaged."""

MARKERS = frozenset({"lora_controlnet", "difference", "control_type"})
"""Keys that say something of a file and go into no layer."""

FROM_THE_MODEL = {"SD3.5 ControlNet": ("orig_y_embedder.", "x_embedder.")}
"""Layers that no file holds, since the host takes them from the model when a sampling starts."""

Weights = dict[str, Tensor]


def load_light_adapter(weights: Weights, identified: Identified) -> ControlBase:
    """A light T2I-Adapter in the names of diffusers: the host's own net under the names it knows.

    Source: huggingface/diffusers: models/adapter.py (LightAdapter).
    """
    renamed = {
        key.removeprefix("adapter.").replace(".resnets.", ".body."): tensor for key, tensor in weights.items()
    }
    return _load_with_host(renamed, identified, None, False)


LOADERS: dict[str, Callable[[Weights, Identified], ControlBase]] = {
    LIGHT_ADAPTER_DIFFUSERS: load_light_adapter,
    "SparseCtrl": load_sparsectrl,
    "ControlNeXt": load_controlnext,
    "ControlNet-LLLite": load_lllite,
    "ControlNet-XS": load_xs,
}
"""Kind -> how it is loaded, for the kinds that the host lacks; one line for each."""


def read_weights(path: Path) -> tuple[Weights, dict[str, str]]:
    """Every tensor of a .safetensors file or a pickle, by key, and the metadata of the former.

    Pickles are read by the host's safe loader, which takes tensors and nothing else. Dictionaries within
    the file are joined to their keys by a dot; what is no tensor is left out.

    Raises ValueError for a file that cannot be read, saying what it looks like.
    """
    again = "Get it from its page again, or choose another file."
    content, metadata = read_weight_file(str(path), "A loader", again)
    if not isinstance(content, dict):
        raise ValueError(
            f"A file of tensors by name was needed, but {path.name} holds a {type(content).__name__}. {again}"
        )
    return {key: value for key, value in flat(content).items() if isinstance(value, Tensor)}, metadata


def identify_weights(weights: Weights, name: str) -> Identified:
    """What the tensors are. Raises UnknownWeightsError, with the file's name, where that is not known."""
    try:
        found = identify({key: tuple(tensor.shape) for key, tensor in weights.items()})
    except UnknownWeightsError as error:
        raise UnknownWeightsError(f"{name}: {error}") from error
    return replace(found, file=name)


def check_is_control(found: Identified) -> None:
    """Raises ValueError for a file that is no control net, with what it is and what loads it."""
    if found.role != "control":
        raise ValueError(
            f"Load Control needs a control net, but {found.file} is a {found.kind} ({found.family}). "
            f"{found.use}"
        )


def control_names() -> list[str]:
    """Files of the host's folders for control nets and T2I-Adapters, as its own loader lists them."""
    return folder_paths.get_filename_list(FOLDER)


def control_path(name: str) -> Path:
    """Where such a file lies. Raises FileNotFoundError where there is none of that name."""
    return Path(folder_paths.get_full_path_or_raise(FOLDER, name))


def load_control(path: str | Path, model: Any = None, pooling: PoolingChoice = "auto") -> ControlBase:
    """The control net of a file; its attribute `identified` says what it is.

    `model` is the ModelPatcher that a file of differences is added to; other files need none. `pooling`
    switches global average pooling on or off; "auto" goes by what can be known of the file.

    Raises:
        UnknownWeightsError: for keys that match no known format.
        ValueError: for a file that is no control net, that needs a model which is missing or of another
            family, or whose keys do not fill the net, or more than fill it.
    """
    return load_control_and_text(path, model, pooling)[0]


def load_control_and_text(path: str | Path, model: Any, choice: PoolingChoice) -> tuple[ControlBase, str]:
    """The control net of a file, as `load_control` gives it, and what it is in words."""
    path = Path(path)
    weights, metadata = read_weights(path)
    found = identify_weights(weights, path.name)
    check_is_control(found)
    _check_model(found, model)
    pooling = _pooling(found, path, metadata, choice)
    weights = {key.removeprefix(found.prefix): tensor for key, tensor in weights.items()}
    modes = len(weights[MODES_KEY]) if MODES_KEY in weights else 0
    load = LOADERS.get(found.kind)
    net: Any = load(weights, found) if load else _load_with_host(weights, found, model, pooling.on)
    net.identified = found
    colours = getattr(net, "channels_in", 3)
    return net, describe(About(found, pooling, bool(net.concat_mask), modes, colours))


def _check_model(found: Identified, model: Any) -> None:
    if model is not None:
        check_family(found, model.model)
    elif found.kind == DIFFERENCE:
        raise ValueError(
            f"{found.file} holds the difference of a control net from its base model, so it needs a model of "
            f"the {found.family} family, got none. Connect the checkpoint's model to model."
        )


def _can_pool(found: Identified) -> bool:
    return found.kind.startswith(POOLABLE) and found.kind not in TILLER_KINDS


def _pooling(found: Identified, path: Path, metadata: dict[str, str], choice: PoolingChoice) -> Pooling:
    if choice == "on" and not _can_pool(found):
        raise ValueError(
            f"Global average pooling is for ControlNets, but {found.file} is a {found.kind}. "
            "Set global_average_pooling to auto."
        )
    if choice != "auto":
        return Pooling(choice == "on", "your choice")
    if not _can_pool(found):
        return Pooling(False, "its kind, which has none")
    pooling = pooling_of(path, metadata)
    if pooling.on and pooling.because.startswith("its name"):
        logger.info(
            "Global average pooling is on for %s because of its name alone, as ComfyUI does.", path.name
        )
    elif not pooling.on and "shuffle" in path.stem.lower():
        logger.info(
            "Global average pooling is off for %s: only the word in its name speaks for it. If this is the "
            "shuffle net, set global_average_pooling to on.",
            path.name,
        )
    return pooling


def _load_with_host(weights: Weights, found: Identified, model: Any, pooling: bool) -> ControlBase:
    names = _names(weights, found)
    options = {"global_average_pooling": pooling}
    try:
        net: Any = comfy.controlnet.load_controlnet_state_dict(weights, model=model, model_options=options)
    except (RuntimeError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{found.file} looks like a {found.kind}, but ComfyUI cannot load it: {error}. "
            "Download it again, or take another layout of the same net."
        ) from error
    if net is None:
        raise ValueError(
            f"{found.file} is a {found.kind}, which this version of ComfyUI does not load. Update ComfyUI, "
            "or download the file in another layout."
        )
    if found.kind == "Control-LoRA":
        net.global_average_pooling = pooling
    elif getattr(net, "control_model", None) is not None:
        _check_keys(names, net.control_model, found)
    return net


def _check_keys(names: set[str], module: torch.nn.Module, found: Identified) -> None:
    """Raises ValueError where the file leaves layers of the net empty, or has numbers that none takes."""
    wanted = set(module.state_dict())
    filled_later = FROM_THE_MODEL.get(found.kind, ())
    missing = sorted(key for key in wanted - names if not key.startswith(filled_later))
    unused = sorted(names - wanted - MARKERS)
    for what, keys in (("lacks", missing), ("also has", unused)):
        if keys:
            more = f" and {len(keys) - 3} more" if len(keys) > 3 else ""
            raise ValueError(
                f"{found.file} is a {found.kind} ({found.family}), but it {what} "
                f"{', '.join(keys[:3])}{more}, so the net would not give what it was trained for. "
                "Download the file again, or take another layout of the same net."
            )


def _names(weights: Weights, found: Identified) -> set[str]:
    """The names that the host's net gives to the tensors of the file."""
    if "(LDM layout" in found.kind:
        return _ldm_names(weights)
    if "(diffusers layout)" in found.kind and found.kind.startswith("ControlNet"):
        return _diffusers_names(weights, found)
    if found.kind.startswith(("Flux ControlNet", "SD3")):
        return _transformer_names(weights)
    return set(weights)


def _ldm_names(weights: Weights) -> set[str]:
    """Without the prefix; what stands outside it is another network in the same file (ControlNet 1.0)."""
    prefix = "control_model."
    if not any(key.startswith(prefix) for key in weights):
        return set(weights)
    return {key.removeprefix(prefix) for key in weights if key.startswith(prefix)}


def _diffusers_names(weights: Weights, found: Identified) -> set[str]:
    """The host's table of a UNet's layers, with those that only control nets have.

    Source: ComfyUI: comfy/controlnet.py (load_controlnet_state_dict).
    """
    config = comfy.model_detection.unet_config_from_diffusers_unet(weights)
    if config is None:
        raise ValueError(
            f"{found.file} is a {found.kind} ({found.family}) of a size that ComfyUI has no table for. "
            "Take the same net in the LDM layout, if there is one."
        )
    table = comfy.utils.unet_to_diffusers(config)
    blocks = sum(key.startswith("controlnet_cond_embedding.blocks.") for key in weights) // 2
    for kind in ("weight", "bias"):
        hint = "controlnet_cond_embedding"
        table[f"controlnet_mid_block.{kind}"] = f"middle_block_out.0.{kind}"
        table[f"{hint}.conv_in.{kind}"] = f"input_hint_block.0.{kind}"
        table[f"{hint}.conv_out.{kind}"] = f"input_hint_block.{2 * blocks + 2}.{kind}"
        for index in range(blocks):
            table[f"{hint}.blocks.{index}.{kind}"] = f"input_hint_block.{2 * index + 2}.{kind}"
        for index in range(sum(key.startswith("controlnet_down_blocks.") for key in weights) // 2):
            table[f"controlnet_down_blocks.{index}.{kind}"] = f"zero_convs.{index}.0.{kind}"
    return {table.get(key, key).replace(".attn.in_proj_", ".attn.in_proj.") for key in weights}


def _transformer_names(weights: Weights) -> set[str]:
    """Flux and SD3: the host's own conversion, run on tensors without memory."""
    empty = {key: torch.empty(tensor.shape, device="meta") for key, tensor in weights.items()}
    converted = comfy.model_detection.convert_diffusers_mmdit(empty, "") or {}
    basic = {row[1]: row[0] for row in comfy.utils.MMDIT_MAP_BASIC}
    return {_transformer_name(basic.get(key, key)) for key in {*converted, *empty}}


def _transformer_name(key: str) -> str:
    if key.startswith("single_controlnet_blocks."):
        return key.replace("single_controlnet_blocks.", "controlnet_single_blocks.", 1)
    return f"{key.removesuffix('.scale')}.weight" if key.endswith("_norm.scale") else key
