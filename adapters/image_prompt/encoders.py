"""Picture encoders that image prompts are read with, known by their keys and shapes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from ..identify import UnknownWeightsError
from .records import EncoderKind

Shapes = Mapping[str, tuple[int, ...]]

FOLDER = "clip_vision"
VISION = "vision_model."
HEAD = "vision_model.head."
"""SigLIP's attention pooling, which the host's class leaves out."""

OPEN_CLIP = "visual."
BESIDE = (
    "text_model.",
    "text_projection",
    "logit_scale",
    "logit_bias",
    "vision_model.embeddings.position_ids",
    "transformer.",
    "text.",
    "token_embedding.",
    "positional_embedding",
    "ln_final.",
    "attn_mask",
)
"""How keys begin that are published beside an encoder: the text half of the same model."""


@dataclass(frozen=True)
class Encoder:
    """One encoder: its sizes, the host's configuration, and its published file.

    `projection` is the width of `image_embeds` (None: SigLIP, which pools instead). Pictures of `image_size`
    are cut into squares of `patch` pixels. `stretched`: it was trained with pictures pressed into a square,
    not with their middle.
    """

    kind: EncoderKind
    width: int
    layers: int
    mlp: int
    projection: int | None
    image_size: int
    config: str
    file: str
    page: str
    patch: int = 14
    stretched: bool = False

    @property
    def tokens(self) -> int:
        """Hidden tokens per picture: one per square, and the class token where there is one."""
        return (self.image_size // self.patch) ** 2 + (self.projection is not None)


ENCODERS: dict[EncoderKind, Encoder] = {
    encoder.kind: encoder
    for encoder in (
        Encoder(
            "CLIP-ViT-H", 1280, 32, 5120, 1024, 224, "clip_vision_config_h.json",
            "CLIP-ViT-H-14-laion2B-s32B-b79K.safetensors",
            "https://huggingface.co/h94/IP-Adapter (models/image_encoder/model.safetensors)",
        ),
        Encoder(
            "CLIP-ViT-bigG", 1664, 48, 8192, 1280, 224, "clip_vision_config_g.json",
            "CLIP-ViT-bigG-14-laion2B-39B-b160k.safetensors",
            "https://huggingface.co/h94/IP-Adapter (sdxl_models/image_encoder/model.safetensors)",
        ),
        Encoder(
            "CLIP-ViT-L", 1024, 24, 4096, 768, 224, "clip_vision_config_vitl.json",
            "clip-vit-large-patch14.safetensors",
            "https://huggingface.co/openai/clip-vit-large-patch14 (model.safetensors)",
        ),
        Encoder(
            "CLIP-ViT-L-336", 1024, 24, 4096, 768, 336, "clip_vision_config_vitl_336.json",
            "clip-vit-large-patch14-336.bin",
            "https://huggingface.co/Kwai-Kolors/Kolors-IP-Adapter-Plus (image_encoder/pytorch_model.bin)",
        ),
        Encoder(
            "SigLIP-so400m-384", 1152, 27, 4304, None, 384, "clip_vision_siglip_384.json",
            "siglip-so400m-patch14-384.safetensors",
            "https://huggingface.co/google/siglip-so400m-patch14-384 (model.safetensors)",
            stretched=True,
        ),
    )
}  # fmt: skip
"""Sources: ComfyUI: comfy/clip_vision_*.json; tencent-ailab/IP-Adapter: README.md;
cubiq/ComfyUI_IPAdapter_plus: README.md; Shakker-Labs/ComfyUI-IPAdapter-Flux: README.md."""


class Naming(NamedTuple):
    """Where a file says the sizes of its vision transformer; `across`: the projection is stored turned."""

    patch: str
    places: str
    blocks: str
    mlp: str
    projection: str
    across: bool


TRANSFORMERS = Naming(
    f"{VISION}embeddings.patch_embedding.weight",
    f"{VISION}embeddings.position_embedding.weight",
    f"{VISION}encoder.layers.",
    "mlp.fc1.weight",
    "visual_projection.weight",
    False,
)
OPEN_CLIP_NAMES = Naming(
    f"{OPEN_CLIP}conv1.weight",
    f"{OPEN_CLIP}positional_embedding",
    f"{OPEN_CLIP}transformer.resblocks.",
    "mlp.c_fc.weight",
    f"{OPEN_CLIP}proj",
    True,
)
NAMINGS = (TRANSFORMERS, OPEN_CLIP_NAMES)
OTHERS = (
    ("layer_scale2.lambda1", "a DINOv2 encoder"),
    ("mlp.gate_proj.weight", "a DINOv3 encoder"),
    ("to_k_ip.weight", "an IP-Adapter, not an encoder"),
    ("ip_adapter_double_stream_k_proj.weight", "an IP-Adapter for Flux, not an encoder"),
)
"""How keys end of files that often lie in the wrong folder."""


class Looks(NamedTuple):
    """Sizes of the vision transformer in a file; 0 for what it does not tell."""

    width: int
    tokens: int
    patch: int
    layers: int
    mlp: int
    projection: int
    pooling: bool

    def __str__(self) -> str:
        return f"width {self.width}, {self.layers} layers, {self.tokens} tokens"


def _looks(shapes: Shapes) -> Looks | None:
    """The sizes in a file in the names of transformers or open_clip, None for any other file."""
    for names in NAMINGS:
        patch, places = shapes.get(names.patch, ()), shapes.get(names.places, ())
        if len(patch) == 4 and len(places) == 2:
            return Looks(
                width=places[1],
                tokens=places[0],
                patch=patch[-1],
                layers=_count(shapes, names.blocks),
                mlp=shapes.get(f"{names.blocks}0.{names.mlp}", (0,))[0],
                projection=shapes.get(names.projection, (0, 0))[1 if names.across else 0],
                pooling=f"{HEAD}probe" in shapes,
            )
    return None


def _count(keys: Iterable[str], blocks: str) -> int:
    found = (re.match(rf"{re.escape(blocks)}(\d+)\.", key) for key in keys)
    return len({int(match[1]) for match in found if match})


def identify_encoder(shapes: Shapes, any_depth: bool = False) -> EncoderKind:
    """The encoder that a file's keys and shapes are of, in the names of transformers or open_clip.

    A file with fewer or more layers is another network. `any_depth` lets it pass all the same: stand-ins of
    two layers, which say so in their metadata, are there to try a graph without the real file.

    Raises UnknownWeightsError, saying what the file is instead, as far as that can be told.
    """
    looks = _looks(shapes)
    if looks is None:
        endings = (what for ending, what in OTHERS if any(key.endswith(ending) for key in shapes))
        raise UnknownWeightsError(next(endings, "no image encoder known to Tiller"))
    for encoder in ENCODERS.values():
        if (encoder.width, encoder.tokens, encoder.patch) == (looks.width, looks.tokens, looks.patch):
            complaint = _complaint(encoder, looks, any_depth)
            if complaint:
                raise UnknownWeightsError(f"{encoder.kind}, but {complaint}")
            return encoder.kind
    raise UnknownWeightsError(f"an image encoder that no image prompt here is made with ({looks})")


def _complaint(encoder: Encoder, looks: Looks, any_depth: bool) -> str:
    """What is different in a file with the encoder's width and picture size; empty where nothing is."""
    if looks.layers != encoder.layers and not (any_depth and looks.layers > 1):
        return f"with {looks.layers} layers instead of {encoder.layers}"
    if looks.mlp != encoder.mlp:
        return f"with an MLP of {looks.mlp} instead of {encoder.mlp}"
    if encoder.projection is None and not looks.pooling:
        return f"without its pooling ({HEAD}probe)"
    if encoder.projection is not None and looks.projection != encoder.projection:
        came = f"a projection to {looks.projection}" if looks.projection else "no projection"
        return f"with {came} instead of one to {encoder.projection} (visual_projection.weight)"
    return ""


def describe_file(shapes: Shapes, any_depth: bool = False) -> str:
    """What a file is, in a few words for a list of files."""
    try:
        return identify_encoder(shapes, any_depth)
    except UnknownWeightsError as error:
        return str(error)


def layout(kind: EncoderKind, layers: int | None = None) -> dict[str, tuple[int, ...]]:
    """Key -> shape of every tensor of an encoder in the names of transformers, at its depth or another.

    Source: huggingface/transformers: models/clip/modeling_clip.py (CLIPVisionModelWithProjection),
    models/siglip/modeling_siglip.py (SiglipVisionModel).
    """
    encoder = ENCODERS[kind]
    width, siglip = encoder.width, encoder.projection is None
    shapes: dict[str, tuple[int, ...]] = {
        f"{VISION}embeddings.patch_embedding.weight": (width, 3, encoder.patch, encoder.patch),
        f"{VISION}embeddings.position_embedding.weight": (encoder.tokens, width),
    }
    if siglip:
        shapes[f"{VISION}embeddings.patch_embedding.bias"] = (width,)
        shapes |= _pooling_head(width, encoder.mlp)
    else:
        shapes[f"{VISION}embeddings.class_embedding"] = (width,)
        shapes |= _norm(f"{VISION}pre_layrnorm", width)
        shapes["visual_projection.weight"] = (encoder.projection or 0, width)
    shapes |= _norm(f"{VISION}post_layernorm", width)
    for number in range(encoder.layers if layers is None else layers):
        block = f"{VISION}encoder.layers.{number}."
        shapes |= _norm(f"{block}layer_norm1", width) | _norm(f"{block}layer_norm2", width)
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            shapes |= _linear(f"{block}self_attn.{name}", width, width)
        shapes |= _linear(f"{block}mlp.fc1", encoder.mlp, width) | _linear(
            f"{block}mlp.fc2", width, encoder.mlp
        )
    return shapes


def _norm(name: str, width: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def _linear(name: str, rows: int, columns: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (rows, columns), f"{name}.bias": (rows,)}


def _pooling_head(width: int, mlp: int) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {
        f"{HEAD}probe": (1, 1, width),
        f"{HEAD}attention.in_proj_weight": (3 * width, width),
        f"{HEAD}attention.in_proj_bias": (3 * width,),
    }
    shapes |= _linear(f"{HEAD}attention.out_proj", width, width) | _norm(f"{HEAD}layernorm", width)
    return shapes | _linear(f"{HEAD}mlp.fc1", mlp, width) | _linear(f"{HEAD}mlp.fc2", width, mlp)


def check_complete(shapes: Shapes, kind: EncoderKind, layers: int, name: str) -> None:
    """Checks that the file holds the encoder's tensors, and beside them only the text half of its model.

    Raises UnknownWeightsError, naming some of the keys that are missing, unknown or of another shape.
    """
    needed = layout(kind, layers)
    missing = [key for key in needed if key not in shapes]
    unknown = [key for key in shapes if key not in needed and not key.startswith(BESIDE)]
    other = [key for key in needed if key in shapes and shapes[key] != needed[key]]
    for keys, words in ((missing, "lacks"), (unknown, "also holds"), (other, "has in another shape")):
        if keys:
            listing = ", ".join(sorted(keys)[:3]) + (f" and {len(keys) - 3} more" if len(keys) > 3 else "")
            raise UnknownWeightsError(f"{name} looks like {kind} but {words} {listing}. {how_to_get(kind)}")


def how_to_get(kind: EncoderKind) -> str:
    """Which published file holds the encoder, and where to put it: a sentence."""
    encoder = ENCODERS[kind]
    return f"Get {encoder.file} from {encoder.page} and put it into models/{FOLDER}."
