"""LoRA weights into the host's models, by the host's own parser and its patches.

Source: ComfyUI: comfy/sd.py (load_lora_for_models), comfy/lora.py (model_lora_keys_unet, load_lora).
"""

from collections.abc import Mapping
from typing import Any

import comfy.lora
import comfy.utils
from torch import Tensor

from .faceid import layer_paths_of, lora_of_faceid


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
