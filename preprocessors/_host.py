"""The annotators' networks in the host: where their files lie, how they are loaded, run and kept.

A network that was used stays in `_KEPT` until the host's manager unloads it (for room, or at the user's
word), so that a second run loads nothing. This is the pack's one module with state. The other way, a loader
node per hint whose output the host's cache owns, would make two nodes of every hint.
"""

import logging
import os
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path, PurePath
from typing import Any, Literal, NamedTuple

import comfy.model_management as management
import comfy.model_patcher
import comfy.utils
import folder_paths
import torch
from comfy.patcher_extension import CallbacksMP
from torch import nn

from ..adapters.identify import Shapes, UnknownWeightsError
from ..adapters.progress._host import report_images
from .padded import Network
from .weight_files import WEIGHT_FILES, WeightFile
from .weights import check_annotator, check_kind, shapes_of, state_of

Layout = Literal["contiguous", "channels_last"]
Make = Callable[[Shapes], nn.Module]

AUTO = "auto"
FOLDERS = ("controlnet_aux", "annotators", "sams", "depthanything", "inpaint")
SUFFIXES = (".safetensors", ".pth", ".pt", ".bin")
MEMORY_FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
MOST_AT_ONCE = 8
"""Pictures per step on a device. On the processor it is one: more are no faster and take more memory."""

MOST_AT_ONCE_BESIDE = 64
"""Items per step that share tensors beside them, as the prompts of one picture do: each is small."""

MOST_KEPT = 4

logger = logging.getLogger("tiller")


class _Source(NamedTuple):
    """What a kept network was made from."""

    key: str
    path: str
    modified: int
    size: int
    layout: Layout


_KEPT: OrderedDict[_Source, Any] = OrderedDict()
"""Source -> the host's patcher with the network, the last used one last."""


class UnreadableWeightsError(ValueError):
    """A file that the host's safe loader refuses: cut off, no weights file at all, or with code in it."""


class MissingWeightsError(FileNotFoundError):
    """A weight file that lies in none of the folders; `remedy` says what to get and where to put it."""

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(f"{what} {remedy}")
        self.remedy = remedy


def weight_names(suffixes: tuple[str, ...] = SUFFIXES) -> list[str]:
    """Every file with one of the suffixes in the annotators' folders, by its path below them."""
    names: dict[str, None] = {}
    for folder in _registered():
        for name in folder_paths.get_filename_list(folder):
            if name.lower().endswith(suffixes):
                names[name] = None
    return list(names)


def network(
    key: str,
    build: Callable[..., nn.Module],
    weights: str = AUTO,
    layout: Layout = "contiguous",
    by_shapes: bool = False,
) -> Network:
    """A network of the host: batch (B,C,h,w) float32 on the CPU -> its result for each picture, likewise.

    `key` names the row of `WEIGHT_FILES`, `weights` one of `weight_names()` or "auto". `build` makes the
    module, with `by_shapes` from the file's key -> shape listing, for networks of several sizes; it runs on
    the meta device, so every tensor of the module must come from the file. The result may be a tensor or a
    tuple of tensors. Nothing is looked for or loaded before the first call. Pictures run in micro-batches by
    free memory; progress is told, and an interrupt stops within a picture.

    Tensors given after the batch go along with each of its micro-batches, whole: prompts, say, and the
    picture's embedding that they all look at. The caller tells the progress of such calls.

    Raises (when called):
        MissingWeightsError: no such file in the folders; names them, the page and the licence.
        UnreadableWeightsError: the file cannot be read as weights.
        UnknownWeightsError: the file holds something else.
    """
    file = WEIGHT_FILES[key]

    def make(shapes: Shapes) -> nn.Module:
        return build(shapes) if by_shapes else build()

    def run(batch: torch.Tensor, *beside: torch.Tensor) -> Any:
        patcher = _patcher(file, make, weights, layout)
        each = max(one.shape[-1] * one.shape[-2] for one in (batch, *beside)) * file.pixel_bytes
        management.load_models_gpu([patcher], memory_required=each, force_full_load=True)
        most = MOST_AT_ONCE_BESIDE if beside else _most(patcher.load_device)
        return _in_parts(patcher, (batch, *beside), _at_once(patcher.load_device, each, most), layout)

    return run


def _in_parts(patcher: Any, given: tuple[torch.Tensor, ...], at_once: int, layout: Layout) -> Any:
    """The network's result for the whole batch, the first one given, made `at_once` items at a time."""
    batch, *beside = given
    report = None if beside else report_images()
    parts: list[Any] = []
    with torch.inference_mode():
        shared = [one.to(patcher.load_device, torch.float32) for one in beside]
        for start in range(0, len(batch), at_once):
            part = batch[start : start + at_once].to(patcher.load_device, torch.float32)
            made = patcher.model(part.contiguous(memory_format=MEMORY_FORMATS[layout]), *shared)
            parts.append(
                tuple(one.float().cpu() for one in made) if isinstance(made, tuple) else made.float().cpu()
            )
            if report is not None:
                report(min(start + at_once, len(batch)), len(batch))
        if isinstance(parts[0], tuple):
            return tuple(torch.cat(maps).contiguous() for maps in zip(*parts, strict=True))
        return torch.cat(parts).contiguous()


def _most(device: torch.device) -> int:
    """How many pictures may go through the network together, however much memory there is."""
    return 1 if management.is_device_cpu(device) else MOST_AT_ONCE


def _at_once(device: torch.device, each: int, most: int) -> int:
    """How many pictures go through the network together; `each`: bytes that one of them takes."""
    free: Any = management.get_free_memory(device)
    return max(1, min(most, int(free // (2 * each))))


def _patcher(file: WeightFile, make: Make, weights: str, layout: Layout) -> Any:
    """The host's patcher with the network, kept from the last run or loaded."""
    path = weight_path(file, weights)
    told = os.stat(path)
    source = _Source(file.key, path, told.st_mtime_ns, told.st_size, layout)
    kept = _KEPT.get(source)
    if kept is not None and not _is_emptied(kept):
        _KEPT.move_to_end(source)
        return kept
    patcher = comfy.model_patcher.CoreModelPatcher(
        _module(file, make, path, layout),
        load_device=management.get_torch_device(),
        offload_device=management.unet_offload_device(),
    )

    patcher.add_callback(CallbacksMP.ON_DETACH, _empty)
    _KEPT[source] = patcher
    _KEPT.move_to_end(source)
    while len(_KEPT) > MOST_KEPT:
        _KEPT.popitem(last=False)
    return patcher


def _empty(detached: Any, unpatch_all: bool) -> None:
    """Gives the weights' memory back when the manager unloads a network for good (`unpatch_all`).

    The shell stays in `_KEPT` until its file is asked for again: the manager goes through its list of
    models just now, and a model that died under its hands would shorten that list.
    """
    if unpatch_all:
        detached.model.to("meta")


def _is_emptied(patcher: Any) -> bool:
    return any(parameter.is_meta for parameter in patcher.model.parameters())


def _module(file: WeightFile, make: Make, path: str, layout: Layout) -> nn.Module:
    """The network with the tensors of the file, in 32 bit and in the layout it runs in."""
    state = state_of(_read(file, path), file)
    shapes, name = shapes_of(state), PurePath(path).name
    check_kind(shapes, file, name)
    try:
        with torch.device("meta"):
            module = make(shapes)
    except KeyError as error:
        raise UnknownWeightsError(
            f"{file.title} needs the tensors of {file.names[0]}; {name} lacks {error.args[0]}. "
            f"Get {file.names[0]} from {file.page} again, or choose another file in weights."
        ) from error
    needed = shapes_of(module.state_dict())
    check_annotator(shapes, needed, file, name)
    module.load_state_dict({key: state[key] for key in needed if key in state}, assign=True)
    module = module.float().to(memory_format=MEMORY_FORMATS[layout])  # pyright: ignore[reportCallIssue]
    for part in module.modules():
        part.register_forward_pre_hook(_stop_when_asked)
    logger.info("Loaded the weights of %s from %s.", file.title, path)
    return module.eval().requires_grad_(False)


def _stop_when_asked(*_: Any) -> None:
    """Before every layer: the host's interrupt, so that it does not wait for the end of a picture."""
    management.throw_exception_if_processing_interrupted()


def _registered() -> tuple[str, ...]:
    """The folder names that annotator files lie under, told to the host with the places people use."""
    for name in FOLDERS:
        folder_paths.add_model_folder_path(name, os.path.join(folder_paths.models_dir, name))
    for packs in folder_paths.get_folder_paths("custom_nodes"):
        theirs = os.path.join(packs, "comfyui_controlnet_aux", "ckpts")
        folder_paths.add_model_folder_path(FOLDERS[0], theirs)
    return FOLDERS


def weight_path(file: WeightFile, weights: str = AUTO) -> str:
    """Where the chosen file lies, or, for "auto", the one with a known name.

    Raises:
        MissingWeightsError: naming the file, the folders, the page and the licence.
    """
    wanted = [other for name in file.names for other in _equivalents(Path(name))]
    for folder in _registered():
        for name in [weights] if weights != AUTO else _by_name(folder, wanted):
            path = folder_paths.get_full_path(folder, name)
            if path is not None:
                return path
    places = ", ".join(path for folder in FOLDERS for path in folder_paths.get_folder_paths(folder))
    raise MissingWeightsError(
        f"{file.title} needs its weight file {file.names[0] if weights == AUTO else weights}, found none in "
        f"{places} and the folders below.",
        f"Get {file.names[0]} from {file.page} (licence: {file.licence}) and "
        f"put it into {folder_paths.get_folder_paths(FOLDERS[0])[0]}.",
    )


def _equivalents(name: Path) -> tuple[str, ...]:
    """The names under which the same weights are looked for, the best one first."""
    return (f"{name.stem}.safetensors", name.name) if name.suffix in SUFFIXES else (name.name,)


def _by_name(folder: str, wanted: list[str]) -> list[str]:
    """The files of a folder whose names are wanted, in the order of `wanted`."""
    ranks = {name.lower(): rank for rank, name in enumerate(wanted)}
    found = [name for name in folder_paths.get_filename_list(folder) if PurePath(name).name.lower() in ranks]
    return sorted(found, key=lambda name: (ranks[PurePath(name).name.lower()], name))


def _read(file: WeightFile, path: str) -> Any:
    """What the host's safe loader makes of an annotator's file (`read_weight_file`)."""
    again = f"Get {file.names[0]} from {file.page} again, or choose another file in weights."
    return read_weight_file(path, file.title, again)[0]


def read_weight_file(path: str, needed_by: str, again: str) -> tuple[Any, dict[str, str]]:
    """What the host's safe loader makes of a file, and its metadata; code in it is never run.

    Raises:
        UnreadableWeightsError: saying what the file looks like, with `again` as what to do.
    """
    complaint = complaint_of(path)
    if complaint is None:
        try:
            content, metadata = comfy.utils.load_torch_file(path, safe_load=True, return_metadata=True)
            return content, dict(metadata or {})
        except MemoryError:
            raise
        except Exception as error:
            complaint = _reason(error)
            raise UnreadableWeightsError(
                f"{needed_by} needs a readable weight file, got {path}, {complaint}. {again}"
            ) from error
    raise UnreadableWeightsError(
        f"{needed_by} needs a readable weight file, got {path}, {complaint}. {again}"
    )


def complaint_of(path: str) -> str | None:
    """What is wrong with any weight file at first sight: empty, or a web page or pointer in its place."""
    with open(path, "rb") as opened:
        start = opened.read(64).lstrip().lower()
    if not os.path.getsize(path):
        return "which is empty: 0 bytes"
    if start.startswith((b"<!doctype", b"<html", b"<?xml")):
        return "which is a web page: the page was saved in place of the file"
    if start.startswith(b"version https://git-lfs"):
        return "which is a pointer of Git LFS, not the file itself"
    return None


def _reason(error: Exception) -> str:
    """The loader's complaint in words, with the first line of what it says of the file itself."""
    said = str(error).split("WeightsUnpickler error:")[-1].strip().split("\n")[0][:200]
    if "TorchScript" in str(error):
        return "which is a TorchScript program, not plain weights, and nothing of it was run"
    if "Unsupported global" in str(error):
        return f"which is no plain weight file: it holds code or objects, and nothing of it was run ({said})"
    return f"which is cut off or damaged ({type(error).__name__}: {said})"
