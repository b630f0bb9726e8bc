"""Applies files of weight changes to a clone of a model, through the host's own weight patches."""

import logging
from collections.abc import Mapping
from typing import Any, Literal

import comfy.utils
import torch
from comfy.model_management import cast_to_device

from .offset import MODEL_PREFIX, Form, Placed, likeness, place, told_form, video_aliases

logger = logging.getLogger("tiller")

FormChoice = Literal["auto", "replacement", "increment"]
FORMS: tuple[FormChoice, ...] = ("auto", "replacement", "increment")

REPLACED = "tiller_replaced_weights"
"""The attachment of a model that names the weights an offset has replaced."""

PROBED = 64
"""How many weights are compared to tell the form of a file."""

Weights = Mapping[str, torch.Tensor]


def apply_offset(model: Any, weights: Weights, strength: float, form: FormChoice = "auto") -> Any:
    """A clone of the model (the host's ModelPatcher) with the file's changes, or the model at strength 0.

    Increments are added `strength` times; replacements are blended in: base + strength * (new - base). A
    replacement leaves what is patched onto the model before, such as a LoRA, in place: only where there is
    nothing it is set as it stands, since the host's "set" would wipe it out and knows no strength.

    Raises ValueError when a single tensor has no place in the model, when the form is "auto" and cannot be
    told, or when another offset has replaced one of the weights already.
    """
    if strength == 0:
        return model
    base = model.get_key_patches(MODEL_PREFIX)
    shapes = {key: tuple(entries[0][0].shape) for key, entries in base.items()}
    placed = place({key: tuple(t.shape) for key, t in weights.items()}, shapes, _aliases(model))
    bases = _Bases(base)
    clone = model.clone()
    if _form(placed, weights, bases, form) == "increment":
        changes = {
            one.model_key: ("diff", (weights[one.file_key].reshape(one.shape), {"pad_weight": True}))
            for one in placed
        }
        _add(clone, changes, strength)
        return clone
    _note_replaced(clone, placed)
    whole, blended = {}, {}
    for one in placed:
        new = _same_size(one, weights, shapes)
        if strength == 1 and not clone.patches.get(one.model_key):
            whole[one.model_key] = ("set", (new,))
        else:
            blended[one.model_key] = ("diff", (_change(new, bases.weight(one.model_key)),))
    _add(clone, whole, 1.0)
    _add(clone, blended, strength)
    return clone


class _Bases:
    """The model's weights without any patch, wherever the host keeps them at the moment."""

    def __init__(self, entries: Mapping[str, Any]) -> None:
        self._entries = entries

    def weight(self, key: str) -> torch.Tensor:
        """The weight in float32 on the processor; a copy."""
        weight, convert = self._entries[key][0]
        copied = cast_to_device(weight, torch.device("cpu"), torch.float32, copy=True)
        return convert(copied, inplace=True)


def _aliases(model: Any) -> dict[str, str]:
    """diffusers' names of the model's weights -> the host's."""
    config = model.model.model_config.unet_config
    aliases = comfy.utils.unet_to_diffusers(config)
    return video_aliases(aliases) if config.get("use_temporal_attention") else aliases


def _form(placed: list[Placed], weights: Weights, bases: _Bases, form: FormChoice) -> Form:
    probed = sorted(placed, key=lambda one: one.model_key)
    step = max(1, len(probed) // PROBED)
    told = told_form(
        [likeness(weights[one.file_key].float().cpu(), bases.weight(one.model_key)) for one in probed[::step]]
    )
    if form != "auto":
        if told not in (None, form):
            logger.warning(
                "The weight changes are used as %ss, as chosen, but they look like %ss of this model's "
                "weights. If the picture falls apart, set form to auto.",
                form,
                told,
            )
        return form
    if told is None:
        raise ValueError(
            "Whether the file holds replacements or increments could not be told: some of its tensors are "
            "like the model's weights and some are not. Set form to what the page of the file says; "
            "ControlNeXt's load_weight_increasement means increment."
        )
    return told


def _same_size(one: Placed, weights: Weights, shapes: Mapping[str, tuple[int, ...]]) -> torch.Tensor:
    if one.shape != shapes[one.model_key]:
        raise ValueError(
            f"A replacement must have the size of the weight it replaces, but {one.file_key} has "
            f"{list(one.shape)} and the model's weight {list(shapes[one.model_key])}. Nothing was changed. "
            "Use the file with the base model it was made for, or set form to increment if its page says so."
        )
    return weights[one.file_key].reshape(one.shape)


def _change(new: torch.Tensor, base: torch.Tensor) -> torch.Tensor:
    """new - base, in the file's own precision."""
    return (new.detach().to("cpu", torch.float32) - base).to(new.dtype)


def _note_replaced(clone: Any, placed: list[Placed]) -> None:
    own = frozenset(one.model_key for one in placed)
    before = clone.get_attachment(REPLACED) or frozenset()
    again = sorted(own & before)
    if again:
        raise ValueError(
            f"A weight can be replaced once, but another offset has replaced {len(again)} of these already: "
            f"{', '.join(again[:3])}. Take one of the two out, or use a file of increments."
        )
    clone.set_attachments(REPLACED, before | own)


def _add(clone: Any, changes: dict[str, Any], strength: float) -> None:
    applied = set(clone.add_patches(changes, strength))
    missed = sorted(changes.keys() - applied)
    if missed:
        raise ValueError(
            f"Every weight change must be taken by the model, but {len(missed)} were not: "
            f"{', '.join(missed[:3])}. Nothing was changed. Update ComfyUI, or report the file's page."
        )
