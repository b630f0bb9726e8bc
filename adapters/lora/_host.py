"""LoRA files and the host's models: the host's own parser, and patches that are checked before they are used.

Source: ComfyUI: comfy/sd.py (load_lora_for_models), comfy/lora.py (model_lora_keys_unet,
model_lora_keys_clip, load_lora), comfy/lora_convert.py.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import comfy.lora
import comfy.lora_convert
import comfy.utils
import folder_paths
from torch import Tensor

from ...preprocessors._host import read_weight_file
from ..control._host import model_family
from ..identify import UnknownWeightsError, identify
from ..nested import flat
from .entry import some
from .faceid import layer_paths_of, lora_of_faceid
from .info import base_of, is_text_key
from .sizes import numbers_of

FOLDER = "loras"
ENDS = ("input_blocks.0.0.weight", "out.2.weight", "img_in.weight", "final_layer.linear.weight")
"""Layers whose width differs within a family: inpainting and control models read more channels."""


@dataclass(frozen=True)
class LoraFile:
    """A file's name, its tensors by key, its metadata and its size in bytes."""

    name: str
    weights: dict[str, Tensor]
    metadata: dict[str, str]
    size: int


@dataclass(frozen=True)
class Patches:
    """What a file changes, by the host's keys, and the keys that it has for nothing."""

    model: dict[Any, Any] = field(default_factory=dict)
    clip: dict[Any, Any] = field(default_factory=dict)
    unused: tuple[str, ...] = ()
    unfit: tuple[str, ...] = ()


class _Read(dict[str, Any]):
    """A file's tensors, with the keys of those that were taken."""

    def __init__(self, content: Mapping[str, Any]) -> None:
        super().__init__(content)
        self.taken: set[str] = set()

    def __getitem__(self, key: str) -> Any:
        self.taken.add(key)
        return super().__getitem__(key)

    def get(self, key: str, default: Any = None) -> Any:
        if key not in self:
            return default
        return self[key]


def lora_names() -> list[str]:
    """Files of the host's folders for LoRAs, as its own loader lists them."""
    return folder_paths.get_filename_list(FOLDER)


def read_lora(name: str, node: str) -> LoraFile:
    """The tensors and the metadata of such a file; pickles are read by the host's safe loader.

    Raises:
        FileNotFoundError: where there is none of that name.
        ValueError: for a file that cannot be read, or that holds more than tensors by name.
    """
    path = Path(folder_paths.get_full_path_or_raise(FOLDER, name))
    again = "Get it from its page again, or choose another file."
    content, metadata = read_weight_file(str(path), node, again)
    if not isinstance(content, dict):
        raise ValueError(
            f"{node} needs a file of tensors by name, but {name} holds a {type(content).__name__}. {again}"
        )
    weights = flat(content)
    odd = [key for key, value in weights.items() if not isinstance(value, Tensor)]
    if odd:
        raise ValueError(
            f"{node} needs a file of tensors, but {name} holds other things under {some(odd)}. "
            "Take its .safetensors form."
        )
    return LoraFile(name, weights, metadata, os.path.getsize(path))


def patches_of(file: LoraFile, model: Any, clip: Any, node: str) -> Patches:
    """What the host's parser makes of a file for a model (ModelPatcher) and a CLIP or None.

    Raises:
        ValueError: when the file changes nothing in them, or is made for a model of another size; says what
            it is.
    """
    keys = comfy.lora.model_lora_keys_unet(model.model, {})
    texts: dict[str, Tensor] = {}
    if clip is not None:
        keys = comfy.lora.model_lora_keys_clip(clip.cond_stage_model, keys)
        texts = clip.cond_stage_model.state_dict()
    weights = _Read(comfy.lora_convert.convert_lora(file.weights))
    loaded = comfy.lora.load_lora(weights, keys, log_missing=False)
    state = model.model.state_dict()
    found = {key: patch for key, patch in loaded.items() if name_of(key) in state or name_of(key) in texts}
    unused = tuple(key for key in weights if key not in weights.taken)
    unfit = tuple(name_of(key) for key in found if not _fits(key, found[key], state, texts))
    if not found:
        raise ValueError(_nothing(file, model, node))
    if any(not name.endswith(ENDS) for name in unfit):
        raise ValueError(_misfit(file, model, node, unfit, len(found)))
    fitting = {key: patch for key, patch in found.items() if name_of(key) not in unfit}
    in_model = {key: patch for key, patch in fitting.items() if name_of(key) in state}
    in_text = {key: patch for key, patch in fitting.items() if key not in in_model}
    return Patches(in_model, in_text, unused, unfit)


def name_of(key: Any) -> str:
    """The weight that a key of a patch dictionary names; a tuple also says which part of it."""
    return key if isinstance(key, str) else key[0]


def _fits(key: Any, patch: Any, *states: Mapping[str, Tensor]) -> bool:
    """Whether a patch has the size of its weight; unknown for packed weights, whose shape is not theirs."""
    numbers = numbers_of(patch)
    weight = next(state[name_of(key)] for state in states if name_of(key) in state)
    if not weight.is_floating_point():
        return True
    size = weight.numel()
    if not isinstance(key, str) and key[1] is not None:
        dimension, _, length = key[1]
        size = size // weight.shape[dimension] * length
    return numbers is None or numbers == size


def _family(model: Any) -> str:
    return model_family(model.model) or type(model.model).__name__


def _nothing(file: LoraFile, model: Any, node: str) -> str:
    if all(is_text_key(key) for key in file.weights):
        return (
            f"{file.name} changes nothing in this model ({_family(model)}): all of its {len(file.weights)} "
            f"tensors are for the text encoder. Connect the checkpoint's CLIP to clip of {node}."
        )
    try:
        found = identify({key: tuple(tensor.shape) for key, tensor in file.weights.items()})
    except UnknownWeightsError:
        what, use = f"a file of unknown kind ({some(file.weights)})", "Check that it is what its page says."
    else:
        made_for = base_of(file.weights) or found.family
        article = "an" if found.kind[0] in "AEIOU" else "a"
        what, use = f"{article} {found.kind} for {made_for}", found.use
        if found.kind == "LoRA":
            use = "Choose a LoRA made for this model's family."
    return (
        f"{node} needs a LoRA for this model ({_family(model)}), but {file.name} changes nothing in it: "
        f"it is {what}. {use}"
    )


def _misfit(file: LoraFile, model: Any, node: str, unfit: tuple[str, ...], count: int) -> str:
    base = base_of(file.weights)
    return (
        f"{node} needs a LoRA for this model ({_family(model)}), but {file.name} is made for "
        f"{base or 'another one'}: {len(unfit)} of its {count} changes have another size than the weights "
        f"they are for ({some(unfit)}). Choose a LoRA made for {_family(model)}."
    )


def faceid_layer_paths(model: Any) -> list[str]:
    """The attention layers of a loaded UNet model (ModelPatcher) as FaceID files count them."""
    return layer_paths_of(list(comfy.utils.unet_to_diffusers(model.model.model_config.unet_config)))


def add_faceid_lora(model: Any, weights: Mapping[str, Tensor], strength: float = 1.0) -> Any:
    """A clone of the model with the LoRA half of a FaceID file; `weights`: the file's `ip_adapter` part.

    Strength 0, or a file without a LoRA half, gives the model itself.

    Raises:
        ValueError: when the half is not made for this model, or is not complete.
    """
    lora = lora_of_faceid(weights, faceid_layer_paths(model))
    if not lora or strength == 0:
        return model
    patches = comfy.lora.load_lora(lora, comfy.lora.model_lora_keys_unet(model.model, {}), log_missing=False)
    clone = model.clone()
    taken = clone.add_patches(patches, strength)
    if 2 * len(taken) != len(lora):
        raise ValueError(
            f"The LoRA half of a FaceID file has {len(lora) // 2} parts, but this model takes only "
            f"{len(taken)} of them. Take the file that is made for this model's family."
        )
    return clone
