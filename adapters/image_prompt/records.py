"""What travels between the nodes of image prompts: an adapter file, an encoder, a prompt of embeddings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch

Base = Literal["SD1.5", "SDXL", "Kolors", "Flux"]
Variant = Literal[
    "IP-Adapter",
    "IP-Adapter Plus",
    "IP-Adapter Full Face",
    "FaceID",
    "FaceID Plus",
    "FaceID Portrait",
    "FaceID Portrait Unnorm",
    "Flux IP-Adapter (XLabs)",
    "Flux IP-Adapter (InstantX)",
]
"""Kolors' files are the variant with base "Kolors". InstantID's adapter has the keys of Portrait Unnorm."""

EncoderKind = Literal["CLIP-ViT-H", "CLIP-ViT-bigG", "CLIP-ViT-L", "CLIP-ViT-L-336", "SigLIP-so400m-384"]
HiddenState = Literal["image_embeds", "penultimate", "pooled"]
"""image_embeds: the projected class token; penultimate: all tokens entering the last block; pooled:
SigLIP's attention-pooling head."""


@dataclass(frozen=True)
class EmbedState:
    """Which encoder a projector reads and which of its states: `tokens` vectors of `width` per picture."""

    encoder: EncoderKind
    state: HiddenState
    tokens: int
    width: int


@dataclass(frozen=True)
class AdapterSpec:
    """What an adapter file is, from its keys and shapes.

    `embeds` is the picture's state that its projector reads (None: a face's vector alone), `face` the form
    of the face's vector it reads (None: no face). `tokens` per picture of width `text_width`. `layers` are
    the numbers of the layers that it has K and V for; `lora_layers` of those with a LoRA half.
    `plus_versions` are the versions that a FaceID Plus file may be of: its keys do not tell them apart.
    `face_packs` are the packs of face models that it was trained with; two where the keys do not tell.
    """

    variant: Variant
    base: Base
    embeds: EmbedState | None
    face: Literal["normed", "raw"] | None
    tokens: int
    text_width: int
    layers: tuple[int, ...]
    lora_layers: tuple[int, ...] = ()
    plus_versions: tuple[Literal["v1", "v2"], ...] = ()
    face_packs: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class IPAdapter:
    """A loaded adapter file: what it is, its projector's weights and its layers' weights, by bare keys."""

    spec: AdapterSpec
    image_proj: dict[str, torch.Tensor]
    ip_adapter: dict[str, torch.Tensor]
    name: str


@dataclass(frozen=True, eq=False)
class ImageEncoder:
    """A loaded picture encoder: the host's CLIP vision `model`, and SigLIP's pooling head or None."""

    kind: EncoderKind
    model: Any
    head: dict[str, torch.Tensor] | None
    name: str


@dataclass(frozen=True, eq=False)
class PromptPart:
    """Embeddings of one source before the projector: `embeds` and `negative`, both (N,S,E) float32.

    N is 1, or one per picture of a batch; its weight is already multiplied in. `negative` is what the
    negative conditioning gets.
    """

    embeds: torch.Tensor
    negative: torch.Tensor


@dataclass(frozen=True, eq=False)
class ImagePrompt:
    """Embeddings of pictures in one state; the tokens of several parts stand side by side."""

    state: EmbedState
    parts: tuple[PromptPart, ...]
