"""What a LoRA file is: its form, rank, alpha, base model, blocks, and what its metadata says of the training.

Source: kohya-ss/sd-scripts: library/train_util.py (metadata ss_*), library/sai_model_spec.py (modelspec.*);
KohakuBlueleaf/LyCORIS: lycoris/modules (names of the tensors).
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from ..identify import CONTEXT_FAMILIES

FORMS = (
    ("hada_w1_", "LoHa"),
    ("lokr_w", "LoKr"),
    ("oft_blocks", "OFT"),
    (".a1.weight", "GLoRA"),
    ("lora_", "LoRA"),
    ("_lora.", "LoRA"),
    (".lora.", "LoRA"),
    (".diff", "full difference"),
    ("w_norm", "norms"),
)
"""Part of a key -> the form of the weights; the first that fits a key counts."""

DOWN = re.compile(
    r"[._](lora_down\.weight|lora_A(\.default)?(\.weight)?|lora\.down\.weight|lora_linear_layer\.down\.weight)$"
    r"|_lora\.down\.weight$|\.(hada_w1_b|lokr_w1_b|lokr_w2_b)$"
)
"""The tensor whose first dimension is the rank."""

TEXT_KEY = re.compile(r"(lora_te|lora_prior_te|lycoris_te|text_encoder|clip_[lgh]\.|t5xxl\.)")
TEXT_2_OF_FLUX = re.compile(r"(lora_te[23]_|text_encoder_2|t5xxl|text_encoders?\.t5)")
MOST_TAGS = 20
MOST_LETTERS = 200
"""Of one entry of the metadata, so that the text stays readable."""

PER_LEVEL = 3
"""Blocks of the host's list for each level of a UNet: two residual blocks and the change of size."""


class Places(NamedTuple):
    """A name that some trainer gives to blocks -> their name here, from the numbers found in it."""

    pattern: re.Pattern[str]
    word: str
    first: int
    per_level: int


PLACES = (
    Places(re.compile(r"input_blocks_(\d+)_"), "IN", 0, 0),
    Places(re.compile(r"output_blocks_(\d+)_"), "OUT", 0, 0),
    Places(re.compile(r"down_blocks_(\d+)_(?:attentions|resnets)_(\d+)_"), "IN", 1, PER_LEVEL),
    Places(re.compile(r"down_blocks_(\d+)_downsamplers_0_"), "IN", PER_LEVEL, PER_LEVEL),
    Places(re.compile(r"up_blocks_(\d+)_(?:attentions|resnets)_(\d+)_"), "OUT", 0, PER_LEVEL),
    Places(re.compile(r"up_blocks_(\d+)_upsamplers_0_"), "OUT", PER_LEVEL - 1, PER_LEVEL),
    Places(re.compile(r"single_(?:transformer_)?blocks_(\d+)_"), "S", 0, 0),
    Places(re.compile(r"double_blocks_(\d+)_"), "D", 0, 0),
    Places(re.compile(r"(?:^|_)transformer_blocks_(\d+)_"), "D", 0, 0),
)


@dataclass(frozen=True)
class LoraFacts:
    """What the tensors and the metadata of a file say; empty where they say nothing."""

    form: str
    ranks: tuple[int, ...]
    alphas: tuple[float, ...]
    base: str
    blocks: dict[str, int]
    metadata: dict[str, str]


def is_text_key(key: str) -> bool:
    """Whether a key of a file belongs to a text encoder."""
    return TEXT_KEY.match(key) is not None


def facts_of(weights: Mapping[str, Tensor], metadata: Mapping[str, str]) -> LoraFacts:
    """The facts of a file's tensors by key, and of its metadata."""
    ranks = {int(tensor.shape[0]) for key, tensor in weights.items() if DOWN.search(key) and tensor.ndim > 1}
    alphas = {
        round(float(tensor), 4)
        for key, tensor in weights.items()
        if key.endswith(".alpha") and tensor.numel() == 1
    }
    is_flux = any(_is_flux(key) for key in weights)
    modules = sorted({_module(key) for key in weights})
    blocks = Counter(_block(key, is_flux) for key in modules)
    ordered = {name: blocks[name] for name in sorted(blocks, key=_order)}
    return LoraFacts(
        form_of(weights),
        tuple(sorted(ranks)),
        tuple(sorted(alphas)),
        base_of(weights),
        ordered,
        dict(metadata),
    )


def form_of(keys: Iterable[str]) -> str:
    """LoRA, LoHa, LoKr and so on, joined where a file mixes them; with DoRA where magnitudes are stored."""
    found: set[str] = set()
    has_magnitudes = False
    for key in keys:
        has_magnitudes |= key.endswith(".dora_scale")
        form = next((form for part, form in FORMS if part in key), None)
        if form is not None and not key.endswith((".alpha", ".dora_scale")):
            found.add(form)
    forms = [form for form in dict.fromkeys(form for _, form in FORMS) if form in found]
    return " and ".join([*forms, *(["DoRA magnitudes"] if has_magnitudes else [])])


def base_of(weights: Mapping[str, Tensor]) -> str:
    """Family of the model that the tensors fit, or "" where they do not tell.

    By the width of the text that cross-attention reads, else by the names of the blocks.
    """
    for key, tensor in weights.items():
        is_context = re.search(r"attn2[._](processor[._])?to_k[._]", key) is not None
        if is_context and DOWN.search(key) and tensor.ndim > 1:
            return CONTEXT_FAMILIES.get(int(tensor.shape[1]), "")
    return "Flux" if any(_is_flux(key) for key in weights) else ""


def _is_flux(key: str) -> bool:
    flat = key.replace(".", "_")
    return "double_blocks_" in flat or "single_blocks_" in flat or "single_transformer_blocks_" in flat


def _module(key: str) -> str:
    """A key without the name of its tensor, flat: lora_unet_mid_block_attentions_0_proj_in_ for one."""
    bare = re.split(
        r"\.(?:lora_|lora\.|hada_|lokr_|oft_|alpha$|dora_scale$|diff|w_norm|b_norm)|_lora\.", key
    )[0]
    return bare.replace(".", "_") + "_"


def _block(module: str, is_flux: bool) -> str:
    if TEXT_KEY.match(module.replace("clip_l_", "clip_l.").replace("t5xxl_", "t5xxl.")):
        if not is_flux:
            return "BASE"
        return "T5" if TEXT_2_OF_FLUX.match(module) else "CLIP"
    if is_flux:
        module = module.replace("lora_transformer_", "lora_").removeprefix("transformer_")
    elif "mid_block_" in module or "middle_block_" in module:
        return "MID"
    for place in PLACES:
        found = place.pattern.search(module)
        if found and (place.word in ("D", "S")) == is_flux:
            numbers = [int(number) for number in found.groups()]
            index = numbers[-1] if place.per_level == 0 or len(numbers) > 1 else 0
            level = place.per_level * numbers[0]
            return f"{place.word}{place.first + level + index:02}"
    if not is_flux:
        return "BASE"
    return "OUT" if "final_layer" in module or "proj_out" in module else "IN"


def _order(block: str) -> tuple[int, str]:
    words = ("BASE", "CLIP", "T5", "IN", "MID", "OUT", "D", "S")
    word = re.sub(r"(?<=[A-Z])\d\d$", "", block)
    rank = len(words) if (word, block) == ("OUT", "OUT") else words.index(word)
    return rank, block


def facts_in_words(facts: LoraFacts, name: str, size: int) -> str:
    """Lines that say what a file is; `size` in bytes."""
    told = facts.metadata.get("ss_base_model_version") or facts.metadata.get("modelspec.architecture", "")
    lines = [
        f"{name}: {facts.form or 'no LoRA that is known'}, {size / 1e6:.1f} MB",
        f"Rank: {_numbers(facts.ranks)}. Alpha: {_numbers(facts.alphas)}."
        + ("" if facts.alphas else " Without alpha the strength is that of alpha = rank."),
        f"Base model: {facts.base or 'not known from the tensors'}"
        + (f" (metadata: {_cut(told)})" if told else ""),
        f"Blocks: {', '.join(f'{block} ({count})' for block, count in facts.blocks.items()) or 'none'}",
        *_training(facts.metadata),
    ]
    return "\n".join(lines)


def summary(facts: LoraFacts) -> str:
    """One line: form, rank, alpha and base model."""
    parts = [facts.form or "LoRA", f"rank {_numbers(facts.ranks)}", f"alpha {_numbers(facts.alphas)}"]
    return ", ".join([*parts, *([f"for {facts.base}"] if facts.base else [])])


def _numbers(values: Iterable[float]) -> str:
    shown = [f"{value:g}" for value in values]
    return f"{shown[0]} to {shown[-1]}" if len(shown) > 3 else ", ".join(shown) or "none"


MEANINGS = (
    ("modelspec.title", "Title"),
    ("modelspec.author", "Author"),
    ("modelspec.trigger_phrase", "Trigger phrase"),
    ("modelspec.description", "Description"),
    ("modelspec.usage_hint", "Usage"),
    ("modelspec.license", "Licence"),
    ("ss_sd_model_name", "Trained on"),
    ("ss_network_module", "Trained with"),
    ("ss_resolution", "Resolution"),
    ("ss_num_train_images", "Training images"),
    ("ss_clip_skip", "CLIP skip"),
)


def _training(metadata: Mapping[str, str]) -> list[str]:
    """What the metadata says, one line for each thing; trigger words first."""
    if not metadata:
        return ["Metadata: none, so trigger words are not known. Look at the page that the file comes from."]
    lines = []
    folders, tags = _tags(metadata.get("ss_tag_frequency", ""))
    if folders:
        lines.append(f"Trigger words by the training folders: {', '.join(folders)}")
    if tags:
        shown = ", ".join(f"{tag} ({count})" for tag, count in tags)
        lines.append(f"Most frequent tags: {shown}")
    told = [
        (title, metadata[key]) for key, title in MEANINGS if metadata.get(key, "None") not in ("", "None")
    ]
    return [*lines, *(f"{title}: {_cut(text)}" for title, text in told)]


def _tags(text: str) -> tuple[list[str], list[tuple[str, int]]]:
    """Trigger words from the folders' names (10_sks dog -> sks dog), and the most frequent tags."""
    try:
        table = json.loads(text) if text else {}
    except ValueError:
        return [], []
    counts: Counter[str] = Counter()
    folders: list[str] = []
    for folder, tags in table.items() if isinstance(table, dict) else ():
        folders.append(_cut(re.sub(r"^\d+_", "", str(folder))))
        if isinstance(tags, dict):
            counts.update({_cut(str(tag).strip()): int(n) for tag, n in tags.items() if isinstance(n, int)})
    return list(dict.fromkeys(folders)), counts.most_common(MOST_TAGS)


def _cut(text: str) -> str:
    flat = " ".join(str(text).split())
    return flat if len(flat) <= MOST_LETTERS else f"{flat[:MOST_LETTERS]}..."
