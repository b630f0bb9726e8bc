"""Keys and shapes that each part of an adapter file must have, given the sizes that it shows itself.

Host-free. A size that cannot be read, since its key is missing, is UNKNOWN and compared with nothing.

Source: tencent-ailab/IP-Adapter: ip_adapter/ip_adapter.py, ip_adapter_faceid.py, resampler.py,
attention_processor_faceid.py; XLabs-AI/x-flux-comfyui: layers.py; Shakker-Labs/ComfyUI-IPAdapter-Flux:
ipadapter_flux.py.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from ..identify import Shapes

Listing = dict[str, tuple[int, ...]]

UNKNOWN = -1
FACE_WIDTH = 512
"""Numbers in the vector of a face."""

PERCEIVER = "perceiver_resampler."
XLABS = "double_blocks."
XLABS_PART = "processor.ip_adapter_double_stream_"
LORA = "_lora."


def size(shapes: Shapes, key: str, axis: int) -> int:
    """Length of a tensor along an axis, counted from either end; UNKNOWN without such a tensor or axis."""
    shape = shapes.get(key, ())
    return shape[axis] if -len(shape) <= axis < len(shape) else UNKNOWN


def _linear(name: str, rows: int, columns: int) -> Listing:
    return {f"{name}.weight": (rows, columns), f"{name}.bias": (rows,)}


def _norm(name: str, width: int) -> Listing:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def linear(proj: Shapes) -> Listing:
    """One matrix that makes all tokens, and a norm."""
    rows, columns = size(proj, "proj.weight", 0), size(proj, "proj.weight", 1)
    return _linear("proj", rows, columns) | _norm("norm", size(proj, "norm.weight", 0))


def per_token(proj: Shapes) -> Listing:
    """Two layers and a norm that every token goes through on its own."""
    hidden, width = size(proj, "proj.0.weight", 0), size(proj, "proj.3.weight", 0)
    first = _linear("proj.0", hidden, size(proj, "proj.0.weight", 1))
    return first | _linear("proj.2", width, hidden) | _norm("proj.3", width)


def mlp(proj: Shapes) -> Listing:
    """Two layers that make all tokens of one vector, and a norm."""
    hidden, rows = size(proj, "proj.0.weight", 0), size(proj, "proj.2.weight", 0)
    first = _linear("proj.0", hidden, size(proj, "proj.0.weight", 1))
    return first | _linear("proj.2", rows, hidden) | _norm("norm", size(proj, "norm.weight", 0))


def _perceiver(proj: Shapes, prefix: str) -> Listing:
    """Layers in which latents attend to the picture, with what goes before and after."""
    width = size(proj, f"{prefix}proj_in.weight", 0)
    outer = size(proj, f"{prefix}proj_out.weight", 0)
    listing = _linear(f"{prefix}proj_in", width, size(proj, f"{prefix}proj_in.weight", 1))
    listing |= _linear(f"{prefix}proj_out", outer, width) | _norm(f"{prefix}norm_out", outer)
    found = re.compile(re.escape(prefix) + r"layers\.(\d+)\.")
    depth = max((int(match[1]) + 1 for key in proj if (match := found.match(key))), default=1)
    for index in range(depth):
        listing |= _perceiver_layer(proj, f"{prefix}layers.{index}.", width)
    return listing


def _perceiver_layer(proj: Shapes, layer: str, width: int) -> Listing:
    inner, hidden = size(proj, f"{layer}0.to_q.weight", 0), size(proj, f"{layer}1.1.weight", 0)
    both = UNKNOWN if inner == UNKNOWN else 2 * inner
    return {
        **_norm(f"{layer}0.norm1", width),
        **_norm(f"{layer}0.norm2", width),
        f"{layer}0.to_q.weight": (inner, width),
        f"{layer}0.to_kv.weight": (both, width),
        f"{layer}0.to_out.weight": (width, inner),
        **_norm(f"{layer}1.0", width),
        f"{layer}1.1.weight": (hidden, width),
        f"{layer}1.3.weight": (width, hidden),
    }


def resampler(proj: Shapes) -> Listing:
    """Learned latents that attend to the picture."""
    latents = (1, size(proj, "latents", 1), size(proj, "proj_in.weight", 0))
    return {"latents": latents, **_perceiver(proj, "")}


def face_perceiver(proj: Shapes) -> Listing:
    """Tokens of the face's vector that attend to the picture of the face."""
    first = {"proj.0.weight": (size(proj, "proj.0.weight", 0), FACE_WIDTH)}
    return mlp(proj) | first | _perceiver(proj, PERCEIVER)


def unet_layers(layers: Shapes) -> Listing:
    """Keys and values at odd numbers, 1 to the highest; where there is any LoRA, one of all attentions."""
    numbers = _numbers(layers)
    last = max((2 * (number // 2) + 1 for number in numbers), default=1)
    text = size(layers, "1.to_k_ip.weight", 1)
    has_lora = any(LORA in key for key in layers)
    listing: Listing = {}
    for number in range(1, last + 1, 2):
        width = size(layers, f"{number}.to_k_ip.weight", 0)
        listing |= {f"{number}.to_{side}_ip.weight": (width, text) for side in "kv"}
        if has_lora:
            listing |= _lora(layers, number - 1, width, width) | _lora(layers, number, width, text)
    return listing


def _lora(layers: Shapes, number: int, width: int, text: int) -> Listing:
    listing: Listing = {}
    for name in ("q", "k", "v", "out"):
        down, up = (f"{number}.to_{name}{LORA}{part}.weight" for part in ("down", "up"))
        rank = size(layers, down, 0)
        listing |= {down: (rank, text if name in "kv" else width), up: (width, rank)}
    return listing


def instantx_layers(layers: Shapes) -> Listing:
    """Keys and values at every number from 0 to the highest."""
    hidden, text = size(layers, "0.to_k_ip.weight", 0), size(layers, "0.to_k_ip.weight", 1)
    numbers = range(max(_numbers(layers), default=0) + 1)
    return {f"{number}.to_{side}_ip.weight": (hidden, text) for number in numbers for side in "kv"}


def xlabs_layers(layers: Shapes) -> Listing:
    """Keys and values with biases at every double block."""
    first = f"{XLABS}0.{XLABS_PART}k_proj.weight"
    hidden, text = size(layers, first, 0), size(layers, first, 1)
    listing: Listing = {}
    for number in range(max(_numbers(layers), default=0) + 1):
        for side in "kv":
            listing |= _linear(f"{XLABS}{number}.{XLABS_PART}{side}_proj", hidden, text)
    return listing


def _numbers(layers: Shapes) -> set[int]:
    found = re.compile(rf"(?:{re.escape(XLABS)})?(\d+)\.")
    return {int(match[1]) for key in layers if (match := found.match(key))}


def layer_numbers(layers: Shapes, is_lora: bool = False) -> tuple[int, ...]:
    """The numbers of the layers that a file has keys and values for, or a LoRA."""
    return tuple(sorted(_numbers({key: () for key in layers if (LORA in key) == is_lora})))


def differences(found: Mapping[str, tuple[int, ...]], wanted: Listing) -> dict[str, list[str]]:
    """What stands between a part and its listing: keys that lack, keys that are too many, wrong shapes."""
    both = sorted(found.keys() & wanted.keys())
    return {
        "lacks": sorted(wanted.keys() - found.keys()),
        "also has": sorted(found.keys() - wanted.keys()),
        "has wrong shapes at": [key for key in both if not _same(found[key], wanted[key])],
    }


def _same(shape: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
    return len(shape) == len(wanted) and all(
        UNKNOWN in pair or pair[0] == pair[1] for pair in zip(shape, wanted, strict=True)
    )


Lister = Callable[[Shapes], Listing]
