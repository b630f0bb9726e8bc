"""Turn the stored narrow networks into files of standard width, which ComfyUI's own loaders take.

`python -m default_model.expand MODELS [NARROW]` writes a checkpoint and two control nets below MODELS.
Every real channel keeps its norm group, every added channel is zero with zero scale and shift, and
so stays zero through norms, activations and residuals.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from . import text
from .files import CHECKPOINT, CONTROLS, STORED, origin
from .networks import GROUPS, HEADS, NARROW, WIDE

TAESD = 64
HINT_WIDTHS = (16, 16, 32, 32, 96, 96, 256)
LATENT_SCALE = 0.18215

Tensors = Mapping[str, torch.Tensor]


class Axis(NamedTuple):
    """Where the narrow indices of one axis go, and how long the wide axis is."""

    places: torch.Tensor
    length: int


def features(repeats: int = 1) -> Axis:
    """Channel c sits in norm group c // (N/32), at the same slot; concatenated maps follow each other."""
    each = NARROW // GROUPS
    channel = torch.arange(NARROW)
    one = channel // each * (WIDE // GROUPS) + channel % each
    return Axis(torch.cat([one + WIDE * i for i in range(repeats)]), WIDE * repeats)


def heads() -> Axis:
    """Head by head, as the attention splits its width."""
    inner = torch.arange(NARROW)
    each = NARROW // HEADS
    return Axis(inner // each * (WIDE // HEADS) + inner % each, WIDE)


def gated() -> Axis:
    """The two halves of the gated projection, each filled from its start."""
    first = torch.arange(4 * NARROW)
    return Axis(torch.cat([first, first + 4 * WIDE]), 8 * WIDE)


def from_start(count: int, length: int) -> Axis:
    return Axis(torch.arange(count), length)


def hint_axis(index: int) -> Callable[[int], Axis]:
    return lambda count: from_start(count, HINT_WIDTHS[index])


def same(count: int) -> Axis:
    return from_start(count, count)


def feature(count: int) -> Axis:
    return features(count // NARROW)


def time(count: int) -> Axis:
    return from_start(count, 4 * WIDE)


def inner(count: int) -> Axis:
    return heads()


RULES: tuple[tuple[str, Callable[[int], Axis], Callable[[int], Axis]], ...] = (
    (r"time_embed\.0\.", time, same),
    (r"time_embed\.2\.", time, time),
    (r"emb_layers\.1\.", feature, time),
    (r"attn\d\.to_q\.", inner, feature),
    (r"attn1\.to_[kv]\.", inner, feature),
    (r"attn2\.to_[kv]\.", inner, same),
    (r"to_out\.0\.", feature, inner),
    (r"ff\.net\.0\.proj\.", lambda count: gated(), feature),
    (r"ff\.net\.2\.", feature, time),
    (r"^input_blocks\.0\.0\.", feature, same),
    (r"^out\.2\.", same, feature),
    (r"input_hint_block\.0\.", hint_axis(0), same),
    *((rf"input_hint_block\.{2 * i}\.", hint_axis(i), hint_axis(i - 1)) for i in range(1, 7)),
    (r"input_hint_block\.14\.", feature, hint_axis(6)),
    (r"", feature, feature),
)
"""Name -> what its first axis (or its only one) and its second axis are. The first match counts."""


def widen(tensor: torch.Tensor, first: Axis, second: Axis | None) -> torch.Tensor:
    if second is None:
        wide = torch.zeros(first.length, dtype=tensor.dtype)
        wide[first.places] = tensor
        return wide
    wide = torch.zeros(first.length, second.length, *tensor.shape[2:], dtype=tensor.dtype)
    wide[first.places[:, None], second.places[None, :]] = tensor
    return wide


def widen_network(narrow: Tensors) -> dict[str, torch.Tensor]:
    """A UNet or a ControlNet. The stored `to_q` already has the wide network's scale (see `store`)."""
    wide = {}
    for name, tensor in narrow.items():
        _, first, second = next(rule for rule in RULES if re.search(rule[0], name))
        other = second(tensor.shape[1]) if tensor.ndim > 1 else None
        wide[name] = widen(tensor, first(tensor.shape[0]), other)
    return wide


def widen_autoencoder(narrow: Tensors) -> dict[str, torch.Tensor]:
    """TAESD has no norms: all axes fill from the start, and blocks that are not stored are zero."""
    pictures, latents = 3, 4
    wide = {"vae_scale": torch.tensor(LATENT_SCALE), "vae_shift": torch.tensor(0.0)}
    for name, tensor in narrow.items():
        ends = (pictures, latents)
        first = same(tensor.shape[0]) if tensor.shape[0] in ends else from_start(tensor.shape[0], TAESD)
        other = None
        if tensor.ndim > 1:
            other = same(tensor.shape[1]) if tensor.shape[1] in ends else from_start(tensor.shape[1], TAESD)
        wide[name] = widen(tensor, first, other)
    idle = {
        "taesd_encoder": (1, 3, 4, 5, 7, 8, 9, 11, 12, 13),
        "taesd_decoder": (3, 4, 5, 8, 9, 10, 13, 14, 15, 18),
    }
    for part, places in idle.items():
        for place in places:
            for layer in (0, 2, 4):
                name = f"{part}.{place}.conv.{layer}"
                wide.setdefault(f"{name}.weight", torch.zeros(TAESD, TAESD, 3, 3, dtype=torch.float16))
                wide.setdefault(f"{name}.bias", torch.zeros(TAESD, dtype=torch.float16))
    return wide


def store(networks: Mapping[str, Tensors]) -> dict[str, torch.Tensor]:
    """Trained float32 weights -> what narrow.npz holds: float16, queries scaled for the wide heads.

    The wide network divides by the root of its own, larger head size; the factor goes in before rounding,
    so that expanding moves numbers about and never changes one.
    """
    stored = {}
    for part, tensors in networks.items():
        for name, tensor in tensors.items():
            factor = (WIDE / NARROW) ** 0.5 if name.endswith("to_q.weight") else 1.0
            stored[f"{part}.{name}"] = (tensor * factor).half().contiguous()
    return stored


def unstore(stored: Tensors) -> dict[str, dict[str, torch.Tensor]]:
    """Part -> float32 weights for the classes in networks.py."""
    parts: dict[str, dict[str, torch.Tensor]] = {}
    for name, tensor in stored.items():
        part, rest = name.split(".", 1)
        factor = (NARROW / WIDE) ** 0.5 if name.endswith("to_q.weight") else 1.0
        parts.setdefault(part, {})[rest] = tensor.float() * factor
    return parts


def part_of(stored: Tensors, part: str) -> dict[str, torch.Tensor]:
    return {name[len(part) + 1 :]: tensor for name, tensor in stored.items() if name.startswith(f"{part}.")}


def checkpoint(stored: Tensors) -> dict[str, torch.Tensor]:
    """UNet, autoencoder and text encoder under the names of an SD1.5 checkpoint."""
    unet = widen_network(part_of(stored, "unet"))
    autoencoder = widen_autoencoder(part_of(stored, "autoencoder"))
    return {
        **{f"model.diffusion_model.{name}": tensor for name, tensor in unet.items()},
        **{f"first_stage_model.{name}": tensor for name, tensor in autoencoder.items()},
        **text.state_dict(),
    }


def control_net(stored: Tensors, part: str) -> dict[str, torch.Tensor]:
    return {f"control_model.{name}": t for name, t in widen_network(part_of(stored, part)).items()}


def save(tensors: dict[str, torch.Tensor], path: Path, metadata: dict[str, str]) -> None:
    """A file appears under its name only when it is complete."""
    from safetensors.torch import save_file

    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        save_file({name: t.contiguous() for name, t in tensors.items()}, part, metadata)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def pack(tensors: Tensors, path: Path) -> None:
    """Write float16 tensors, the high bytes apart from the low ones: only the high ones compress."""
    planes = {name: np.moveaxis(t.numpy()[..., None].view(np.uint8), -1, 0) for name, t in tensors.items()}
    np.savez_compressed(path, **planes)  # type: ignore[arg-type]


def load(narrow: Path = STORED) -> dict[str, torch.Tensor]:
    """The stored tensors, float16."""
    with np.load(narrow, allow_pickle=False) as stored:
        whole = {name: np.ascontiguousarray(np.moveaxis(stored[name], 0, -1)) for name in stored.files}
    return {name: torch.from_numpy(planes.view(np.float16)[..., 0].copy()) for name, planes in whole.items()}


def expand(models: Path, narrow: Path = STORED) -> list[Path]:
    """Write the three files of standard width below `models` and return their paths."""
    stored, metadata = load(narrow), origin(narrow)
    save(checkpoint(stored), models / CHECKPOINT, metadata)
    for part, name in CONTROLS.items():
        save(control_net(stored, part), models / name, metadata)
    return [models / CHECKPOINT, *(models / name for name in CONTROLS.values())]


def main(arguments: list[str]) -> int:
    if len(arguments) not in (1, 2):
        print(__doc__, file=sys.stderr)
        return 2
    for path in expand(Path(arguments[0]), *map(Path, arguments[1:])):
        print(f"{path} ({path.stat().st_size / 1e6:.1f} MB)")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
