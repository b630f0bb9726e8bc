"""Adapter files in the folders of the host.

The tensors stay as the host's reader gives them: on the CPU, in the file's own type, and for .safetensors
mapped to the file, so that what nothing reads takes no memory. Which nodes keep them, the host decides.

Source: cubiq/ComfyUI_IPAdapter_plus: IPAdapterPlus.py; Shakker-Labs/ComfyUI-IPAdapter-Flux:
ipadapter_flux.py; XLabs-AI/x-flux-comfyui: nodes.py (the folders).
"""

import os
from pathlib import Path, PurePath

import folder_paths

from ...control.load._host import read_weights
from ..formats import identify_adapter, split
from ..records import IPAdapter
from .about import describe

FOLDERS = {
    "ipadapter": "ipadapter",
    "ipadapter-flux": "ipadapter-flux",
    "xlabs_ipadapters": "xlabs/ipadapters",
}
"""The names that node packs register these folders under -> the places below models."""

SUFFIXES = (".safetensors", ".bin", ".pt", ".pth", ".ckpt")
PAGE = "https://huggingface.co/h94/IP-Adapter"


def _registered() -> tuple[str, ...]:
    """The host's names of the folders, told to the host where no other pack has done so."""
    for name, place in FOLDERS.items():
        folder_paths.add_model_folder_path(name, os.path.join(folder_paths.models_dir, *place.split("/")))
    return tuple(FOLDERS)


def adapter_names() -> list[str]:
    """The files of those folders that may hold an adapter, by their paths below the folder.

    A path that an earlier folder has too is led by its folder's place: different files of the same name
    are published for different models.
    """
    names: dict[str, None] = {}
    for folder in _registered():
        for name in folder_paths.get_filename_list(folder):
            if PurePath(name).suffix.lower() in SUFFIXES:
                names[name if name not in names else f"{FOLDERS[folder]}/{name}"] = None
    return list(names)


def adapter_path(name: str) -> Path:
    """Where such a file lies. Raises FileNotFoundError with the folders where there is none of that name."""
    for folder in _registered():
        path = folder_paths.get_full_path(folder, name)
        if path is not None:
            return Path(path)
    for folder, place in FOLDERS.items():
        path = folder_paths.get_full_path(folder, name.removeprefix(f"{place}/"))
        if path is not None and name.startswith(f"{place}/"):
            return Path(path)
    places = ", ".join(place for folder in FOLDERS for place in folder_paths.get_folder_paths(folder))
    raise FileNotFoundError(
        f"Load IP-Adapter needs the file {name}, found none in {places}. Get it from its page "
        f"({PAGE} has the first of them), put it into one of these folders and refresh the page."
    )


def load_adapter(path: Path) -> tuple[IPAdapter, str]:
    """The adapter of a file, and what it is in words.

    Raises:
        UnknownWeightsError: for a file that is no adapter that is known, or not whole.
        ValueError: for one that cannot be read, or is something else.
    """
    weights, _ = read_weights(path)
    shapes = {key: tuple(tensor.shape) for key, tensor in weights.items()}
    spec = identify_adapter(shapes, path.name)
    image_proj, ip_adapter = split(weights)
    return IPAdapter(spec, image_proj, ip_adapter, path.name), describe(spec, path.name)


def state_of_file(name: str) -> str:
    """Changes when the file is another one: its time and size. Empty for a file that is not there."""
    try:
        told = os.stat(adapter_path(name))
    except OSError:
        return ""
    return f"{told.st_mtime_ns} {told.st_size}"
