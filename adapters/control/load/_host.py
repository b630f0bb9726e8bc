"""Loads any control net file, by what its keys say it is.

Source: ComfyUI: comfy/controlnet.py (load_controlnet, load_controlnet_state_dict), which loads every kind
that it has; the other kinds come from the packages beside this one.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import comfy.controlnet
import comfy.utils
from comfy.controlnet import ControlBase
from torch import Tensor

from ...identify import Identified, UnknownWeightsError, identify
from .._host import check_family
from ..controlnext.apply import load as load_controlnext
from ..sparsectrl.apply import load as load_sparsectrl

DIFFERENCE = "ControlNet (LDM layout, difference from the base)"

Weights = dict[str, Tensor]

LOADERS: dict[str, Callable[[Weights, Identified], ControlBase]] = {
    "SparseCtrl": load_sparsectrl,
    "ControlNeXt": load_controlnext,
}
"""Kind -> how it is loaded, for the kinds that the host lacks; one line for each."""


def read_weights(path: Path) -> tuple[Weights, dict[str, str]]:
    """Every tensor of a .safetensors file or a pickle, by key, and the metadata of the former.

    Pickles are read by the host's safe loader, which takes tensors and nothing else. Dictionaries within
    the file are joined to their keys by a dot; what is no tensor is left out.
    """
    content, metadata = comfy.utils.load_torch_file(str(path), safe_load=True, return_metadata=True)
    return _flat(content), dict(metadata or {})


def _flat(content: Any, prefix: str = "") -> Weights:
    weights: Weights = {}
    for key, value in content.items():
        if isinstance(value, dict):
            weights |= _flat(value, f"{prefix}{key}.")
        elif isinstance(value, Tensor):
            weights[prefix + str(key)] = value
    return weights


def identify_weights(weights: Weights, name: str) -> Identified:
    """What the tensors are. Raises UnknownWeightsError, with the file's name, where that is not known."""
    try:
        found = identify({key: tuple(tensor.shape) for key, tensor in weights.items()})
    except UnknownWeightsError as error:
        raise UnknownWeightsError(f"{name}: {error}") from error
    return replace(found, file=name)


def check_is_control(found: Identified) -> None:
    """Raises ValueError for a file that is no control net, with what it is and what loads it."""
    if found.role != "control":
        raise ValueError(
            f"Load Control needs a control net, but {found.file} is a {found.kind} ({found.family}). "
            f"{found.use}"
        )


def load_control(path: str | Path, model: Any = None, pooling: bool | None = None) -> ControlBase:
    """The control net of a file; its attribute `identified` says what it is.

    `model` is the ModelPatcher that a file of differences is added to; other files need none. `pooling`
    switches global average pooling on or off; None leaves it to what is known of the file.

    Raises:
        UnknownWeightsError: for keys that match no known format.
        ValueError: for a file that is no control net, or that needs a model which is missing or of
            another family.
    """
    path = Path(path)
    weights, _ = read_weights(path)
    found = identify_weights(weights, path.name)
    check_is_control(found)
    if model is not None:
        check_family(found, model.model)
    elif found.kind == DIFFERENCE:
        raise ValueError(
            f"{path.name} holds the difference of a control net from its base model, so it needs a model of "
            f"the {found.family} family, got none. Connect the checkpoint's model to model."
        )
    weights = {key.removeprefix(found.prefix): tensor for key, tensor in weights.items()}
    load = LOADERS.get(found.kind)
    net: Any = load(weights, found) if load is not None else _load_with_host(weights, found, model, pooling)
    net.identified = found
    return net


def _load_with_host(weights: Weights, found: Identified, model: Any, pooling: bool | None) -> ControlBase:
    if pooling is None:
        stem = Path(found.file).stem
        pooling = stem.endswith(("_shuffle", "_shuffle_fp16"))
    options = {"global_average_pooling": pooling}
    net = comfy.controlnet.load_controlnet_state_dict(weights, model=model, model_options=options)
    if net is None:
        raise ValueError(
            f"{found.file} is a {found.kind}, which this version of ComfyUI does not load. Update ComfyUI, "
            "or download the file in another layout."
        )
    return net
