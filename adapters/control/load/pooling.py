"""Whether a control net wants its residuals averaged over the picture (global average pooling).

Only nets that move style or colour without form do: the published one is control_v11e_sd15_shuffle. Its
keys and shapes are those of every SD1.5 net, so this is read from what stands around the numbers, in this
order: the metadata within the file, a configuration beside it, the checksum of the published file, and at
last the name, as the host does.

Source: ComfyUI: comfy/controlnet.py (load_controlnet: the name); huggingface/diffusers:
models/controlnets/controlnet.py (global_pool_conditions); lllyasviel/ControlNet-v1-1-nightly: models/*.yaml
(global_average_pooling); easydiffusion/sdkit: sdkit/models/models_db/controlnet.json and
sdkit/utils/hash_utils.py (checksum of three pieces of a file).
"""

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, NamedTuple

PoolingChoice = Literal["auto", "on", "off"]
POOLING_CHOICES: tuple[PoolingChoice, ...] = ("auto", "on", "off")

WORDS = ("global_pool_conditions", "global_average_pooling")
"""What diffusers and the original call it."""

PIECE = 0x100000
PUBLISHED = {
    "ec1f015a5aafd84b0bab16ef5ccff4cd9a4e24288428e42babed8f629c881589": "control_v11e_sd15_shuffle.pth",
}
"""Checksum of three pieces -> published file that wants pooling."""

HOST_ENDINGS = ("_shuffle", "_shuffle_fp16")
"""The ends of a name by which the host knows such a net."""

GENERIC_NAME = "diffusion_pytorch_model"
"""How diffusers names every net, so that config.json beside it is its own."""


class Pooling(NamedTuple):
    """Whether residuals are averaged, and what that was told by."""

    on: bool
    because: str


def checksum(path: Path) -> str | None:
    """SHA-256 of the second, the middle and the last MiB of a file; None for one under 3 MiB."""
    size = path.stat().st_size
    if size < 3 * PIECE:
        return None
    with path.open("rb") as file:
        pieces = []
        for offset in (PIECE, size // 2, size - PIECE):
            file.seek(offset)
            pieces.append(file.read(PIECE))
    return hashlib.sha256(b"".join(pieces)).hexdigest()


def _said(text: str) -> bool | None:
    """What a piece of JSON or YAML says of pooling, or None where it does not speak of it."""
    found = re.search(rf"(?:{'|'.join(WORDS)})[\"']?\s*[:=]\s*[\"']?(true|false)", text, re.IGNORECASE)
    return None if found is None else found[1].lower() == "true"


def _configurations(path: Path) -> list[Path]:
    beside = [path.with_suffix(suffix) for suffix in (".json", ".yaml", ".yml")]
    if path.name.startswith(GENERIC_NAME):
        beside.append(path.with_name("config.json"))
    return [file for file in beside if file.is_file()]


def pooling_of(path: Path, metadata: Mapping[str, str]) -> Pooling:
    """Whether the net in this file wants global average pooling, as far as that can be known.

    Source: see the head of this file.
    """
    said = _said(json.dumps(dict(metadata)).replace('\\"', '"'))
    if said is not None:
        return Pooling(said, "the metadata of the file")
    for file in _configurations(path):
        said = _said(file.read_text(encoding="utf-8", errors="replace"))
        if said is not None:
            return Pooling(said, f"{file.name} beside it")
    name = PUBLISHED.get(checksum(path) or "")
    if name is not None:
        return Pooling(True, f"its content, which is {name}")
    if path.stem.endswith(HOST_ENDINGS):
        return Pooling(True, "its name alone")
    return Pooling(False, "nothing that speaks for it")
