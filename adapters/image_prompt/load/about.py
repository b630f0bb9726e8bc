"""Says in words what a loaded adapter file is and what it needs."""

from __future__ import annotations

from collections.abc import Sequence

from ..encoders import ENCODERS, FOLDER
from ..records import AdapterSpec, EmbedState, HiddenState

STATES: dict[HiddenState, str] = {
    "image_embeds": "one vector of the picture",
    "penultimate": "all tokens of the picture",
    "pooled": "one vector of the picture, from its pooling head",
}
VECTORS = {"normed": "normed to length 1", "raw": "as it is, not normed"}
INSTANT_ID = "FaceID Portrait Unnorm"


def describe(spec: AdapterSpec, name: str) -> str:
    """A few lines of text, one fact in each. `name` is the file's."""
    return "\n".join(_lines(spec, name))


def _lines(spec: AdapterSpec, name: str) -> Sequence[str]:
    lines = [
        f"File: {name}",
        f"Family: {_family(spec)}",
        f"Base model: {spec.base}",
        f"Image encoder: {_encoder(spec.embeds)}",
        f"Tokens: {spec.tokens}, of width {spec.text_width}",
        f"Layers: {len(spec.layers)}",
        f"LoRA half: {_lora(spec)}",
        f"Face analysis: {_faces(spec)}",
    ]
    if spec.variant == INSTANT_ID:
        lines.append(
            "Note: InstantID's adapter has the same keys, so the node that applies it decides. Portrait "
            "Unnorm was trained with buffalo_l, InstantID with antelopev2 and a ControlNet of its own"
        )
    return lines


def _family(spec: AdapterSpec) -> str:
    versions = spec.plus_versions
    if len(versions) > 1:
        return (
            f"{spec.variant}, {' or '.join(versions)}: the keys do not tell, set plus_version where it is "
            "applied"
        )
    return f"{spec.variant} {versions[0]}" if versions else spec.variant


def _encoder(embeds: EmbedState | None) -> str:
    if embeds is None:
        return "none, it reads the face's vector alone"
    return (
        f"{embeds.encoder}, {STATES[embeds.state]}. Published as {ENCODERS[embeds.encoder].file}; it "
        f"belongs into models/{FOLDER}, for Load Image Encoder"
    )


def _lora(spec: AdapterSpec) -> str:
    if not spec.lora_layers:
        return "none"
    return f"in the file, at {len(spec.lora_layers)} attention layers"


def _faces(spec: AdapterSpec) -> str:
    if spec.face is None:
        return "none"
    return f"{' or '.join(spec.face_packs)}; it reads the face's vector {VECTORS[spec.face]}"
