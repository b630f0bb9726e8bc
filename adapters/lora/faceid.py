"""The LoRA half that lies inside a FaceID file, in names that the host's LoRA loader knows."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from torch import Tensor

PROJECTIONS = ("q", "k", "v", "out")
PARTS = ("down", "up")
KEY = re.compile(r"(\d+)\.to_(q|k|v|out)_lora\.(down|up)\.weight")


def layer_paths_of(names: Sequence[str]) -> list[str]:
    """Names of a UNet's weights in diffusers' naming, in the model's order -> its attention layers' paths.

    A path is that of the layer without `.processor`, `down_blocks.0.attentions.0.transformer_blocks.0.attn1`
    for one. The order is that in which IP-Adapter files count them: down, up, then the middle; in a block
    attn1 before attn2, so that attn1 has the even numbers and attn2 the odd ones.

    Source: tencent-ailab/IP-Adapter: ip_adapter/ip_adapter_faceid.py (set_ip_adapter), which counts
    diffusers' `unet.attn_processors`.
    """
    ending = ".attn1.to_q.weight"
    blocks = [name.removesuffix(ending) for name in names if name.endswith(ending)]
    ordered = [
        block
        for place in ("down_blocks.", "up_blocks.", "mid_block.")
        for block in blocks
        if block.startswith(place)
    ]
    return [f"{block}.{attention}" for block in ordered for attention in ("attn1", "attn2")]


def lora_of_faceid(weights: Mapping[str, Tensor], layer_paths: Sequence[str]) -> dict[str, Tensor]:
    """The `ip_adapter` part of a FaceID file -> its LoRA tensors, keyed for the host's LoRA loader.

    Key `n.to_q_lora.down.weight` (rank,in) becomes `unet.PATH.processor.to_q_lora.down.weight`, and so on
    for k, v, out and for up (out,rank), where PATH is `layer_paths[n]` (see `layer_paths_of`). No alpha is
    stored, so the scale is 1. Other keys (`n.to_k_ip.weight`) are left out; a file without a LoRA half, as
    the portrait ones are, gives an empty dictionary.

    Raises:
        ValueError: when the layers are not those of the model, or tensors are missing from a layer.

    Source: tencent-ailab/IP-Adapter: ip_adapter/attention_processor_faceid.py (LoRAAttnProcessor,
    LoRAIPAttnProcessor).
    """
    found = {key: match.groups() for key in weights if (match := KEY.fullmatch(key))}
    if not found:
        return {}
    numbers = {int(number) for number, _, _ in found.values()}
    if numbers != set(range(len(layer_paths))):
        raise ValueError(
            f"The LoRA half of a FaceID file must have one entry for each attention layer of the model, 0 to "
            f"{len(layer_paths) - 1}, but it has {len(numbers)} from {min(numbers)} to {max(numbers)}. "
            "Take the file that is made for this model's family (SD1.5: 32 layers, SDXL: 140)."
        )
    wanted = {
        f"{number}.to_{projection}_lora.{part}.weight"
        for number in numbers
        for projection in PROJECTIONS
        for part in PARTS
    }
    missing = sorted(wanted - found.keys())
    if missing:
        raise ValueError(
            f"The LoRA half of a FaceID file must have q, k, v and out in every layer, but it lacks "
            f"{', '.join(missing[:3])}{f' and {len(missing) - 3} more' if len(missing) > 3 else ''}. "
            "Download the file again."
        )
    return {
        f"unet.{layer_paths[int(number)]}.processor.to_{projection}_lora.{part}.weight": weights[key]
        for key, (number, projection, part) in found.items()
    }
