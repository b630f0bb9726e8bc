"""The weight files of the annotators: how they are unwrapped, told apart and refused.

Host-free: works on what the host's safe loader gives. A file is known by its keys and shapes, whatever it
is called; names only say where to look first.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from ..adapters.identify import Shapes, UnknownWeightsError, identify
from .weight_files import WEIGHT_FILES, WeightFile


def state_of(loaded: Any, file: WeightFile) -> dict[str, torch.Tensor]:
    """What a loader gave, a dictionary that may hold others -> the tensors by their keys, without prefix.

    Raises:
        UnknownWeightsError: when there is no dictionary of tensors in it.
    """
    for key in file.unwrap:
        if isinstance(loaded, Mapping) and isinstance(loaded.get(key), Mapping):
            loaded = loaded[key]
    if not isinstance(loaded, Mapping):
        raise UnknownWeightsError(
            f"{file.title} needs a file with named tensors, got one that holds a {type(loaded).__name__}. "
            f"Get {file.names[0]} from {file.page}."
        )
    state = {str(key): value for key, value in loaded.items() if isinstance(value, torch.Tensor)}
    for prefix in file.prefixes:
        if state and all(key.startswith(prefix) for key in state):
            state = {key.removeprefix(prefix): value for key, value in state.items()}
    return state


def shapes_of(state: Mapping[str, torch.Tensor]) -> dict[str, tuple[int, ...]]:
    """Tensors by key -> key -> shape."""
    return {key: tuple(tensor.shape) for key, tensor in state.items()}


def identify_annotator(shapes: Shapes) -> tuple[str, ...]:
    """Key -> shape listing, unwrapped -> keys of the `WEIGHT_FILES` that it can be.

    More than one only where files hold the same network with other numbers (both line art files).

    Raises:
        UnknownWeightsError: saying what the weights are instead, or the nearest file and what it lacks.
    """
    found = tuple(key for key, file in WEIGHT_FILES.items() if file.signature and not _lacking(file, shapes))
    if found:
        return found
    raise UnknownWeightsError(f"The weights are of no annotator that Tiller knows: {_described(shapes)}.")


def check_annotator(shapes: Shapes, needed: Shapes, file: WeightFile, name: str) -> None:
    """Raises UnknownWeightsError unless the listing is the one that `file`'s network needs.

    `needed` is the listing of the network's own module, `name` the file's name for the message.
    """
    check_kind(shapes, file, name)
    wrong = sorted(key for key in needed if shapes.get(key) != needed[key] and not _made_anew(key))
    if wrong:
        raise UnknownWeightsError(
            f"{file.title} needs the {len(needed)} tensors of {file.names[0]}; in {name} {len(wrong)} "
            f"of them are missing or of another size ({', '.join(wrong[:3])}). {_again(file)}"
        )


def check_kind(shapes: Shapes, file: WeightFile, name: str) -> None:
    """Raises UnknownWeightsError unless the listing is of the kind of `file`, whatever its size."""
    try:
        found = identify_annotator(shapes)
    except UnknownWeightsError:
        raise UnknownWeightsError(
            f"{file.title} needs weights like those of {file.names[0]}, got {name}: {_described(shapes)}. "
            f"{_again(file)}"
        ) from None
    if file.key not in found:
        holds = " or ".join(f"{WEIGHT_FILES[key].title} ({WEIGHT_FILES[key].names[0]})" for key in found)
        raise UnknownWeightsError(
            f"{file.title} needs weights like those of {file.names[0]}, got {name}, which holds {holds}. "
            f"{_again(file)}"
        )


def _again(file: WeightFile) -> str:
    return f"Get {file.names[0]} from {file.page} again, or choose another file in weights."


def _made_anew(key: str) -> bool:
    """Batch counters, which files older than torch 0.4.1 do not have."""
    return key.endswith(".num_batches_tracked")


def _lacking(file: WeightFile, shapes: Shapes) -> list[str]:
    return [key for key, shape in file.signature if not _has(shapes.get(key), shape)]


def _has(shape: tuple[int, ...] | None, wanted: tuple[int | None, ...]) -> bool:
    """Whether a shape is the wanted one, in which None stands for any length."""
    return (
        shape is not None
        and len(shape) == len(wanted)
        and all(side in (length, None) for length, side in zip(shape, wanted, strict=True))
    )


def _described(shapes: Shapes) -> str:
    """What a listing is that no annotator has: a model for sampling, or the nearest annotator."""
    if not shapes:
        return "no tensors at all"
    try:
        what = identify(shapes)
    except UnknownWeightsError:
        known = [file for file in WEIGHT_FILES.values() if file.signature]
        nearest = min(known, key=lambda file: len(_lacking(file, shapes)))
        lacking = _lacking(nearest, shapes)
        some = ", ".join(sorted(shapes)[:3])
        return (
            f"{len(shapes)} tensors ({some}); {nearest.title} comes nearest, "
            f"but {', '.join(lacking)} is missing or of another size"
        )
    return f"{what.kind} for {what.family}"
