"""Where image prompts are saved, and where they are found again.

ComfyUI's Save Checkpoint writes below the output folder into a folder that its loaders look into, too. So do
prompts: they go into `image_prompts` there, and Load Image Prompt lists that and `models/image_prompts`.
"""

from __future__ import annotations

import os

import folder_paths
from safetensors.torch import save_file

from ....preprocessors._host import read_weight_file
from ..records import ImagePrompt, IPAdapter
from .form import check_for, described, from_file, to_file

FOLDER = "image_prompts"
SUFFIX = ".safetensors"


def _saved() -> str:
    """The folder that prompts are saved in, told to the host as one to look into, beside the models'."""
    saved = os.path.join(folder_paths.get_output_directory(), FOLDER)
    for path in (os.path.join(folder_paths.models_dir, FOLDER), saved):
        folder_paths.add_model_folder_path(FOLDER, path)
    return saved


def prompt_names() -> list[str]:
    """Every file of saved prompts, by its path below its folder."""
    _saved()
    return [name for name in folder_paths.get_filename_list(FOLDER) if name.lower().endswith(SUFFIX)]


def save_prompt(prompt: ImagePrompt, prefix: str) -> str:
    """Saves the prompt under the next free number; returns the name that Load Image Prompt lists.

    Raises the host's error for a prefix that leads out of the folder.
    """
    folder, name, counter, below, _ = folder_paths.get_save_image_path(prefix, _saved())
    file = f"{name}_{counter:05}_{SUFFIX}"
    tensors, metadata = to_file(prompt)
    save_file(tensors, os.path.join(folder, file), metadata=metadata)
    return os.path.join(below, file)


def load_prompt(name: str, adapter: IPAdapter | None = None) -> tuple[ImagePrompt, str]:
    """A saved prompt and what it is in words.

    Raises:
        FileNotFoundError: where there is no file of that name.
        ValueError: for a file of another kind or version, and for one that the adapter does not read.
    """
    _saved()
    path = folder_paths.get_full_path_or_raise(FOLDER, name)
    content, metadata = read_weight_file(path, "Load Image Prompt", "Choose another file.")
    prompt = from_file(content, metadata, name)
    if adapter is not None:
        check_for(adapter, prompt, name)
    return prompt, f"{name}: {described(prompt)}"


def state_of_file(name: str) -> str:
    """Changes when the file is another one: its time and size. Empty for a file that is not there."""
    _saved()
    path = folder_paths.get_full_path(FOLDER, name)
    if path is None:
        return ""
    told = os.stat(path)
    return f"{told.st_mtime_ns} {told.st_size}"
