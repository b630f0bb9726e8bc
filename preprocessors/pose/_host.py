"""Networks in ONNX files in the host: found, opened with onnxruntime, kept until the host wants the room.

onnxruntime keeps its networks to itself. So that the host can still give one up (for room, or at the user's
word), each session hangs on a patcher without tensors that tells the host the size of the file; the session
goes when the host unloads that patcher. `_KEPT` holds the patchers between runs.
"""

import logging
import os
from collections import OrderedDict
from functools import cached_property
from pathlib import PurePath
from typing import Any, NamedTuple

import comfy.model_management as management
import comfy.model_patcher
import numpy as np
import torch
from comfy.patcher_extension import CallbacksMP
from torch import nn

from .._host import AUTO, MissingWeightsError, UnreadableWeightsError, complaint_of, weight_names, weight_path
from .onnx_session import OnnxKind, OnnxSession, Size

ONNX_SUFFIXES = (".onnx",)
GPU_PROVIDERS = {
    "cuda": ("CUDAExecutionProvider", "ROCMExecutionProvider", "MIGraphXExecutionProvider"),
    "privateuseone": ("DmlExecutionProvider",),
    "xpu": ("OpenVINOExecutionProvider",),
    "mps": ("CoreMLExecutionProvider",),
}
"""What runs on the host's device, by torch's name for it; ROCm calls itself cuda."""
CPU_PROVIDER = "CPUExecutionProvider"
WORKING_TIMES = 3
"""How many times the size of its file a session may take while it works; an estimate."""
MOST_KEPT = 2

logger = logging.getLogger("tiller")


class _Source(NamedTuple):
    """What a kept session was made from."""

    key: str
    path: str
    modified: int
    size: int


class _Shell(nn.Module):
    """What the host's patcher holds: a session, and one number so that the host finds a device."""

    def __init__(self, session: OnnxSession) -> None:
        super().__init__()
        self.session: OnnxSession | None = session
        self.nothing = nn.Parameter(torch.zeros(1), requires_grad=False)


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
        _drop(_KEPT.popitem(last=False)[1], True)
    session = patcher.model.session
    management.load_models_gpu([patcher])
    return session


def _patcher(kind: OnnxKind, path: str, known: tuple[OnnxKind, ...]) -> Any:
    """The host's patcher with a new session, after the host has made room for it."""
    size = os.path.getsize(path)
    device = management.get_torch_device()
    if not management.is_device_cpu(device):
        management.free_memory(size * WORKING_TIMES, device)
    session = _opened(kind, path, known, device)
    on_device = session.provider != CPU_PROVIDER
    patcher = comfy.model_patcher.CoreModelPatcher(
        _Shell(session),
        load_device=device if on_device else torch.device("cpu"),
        offload_device=torch.device("cpu"),
        size=size,
    )
    patcher.add_callback(CallbacksMP.ON_DETACH, _drop)
    return patcher


def _drop(detached: Any, unpatch_all: bool) -> None:
    """Lets go of the session when the manager unloads its patcher for good (`unpatch_all`)."""
    if unpatch_all:
        detached.model.session = None


def _opened(kind: OnnxKind, path: str, known: tuple[OnnxKind, ...], device: torch.device) -> OnnxSession:
    """A session over the file, checked to be of this kind, on the host's device where onnxruntime can."""
    runtime = _onnxruntime()
    again = f"Get {kind.file.names[0]} from {kind.file.page} again, or choose another file in {kind.widget}."
    complaint = complaint_of(path)
    if complaint is not None:
        raise UnreadableWeightsError(
            f"{kind.file.title} needs a readable ONNX file, got {path}, {complaint}. {again}"
        )
    options = runtime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    try:
        opened = runtime.InferenceSession(path, options, providers=_providers(runtime, device))
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
        logger.warning(_slow(kind, runtime))
    return session


def _providers(runtime: Any, device: torch.device) -> list[Any]:
    """The providers to try in turn: those of the host's device, then the processor."""
    offered = runtime.get_available_providers()
    wanted = [name for name in GPU_PROVIDERS.get(device.type, ()) if name in offered]
    which = {"device_id": device.index or 0}
    return [(name, which) if device.type == "cuda" else name for name in wanted] + [CPU_PROVIDER]


def _slow(kind: OnnxKind, runtime: Any) -> str:
    return (
        f"{kind.file.title} runs on the processor, though the host has a GPU: onnxruntime "
        f"{runtime.__version__} offers {', '.join(runtime.get_available_providers())} here. On NVIDIA "
        "install onnxruntime-gpu; where both are installed, the one for the processor hides it, and pip "
        f"install --force-reinstall --no-deps onnxruntime-gpu=={runtime.__version__} puts it back."
    )


def _onnxruntime() -> Any:
    """onnxruntime, which the pack neither brings nor installs.

    Raises:
        ImportError: saying how to install it.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise ImportError(
            f"DWPose needs onnxruntime, got {error}. Install it with the Python that runs ComfyUI: pip "
            "install onnxruntime (for the processor) or pip install onnxruntime-gpu (for NVIDIA). Then start "
            "ComfyUI again."
        ) from error
    return onnxruntime


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
