"""Key -> shape listings of the published adapter files, and random weights in the same layouts.

Host-free. The listings are built from the architectures; the classes of the authors of IP-Adapter have the
same keys and shapes for every file of theirs.

Source: tencent-ailab/IP-Adapter: ip_adapter/{ip_adapter,ip_adapter_faceid,ip_adapter_faceid_separate,
resampler,attention_processor,attention_processor_faceid}.py; cubiq/ComfyUI_IPAdapter_plus: IPAdapterPlus.py
(Kolors); XLabs-AI/x-flux-comfyui: nodes.py, layers.py; Shakker-Labs/ComfyUI-IPAdapter-Flux:
ipadapter_flux.py; TencentARC/PhotoMaker: photomaker/model_v2.py; ToTheBeginning/PuLID: pulid/encoders.py,
pulid/encoders_transformer.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

Shapes = dict[str, tuple[int, ...]]

CHANNELS: dict[str, tuple[int, ...]] = {
    "SD1.5": (320,) * 2 + (640,) * 2 + (1280,) * 2 + (1280,) * 3 + (640,) * 3 + (320,) * 3 + (1280,),
    "SDXL": (640,) * 4 + (1280,) * 20 + (1280,) * 30 + (640,) * 6 + (1280,) * 10,
}
"""Channels of every cross-attention in the order of adapter files: down, up, middle."""
CHANNELS["Kolors"] = CHANNELS["SDXL"]

TEXT = {"SD1.5": 768, "SDXL": 2048, "Kolors": 2048, "Flux": 4096}
HIDDEN = {"SD1.5": 768, "SDXL": 1280, "Kolors": 2048}
"""Width of the resampler of IP-Adapter Plus; it has 12 heads of 64, for SDXL 20."""

ENCODERS: dict[str, tuple[int, int]] = {
    "CLIP-ViT-H": (1280, 1024),
    "CLIP-ViT-bigG": (1664, 1280),
    "CLIP-ViT-L": (1024, 768),
    "CLIP-ViT-L-336": (1024, 768),
    "SigLIP-so400m-384": (1152, 1152),
}
"""Encoder -> width of its hidden states and of its picture vector."""

FACE, RANK, DEPTH, HEAD = 512, 128, 4, 64


class File(NamedTuple):
    """A published file: what `published` is called with, and tokens per picture."""

    variant: str
    base: str
    encoder: str | None
    tokens: int


FILES: dict[str, File] = {
    "ip-adapter_sd15": File("IP-Adapter", "SD1.5", "CLIP-ViT-H", 4),
    "ip-adapter_sd15_light_v11": File("IP-Adapter", "SD1.5", "CLIP-ViT-H", 4),
    "ip-adapter_sd15_vit-G": File("IP-Adapter", "SD1.5", "CLIP-ViT-bigG", 4),
    "ip-adapter-plus_sd15": File("IP-Adapter Plus", "SD1.5", "CLIP-ViT-H", 16),
    "ip-adapter-plus-face_sd15": File("IP-Adapter Plus", "SD1.5", "CLIP-ViT-H", 16),
    "ip-adapter-full-face_sd15": File("IP-Adapter Full Face", "SD1.5", "CLIP-ViT-H", 257),
    "ip-adapter_sdxl": File("IP-Adapter", "SDXL", "CLIP-ViT-bigG", 4),
    "ip-adapter_sdxl_vit-h": File("IP-Adapter", "SDXL", "CLIP-ViT-H", 4),
    "ip-adapter-plus_sdxl_vit-h": File("IP-Adapter Plus", "SDXL", "CLIP-ViT-H", 16),
    "ip-adapter-plus-face_sdxl_vit-h": File("IP-Adapter Plus", "SDXL", "CLIP-ViT-H", 16),
    "ip_plus_composition_sd15": File("IP-Adapter Plus", "SD1.5", "CLIP-ViT-H", 16),
    "ip_plus_composition_sdxl": File("IP-Adapter Plus", "SDXL", "CLIP-ViT-H", 16),
    "Kolors-IP-Adapter-Plus": File("IP-Adapter Plus", "Kolors", "CLIP-ViT-L-336", 16),
    "Kolors-IP-Adapter-FaceID-Plus": File("FaceID Plus", "Kolors", "CLIP-ViT-L-336", 6),
    "ip-adapter-faceid_sd15": File("FaceID", "SD1.5", None, 4),
    "ip-adapter-faceid-plus_sd15": File("FaceID Plus", "SD1.5", "CLIP-ViT-H", 4),
    "ip-adapter-faceid-plusv2_sd15": File("FaceID Plus", "SD1.5", "CLIP-ViT-H", 4),
    "ip-adapter-faceid-portrait_sd15": File("FaceID Portrait", "SD1.5", None, 16),
    "ip-adapter-faceid-portrait-v11_sd15": File("FaceID Portrait", "SD1.5", None, 16),
    "ip-adapter-faceid_sdxl": File("FaceID", "SDXL", None, 4),
    "ip-adapter-faceid-plusv2_sdxl": File("FaceID Plus", "SDXL", "CLIP-ViT-H", 4),
    "ip-adapter-faceid-portrait_sdxl": File("FaceID Portrait", "SDXL", None, 16),
    "ip-adapter-faceid-portrait_sdxl_unnorm": File("FaceID Portrait Unnorm", "SDXL", None, 16),
    "instantid/ip-adapter": File("FaceID Portrait Unnorm", "SDXL", None, 16),
    "flux-ip-adapter": File("Flux IP-Adapter (XLabs)", "Flux", "CLIP-ViT-L", 4),
    "flux-ip-adapter-v2": File("Flux IP-Adapter (XLabs)", "Flux", "CLIP-ViT-L", 16),
    "FLUX.1-dev-IP-Adapter": File("Flux IP-Adapter (InstantX)", "Flux", "SigLIP-so400m-384", 128),
}
"""Every published file that image prompts and faces load, by its name without the ending."""


class Widths(NamedTuple):
    """Sizes that a file is free to choose: of a small net they are less than published."""

    hidden: int
    heads: int
    perceiver_heads: int
    perceiver_mlp: int
    instantx: int
    rank: int


def _widths(base: str, text: int, small: bool) -> Widths:
    wide = 2 * text if base == "Kolors" else text
    if small:
        return Widths(128, 2, 2, 4 * wide if wide <= 768 else 64, 16, 4)
    return Widths(HIDDEN.get(base, 0), 20 if base == "SDXL" else 12, wide // HEAD, 4 * wide, 2304, RANK)


def _linear(name: str, rows: int, columns: int) -> Shapes:
    return {f"{name}.weight": (rows, columns), f"{name}.bias": (rows,)}


def _norm(name: str, width: int) -> Shapes:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def resampler_layers(prefix: str, width: int, heads: int, mlp: int, depth: int = DEPTH) -> Shapes:
    """Perceiver attention and feed-forward, `depth` times, all of `width`."""
    shapes: Shapes = {}
    for index in range(depth):
        attention, forward = f"{prefix}layers.{index}.0.", f"{prefix}layers.{index}.1."
        shapes |= _norm(attention + "norm1", width) | _norm(attention + "norm2", width)
        shapes[attention + "to_q.weight"] = (heads * HEAD, width)
        shapes[attention + "to_kv.weight"] = (2 * heads * HEAD, width)
        shapes[attention + "to_out.weight"] = (width, heads * HEAD)
        shapes |= _norm(forward + "0", width)
        shapes[forward + "1.weight"], shapes[forward + "3.weight"] = (mlp, width), (width, mlp)
    return shapes


def _resampler(queries: int, inputs: int, width: int, heads: int, text: int) -> Shapes:
    shapes: Shapes = {"latents": (1, queries, width)}
    shapes |= _linear("proj_in", width, inputs) | resampler_layers("", width, heads, 4 * width)
    return shapes | _linear("proj_out", text, width) | _norm("norm_out", text)


def _face_mlp(hidden: int, inputs: int, tokens: int, text: int) -> Shapes:
    return _linear("proj.0", hidden, inputs) | _linear("proj.2", tokens * text, hidden) | _norm("norm", text)


def projector(
    variant: str, base: str, encoder: str | None, tokens: int, text: int, small: bool = False
) -> Shapes:
    """The projector of a file by its bare keys; `text` is the model's text width."""
    sizes = _widths(base, text, small)
    states, vector = ENCODERS.get(encoder or "", (FACE, FACE))
    if variant in ("IP-Adapter", "Flux IP-Adapter (XLabs)"):
        return _linear("proj", tokens * text, vector) | _norm("norm", text)
    if variant == "IP-Adapter Plus":
        return _resampler(tokens, states, sizes.hidden, sizes.heads, text)
    if variant == "FaceID Portrait Unnorm":
        return _resampler(tokens, FACE, sizes.hidden, sizes.heads, text)
    if variant == "IP-Adapter Full Face":
        return _linear("proj.0", states, states) | _linear("proj.2", text, states) | _norm("proj.3", text)
    if variant == "Flux IP-Adapter (InstantX)":
        return _face_mlp(sizes.instantx, states, tokens, text)
    wide = 2 * text if base == "Kolors" and variant == "FaceID Plus" else text
    shapes = _face_mlp(2 * FACE, FACE, tokens, wide)
    if variant == "FaceID Plus":
        inner = {"proj_in": (wide, states), "proj_out": (wide, wide)}
        for name, (rows, columns) in inner.items():
            shapes |= _linear(f"perceiver_resampler.{name}", rows, columns)
        shapes |= _norm("perceiver_resampler.norm_out", wide)
        heads, mlp = sizes.perceiver_heads, sizes.perceiver_mlp
        shapes |= resampler_layers("perceiver_resampler.", wide, heads, mlp)
    return shapes


def unet_layers(channels: Sequence[int], text: int, rank: int = 0) -> Shapes:
    """Keys and values of a UNet's cross-attentions by bare keys; with `rank`, every attention's LoRA."""
    shapes: Shapes = {}
    for index, width in enumerate(channels):
        for number, inputs in ((2 * index, width), (2 * index + 1, text)):
            for name in ("q", "k", "v", "out") if rank else ():
                read = inputs if name in "kv" else width
                shapes[f"{number}.to_{name}_lora.down.weight"] = (rank, read)
                shapes[f"{number}.to_{name}_lora.up.weight"] = (width, rank)
        shapes |= {f"{2 * index + 1}.to_{side}_ip.weight": (width, text) for side in "kv"}
    return shapes


def flux_layers(variant: str, hidden: int, double: int, single: int, text: int) -> Shapes:
    """Keys and values at Flux' blocks: XLabs' at the double ones, with biases; InstantX' at all."""
    shapes: Shapes = {}
    if variant == "Flux IP-Adapter (InstantX)":
        for index in range(double + single):
            shapes |= {f"ip_adapter.{index}.to_{side}_ip.weight": (hidden, text) for side in "kv"}
        return shapes
    for index in range(double):
        for side in "kv":
            name = f"double_blocks.{index}.processor.ip_adapter_double_stream_{side}_proj"
            shapes |= _linear(name, hidden, text)
    return shapes


def _file(proj: Shapes, layers: Shapes) -> Shapes:
    return {f"image_proj.{key}": shape for key, shape in proj.items()} | {
        f"ip_adapter.{key}": shape for key, shape in layers.items()
    }


def _flux_file(variant: str, proj: Shapes, layers: Shapes) -> Shapes:
    prefix = "ip_adapter_proj_model." if "XLabs" in variant else "image_proj."
    return {prefix + key: shape for key, shape in proj.items()} | layers


def has_lora(variant: str, base: str) -> bool:
    """Whether files of this kind have a LoRA half."""
    return variant in ("FaceID", "FaceID Plus") and base != "Kolors"


def published(variant: str, base: str, encoder: str | None = None, tokens: int | None = None) -> Shapes:
    """Every key of a published file with its shape; `encoder` and `tokens` where there are several.

    Raises KeyError where no such file was published.
    """
    fitting = [
        file
        for file in FILES.values()
        if (file.variant, file.base) == (variant, base)
        and encoder in (None, file.encoder)
        and tokens in (None, file.tokens)
    ]
    if not fitting:
        raise KeyError(f"no published file is {variant} for {base} with {encoder} and {tokens} tokens")
    file, text = fitting[0], TEXT[base]
    proj = projector(variant, base, file.encoder, file.tokens, text)
    if base == "Flux":
        return _flux_file(variant, proj, flux_layers(variant, 3072, 19, 38, text))
    return _file(proj, unet_layers(CHANNELS[base], text, RANK if has_lora(variant, base) else 0))


def random_adapter(
    variant: str,
    base: str,
    sites: Mapping[Any, tuple[int, int]],
    seed: int,
    encoder: str | None = None,
    small: bool = True,
) -> dict[str, Any]:
    """Random float32 weights in the published layout for a UNet of these cross-attentions, by flat keys.

    `sites` as `adapters/injection/apply.unet_sites` gives them: site -> channels, text width. With `small`
    the projector keeps its parts, depth, tokens, and the widths that it reads and gives, but is narrow
    inside, and a LoRA has rank 4. (diffusers takes a feed-forward four times as wide as the layer for
    granted, which the small FaceID Plus for SDXL has not.)
    """
    found = [file for file in FILES.values() if (file.variant, file.base) == (variant, base)]
    known = next(file for file in found if encoder in (None, file.encoder))
    text = next(iter(sites.values()))[1]
    sizes = _widths(base, text, small)
    rank = (
        sizes.rank if variant.startswith("FaceID") and "Portrait" not in variant and base != "Kolors" else 0
    )
    proj = projector(variant, base, known.encoder, known.tokens, text, small)
    layers = unet_layers([channels for channels, _ in sites.values()], text, rank)
    return random_tensors(_file(proj, layers), seed)


def random_flux_adapter(
    variant: str, hidden: int, double: int, single: int, seed: int, tokens: int = 4, text: int = 4096
) -> dict[str, Any]:
    """Random float32 weights of an adapter for a Flux model of this size, by the file's own keys.

    InstantX' projector is narrow inside, and has `tokens` tokens where the published one has 128.
    """
    encoder = "CLIP-ViT-L" if "XLabs" in variant else "SigLIP-so400m-384"
    proj = projector(variant, "Flux", encoder, tokens, text, small=True)
    return random_tensors(_flux_file(variant, proj, flux_layers(variant, hidden, double, single, text)), seed)


def random_tensors(shapes: Shapes, seed: int) -> dict[str, Any]:
    """Float32 tensors: matrices normal with std 1 / sqrt(fan_in), gains near 1, biases small."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    tensors: dict[str, Any] = {}
    for key, shape in shapes.items():
        values = torch.randn(shape, generator=generator)
        if len(shape) == 1:
            tensors[key] = 0.1 * values + (1.0 if key.endswith("weight") else 0.0)
        else:
            tensors[key] = values if key.endswith("latents") else values / shape[-1] ** 0.5
    return tensors


def _mapping(name: str, inputs: int, outputs: int) -> Shapes:
    """Three linear layers of 1024 with norms between, as PuLID's encoders have them."""
    shapes = _linear(f"{name}.0", 1024, inputs) | _norm(f"{name}.1", 1024) | _linear(f"{name}.3", 1024, 1024)
    return shapes | _norm(f"{name}.4", 1024) | _linear(f"{name}.6", outputs, 1024)


def _id_encoder() -> Shapes:
    shapes = _mapping("body", 1280, 5 * 2048)
    for scale in range(5):
        shapes |= _mapping(f"mapping_{scale}", 1024, 2048) | _mapping(f"mapping_patch_{scale}", 1024, 2048)
    return shapes


def _id_former() -> Shapes:
    shapes: Shapes = {"latents": (1, 32, 1024), "proj_out": (1024, 2048)}
    shapes |= resampler_layers("", 1024, 16, 4096, depth=10) | _mapping(
        "id_embedding_mapping", 1280, 5 * 1024
    )
    for scale in range(5):
        shapes |= _mapping(f"mapping_{scale}", 1024, 1024)
    return shapes


def _prefixed(prefix: str, shapes: Shapes) -> Shapes:
    return {prefix + key: shape for key, shape in shapes.items()}


def _pulid(encoder: Shapes) -> Shapes:
    layers = {
        f"id_adapter_attn_layers.{2 * index + 1}.id_to_{side}.weight": (width, 2048)
        for index, width in enumerate(CHANNELS["SDXL"])
        for side in "kv"
    }
    return _prefixed("id_adapter.", encoder) | layers


def _pulid_flux() -> Shapes:
    shapes = _prefixed("pulid_encoder.", _id_former())
    for index in range(20):
        name = f"pulid_ca.{index}."
        shapes |= _norm(name + "norm1", 2048) | _norm(name + "norm2", 3072)
        shapes |= {name + "to_q.weight": (2048, 3072), name + "to_kv.weight": (4096, 2048)}
        shapes[name + "to_out.weight"] = (3072, 2048)
    return shapes


def clip_vision(layers: int, width: int, vector: int, patches: int = 256, patch: int = 14) -> Shapes:
    """A picture encoder in the names of transformers; `patches` per picture of `patch` pixels."""
    root = "vision_model."
    shapes: Shapes = {
        root + "embeddings.class_embedding": (width,),
        root + "embeddings.patch_embedding.weight": (width, 3, patch, patch),
        root + "embeddings.position_embedding.weight": (patches + 1, width),
        "visual_projection.weight": (vector, width),
    }
    shapes |= _norm(root + "pre_layrnorm", width) | _norm(root + "post_layernorm", width)
    for index in range(layers):
        name = f"{root}encoder.layers.{index}."
        for part in ("q_proj", "k_proj", "v_proj", "out_proj"):
            shapes |= _linear(f"{name}self_attn.{part}", width, width)
        shapes |= _norm(name + "layer_norm1", width) | _norm(name + "layer_norm2", width)
        shapes |= _linear(name + "mlp.fc1", 4 * width, width) | _linear(name + "mlp.fc2", width, 4 * width)
    return shapes


def _fuse(name: str, inputs: int) -> Shapes:
    return _norm(f"{name}.layernorm", inputs) | _linear(f"{name}.fc1", 2048, inputs)


def _photomaker(second: bool) -> Shapes:
    shapes = clip_vision(24, 1024, 768) | {"visual_projection_2.weight": (1280, 1024)}
    for name, inputs in (("fuse_module.mlp1", 4096), ("fuse_module.mlp2", 2048)):
        shapes |= _fuse(name, inputs) | _linear(f"{name}.fc2", 2048, 2048)
    shapes |= _norm("fuse_module.layer_norm", 2048)
    if second:
        q = "qformer_perceiver."
        shapes |= _linear(q + "token_proj.0", 2048, 512) | _linear(q + "token_proj.2", 4096, 2048)
        shapes |= _norm(q + "token_norm", 2048) | _linear(q + "perceiver_resampler.proj_in", 2048, 1024)
        shapes |= resampler_layers(q + "perceiver_resampler.", 2048, 32, 8192)
        shapes |= _linear(q + "perceiver_resampler.proj_out", 2048, 2048)
        shapes |= _norm(q + "perceiver_resampler.norm_out", 2048)
    layer = "lora_weights.unet.mid_block.attentions.0.transformer_blocks.0.attn2.processor.to_q_lora."
    lora: Shapes = {layer + "down.weight": (64, 1280), layer + "up.weight": (1280, 64)}
    return _prefixed("id_encoder.", shapes) | lora


def others() -> dict[str, Shapes]:
    """Listings of files that image prompts refuse, by published name."""
    converted = unet_layers(CHANNELS["SDXL"], 2048)
    return {
        "pulid_v1": _pulid(_id_encoder()),
        "pulid_v1.1": _pulid(_id_former()),
        "ip-adapter_pulid_sdxl_fp16": _file(_id_encoder(), converted),
        "pulid_flux_v0.9.1": _pulid_flux(),
        "photomaker-v1": _photomaker(second=False),
        "photomaker-v2": _photomaker(second=True),
        "CLIP-ViT-H-14-laion2B-s32B-b79K": clip_vision(32, 1280, 1024),
        "CLIP-ViT-bigG-14-laion2B-39B-b160k": clip_vision(48, 1664, 1280),
    }
