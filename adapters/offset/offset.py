"""Brings a file of weight changes to the keys of a model, and tells increments from replacements.

Host-free. For files that hold a part of a UNet: either what is added to the base model's weights, or the
weights that take their place. Nothing in such a file says which of the two it is.

Source of the two forms: dvlab-research/ControlNeXt: ControlNeXt-SDXL/pipeline/pipeline_controlnext.py
(load_controlnext_unet_weights and its load_weight_increasement).
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Literal, NamedTuple

import torch

Form = Literal["replacement", "increment"]
Shapes = Mapping[str, tuple[int, ...]]

MODEL_PREFIX = "diffusion_model."
"""What the host puts before every key of a model's network."""

FILE_PREFIXES = ("model.diffusion_model.", "diffusion_model.", "unet.", "module.")
LORA_ENDINGS = (".lora_down.weight", ".lora_up.weight", ".lora_A.weight", ".lora_B.weight", ".alpha")

AGREEMENT = 0.9
"""Which share of the weights must speak for one form for it to be taken as told."""

NAMED = 3


class Placed(NamedTuple):
    """One tensor of the file, the model's key it belongs to, and the shape it is brought to there."""

    file_key: str
    model_key: str
    shape: tuple[int, ...]


def bare(key: str) -> str:
    """The key without the prefixes that files carry."""
    for prefix in FILE_PREFIXES:
        key = key.removeprefix(prefix)
    return key


def _some(keys: Collection[str]) -> str:
    listed = ", ".join(sorted(keys)[:NAMED])
    return listed if len(keys) <= NAMED else f"{listed} and {len(keys) - NAMED} more"


def _squeezed(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of a 1 x 1 convolution as that of the linear layer that it equals."""
    return shape[:2] if len(shape) > 2 and all(size == 1 for size in shape[2:]) else shape


def _fits(shape: tuple[int, ...], own: tuple[int, ...]) -> tuple[int, ...] | None:
    """The shape the tensor is used at: the model's own, or a greater one that the model's is padded to."""
    if _squeezed(shape) == _squeezed(own):
        return own
    if len(shape) == len(own) and all(size >= less for size, less in zip(shape, own, strict=True)):
        return shape
    return None


def place(shapes: Shapes, model_shapes: Shapes, aliases: Mapping[str, str]) -> list[Placed]:
    """Where every tensor of a file (key -> shape) belongs in a model (key -> shape).

    `aliases` gives the model's name, without MODEL_PREFIX, for other names of the same weight.

    Raises ValueError when a single tensor has no place, two have the same, or one does not fit.
    """
    if not shapes:
        raise ValueError(
            "A file of weight changes was needed, but this one holds no tensors. Download it again."
        )
    placed: dict[str, Placed] = {}
    unknown, unfit, doubled = [], [], []
    for key, shape in shapes.items():
        name = bare(key)
        model_key = MODEL_PREFIX + aliases.get(name, name)
        if model_key not in model_shapes:
            unknown.append(key)
            continue
        fitting = _fits(shape, model_shapes[model_key])
        if fitting is None:
            unfit.append(f"{key} ({list(shape)} instead of {list(model_shapes[model_key])})")
        elif model_key in placed:
            doubled.append(key)
        else:
            placed[model_key] = Placed(key, model_key, fitting)
    _refuse(unknown, unfit, doubled, len(shapes))
    return list(placed.values())


def _refuse(unknown: list[str], unfit: list[str], doubled: list[str], total: int) -> None:
    if unknown and any(key.endswith(LORA_ENDINGS) for key in unknown):
        raise ValueError(
            "A file of whole weights or of their increments was needed, but this one holds a LoRA "
            f"({_some(unknown)}). Load it with ComfyUI's Load LoRA."
        )
    if unknown:
        raise ValueError(
            f"Every tensor of the file must belong to a weight of the model, but {len(unknown)} of {total} "
            f"match none: {_some(unknown)}. Nothing was changed. Use the file with the base model that it "
            "was made for."
        )
    if unfit:
        raise ValueError(
            f"Every tensor of the file must fit its weight of the model, but {len(unfit)} of {total} do not: "
            f"{_some(unfit)}. Nothing was changed. Use the file with the base model it was made for."
        )
    if doubled:
        raise ValueError(
            f"Every weight may be named once in the file, but {_some(doubled)} are there under two names. "
            "Nothing was changed. Download the file again."
        )


def likeness(tensor: torch.Tensor, base: torch.Tensor) -> float | None:
    """How much of the base weight is in the tensor: about 1 for a replacement, about 0 for an increment.

    It is <tensor, base> / <base, base>. None where it tells nothing: a base of zeros, or another size.
    """
    if tensor.numel() != base.numel():
        return None
    wide = base.flatten().double()
    square = float(wide @ wide)
    return None if square == 0 else float(tensor.flatten().double() @ wide) / square


def told_form(likenesses: Sequence[float | None]) -> Form | None:
    """The form of a file by the likeness of its tensors to the model's weights; None where they disagree."""
    votes = [value > 0.5 for value in likenesses if value is not None]
    if not votes:
        return None
    share = sum(votes) / len(votes)
    if share >= AGREEMENT:
        return "replacement"
    return "increment" if 1 - share >= AGREEMENT else None


def video_aliases(aliases: Mapping[str, str]) -> dict[str, str]:
    """diffusers' names for a spatio-temporal UNet, from those for the UNet of its frames.

    Every residual block and attention of the frames has one over time beside it and a factor that mixes
    the two. Source: diffusers: models/unets/unet_spatio_temporal_condition.py; ComfyUI:
    comfy/ldm/modules/diffusionmodules/openaimodel.py (VideoResBlock), comfy/ldm/modules/attention.py
    (SpatialVideoTransformer).
    """
    named: dict[str, str] = {}
    for theirs, ours in aliases.items():
        if ".resnets." in theirs:
            block, index, rest = _split(theirs, ".resnets.")
            place_of = ".".join(ours.split(".")[: _depth(ours)])
            named[f"{block}.resnets.{index}.spatial_res_block.{rest}"] = ours
            inner = ours.removeprefix(f"{place_of}.")
            named[f"{block}.resnets.{index}.temporal_res_block.{rest}"] = f"{place_of}.time_stack.{inner}"
            named[f"{block}.resnets.{index}.time_mixer.mix_factor"] = f"{place_of}.time_mixer.mix_factor"
        elif ".attentions." in theirs:
            block, index, rest = _split(theirs, ".attentions.")
            place_of = ".".join(ours.split(".")[: _depth(ours)])
            named[theirs] = ours
            named |= _time_names(f"{block}.attentions.{index}", place_of, rest)
        else:
            named[theirs] = ours
    return named


def _split(key: str, middle: str) -> tuple[str, str, str]:
    block, behind = key.split(middle, 1)
    index, rest = behind.split(".", 1)
    return block, index, rest


def _depth(key: str) -> int:
    """How many words name the layer: middle_block.1 has two, input_blocks.1.0 three."""
    return 2 if key.startswith("middle_block.") else 3


def _time_names(theirs: str, ours: str, rest: str) -> dict[str, str]:
    names = {f"{theirs}.time_mixer.mix_factor": f"{ours}.time_mixer.mix_factor"}
    for part in ("weight", "bias"):
        for number, index in (("1", "0"), ("2", "2")):
            names[f"{theirs}.time_pos_embed.linear_{number}.{part}"] = f"{ours}.time_pos_embed.{index}.{part}"
    if not rest.startswith("transformer_blocks."):
        return names
    _, number, inner = rest.split(".", 2)
    names[f"{theirs}.temporal_transformer_blocks.{number}.{inner}"] = f"{ours}.time_stack.{number}.{inner}"
    for first in ("norm_in", "ff_in.net.0.proj", "ff_in.net.2"):
        for part in ("weight", "bias"):
            names[f"{theirs}.temporal_transformer_blocks.{number}.{first}.{part}"] = (
                f"{ours}.time_stack.{number}.{first}.{part}"
            )
    return names
