"""Image encoders in the host: found in its folder by their shapes, loaded as its own CLIP vision models.

Source: ComfyUI: comfy/clip_vision.py (ClipVisionModel, convert_to_transformers).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import comfy.clip_vision
import folder_paths
import torch
from torch import Tensor

from ....preprocessors._host import read_weight_file
from ...identify import UnknownWeightsError, read_header
from ..encoders import (
    ENCODERS,
    FOLDER,
    HEAD,
    OPEN_CLIP,
    OPEN_CLIP_NAMES,
    check_complete,
    how_to_get,
    identify_encoder,
    layout,
)
from ..records import EncoderKind, ImageEncoder, IPAdapter
from .choose import AUTO, STANDIN, Candidate, check_belongs, choose, named, wanted_kind

SIGLIP_EPS = 1e-6
"""SigLIP's layer norms; the host's class has torch's 1e-5 for every encoder."""


def encoder_names() -> list[str]:
    """ "auto", then every file in the host's folder of encoders."""
    return [AUTO, *folder_paths.get_filename_list(FOLDER)]


def load_image_encoder(name: str = AUTO, adapter: IPAdapter | None = None) -> tuple[ImageEncoder, str]:
    """The encoder of a file, or with "auto" the one that the adapter wants, and what it is in words.

    Raises:
        FileNotFoundError: for "auto" where no file fits, listing what is there.
        UnknownWeightsError: for a file that is no known encoder, or lacks some of it.
        ValueError: for an encoder that the adapter does not want, naming both.
    """
    if adapter is not None:
        wanted_kind(adapter)
    chosen = choose(_candidates(), adapter).name if name == AUTO else name
    path = Path(folder_paths.get_full_path_or_raise(FOLDER, chosen))
    again = how_to_get("CLIP-ViT-H" if adapter is None else wanted_kind(adapter))
    weights, metadata = read_weight_file(str(path), "Load Image Encoder", again)
    weights = _tensors(weights)
    shapes = {key: tuple(tensor.shape) for key, tensor in weights.items()}
    standin = STANDIN in metadata
    try:
        kind = identify_encoder(shapes, standin)
    except UnknownWeightsError as error:
        raise UnknownWeightsError(
            f"Load Image Encoder cannot use {chosen}: it is {error}. {again}"
        ) from error
    if adapter is not None:
        check_belongs(adapter, kind, chosen)
    encoder = encoder_of(kind, weights, chosen)
    return encoder, _about(encoder, adapter, standin)


def _candidates() -> list[Candidate]:
    """Every file of the folder: those in the safetensors format by their headers, others unread."""
    found = []
    for name in folder_paths.get_filename_list(FOLDER):
        path = folder_paths.get_full_path(FOLDER, name)
        if path is None:
            continue
        if not name.lower().endswith((".safetensors", ".sft")):
            found.append(Candidate(name, None, "not looked into, choose it by name in encoder_name"))
            continue
        try:
            shapes, metadata = read_header(Path(path))
            found.append(Candidate(name, shapes, "", STANDIN in metadata))
        except (ValueError, OSError):
            found.append(Candidate(name, None, "not readable"))
    return found


def _tensors(content: Any) -> dict[str, Tensor]:
    if not isinstance(content, dict):
        return {}
    return {key: value for key, value in content.items() if isinstance(value, Tensor)}


def encoder_of(kind: EncoderKind, weights: dict[str, Tensor], name: str) -> ImageEncoder:
    """The host's own class at the file's depth, filled with the file's tensors, none missing or left."""
    if OPEN_CLIP_NAMES.places in weights:
        weights = comfy.clip_vision.convert_to_transformers(dict(weights), OPEN_CLIP)
    shapes = {key: tuple(tensor.shape) for key, tensor in weights.items()}
    blocks = "vision_model.encoder.layers."
    layers = 1 + max(int(key.removeprefix(blocks).split(".")[0]) for key in shapes if key.startswith(blocks))
    check_complete(shapes, kind, layers, name)
    encoder = ENCODERS[kind]
    described = Path(comfy.clip_vision.__file__).with_name(encoder.config)
    config = {**json.loads(described.read_text(encoding="utf-8")), "num_hidden_layers": layers}
    model = comfy.clip_vision.ClipVisionModel(config)
    model.load_sd({key: weights[key] for key in layout(kind, layers) if not key.startswith(HEAD)})
    if encoder.projection is not None:
        return ImageEncoder(kind, model, None, name)
    for module in model.model.modules():
        if isinstance(module, torch.nn.LayerNorm):
            module.eps = SIGLIP_EPS
    head = {key.removeprefix(HEAD): weights[key].float() for key in weights if key.startswith(HEAD)}
    return ImageEncoder(kind, model, head, name)


def _about(encoder: ImageEncoder, adapter: IPAdapter | None, standin: bool) -> str:
    table = ENCODERS[encoder.kind]
    side = table.image_size
    lines = [f"{encoder.name}: {encoder.kind}, for pictures of {side} x {side}, {table.tokens} tokens."]
    if adapter is not None:
        lines.append(f"It is the encoder that {named(adapter.spec, adapter.name)} wants.")
    if standin:
        lines.append("A stand-in with random numbers, to try a graph with: pictures mean nothing to it.")
    return "\n".join(lines)
