"""Applies faces to models by a FaceID file: its LoRA half into the weights, its tokens into attention.

Source: tencent-ailab/IP-Adapter: ip_adapter/ip_adapter_faceid.py, ip_adapter_faceid_separate.py,
attention_processor_faceid.py.
"""

from __future__ import annotations

from typing import Any

import torch

from ...faces.records import Faces
from ...injection.tokens import Tokens
from ...lora._host import add_faceid_lora
from ..apply import apply_tokens
from ..encode.apply import EncodeSettings, encode_image_prompt
from ..encoders import how_to_get
from ..projectors import face_tokens
from ..records import ImageEncoder, ImagePrompt, IPAdapter
from ..terms import InjectionSettings
from .rules import (
    ARCFACE_CROPS,
    FaceSettings,
    check_face_adapter,
    description,
    has_shortcut,
    takes_all,
    vectors,
)


def apply_face_id(
    model: Any,
    adapter: IPAdapter,
    faces: Faces,
    encoder: ImageEncoder | None,
    settings: FaceSettings,
    injection: InjectionSettings,
) -> tuple[Any, str]:
    """A clone of a MODEL that draws the faces, and what was done, in words; the model stays as it is.

    The LoRA half of the file goes into the clone's weights through the host's own LoRA code, so no second
    file is needed.

    Raises ValueError for an adapter that reads no face, a version that must be asked for, an image encoder
    that is missing or another one, and an adapter that is not made for the model.
    """
    check_face_adapter(adapter)
    shortcut = has_shortcut(adapter, settings.plus_version)
    seen = _pictures(adapter, faces, encoder, settings)
    own = vectors(faces, adapter.spec, settings.faces_mode)
    tokens = _through_text_projection(
        model, adapter, face_tokens(adapter, own, seen, shortcut, settings.structure)
    )
    clone = apply_tokens(model, adapter, tokens, injection)
    clone = add_faceid_lora(clone, adapter.ip_adapter, settings.lora_strength)
    name = None if encoder is None else encoder.name
    return clone, description(adapter, faces, settings, tokens.cond.shape[1], name)


def _pictures(
    adapter: IPAdapter, faces: Faces, encoder: ImageEncoder | None, settings: FaceSettings
) -> ImagePrompt | None:
    """The upright faces through the image encoder, for the kinds that look at them."""
    state = adapter.spec.embeds
    if state is None:
        return None
    if encoder is None:
        raise ValueError(
            f"{adapter.name} is {adapter.spec.variant} for {adapter.spec.base}: it also looks at the face, "
            f"and needs image_encoder {state.encoder}. Connect Load Image Encoder. "
            f"{how_to_get(state.encoder)}"
        )
    crops = faces.crops(ARCFACE_CROPS.get(state.encoder, 224))
    batch = "concat" if takes_all(adapter.spec, settings.faces_mode) else "average"
    return encode_image_prompt(adapter, encoder, crops, EncodeSettings(batch=batch))[0]


def _through_text_projection(model: Any, adapter: IPAdapter, tokens: Tokens) -> Tokens:
    """Tokens as the layers read them: of Kolors, behind the projection that the model puts before its text.

    Raises ValueError for a model that has none.

    Source: cubiq/ComfyUI_IPAdapter_plus: IPAdapterPlus.py (To_KV).
    """
    width = tokens.cond.shape[-1]
    if adapter.spec.base != "Kolors" or width == adapter.spec.text_width:
        return tokens
    projection = getattr(model.get_model_object("diffusion_model"), "encoder_hid_proj", None)
    weight = getattr(projection, "weight", None)
    if projection is None or weight is None or weight.shape[1] != width:
        raise ValueError(
            f"{adapter.name} is {adapter.spec.variant} for Kolors: its tokens go through the Kolors model's "
            "own text projection (encoder_hid_proj), and the model given has none. ComfyUI loads no Kolors "
            "itself; connect a model from a Kolors loader."
        )
    with torch.no_grad():
        weight, bias = weight.float().cpu(), projection.bias.float().cpu()
        return Tokens(
            *(torch.nn.functional.linear(side, weight, bias) for side in (tokens.cond, tokens.uncond))
        )
