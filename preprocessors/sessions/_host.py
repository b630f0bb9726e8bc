"""ONNX sessions in the host's memory.

onnxruntime keeps its networks to itself. So that the host can still give one up (for room, or at the user's
word), what holds sessions hangs on a patcher without tensors that tells the host the size of the files; the
sessions go when the host unloads that patcher.
"""

from typing import Any

import comfy.model_management as management
import comfy.model_patcher
import torch
from comfy.patcher_extension import CallbacksMP
from torch import nn

WORKING_TIMES = 3
"""How many times the size of its file a session may take while it works; an estimate."""


class SessionShell(nn.Module):
    """What the host's patcher holds: what was opened, and one number so that the host finds a device."""

    def __init__(self, session: Any) -> None:
        super().__init__()
        self.session: Any | None = session
        self.nothing = nn.Parameter(torch.zeros(1), requires_grad=False)


def make_room(size: int) -> None:
    """Lets the host free room for sessions over files of this many bytes, where it has a device for them."""
    device = management.get_torch_device()
    if not management.is_device_cpu(device):
        management.free_memory(size * WORKING_TIMES, device)


def session_patcher(session: Any, size: int, on_device: bool) -> Any:
    """The host's patcher over what was opened from `size` bytes of files: on its device, or beside it."""
    patcher = comfy.model_patcher.CoreModelPatcher(
        SessionShell(session),
        load_device=management.get_torch_device() if on_device else torch.device("cpu"),
        offload_device=torch.device("cpu"),
        size=size,
    )
    patcher.add_callback(CallbacksMP.ON_DETACH, let_go)
    return patcher


def let_go(detached: Any, unpatch_all: bool) -> None:
    """Lets go of the session when the manager unloads its patcher for good (`unpatch_all`)."""
    if unpatch_all:
        detached.model.session = None
