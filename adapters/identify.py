"""Says what a weights file is from its keys and shapes, whatever the file is called.

Host-free: works on key -> shape listings, as a safetensors header gives them without loading a tensor.

Source: the key tests of the host (`comfy/controlnet.py: load_controlnet_state_dict`,
`comfy/model_detection.py: detect_unet_config`), restated as tables.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

Shapes = Mapping[str, tuple[int, ...]]
Role = Literal["checkpoint", "diffusion_model", "control"]

MAX_HEADER_BYTES = 100_000_000

CONTEXT_FAMILIES: dict[int, str] = {768: "SD1.5", 1024: "SD2", 1280: "SDXL refiner", 2048: "SDXL"}
"""Family of a UNet, or of a net for one, by the width of the text its cross-attention reads."""

ADM_FAMILIES: dict[int, str] = {2816: "SDXL", 2560: "SDXL refiner"}
"""Family by the width of the size-and-pooled-text vector, for nets without any attention."""

ADAPTER_FAMILIES: dict[int, str] = {64: "SD1.5", 192: "SD1.5", 256: "SDXL", 768: "SDXL"}
"""Family of a full T2I-Adapter by input channels: 1 or 3 colours x 8 x 8 pixels, or x 16 x 16."""

CONTEXT_ENDINGS = ("attn2.to_k.weight", "attn2.to_k.down")
ADM_ENDINGS = ("label_emb.0.0.weight", "add_embedding.linear_1.weight", "label_emb.0.0.down")


class UnknownWeightsError(ValueError):
    """Weights whose keys match no known format; the text names the nearest one and what it lacks."""


@dataclass(frozen=True)
class Identified:
    """What a weights file is.

    `kind` names the layout, `family` the base model it is or is made for. `control_types` counts the
    hint types of a Union net (0 = not one); `needs_vae` tells a control net that reads encoded hints.
    """

    role: Role
    kind: str
    family: str
    control_types: int = 0
    needs_vae: bool = False


class Signature(NamedTuple):
    """One layout: keys that must be there (any one of each tuple), and how the family is found.

    `family` is a family's name, or how to read it from the shapes: "context" or "adapter".
    """

    role: Role
    kind: str
    family: str
    keys: tuple[tuple[str, ...], ...]
    needs_vae: bool = False


def _one(*keys: str) -> tuple[tuple[str, ...], ...]:
    return tuple((key,) for key in keys)


FLUX_NORM = (
    "double_blocks.0.img_attn.norm.key_norm.scale",
    "double_blocks.0.img_attn.norm.key_norm.weight",
)

CONTROL_SIGNATURES: tuple[Signature, ...] = (
    Signature("control", "HunyuanDiT ControlNet", "HunyuanDiT", _one("after_proj_list.18.bias"), True),
    Signature("control", "Control-LoRA", "context", _one("lora_controlnet")),
    Signature(
        "control",
        "ControlNet-Union (diffusers layout)",
        "context",
        _one("controlnet_cond_embedding.conv_in.weight", "control_add_embedding.linear_1.bias"),
    ),
    Signature(
        "control",
        "ControlNet (diffusers layout)",
        "context",
        _one("controlnet_cond_embedding.conv_in.weight"),
    ),
    Signature(
        "control",
        "Flux ControlNet (XLabs)",
        "Flux",
        (("controlnet_blocks.0.weight",), FLUX_NORM, ("input_hint_block.0.weight",)),
    ),
    Signature(
        "control",
        "Flux ControlNet (InstantX, as loaded)",
        "Flux",
        (("controlnet_blocks.0.weight",), FLUX_NORM, ("pos_embed_input.weight",)),
        True,
    ),
    Signature(
        "control",
        "SD3.5 ControlNet",
        "SD3",
        _one(
            "controlnet_blocks.0.weight",
            "pos_embed_input.proj.weight",
            "transformer_blocks.0.adaLN_modulation.1.bias",
        ),
        True,
    ),
    Signature(
        "control",
        "SD3 ControlNet",
        "SD3",
        _one("controlnet_blocks.0.weight", "pos_embed_input.proj.weight"),
        True,
    ),
    Signature(
        "control",
        "Qwen-Image ControlNet (InstantX)",
        "Qwen-Image",
        _one("controlnet_blocks.0.weight", "transformer_blocks.0.img_mlp.net.0.proj.weight"),
        True,
    ),
    Signature(
        "control",
        "Flux ControlNet (InstantX)",
        "Flux",
        _one("controlnet_blocks.0.weight", "controlnet_x_embedder.weight"),
        True,
    ),
    Signature(
        "control",
        "Qwen-Image ControlNet (Fun)",
        "Qwen-Image",
        _one("control_blocks.0.after_proj.weight", "control_img_in.weight"),
        True,
    ),
    Signature("control", "Flux ControlNet (MistoLine)", "Flux", _one("controlnet_blocks.0.linear.weight")),
    Signature(
        "control",
        "ControlNet-Union (LDM layout)",
        "context",
        (
            ("zero_convs.0.0.weight", "control_model.zero_convs.0.0.weight"),
            ("control_add_embedding.linear_1.bias", "control_model.control_add_embedding.linear_1.bias"),
        ),
    ),
    Signature(
        "control",
        "ControlNet (LDM layout, difference from the base)",
        "context",
        _one("control_model.zero_convs.0.0.weight", "difference"),
    ),
    Signature(
        "control",
        "ControlNet (LDM layout)",
        "context",
        (("zero_convs.0.0.weight", "control_model.zero_convs.0.0.weight"),),
    ),
    Signature("control", "T2I-Adapter (light)", "SD1.5", _one("body.0.in_conv.weight")),
    Signature("control", "T2I-Adapter (diffusers layout)", "adapter", _one("adapter.conv_in.weight")),
    Signature("control", "T2I-Adapter", "adapter", _one("conv_in.weight", "body.0.block2.weight")),
    Signature("control", "Stable Cascade ControlNet", "Stable Cascade", _one("backbone.0.0.weight")),
    Signature("control", "Stable Cascade ControlNet", "Stable Cascade", _one("backbone.10.blocks.0.weight")),
)
"""In the host's order of tests: an earlier row wins."""

UNET_PREFIX = "model.diffusion_model."
UNET_KEYS = ("time_embed.0.weight", "input_blocks.0.0.weight", "middle_block.0.in_layers.0.weight")
FLUX_KEYS = ("img_in.weight", "txt_in.weight", "vector_in.in_layer.weight")


def _prefixed(prefix: str, groups: tuple[tuple[str, ...], ...]) -> tuple[tuple[str, ...], ...]:
    return tuple(tuple(prefix + key for key in group) for group in groups)


MODEL_SIGNATURES: tuple[Signature, ...] = (
    Signature("checkpoint", "UNet checkpoint", "context", _prefixed(UNET_PREFIX, _one(*UNET_KEYS))),
    Signature(
        "checkpoint", "Flux checkpoint", "Flux", _prefixed(UNET_PREFIX, (FLUX_NORM, *_one(*FLUX_KEYS)))
    ),
    Signature("diffusion_model", "UNet without text encoder and VAE", "context", _one(*UNET_KEYS)),
    Signature("diffusion_model", "Flux without text encoder and VAE", "Flux", (FLUX_NORM, *_one(*FLUX_KEYS))),
)

SIGNATURES = CONTROL_SIGNATURES + MODEL_SIGNATURES


def _missing(signature: Signature, shapes: Shapes) -> list[str]:
    return [group[0] for group in signature.keys if not any(key in shapes for key in group)]


def _nearest(shapes: Shapes) -> tuple[Signature, list[str]]:
    """The signature of which the largest share is present; among equals the one that lacks fewest keys."""

    def distance(signature: Signature) -> tuple[float, int]:
        lacking = len(_missing(signature, shapes))
        return lacking / len(signature.keys), lacking

    best = min(SIGNATURES, key=distance)
    return best, _missing(best, shapes)


def _width(shapes: Shapes, endings: tuple[str, ...]) -> int | None:
    for key in sorted(shapes):
        if key.endswith(endings) and len(shapes[key]) >= 2:
            return shapes[key][1]
    return None


def _context_family(kind: str, shapes: Shapes) -> str:
    width = _width(shapes, CONTEXT_ENDINGS)
    table, what = CONTEXT_FAMILIES, "text width"
    if width is None:
        width, table, what = _width(shapes, ADM_ENDINGS), ADM_FAMILIES, "pooled vector width"
    if width is not None and width in table:
        return table[width]
    known = ", ".join(f"{size} ({name})" for size, name in table.items())
    raise UnknownWeightsError(
        f"These weights look like a {kind}, which needs a {what} of {known}; "
        f"got {'no cross-attention at all' if width is None else width}. "
        "It may be made for a model that Tiller does not know."
    )


def _adapter_family(kind: str, shapes: Shapes) -> str:
    shape = shapes.get("conv_in.weight") or shapes.get("adapter.conv_in.weight") or ()
    channels = shape[1] if len(shape) > 1 else None
    if channels in ADAPTER_FAMILIES:
        return ADAPTER_FAMILIES[channels]
    raise UnknownWeightsError(
        f"These weights look like a {kind}, which needs {', '.join(map(str, ADAPTER_FAMILIES))} input "
        f"channels; got {channels}. It may be made for a model that Tiller does not know."
    )


def _family(signature: Signature, shapes: Shapes) -> str:
    if signature.family == "context":
        return _context_family(signature.kind, shapes)
    if signature.family == "adapter":
        return _adapter_family(signature.kind, shapes)
    return signature.family


def _control_types(shapes: Shapes) -> int:
    shape = shapes.get("task_embedding") or shapes.get("control_model.task_embedding") or (0,)
    return shape[0]


def identify(shapes: Shapes) -> Identified:
    """Key -> shape listing of a weights file, or of a loaded net, -> what it is.

    Raises:
        UnknownWeightsError: naming the nearest known format and the keys it lacks.
    """
    for signature in SIGNATURES:
        if not _missing(signature, shapes):
            return Identified(
                role=signature.role,
                kind=signature.kind,
                family=_family(signature, shapes),
                control_types=_control_types(shapes) if signature.role == "control" else 0,
                needs_vae=signature.needs_vae,
            )
    nearest, missing = _nearest(shapes)
    some = ", ".join(sorted(shapes)[:3]) or "no tensors"
    raise UnknownWeightsError(
        "A checkpoint (SD1.5, SD2, SDXL, Flux) or a control net was needed. The nearest known format is "
        f"{nearest.kind}, but the file lacks {', '.join(missing)}; it has {len(shapes)} tensors ({some}). "
        "Check that the file is what its page says, and that it is in the right models folder."
    )


def read_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Key -> shape of every tensor of a .safetensors file, from its header alone.

    Raises:
        FileNotFoundError: when there is no such file.
        ValueError: when the file is not in the safetensors format.
    """
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = file.read(length) if 0 < length <= MAX_HEADER_BYTES else b""
    try:
        table = json.loads(header)
        return {key: tuple(map(int, entry["shape"])) for key, entry in table.items() if key != "__metadata__"}
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(
            f"A .safetensors file was needed, but {path.name} does not start with a safetensors header. "
            "Download it again, or convert an older .ckpt or .pth file."
        ) from error
