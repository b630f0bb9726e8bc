"""Reads the layout of a SparseCtrl file: a ControlNet in diffusers names with motion modules.

Host-free: says which layers the net has, and how the host's own ControlNet calls its keys.

Source: Guo et al. 2023, "SparseCtrl" (arXiv 2311.16933); guoyww/AnimateDiff:
animatediff/models/sparse_controlnet.py.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ...motion.network import KEY, Place, Shapes, Sizes, places

SINGLE_CONV = "controlnet_cond_embedding.weight"
CONV_STACK = "controlnet_cond_embedding.conv_in.weight"
CONFIG = "animatediff_config"
HEADS = 8


@dataclass(frozen=True)
class SparseLayout:
    """What a file holds.

    `config` are the arguments of the host's ControlNet, `latent_hints` tells the net that reads encoded
    pictures (rgb) from the one that reads pixels (scribble), `motion` are its motion modules.
    """

    config: dict[str, Any]
    latent_hints: bool
    motion: Mapping[Place, Sizes]

    def after(self, place: Place) -> int:
        """Number of the input block that a motion module comes after."""
        return 1 + sum(count + 1 for count in self.config["num_res_blocks"][: place.level]) + place.number


def plain_name(key: str) -> str:
    """A key without the prefix that training on several devices leaves."""
    return key.removeprefix("module.")


def is_motion(key: str) -> bool:
    return KEY.match(key) is not None


def _count(shapes: Iterable[str], pattern: str) -> int:
    return len({match[1] for key in shapes if (match := re.match(pattern, key))})


def _depth(shapes: Shapes, attention: str) -> int:
    return _count(shapes, re.escape(attention) + r"\.transformer_blocks\.(\d+)\.")


def read_layout(shapes: Shapes) -> SparseLayout:
    """Key -> shape listing without prefixes -> the layout.

    Raises ValueError for weights that are no SparseCtrl net, naming what is missing.
    """
    hint = SINGLE_CONV if SINGLE_CONV in shapes else CONV_STACK
    first, text = "conv_in.weight", "mid_block.attentions.0.transformer_blocks.0.attn2.to_k.weight"
    motion = places({key: shape for key, shape in shapes.items() if is_motion(key)})
    missing = [key for key in (hint, first, text, "controlnet_mid_block.weight") if key not in shapes]
    if missing or not motion:
        missing += [] if motion else ["down_blocks.0.motion_modules.0.temporal_transformer.norm.weight"]
        raise ValueError(
            f"A SparseCtrl net (rgb or scribble) was needed, but the file lacks {', '.join(missing)}. "
            "Check that the file is what its page says."
        )
    levels = _count(shapes, r"down_blocks\.(\d+)\.resnets\.")
    width = shapes[first][0]
    counts = [_count(shapes, rf"down_blocks\.{level}\.resnets\.(\d+)\.") for level in range(levels)]
    config = {
        "image_size": 32,
        "in_channels": shapes[first][1],
        "model_channels": width,
        "hint_channels": shapes[hint][1],
        "num_res_blocks": counts,
        "channel_mult": [
            shapes[f"down_blocks.{level}.resnets.0.conv1.weight"][0] // width for level in range(levels)
        ],
        "transformer_depth": [
            _depth(shapes, f"down_blocks.{level}.attentions.{number}")
            for level, count in enumerate(counts)
            for number in range(count)
        ],
        "transformer_depth_middle": _depth(shapes, "mid_block.attentions.0"),
        "num_heads": HEADS,
        "num_head_channels": -1,
        "context_dim": shapes[text][1],
        "use_spatial_transformer": True,
        "use_linear_in_transformer": len(shapes["mid_block.attentions.0.proj_in.weight"]) == 2,
        "legacy": False,
    }
    return SparseLayout(config, hint == SINGLE_CONV, motion)


OWN_KEYS = (
    (r"controlnet_mid_block\.(\w+)", r"middle_block_out.0.\1"),
    (r"controlnet_down_blocks\.(\d+)\.(\w+)", r"zero_convs.\1.0.\2"),
    (r"controlnet_cond_embedding\.(weight|bias)", r"input_hint_block.0.\1"),
    (r"controlnet_cond_embedding\.conv_in\.(\w+)", r"input_hint_block.0.\1"),
)
"""Names of the keys that only control nets have: in the file, and in the host's ControlNet."""


def host_name(key: str, unet_names: Mapping[str, str], hint_blocks: int) -> str | None:
    """The host's name of a key of the spatial part, or None; `unet_names` are those of the UNet's keys."""
    if key in unet_names:
        return unet_names[key]
    for pattern, name in OWN_KEYS:
        if re.fullmatch(pattern, key):
            return re.sub(pattern, name, key)
    match = re.fullmatch(r"controlnet_cond_embedding\.(?:blocks\.(\d+)|conv_out)\.(\w+)", key)
    if match is None:
        return None
    number = hint_blocks if match[1] is None else int(match[1])
    return f"input_hint_block.{2 * (number + 1)}.{match[2]}"


def hint_blocks(shapes: Iterable[str]) -> int:
    """Number of layers between the first and the last of the hint encoder for pixels."""
    return _count(shapes, r"controlnet_cond_embedding\.blocks\.(\d+)\.")
