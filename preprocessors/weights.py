"""The weight files of the annotators: their names, how they are wrapped, and how they are known.

Host-free: works on what the host's safe loader gives. A file is known by its keys and shapes, whatever it
is called; names only say where to look first.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from ..adapters.identify import Shapes, UnknownWeightsError, identify

ANNOTATORS_PAGE = "https://huggingface.co/lllyasviel/Annotators"

Signature = tuple[tuple[str, tuple[int, ...]], ...]


@dataclass(frozen=True)
class WeightFile:
    """One published weight file of an annotator.

    `names`: what people call the file, the published name first; the same stem with .safetensors is looked
    for, too. `unwrap`: keys under which the tensors may lie. `prefixes`: what may stand before every key.
    `signature`: keys with their shapes that no other network has; files of one network share it; empty for
    files that are not tensors by keys (.onnx).
    `pixel_bytes`: memory that the network works in per pixel of its input, in 32 bit.
    """

    key: str
    title: str
    names: tuple[str, ...]
    signature: Signature
    unwrap: tuple[str, ...] = ()
    prefixes: tuple[str, ...] = ("module.",)
    licence: str = "Apache-2.0"
    page: str = ANNOTATORS_PAGE
    pixel_bytes: int = 2048


LINE_ART: Signature = (("model0.1.weight", (64, 3, 7, 7)), ("model4.1.weight", (1, 64, 7, 7)))
OPENPOSE_LICENCE = "CMU OpenPose: academic and non-commercial use only"

_FILES = (
    WeightFile(
        "hed",
        "HED",
        ("ControlNetHED.pth",),
        (("norm", (1, 3, 1, 1)), ("block5.projection.weight", (1, 512, 1, 1))),
    ),
    WeightFile(
        "pidinet",
        "PiDiNet",
        ("table5_pidinet.pth",),
        (("block4_4.conv1.weight", (240, 1, 3, 3)), ("classifier.weight", (1, 4, 1, 1))),
        unwrap=("state_dict",),
        licence="research only; commercial use needs the author's consent",
    ),
    WeightFile("line_art_realistic", "Realistic line art", ("sk_model.pth",), LINE_ART, licence="MIT"),
    WeightFile("line_art_coarse", "Coarse line art", ("sk_model2.pth",), LINE_ART, licence="MIT"),
    WeightFile(
        "line_art_anime",
        "Anime line art",
        ("netG.pth",),
        (("model.model.0.weight", (64, 3, 4, 4)), ("model.model.3.weight", (128, 1, 4, 4))),
        licence="MIT",
    ),
    WeightFile(
        "line_art_anime_denoise",
        "Anime line art without noise",
        ("erika.pth",),
        (("block0.model.0.conv1.model.2.weight", (24, 1, 3, 3)), ("conv15.model.2.weight", (1, 16, 1, 1))),
        licence="MIT",
    ),
    WeightFile(
        "mlsd",
        "M-LSD",
        ("mlsd_large_512_fp32.pth",),
        (("backbone.features.0.0.weight", (32, 4, 3, 3)), ("block23.conv3.weight", (16, 64, 1, 1))),
    ),
    WeightFile(
        "openpose_body",
        "OpenPose body",
        ("body_pose_model.pth",),
        (("conv1_1.weight", (64, 3, 3, 3)), ("Mconv7_stage6_L2.weight", (19, 128, 1, 1))),
        licence=OPENPOSE_LICENCE,
    ),
    WeightFile(
        "openpose_hand",
        "OpenPose hand",
        ("hand_pose_model.pth",),
        (("conv1_1.weight", (64, 3, 3, 3)), ("Mconv7_stage6.weight", (22, 128, 1, 1))),
        licence=OPENPOSE_LICENCE,
    ),
    WeightFile(
        "openpose_face",
        "OpenPose face",
        ("facenet.pth",),
        (("conv1_1.weight", (64, 3, 3, 3)), ("Mconv7_stage6.weight", (71, 128, 1, 1))),
        licence=OPENPOSE_LICENCE,
    ),
)

WEIGHT_FILES: Mapping[str, WeightFile] = {file.key: file for file in _FILES}


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
    again = f"Get {file.names[0]} from {file.page} again, or choose another file in weights."
    try:
        found = identify_annotator(shapes)
    except UnknownWeightsError:
        raise UnknownWeightsError(
            f"{file.title} needs weights like those of {file.names[0]}, got {name}: {_described(shapes)}. "
            f"{again}"
        ) from None
    if file.key not in found:
        holds = " or ".join(f"{WEIGHT_FILES[key].title} ({WEIGHT_FILES[key].names[0]})" for key in found)
        raise UnknownWeightsError(
            f"{file.title} needs weights like those of {file.names[0]}, got {name}, which holds {holds}. "
            f"{again}"
        )
    wrong = sorted(key for key in needed if shapes.get(key) != needed[key] and not _made_anew(key))
    if wrong:
        raise UnknownWeightsError(
            f"{file.title} needs the {len(needed)} tensors of {file.names[0]}; in {name} {len(wrong)} "
            f"of them are missing or of another size ({', '.join(wrong[:3])}). {again}"
        )


def _made_anew(key: str) -> bool:
    """Batch counters, which files older than torch 0.4.1 do not have."""
    return key.endswith(".num_batches_tracked")


def _lacking(file: WeightFile, shapes: Shapes) -> list[str]:
    return [key for key, shape in file.signature if shapes.get(key) != shape]


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
