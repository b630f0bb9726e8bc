"""Motion module files in the folders of the host."""

import os
from pathlib import Path, PurePath

import folder_paths

from ..control.load._host import identify_weights, read_weights
from .apply import Motion, load

FOLDER = "animatediff_models"
SUFFIXES = (".safetensors", ".ckpt", ".pt", ".pth")
KIND = "AnimateDiff motion module"
CONTROL_USE = "Put it into models/controlnet and load it with Load Control."


def _registered() -> str:
    """The host's name of the folder, told to the host where no other pack has done so."""
    folder_paths.add_model_folder_path(FOLDER, os.path.join(folder_paths.models_dir, FOLDER))
    return FOLDER


def motion_names() -> list[str]:
    """The files of models/animatediff_models that may hold motion modules."""
    names = folder_paths.get_filename_list(_registered())
    return [name for name in names if PurePath(name).suffix.lower() in SUFFIXES]


def load_motion(name: str) -> Motion:
    """The motion modules of a file of models/animatediff_models.

    Raises:
        FileNotFoundError: when there is no such file.
        ValueError: for a file that holds something else, or modules of another version or model.
    """
    path = folder_paths.get_full_path(_registered(), name)
    if path is None:
        places = ", ".join(folder_paths.get_folder_paths(FOLDER))
        raise FileNotFoundError(
            f"Load Motion needs the file {name}, found none in {places}. Get v3_sd15_mm.ckpt or "
            "mm_sd_v15_v2.ckpt from https://huggingface.co/guoyww/animatediff and put it there."
        )
    weights, _ = read_weights(Path(path))
    found = identify_weights(weights, Path(path).name)
    if found.kind != KIND:
        use = CONTROL_USE if found.role == "control" else found.use
        raise ValueError(
            f"Load Motion needs motion modules of AnimateDiff, but {found.file} is a {found.kind} "
            f"({found.family}). {use}"
        )
    return load(weights, found)
