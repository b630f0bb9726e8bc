"""The environment that everything runs in: .venv, the host, and a stamp that lets the next call reuse both.

Two ways. Alone: .venv holds torch, the host's requirements and ours, and the host lies in .dev/host.
Beside a ComfyUI of the user: .venv is an overlay over its Python (a .pth file names its packages) and gets
only what is missing; the user's own environment is never written to.
"""

from __future__ import annotations

import hashlib
import json
import platform
import re
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from . import host_source
from .host_source import venv_python
from .links import link_folder, remove
from .messages import Trouble, last_line, pip_trouble
from .processes import output_of, run_logged, say

ROOT = Path(__file__).resolve().parent.parent
TORCH = ("torch==2.11.0", "torchvision==0.26.0", "torchaudio==2.11.0")
SCHEME = 1
"""Rises when the environment is built in another way, so that an older one is completed."""

PIP_ENVIRONMENT = {"PIP_FIND_LINKS": "", "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INPUT": "1"}
"""Folders of wheels that pip is told to look into may hold a torch for which there is no torchvision."""

DESCRIBE = (
    "import json,sys,importlib.util as u\n"
    "print(json.dumps({'version': sys.version_info[:2], 'packages': [p for p in sys.path if p.endswith("
    "('site-packages', 'dist-packages'))], 'venv': bool(u.find_spec('venv') and u.find_spec('ensurepip')), "
    "'torch': bool(u.find_spec('torch'))}))"
)
INSTALLED = (
    "import importlib.metadata as m\n"
    "for d in m.distributions():\n"
    "    n = d.metadata['Name']\n"
    "    if n and d.version: print(n + '==' + d.version)"
)


@dataclass(frozen=True)
class Places:
    """The folders of one working copy. Nothing outside `.venv` and `.dev` is written."""

    root: Path = ROOT

    @property
    def dev(self) -> Path:
        return self.root / ".dev"

    @property
    def venv(self) -> Path:
        return self.root / ".venv"

    @property
    def logs(self) -> Path:
        return self.dev / "logs"

    @property
    def standins(self) -> Path:
        return self.dev / "standins"

    @property
    def default_model(self) -> Path:
        return self.dev / "default_model"

    @property
    def stamp(self) -> Path:
        return self.dev / "environment.json"


@dataclass(frozen=True)
class Environment:
    """A ready environment: the Python to run things with, and the host."""

    places: Places
    python: Path
    host: Path
    users_own: bool

    @property
    def variables(self) -> dict[str, str]:
        return {"COMFYUI_PATH": str(self.host), "COMFYUI_PYTHON": str(self.python)}


def dev_requirements(root: Path) -> list[str]:
    """The list `dev` of pyproject.toml. Python 3.10 has no reader for that format, hence the two patterns."""
    text = (root / "pyproject.toml").read_text(encoding="utf-8")
    block = re.search(r"^dev = \[(.*?)^\]", text, re.MULTILINE | re.DOTALL)
    if block is None:
        raise Trouble(
            "pyproject.toml must hold the list dev under [project.optional-dependencies]. Restore the file."
        )
    return re.findall(r'^\s*"([^"]+)"', block.group(1), re.MULTILINE)


def fingerprint(root: Path, host: Path, base: str) -> str:
    """Changes with whatever decides the contents of the environment."""
    parts = [str(SCHEME), base, str(host), host_source.SHA256, *TORCH, *dev_requirements(root)]
    for file in (root / "requirements.txt", host / "requirements.txt"):
        parts.append(file.read_text(encoding="utf-8") if file.is_file() else "")
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def gigabytes_needed() -> int:
    """Torch with CUDA and its libraries is several GB; other systems get the small wheel."""
    return 12 if sys.platform == "linux" and platform.machine() in ("x86_64", "aarch64") else 4


def check_disk(root: Path, needed: int) -> None:
    free = shutil.disk_usage(root).free / 1e9
    if free < needed:
        raise Trouble(
            f"Setting up needs about {needed} GB of free disk, {root} has {free:.1f} GB. Free some space and "
            "run again, or point COMFYUI_PATH at a ComfyUI that you have: then only small packages are added."
        )


def describe(python: Path) -> dict:
    code, out, err = output_of([python, "-c", DESCRIBE])
    if code:
        raise Trouble(
            f"The Python {python} does not run: {last_line(err)} Set COMFYUI_PYTHON to one that does."
        )
    return json.loads(out.splitlines()[-1])


def running_python(places: Places) -> Path:
    """The Python that runs dev.py; when that is the one of .venv, the one .venv was made from."""
    if Path(sys.prefix).resolve() == places.venv.resolve():
        return Path(getattr(sys, "_base_executable", sys.executable))
    return Path(sys.executable)


def make_venv(python: Path, places: Places, log: Path) -> None:
    """A fresh .venv with pip in it."""
    facts = describe(python)
    if not facts["venv"]:
        mine = f"python{sys.version_info[0]}.{sys.version_info[1]}"
        if python == Path(sys.executable):
            raise Trouble(
                "This Python cannot make virtual environments (its venv and ensurepip modules are missing). "
                f"Install them (Debian and Ubuntu: apt-get install {mine}-venv) and run again."
            )
        if list(facts["version"]) != list(sys.version_info[:2]):
            wanted = ".".join(map(str, facts["version"]))
            raise Trouble(
                f"The Python of your ComfyUI is {wanted} and cannot make a virtual environment itself. "
                f"Install Python {wanted} beside it and start dev.py with that one."
            )
        python = Path(sys.executable)
    remove(places.venv)
    code, text = run_logged([python, "-m", "venv", places.venv], log, "Making .venv")
    if code:
        raise Trouble(pip_trouble("Making .venv", text, log))


def install(pip: list[str], requirements: list[str], log: Path, title: str) -> None:
    """One pip call. No cache: it would hold every large wheel a second time. Python compiles on first use."""
    command = [*pip, "install", "--no-cache-dir", "--no-compile", "--progress-bar", "off", *requirements]
    code, text = run_logged(command, log, title, PIP_ENVIRONMENT)
    if code:
        raise Trouble(pip_trouble(title, text, log))


def pip_of(python: Path) -> list[str]:
    return [str(python), "-m", "pip"]


def prepare(root: Path = ROOT) -> Environment:
    """The ready environment; made, completed or reused."""
    places = Places(root)
    places.logs.mkdir(parents=True, exist_ok=True)
    users = host_source.users_host(root)
    host = users or places.dev / "host"
    base = host_source.hosts_python(host) if users else running_python(places)
    ready = Environment(places, venv_python(places.venv), host, users is not None)
    key = str(base) if users else f"{sys.version_info[0]}.{sys.version_info[1]}"
    if _is_current(ready, key):
        return ready
    places.stamp.unlink(missing_ok=True)
    log = places.logs / "setup.log"
    log.write_bytes(b"")
    if users:
        _overlay(ready, base, log)
    else:
        _complete(ready, log)
    stamp = {"fingerprint": fingerprint(root, host, key), "python": str(base), "host": str(host)}
    places.stamp.write_text(json.dumps(stamp, indent=1), encoding="utf-8")
    return ready


def _is_current(ready: Environment, key: str) -> bool:
    if not (ready.python.is_file() and host_source.is_host(ready.host) and ready.places.stamp.is_file()):
        return False
    try:
        stamp = json.loads(ready.places.stamp.read_text(encoding="utf-8"))
    except ValueError:
        return False
    return stamp.get("fingerprint") == fingerprint(ready.places.root, ready.host, key)


def _mode(places: Places, mode: str) -> bool:
    """Whether .venv was made in this mode; a file inside it remembers."""
    marker = places.venv / "tiller-mode"
    return (
        marker.is_file() and marker.read_text(encoding="utf-8") == mode and venv_python(places.venv).is_file()
    )


def _complete(ready: Environment, log: Path) -> None:
    """Everything into .venv: one pip call, so that the versions are resolved together."""
    places = ready.places
    say(f"Setting up in {places.root} (once; several GB, some minutes). The whole log: {log}")
    mode = f"complete {sys.version_info[0]}.{sys.version_info[1]}"
    if not _mode(places, mode):
        check_disk(places.root, gigabytes_needed())
        make_venv(running_python(places), places, log)
        (places.venv / "tiller-mode").write_text(mode, encoding="utf-8")
    pip = pip_of(ready.python)
    host_source.fetch(pip, PIP_ENVIRONMENT, ready.host, places.dev / "downloads", log)
    requirements = [
        *TORCH,
        "-r",
        str(ready.host / "requirements.txt"),
        "-r",
        str(places.root / "requirements.txt"),
    ]
    install(
        pip, requirements + dev_requirements(places.root), log, "Installing torch, the host's needs and ours"
    )


def _overlay(ready: Environment, base: Path, log: Path) -> None:
    """A .venv over the user's Python, with what is missing there. Versions that are there are kept."""
    places = ready.places
    say(f"Using the ComfyUI in {ready.host} with {base}; neither is changed. The whole log: {log}")
    facts = describe(base)
    if not facts["torch"]:
        raise Trouble(
            f"The ComfyUI in {ready.host} needs a Python with torch, {base} has none. "
            "Set COMFYUI_PYTHON to the Python that runs your ComfyUI, or unset COMFYUI_PATH."
        )
    mode = f"overlay {base}"
    if not _mode(places, mode):
        make_venv(base, places, log)
        # The plain lines are for type checkers; addsitedir also reads the .pth files that lie there.
        lines = [
            *facts["packages"],
            *(f"import site; site.addsitedir({folder!r})" for folder in facts["packages"]),
        ]
        _site_packages(ready.python).joinpath("tiller_host.pth").write_text(
            "\n".join(lines) + "\n", encoding="utf-8"
        )
        (places.venv / "tiller-mode").write_text(mode, encoding="utf-8")
    code, out, err = output_of([base, "-c", INSTALLED])
    if code:
        raise Trouble(
            f"The packages of {base} cannot be listed: {last_line(err)} Set COMFYUI_PYTHON to another Python."
        )
    constraints = places.dev / "constraints.txt"
    constraints.write_text("\n".join(_constraints(out.splitlines())) + "\n", encoding="utf-8")
    requirements = ["-c", str(constraints), "-r", str(places.root / "requirements.txt")]
    install(
        pip_of(ready.python),
        requirements + dev_requirements(places.root),
        log,
        "Adding the small missing packages",
    )
    link_folder(ready.host, places.dev / "host")  # where the type checker looks for the host


def _constraints(installed: list[str]) -> list[str]:
    """Plain `name==version` lines; pip itself is left to the new .venv."""
    plain = [line.strip() for line in installed if re.fullmatch(r"[\w.\-]+==[\w.!+\-]+", line.strip())]
    return sorted(
        {line for line in plain if line.split("==")[0].lower() not in ("pip", "setuptools", "wheel")}
    )


def _site_packages(python: Path) -> Path:
    code, out, err = output_of([python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"])
    if code:
        raise Trouble(f"The new .venv does not run: {last_line(err)} Remove .venv and run again.")
    return Path(out.strip())
