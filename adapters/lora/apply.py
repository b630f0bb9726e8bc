"""LoRAs with block weights on clones of the host's model and text encoder.

Source: ComfyUI: comfy/sd.py (load_lora_for_models). With every factor 1 the patches are those of the host's
own loader, so the numbers are, too.
"""

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ._host import LoraFile, name_of, patches_of, read_lora
from .blocks import Layout, layout_of
from .entry import LoraEntry, some, used_in_words
from .info import facts_of, is_text_key, summary

logger = logging.getLogger("tiller")

Groups = tuple[tuple[float, dict[Any, Any]], ...]
"""Factor -> the patches that it is for; those with factor 0 are left out."""


@dataclass(frozen=True)
class Prepared:
    """One entry's patches for a model and a text encoder, by factor, and what was made of the file."""

    entry: LoraEntry
    model: Groups
    clip: Groups
    metadata: dict[str, str]
    text: str


def layout_of_model(model: Any) -> Layout:
    """The blocks of a loaded model (ModelPatcher)."""
    return layout_of(model.model.state_dict())


def prepare(entry: LoraEntry, model: Any, clip: Any, node: str) -> Prepared:
    """An entry's patches for a model and a CLIP or None; neither is changed.

    Raises:
        FileNotFoundError, ValueError: for a file that is not there, cannot be read, or is not for the model.
        BlockTextError: for block weights that are not for the model.
    """
    layout = layout_of_model(model)
    factors = entry.factors(layout)
    file = read_lora(entry.lora_name, node)
    patches = patches_of(file, model, clip, node)
    blocks = {key: layout.block_of(name_of(key)) for key in (*patches.model, *patches.clip)}
    notes = _notes(file, patches.unused, patches.unfit, clip)
    words = used_in_words(entry, summary(facts_of(file.weights, file.metadata)), blocks.values(), layout)
    return Prepared(
        entry,
        _grouped(patches.model, blocks, factors),
        _grouped(patches.clip, blocks, factors),
        file.metadata,
        "\n".join([words, *notes]),
    )


def _grouped(patches: Mapping[Any, Any], blocks: Mapping[Any, str], factors: Mapping[str, float]) -> Groups:
    groups: dict[float, dict[Any, Any]] = {}
    for key, patch in patches.items():
        factor = factors[blocks[key]]
        if factor != 0:
            groups.setdefault(factor, {})[key] = patch
    return tuple(groups.items())


def _notes(file: LoraFile, unused: Iterable[str], unfit: Iterable[str], clip: Any) -> list[str]:
    """What of a file is left out, in lines that the log gets as well."""
    texts = [key for key in unused if is_text_key(key)]
    others = [key for key in unused if not is_text_key(key)]
    notes = []
    if others:
        notes.append(f"  {len(others)} tensors match nothing in the model: {some(others)}")
    if texts:
        why = "no clip is connected" if clip is None else "they match nothing in this clip"
        notes.append(f"  {len(texts)} tensors of the text encoder are not used, {why}: {some(texts)}")
    unfit = list(unfit)
    if unfit:
        notes.append(f"  left out, since this model's layer has more channels: {some(unfit)}")
    for note in notes:
        logger.warning("%s: %s", file.name, note.strip())
    return notes


def apply_loras(model: Any, clip: Any, entries: Iterable[LoraEntry], node: str) -> tuple[Any, Any, str]:
    """The model and the CLIP (None stays None) with the LoRAs in order, and what was done in words.

    What no entry changes is returned itself, not as a clone.

    Raises: as `prepare`.
    """
    texts = []
    for entry in entries:
        if entry.is_off:
            texts.append(f"{entry.lora_name}: off, both strengths are 0")
            continue
        prepared = prepare(entry, model, clip, node)
        texts.append(prepared.text)
        model = _with_patches(model, prepared.model, entry.strength_model, prepared.metadata)
        if clip is not None:
            clip = _with_patches(clip, prepared.clip, entry.strength_clip, prepared.metadata)
    return model, clip, "\n".join(texts)


def _with_patches(target: Any, groups: Groups, strength: float, metadata: dict[str, str]) -> Any:
    """A clone of a ModelPatcher or a CLIP with the patches; itself where there is nothing to add.

    The metadata goes where the host's loader keeps it.
    """
    if not groups or strength == 0:
        return target
    clone = target.clone()
    for factor, patches in groups:
        clone.add_patches(patches, strength * factor)
    if metadata:
        getattr(clone, "patcher", clone).set_attachments("lora_metadata", metadata)
    return clone
