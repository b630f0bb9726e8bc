"""How an image prompt lies in a safetensors file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from ..encoders import ENCODERS
from ..records import EmbedState, ImagePrompt, IPAdapter, PromptPart

KIND_KEY, KIND = "tiller", "image_prompt"
VERSION = "1"
"""Rises when the form changes; a file of another version is refused."""

FAMILIES = {
    ("CLIP-ViT-L", "image_embeds"): "Flux IP-Adapter (XLabs)",
    ("CLIP-ViT-L-336", "penultimate"): "IP-Adapter Plus for Kolors",
    ("SigLIP-so400m-384", "pooled"): "Flux IP-Adapter (InstantX)",
}
"""Which adapters read a state of an encoder, beside those of SD1.5 and SDXL."""

USUAL_FAMILIES = {
    "image_embeds": "IP-Adapter",
    "penultimate": "IP-Adapter Plus, IP-Adapter Full Face, FaceID Plus",
    "pooled": "adapters of a pooled picture",
}

Tensors = dict[str, Tensor]


def family_of(state: EmbedState) -> str:
    """The adapters that read embeddings of this state, in words."""
    return FAMILIES.get((state.encoder, state.state), USUAL_FAMILIES[state.state])


def described(prompt: ImagePrompt) -> str:
    """What a prompt holds, in a sentence."""
    state = prompt.state
    frames = max(len(part.embeds) for part in prompt.parts)
    one = "part" if len(prompt.parts) == 1 else "parts"
    batch = f", for a batch of {frames}" if frames > 1 else ""
    return (
        f"{len(prompt.parts)} {one} of {state.tokens} x {state.width} from {state.encoder} ({state.state})"
        f"{batch}. Read by {family_of(state)}."
    )


def to_file(prompt: ImagePrompt) -> tuple[Tensors, dict[str, str]]:
    """The tensors and the metadata of a file, float32 as they are."""
    tensors: Tensors = {}
    for number, part in enumerate(prompt.parts):
        tensors[f"parts.{number}.embeds"] = part.embeds.detach().cpu().clone().contiguous()
        tensors[f"parts.{number}.negative"] = part.negative.detach().cpu().clone().contiguous()
    state = prompt.state
    return tensors, {
        KIND_KEY: KIND,
        "version": VERSION,
        "encoder": state.encoder,
        "state": state.state,
        "tokens": str(state.tokens),
        "width": str(state.width),
        "family": family_of(state),
    }


def from_file(tensors: Mapping[str, Tensor], metadata: Mapping[str, str], name: str) -> ImagePrompt:
    """The prompt of a file, to the bit what was saved.

    Raises ValueError, with the file named, for one that is no image prompt, of another version of the form,
    of an unknown encoder, or damaged.
    """
    if metadata.get(KIND_KEY) != KIND:
        raise ValueError(
            f"Load Image Prompt needs a file from Save Image Prompt, but {name} is none: its metadata does "
            f"not say so. It holds {_listing(tensors)}. Choose another file."
        )
    if metadata.get("version") != VERSION:
        raise ValueError(
            f"Load Image Prompt reads files of version {VERSION}, but {name} is of version "
            f"{metadata.get('version', 'none')}. Update Tiller, or encode the pictures again."
        )
    state = _state(metadata, name)
    numbers = range(len(tensors) // 2)
    wanted = {f"parts.{number}.{side}" for number in numbers for side in ("embeds", "negative")}
    good = tensors and set(tensors) == wanted
    if not good or any(not _fits(tensors, number, state) for number in numbers):
        raise ValueError(
            f"{name} is damaged: it should hold parts of {state.tokens} x {state.width}, got "
            f"{_listing(tensors)}. Encode the pictures again."
        )
    parts = (
        PromptPart(tensors[f"parts.{number}.embeds"].float(), tensors[f"parts.{number}.negative"].float())
        for number in numbers
    )
    return ImagePrompt(state, tuple(parts))


def _state(metadata: Mapping[str, str], name: str) -> EmbedState:
    encoder: Any = metadata.get("encoder", "")
    state: Any = metadata.get("state", "")
    sizes = (metadata.get("tokens", ""), metadata.get("width", ""))
    if encoder not in ENCODERS or state not in USUAL_FAMILIES or not all(size.isdigit() for size in sizes):
        raise ValueError(
            f"{name} is an image prompt of the encoder {encoder or 'none'} ({state or 'no state'}), which "
            f"this Tiller does not know. It knows {', '.join(ENCODERS)}. Update Tiller, or encode the "
            "pictures again."
        )
    return EmbedState(encoder, state, int(sizes[0]), int(sizes[1]))


def _fits(tensors: Mapping[str, Tensor], number: int, state: EmbedState) -> bool:
    embeds, negative = tensors[f"parts.{number}.embeds"], tensors[f"parts.{number}.negative"]
    return embeds.shape == negative.shape and tuple(embeds.shape[1:]) == (state.tokens, state.width)


def _listing(tensors: Mapping[str, Tensor]) -> str:
    shown = [f"{key} {tuple(tensor.shape)}" for key, tensor in list(tensors.items())[:3]]
    return ", ".join(shown) + (" and more" if len(tensors) > 3 else "") or "nothing"


def check_for(adapter: IPAdapter, prompt: ImagePrompt, name: str) -> None:
    """Raises ValueError where the adapter reads another encoder or state than the prompt is of."""
    spec, state = adapter.spec, prompt.state
    if spec.embeds == state:
        return
    wanted = "a face alone" if spec.embeds is None else f"{spec.embeds.encoder} ({spec.embeds.state})"
    raise ValueError(
        f"{adapter.name} ({spec.variant}, {spec.base}) reads {wanted}, but {name} was encoded with "
        f"{state.encoder} ({state.state}), for {family_of(state)}. Encode the pictures for this adapter."
    )
