"""Finds and reads files of weight changes in the host's model folders."""

from pathlib import Path

import folder_paths
from torch import Tensor

from ...preprocessors._host import read_weight_file

FOLDERS = ("diffusion_models", "loras")
"""The host's names of the folders in which people keep such files."""


def offset_names() -> list[str]:
    """Every model file of those folders, as folder/name."""
    return [f"{folder}/{name}" for folder in FOLDERS for name in folder_paths.get_filename_list(folder)]


def read_offset(name: str) -> dict[str, Tensor]:
    """The tensors of a file that is named as folder/name; pickles are read by the host's safe loader.

    Raises:
        FileNotFoundError: for a file that is not there.
        ValueError: for a name without one of the folders, a file that cannot be read, or one that holds
            more than tensors.
    """
    folder, _, file = name.partition("/")
    if folder not in FOLDERS or not file:
        raise ValueError(f"A file of {' or '.join(FOLDERS)} was needed, as folder/name, got {name!r}.")
    path = folder_paths.get_full_path(folder, file)
    if path is None:
        places = ", ".join(folder_paths.get_folder_paths(folder))
        raise FileNotFoundError(
            f"The file {file} was needed in the models folder {folder}, but it is not there. "
            f"Put it into {places}, and refresh the page."
        )
    again = "Get it from its page again, or choose another file."
    content, _ = read_weight_file(path, "Apply Model Offset", again)
    odd = sorted(str(key) for key, value in content.items() if not isinstance(value, Tensor))
    if odd:
        raise ValueError(
            f"A file of tensors was needed, but {Path(path).name} holds other things under "
            f"{', '.join(odd[:3])}. Download the file again, or take its .safetensors form."
        )
    return content
