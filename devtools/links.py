"""Links to folders and files that work on Linux, macOS and Windows."""

from __future__ import annotations

import os
import shutil
from pathlib import Path


def remove(path: Path) -> None:
    """Remove a file, a link or a folder; what a link shows stays untouched."""
    if path.is_symlink() or path.is_file():
        path.unlink()
    elif path.exists():
        if _is_junction(path):
            os.rmdir(path)
        else:
            shutil.rmtree(path)


def link_folder(source: Path, link: Path) -> None:
    """Make `link` show the folder `source`: a symbolic link, a junction on Windows, else a copy."""
    link.parent.mkdir(parents=True, exist_ok=True)
    if link.is_symlink() and link.resolve() == source.resolve():
        return
    remove(link)
    try:
        link.symlink_to(source, target_is_directory=True)
    except OSError:
        if not _junction(source, link):
            shutil.copytree(
                source, link, ignore=shutil.ignore_patterns(".git", ".dev", ".venv", "__pycache__")
            )


def link_file(source: Path, link: Path) -> None:
    """Make `link` the same file as `source`: a hard link, else a copy."""
    link.parent.mkdir(parents=True, exist_ok=True)
    if link.exists():
        if link.samefile(source):
            return
        link.unlink()
    try:
        link.hardlink_to(source)
    except OSError:
        shutil.copyfile(source, link)


def _is_junction(path: Path) -> bool:
    return os.name == "nt" and os.path.realpath(path) != os.path.abspath(path)


def _junction(source: Path, link: Path) -> bool:
    if os.name != "nt":
        return False
    import _winapi

    create = getattr(_winapi, "CreateJunction", None)
    if create is None:
        return False
    try:
        create(str(source), str(link))
    except OSError:
        return False
    return True
