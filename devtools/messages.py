"""Sentences for what can go wrong: what was needed, what came, what to do. No traceback reaches the user."""

from __future__ import annotations

import errno
import re
import shutil
from pathlib import Path

ANSI = re.compile(r"\x1b\[[0-9;]*m")

NO_NETWORK = (
    "Temporary failure in name resolution",
    "Name or service not known",
    "getaddrinfo failed",
    "nodename nor servname",
    "Failed to establish a new connection",
    "Network is unreachable",
    "Connection refused",
    "ConnectTimeoutError",
    "ReadTimeoutError",
    "Read timed out",
    "ProxyError",
    "Cannot connect to proxy",
)
DISK_FULL = ("No space left on device", "[Errno 28]", "not enough space on the disk", "Disk quota exceeded")
DISK_FULL_CODES = (errno.ENOSPC, errno.EDQUOT)
NOTHING_LEFT = 1_000_000
"""Bytes of free disk below which a program fails without even writing why into its log."""


class Trouble(Exception):
    """A plain sentence for the user, with the way out. `code` is the exit code of dev.py."""

    def __init__(self, sentence: str, code: int = 1) -> None:
        super().__init__(sentence)
        self.code = code


def disk_full(where: Path) -> str:
    return f"The disk that holds {where} is full. Free some space (a set-up takes about 12 GB) and run again."


def no_space_left(where: Path) -> bool:
    return where.is_dir() and shutil.disk_usage(where).free < NOTHING_LEFT


def no_network(stage: str, log: Path) -> str:
    return (
        f"{stage} needs the package index and could not reach it. Connect to the network, or set "
        f"PIP_INDEX_URL or HTTPS_PROXY for yours, and run again; what is there is kept. Details: {log}"
    )


def last_line(text: str) -> str:
    """The last line that says something: no blank, no colour codes, no rulers."""
    for line in reversed(ANSI.sub("", text).splitlines()):
        if re.search(r"\w", line):
            return line.strip()
    return "(it said nothing)"


def pip_trouble(stage: str, output: str, log: Path) -> str:
    """The sentence for a failed pip call, told from what pip printed.

    The disk comes first: pip that runs out of it may also report lost connections before.
    """
    if any(sign in output for sign in DISK_FULL) or no_space_left(log.parent):
        return disk_full(log.parent)
    if any(sign in output for sign in NO_NETWORK):
        return no_network(stage, log)
    errors = [line.strip() for line in ANSI.sub("", output).splitlines() if line.startswith("ERROR:")]
    if "ResolutionImpossible" in output:
        return (
            f"{stage} failed: the packages it needs do not fit to those that are there. "
            f"Remove .venv and run again, or point COMFYUI_PYTHON at another Python. Details: {log}"
        )
    said = errors[0] if errors else last_line(output)
    return f"{stage} failed: {said} Look into {log}, then run again; what is there already is kept."


def os_trouble(error: OSError, root: Path) -> str:
    """The sentence for an error of the operating system that nothing nearer has answered."""
    if error.errno in DISK_FULL_CODES:
        return disk_full(root)
    if isinstance(error, PermissionError):
        return f"No permission to write {error.filename}. Make it writable for this user and run again."
    return f"The system refused: {error}. Put this right and run again."


def server_died(code: int | None, log: Path, text: str) -> str:
    said = last_line(text)
    return f"The server ended while starting (exit code {code}). Its last words: {said} The whole log: {log}"


def server_slow(seconds: float, log: Path) -> str:
    return f"The server did not answer within {seconds:.0f} s. Look into {log}, or close other programs."


def port_taken(port: int) -> str:
    return (
        f"Port {port} of 127.0.0.1 is taken by another program. "
        "Choose another one with --port, or leave --port out and a free one is found."
    )


def pack_failed(pack: str, reason: str, log: Path) -> str:
    return f"The server runs, but could not import the pack {pack}: {reason} The traceback is in {log}"


NO_CHROMIUM = (
    "The browser tests need Chromium and none was found. Install it (Debian and Ubuntu: apt-get install "
    "chromium fonts-noto-cjk; macOS and Windows: Google Chrome), or set CHROMIUM_PATH to the program."
)

TOY_MODEL = (
    "No models given: a toy model of a few million parameters makes the pictures. This project trained it on "
    "pictures that it drew itself: it shows that control works, not what pictures can look like. Use "
    "--models DIR for real pictures."
)
MODELS_OF_OURS = (
    "The models are small ones of ours: where a recipe asks for SD1.5, a toy that has learned lines and "
    "brightness (best at 256 x 256, cfg 3); for the rest random stand-ins, whose pictures look like noise."
)
