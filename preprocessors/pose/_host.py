"""Networks in ONNX files in the host: found, opened with onnxruntime, kept until the host wants the room.

Each session hangs on a patcher that the host may unload (see `sessions/_host.py`); `_KEPT` holds the patchers
between runs.
"""

import logging
import os
from collections import OrderedDict
from functools import cached_property
from pathlib import PurePath
from typing import Any, NamedTuple

import comfy.model_management as management
import numpy as np
import torch

from .._host import AUTO, MissingWeightsError, UnreadableWeightsError, complaint_of, weight_names, weight_path
from ..sessions._host import let_go, make_room, session_patcher
from ..sessions.runtime import CPU_PROVIDER, fitting_providers, hidden_gpu, load_onnxruntime, open_session
from .onnx_session import OnnxKind, OnnxSession, Size

ONNX_SUFFIXES = (".onnx",)
MOST_KEPT = 2

logger = logging.getLogger("tiller")


class _Source(NamedTuple):
    """What a kept session was made from."""

    key: str
    path: str
    modified: int
    size: int


_KEPT: OrderedDict[_Source, Any] = OrderedDict()
"""Source -> the host's patcher with the session, the last used one last."""


class HostOnnxNetwork:
    """A network of an ONNX file in the host; nothing is looked for or loaded before it is first used.

    `weights` is one of `onnx_names()` or "auto". Every call asks for the host's interrupt first.

    Raises (when used):
        MissingWeightsError: no such file in the folders; names them, the page and the licence.
        ImportError: onnxruntime is not installed.
        UnreadableWeightsError: the file cannot be read as ONNX.
        UnknownWeightsError: the file holds another network.
    """

    def __init__(self, kind: OnnxKind, weights: str = AUTO, known: tuple[OnnxKind, ...] = ()) -> None:
        self._kind, self._weights, self._known = kind, weights, known

    @property
    def size(self) -> Size:
        return self._session.size

    def __call__(self, batch: np.ndarray) -> list[np.ndarray]:
        management.throw_exception_if_processing_interrupted()
        return self._session(batch)

    @cached_property
    def _session(self) -> OnnxSession:
        return _kept_session(self._kind, self._weights, self._known)


def onnx_names() -> list[str]:
    """Every ONNX file in the annotators' folders, by its path below them."""
    return weight_names(ONNX_SUFFIXES)


def _kept_session(kind: OnnxKind, weights: str, known: tuple[OnnxKind, ...]) -> OnnxSession:
    """The session kept from the last run, or a new one; told to the host's manager either way."""
    path = _path(kind, weights)
    told = os.stat(path)
    source = _Source(kind.key, path, told.st_mtime_ns, told.st_size)
    patcher = _KEPT.get(source)
    if patcher is None or patcher.model.session is None:
        patcher = _KEPT[source] = _patcher(kind, path, known)
    _KEPT.move_to_end(source)
    while len(_KEPT) > MOST_KEPT:
        let_go(_KEPT.popitem(last=False)[1], True)
    session = patcher.model.session
    management.load_models_gpu([patcher])
    return session


def _patcher(kind: OnnxKind, path: str, known: tuple[OnnxKind, ...]) -> Any:
    """The host's patcher with a new session, after the host has made room for it."""
    size = os.path.getsize(path)
    make_room(size)
    session = _opened(kind, path, known, management.get_torch_device())
    return session_patcher(session, size, on_device=session.provider != CPU_PROVIDER)


def _opened(kind: OnnxKind, path: str, known: tuple[OnnxKind, ...], device: torch.device) -> OnnxSession:
    """A session over the file, checked to be of this kind, on the host's device where onnxruntime can."""
    runtime = load_onnxruntime("DWPose")
    again = f"Get {kind.file.names[0]} from {kind.file.page} again, or choose another file in {kind.widget}."
    complaint = complaint_of(path)
    if complaint is not None:
        raise UnreadableWeightsError(
            f"{kind.file.title} needs a readable ONNX file, got {path}, {complaint}. {again}"
        )
    try:
        opened = open_session(runtime, path, fitting_providers(runtime, device))
    except MemoryError:
        raise
    except Exception as error:
        said = str(error).split(":")[-1].strip().split("\n")[0][:200]
        raise UnreadableWeightsError(
            f"{kind.file.title} needs a readable ONNX file, got {path}, which is cut off, damaged or no ONNX "
            f"file ({type(error).__name__}: {said}). {again}"
        ) from error
    session = OnnxSession(opened, kind, PurePath(path).name, known)
    logger.info("Loaded %s from %s; it runs on %s.", kind.file.title, path, session.provider)
    if session.provider == CPU_PROVIDER and not management.is_device_cpu(device):
        logger.warning(hidden_gpu(kind.file.title, runtime))
    return session


def _path(kind: OnnxKind, weights: str) -> str:
    """Where the file lies.

    Raises:
        MissingWeightsError: also naming a TorchScript file of the same network, which is not read.
    """
    try:
        return weight_path(kind.file, weights)
    except MissingWeightsError as error:
        stem = PurePath(kind.file.names[0]).stem
        scripts = [
            name for name in weight_names((".torchscript.pt",)) if PurePath(name).name.startswith(stem)
        ]
        if not scripts:
            raise
        what = str(error).removesuffix(error.remedy).strip()
        remedy = f"{error.remedy} {scripts[0]} is TorchScript, which Tiller does not read."
        raise MissingWeightsError(what, remedy) from error
