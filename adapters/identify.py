"""Says what a weights file is from its keys and shapes, whatever the file is called.

Host-free: works on key -> shape listings, as a safetensors header gives them without loading a tensor.

Source: the key tests of the host (`comfy/controlnet.py: load_controlnet_state_dict`,
`comfy/model_detection.py: detect_unet_config`), restated as tables.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

Shapes = Mapping[str, tuple[int, ...]]
Role = Literal["checkpoint", "diffusion_model", "control", "other"]

MAX_HEADER_BYTES = 100_000_000

CONTEXT_FAMILIES: dict[int, str] = {768: "SD1.5", 1024: "SD2", 1280: "SDXL refiner", 2048: "SDXL"}
"""Family of a UNet, or of a net for one, by the width of the text its cross-attention reads."""

ADM_FAMILIES: dict[int, str] = {2816: "SDXL", 2560: "SDXL refiner"}
"""Family by the width of the size-and-pooled-text vector, for nets without any attention."""

ADAPTER_FAMILIES: dict[int, str] = {64: "SD1.5", 192: "SD1.5", 256: "SDXL", 768: "SDXL"}
"""Family of a full T2I-Adapter by input channels: 1 or 3 colours x 8 x 8 pixels, or x 16 x 16."""

PREFIXES = ("module.", "controlnet.", "model.control_model.", "control_model.")
"""Words that training code puts before every key; a file whose keys all carry one is known without it."""

DIFFERENCE = "ControlNet (LDM layout, difference from the base)"
"""The kind that is of no use without its base model."""

LIGHT_ADAPTER_DIFFUSERS = "T2I-Adapter (light, diffusers layout)"
"""The one layout that is the host's but for its names."""

TILLER_KINDS = frozenset(
    {"ControlNet-LLLite", "ControlNet-XS", "ControlNeXt", "SparseCtrl", LIGHT_ADAPTER_DIFFUSERS}
)
"""Control nets that Load Control loads and the host does not."""

CONTEXT_ENDINGS = ("attn2.to_k.weight", "attn2.to_k.down")
UNION_EMBEDDING = "control_add_embedding"
"""Of a Union net's types; its layers end in the names of those for the pooled vector."""

ADM_ENDINGS = ("label_emb.0.0.weight", "add_embedding.linear_1.weight", "label_emb.0.0.down")


class UnknownWeightsError(ValueError):
    """Weights whose keys match no known format; the text names the nearest one and what it lacks."""


@dataclass(frozen=True)
class Identified:
    """What a weights file is.

    `kind` names the layout, `family` the base model it is or is made for. `control_types` counts the
    hint types of a Union net (0 = not one); `needs_vae` tells a control net that reads encoded hints.
    `also_for` are further families that the same keys and shapes may be made for. `use` says, for a file
    that is no control net, where it belongs and what loads it. `prefix` stands before all its keys.
    `file` is the name it was loaded from, for messages.
    """

    role: Role
    kind: str
    family: str
    control_types: int = 0
    needs_vae: bool = False
    also_for: tuple[str, ...] = ()
    use: str = ""
    prefix: str = ""
    file: str = ""


class Signature(NamedTuple):
    """One layout: keys that must be there (any one of each tuple), and how the family is found.

    `parts` are pieces that some key must contain (any one of each tuple). `family` is a family's name, or
    how to read it from the shapes: one of `FAMILY_RULES`. `use` says what to do with a file that is no
    control net.
    """

    role: Role
    kind: str
    family: str
    keys: tuple[tuple[str, ...], ...]
    needs_vae: bool = False
    parts: tuple[tuple[str, ...], ...] = ()
    use: str = ""


def _one(*keys: str) -> tuple[tuple[str, ...], ...]:
    return tuple((key,) for key in keys)


FLUX_NORM = (
    "double_blocks.0.img_attn.norm.key_norm.scale",
    "double_blocks.0.img_attn.norm.key_norm.weight",
)

LORA_PARTS = (
    ".lora_down.weight",
    ".lora_A.weight",
    ".lora_A.default.weight",
    "_lora.down.weight",
    ".lora.down.weight",
    ".lokr_w1",
    ".hada_w1_a",
)

TILLER_SIGNATURES: tuple[Signature, ...] = (
    Signature("control", "ControlNet-LLLite", "lllite", (), parts=(("lllite_unet_",),)),
    Signature("control", "ControlNet-XS", "context", _one("enc_zero_convs_in.0.0.weight")),
    Signature(
        "control",
        "ControlNeXt",
        "controlnext",
        _one("down_res.0.conv1.weight", "mid_convs.0.0.weight", "mid_convs.1.weight"),
    ),
    Signature(
        "control",
        "SparseCtrl",
        "context",
        _one("controlnet_cond_embedding.weight"),
        needs_vae=True,
        parts=(("motion_modules.",),),
    ),
    Signature(
        "control",
        "SparseCtrl",
        "context",
        _one("controlnet_cond_embedding.conv_in.weight"),
        parts=(("motion_modules.",),),
    ),
)
"""Control nets that the host has no kind for; before the host's rows, which know parts of these files."""

CONTROL_SIGNATURES: tuple[Signature, ...] = (
    *TILLER_SIGNATURES,
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
        DIFFERENCE,
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
    Signature(
        "control",
        "T2I-Adapter (diffusers layout)",
        "adapter",
        _one("adapter.conv_in.weight", "adapter.body.0.resnets.0.block1.weight"),
    ),
    Signature(
        "control",
        LIGHT_ADAPTER_DIFFUSERS,
        "SD1.5",
        _one("adapter.body.0.in_conv.weight", "adapter.body.0.resnets.0.block1.weight"),
    ),
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


CHECKPOINT_USE = "Put it into models/checkpoints and load it with Load Checkpoint."
DIFFUSION_MODEL_USE = "Put it into models/diffusion_models and load it with Load Diffusion Model."

MODEL_SIGNATURES: tuple[Signature, ...] = (
    Signature(
        "checkpoint",
        "UNet checkpoint",
        "context",
        _prefixed(UNET_PREFIX, _one(*UNET_KEYS)),
        use=CHECKPOINT_USE,
    ),
    Signature(
        "checkpoint",
        "Flux checkpoint",
        "Flux",
        _prefixed(UNET_PREFIX, (FLUX_NORM, *_one(*FLUX_KEYS))),
        use=CHECKPOINT_USE,
    ),
    Signature(
        "diffusion_model",
        "UNet without text encoder and VAE",
        "context",
        _one(*UNET_KEYS),
        use=DIFFUSION_MODEL_USE,
    ),
    Signature(
        "diffusion_model",
        "Flux without text encoder and VAE",
        "Flux",
        (FLUX_NORM, *_one(*FLUX_KEYS)),
        use=DIFFUSION_MODEL_USE,
    ),
)

OTHER_CONTROL_SIGNATURES: tuple[Signature, ...] = (
    Signature(
        "other",
        "T2I style adapter",
        "SD1.5",
        _one("style_embedding", "proj", "ln_pre.weight"),
        use="Put it into models/style_models, load it with Load Style Model and use Apply Style.",
    ),
    Signature(
        "other",
        "CtrLoRA",
        "SD1.5",
        (),
        parts=(("zero_convs.0.0.",), ("lora_layer",)),
        use="It needs its own base ControlNet, which neither ComfyUI nor Tiller runs.",
    ),
    Signature(
        "other",
        "ControlNet for Stable Video Diffusion",
        "SVD",
        _one("controlnet_down_blocks.0.weight"),
        parts=(("temporal_res_block",),),
        use="Neither ComfyUI nor Tiller runs it.",
    ),
    Signature(
        "other",
        "BrushNet or PowerPaint",
        "SD1.5 or SDXL",
        (("brushnet_down_blocks.0.weight", "brushnet_down_blocks.0.bias"),),
        use="It is an inpainting branch with a loader of its own, not a control net.",
    ),
    Signature(
        "other",
        "control net as a model patch (Anima LLLite, Qwen-Image, Z-Image, Wan)",
        "its own model",
        (
            (
                "lllite_conditioning1.conv1.weight",
                "controlnet_blocks.0.y_rms.weight",
                "control_all_x_embedder.2-1.weight",
                "controlnet_patch_embedding.weight",
            ),
        ),
        use="Put it into models/model_patches and load it with Load Model Patch.",
    ),
)
"""Before the control nets: files that contain keys of one, or act as one, but are loaded elsewhere."""

LOAD_IP_ADAPTER = "Load IP-Adapter (TillerLoadIPAdapter)"
PULID_USE = (
    "It is an identity adapter for faces. It belongs into models/pulid, for a node pack that runs PuLID."
)

OTHER_SIGNATURES: tuple[Signature, ...] = (
    Signature(
        "other",
        "PuLID for Flux",
        "Flux",
        _one("pulid_ca.0.to_q.weight"),
        use=PULID_USE,
    ),
    Signature(
        "other",
        "PuLID",
        "SDXL",
        (),
        parts=(("id_adapter_attn_layers.", "image_proj.body.0.weight"),),
        use=PULID_USE,
    ),
    Signature(
        "other",
        "PhotoMaker",
        "SDXL",
        (),
        parts=(("id_encoder.visual_projection",),),
        use="Put it into models/photomaker and load it with PhotoMakerLoader.",
    ),
    Signature(
        "other",
        "IP-Adapter (Flux)",
        "Flux",
        (("ip_adapter_proj_model.proj.weight", "ip_adapter.0.to_k_ip.weight"),),
        use="It is an image prompt adapter. Put it into models/ipadapter-flux or models/xlabs/ipadapters "
        f"and load it with {LOAD_IP_ADAPTER}.",
    ),
    Signature(
        "other",
        "IP-Adapter",
        "image prompt",
        (),
        parts=((".to_k_ip.weight",),),
        use="It is an image prompt adapter. Put it into models/ipadapter and load it with "
        f"{LOAD_IP_ADAPTER}. If it is InstantID's: the control net is the other file of its page.",
    ),
    Signature(
        "other",
        "LoRA",
        "its own model",
        (),
        parts=(LORA_PARTS,),
        use="Put it into models/loras and load it with Load LoRA.",
    ),
    Signature(
        "other",
        "AnimateDiff motion module",
        "SD1.5 or SDXL",
        (),
        parts=(("motion_modules.0.temporal_transformer.",),),
        use="Put it into models/animatediff_models and load it with Load Motion: it animates a model.",
    ),
    Signature(
        "other",
        "UNet (diffusers layout)",
        "context",
        _one("conv_in.weight", "conv_out.weight", "time_embedding.linear_1.weight"),
        parts=(("up_blocks.0.resnets.",),),
        use=DIFFUSION_MODEL_USE,
    ),
    Signature(
        "other",
        "VAE",
        "its own model",
        (("decoder.conv_in.weight",), ("encoder.conv_in.weight",)),
        use="Put it into models/vae and load it with Load VAE.",
    ),
    Signature(
        "other",
        "CLIP vision model",
        "any model",
        (
            (
                "vision_model.encoder.layers.0.self_attn.q_proj.weight",
                "visual.transformer.resblocks.0.attn.in_proj_weight",
            ),
        ),
        use="Put it into models/clip_vision and load it with Load CLIP Vision, or with Load Image Encoder "
        "for image prompts.",
    ),
    Signature(
        "other",
        "text encoder",
        "its own model",
        (
            (
                "text_model.encoder.layers.0.self_attn.q_proj.weight",
                "encoder.block.0.layer.0.SelfAttention.q.weight",
                "model.layers.0.self_attn.q_proj.weight",
            ),
        ),
        use="Put it into models/text_encoders and load it with Load CLIP.",
    ),
)
"""After everything else: what people put into the folder of control nets by mistake."""

SIGNATURES = OTHER_CONTROL_SIGNATURES + CONTROL_SIGNATURES + MODEL_SIGNATURES + OTHER_SIGNATURES


def _missing(signature: Signature, shapes: Shapes) -> list[str]:
    keys = [group[0] for group in signature.keys if not any(key in shapes for key in group)]
    if keys:
        return keys
    return [f"...{group[0]}..." for group in signature.parts if not _contains(shapes, group)]


def _contains(keys: Iterable[str], parts: tuple[str, ...]) -> bool:
    return any(part in key for key in keys for part in parts)


def _nearest(shapes: Shapes) -> tuple[Signature, list[str]]:
    """The signature of which the largest share is present; among equals the one that lacks fewest keys."""

    def distance(signature: Signature) -> tuple[float, int]:
        lacking = len(_missing(signature, shapes))
        return lacking / len(signature.keys), lacking

    best = min((row for row in SIGNATURES if row.keys and not row.parts), key=distance)
    return best, _missing(best, shapes)


def _width(shapes: Shapes, endings: tuple[str, ...]) -> int | None:
    for key in sorted(shapes):
        if key.endswith(endings) and UNION_EMBEDDING not in key and len(shapes[key]) >= 2:
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


def _lllite_family(kind: str, shapes: Shapes) -> str:
    """LLLite modules are named by the blocks of the UNet that they sit in.

    SDXL's blocks have up to ten transformers, and none sit where SD1.5's first two and last six do.
    """
    width = _width(shapes, ("attn2_to_k.down.0.weight",))
    if width is not None:
        if width in CONTEXT_FAMILIES:
            return CONTEXT_FAMILIES[width]
        raise UnknownWeightsError(
            f"These weights look like a {kind}, which needs a text width of "
            f"{', '.join(map(str, CONTEXT_FAMILIES))}; got {width}. "
            "It may be made for a model that Tiller does not know."
        )
    if any(re.search(r"_transformer_blocks_[1-9]", key) for key in shapes):
        return "SDXL"
    is_shallow = any(re.search(r"input_blocks_[12]_|output_blocks_(6|7|8|9|10|11)_", key) for key in shapes)
    return "SD1.5" if is_shallow else "SDXL"


def _controlnext_family(kind: str, shapes: Shapes) -> str:
    """SD1.5's branch ends at the width of the middle block, the others' at that of the first block."""
    width, has_stem = shapes["mid_convs.1.weight"][0], "embedding.0.weight" in shapes
    families = {(1280, False): "SD1.5", (320, True): "SDXL"}
    if (width, has_stem) in families:
        return families[width, has_stem]
    raise UnknownWeightsError(
        f"These weights look like a {kind}, which needs 1280 output channels (SD1.5) or 320 and an embedding "
        f"(SDXL, SVD); got {width} {'with' if has_stem else 'without'} an embedding. "
        "It may be made for a model that Tiller does not know."
    )


FAMILY_RULES = {
    "context": _context_family,
    "adapter": _adapter_family,
    "lllite": _lllite_family,
    "controlnext": _controlnext_family,
}
"""How a family is read from the shapes, by the word in `Signature.family`."""

SAME_SHAPES = {("ControlNeXt", "SDXL"): ("SVD",)}
"""Kind and family -> further families whose files have the very same keys and shapes."""


def _family(signature: Signature, shapes: Shapes) -> str:
    rule = FAMILY_RULES.get(signature.family)
    return signature.family if rule is None else rule(signature.kind, shapes)


def _control_types(shapes: Shapes) -> int:
    shape = shapes.get("task_embedding") or shapes.get("control_model.task_embedding") or (0,)
    return shape[0]


def _match(shapes: Shapes, signatures: Iterable[Signature], prefix: str) -> Identified | None:
    for signature in signatures:
        if _missing(signature, shapes):
            continue
        family = _family(signature, shapes)
        return Identified(
            role=signature.role,
            kind=signature.kind,
            family=family,
            control_types=_control_types(shapes) if signature.role == "control" else 0,
            needs_vae=signature.needs_vae,
            also_for=SAME_SHAPES.get((signature.kind, family), ()),
            use=signature.use,
            prefix=prefix,
        )
    return None


def identify(shapes: Shapes) -> Identified:
    """Key -> shape listing of a weights file, or of a loaded net, -> what it is.

    Raises:
        UnknownWeightsError: naming the nearest known format and the keys it lacks.
    """
    prefixes = [
        prefix for prefix in ("", *PREFIXES) if shapes and all(key.startswith(prefix) for key in shapes)
    ]
    for signatures in (SIGNATURES[: -len(OTHER_SIGNATURES)], OTHER_SIGNATURES):
        for prefix in prefixes:
            bare = {key.removeprefix(prefix): shape for key, shape in shapes.items()}
            found = _match(bare, signatures, prefix)
            if found is not None:
                return found
    nearest, missing = _nearest(shapes)
    some = ", ".join(sorted(shapes)[:3]) or "no tensors"
    raise UnknownWeightsError(
        "A checkpoint (SD1.5, SD2, SDXL, Flux) or a control net was needed. The nearest known format is "
        f"{nearest.kind}, but the file lacks {', '.join(missing)}; it has {len(shapes)} tensors ({some}). "
        "Check that the file is what its page says, and that it is in the right models folder."
    )


def read_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Key -> shape of every tensor of a .safetensors file; raises as `read_header` does."""
    return read_header(path)[0]


def read_header(path: Path) -> tuple[dict[str, tuple[int, ...]], dict[str, str]]:
    """Key -> shape of every tensor of a .safetensors file, and its metadata, from its header alone.

    Raises:
        FileNotFoundError: when there is no such file.
        ValueError: when the file is not in the safetensors format.
    """
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = file.read(length) if 0 < length <= MAX_HEADER_BYTES else b""
    try:
        table = json.loads(header)
        metadata = table.pop("__metadata__", None) or {}
        return {key: tuple(map(int, entry["shape"])) for key, entry in table.items()}, metadata
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(
            f"A .safetensors file was needed, but {path.name} does not start with a safetensors header. "
            "Download it again, or convert an older .ckpt or .pth file."
        ) from error
