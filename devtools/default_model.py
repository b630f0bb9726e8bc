"""The default model as files that the host loads, expanded from the small stored one when they are needed."""

from __future__ import annotations

from pathlib import Path

from default_model import files

from .environment import ROOT, Environment
from .messages import DISK_FULL, Trouble, disk_full, last_line, no_space_left
from .processes import run_logged
from .standins import metadata_of

NAMES = (files.CHECKPOINT, *files.CONTROLS.values())


def ensure(environment: Environment) -> Path:
    """The models folder with the expanded files; written anew after the stored file or the form changed."""
    folder = environment.places.default_model
    if not files.STORED.is_file():
        raise Trouble(
            f"The default model is made from {files.STORED}, which is missing. "
            "Restore it (git checkout default_model) and run again."
        )
    origin = files.origin(files.STORED)
    if all(metadata_of(folder / name) == origin for name in NAMES):
        return folder
    log = environment.places.logs / "default_model.log"
    command = [environment.python, "-m", "default_model.expand", folder, files.STORED]
    code, text = run_logged(command, log, "Expanding the default model", folder=ROOT)
    if code:
        full = any(sign in text for sign in DISK_FULL) or no_space_left(folder.parent)
        said = f"The default model could not be expanded: {last_line(text)} Details: {log}"
        raise Trouble(disk_full(folder) if full else said)
    return folder
