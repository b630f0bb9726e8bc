"""Where the default model's files are and what they were made from. Standard library only."""

from __future__ import annotations

import hashlib
from pathlib import Path

STORED = Path(__file__).parent / "narrow.npz"
VERSION = "1"
"""Written into every file; another one there means that the file is made again."""

CHECKPOINT = "checkpoints/tiller_toy_sd15.safetensors"
CONTROLS = {
    "lines": "controlnet/tiller_toy_sd15_lines.safetensors",
    "brightness": "controlnet/tiller_toy_sd15_brightness.safetensors",
}


def origin(stored: Path) -> dict[str, str]:
    """What a file expanded from `stored` notes: this version, and the start of the stored file's SHA-256."""
    return {"tiller_toy": VERSION, "stored": hashlib.sha256(stored.read_bytes()).hexdigest()[:16]}
