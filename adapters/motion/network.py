"""The temporal transformers of AnimateDiff and SparseCtrl, under the names of their files.

Host-free: the layers and the attention of the host are handed in where the host runs them.

Source: Guo et al. 2023, "AnimateDiff" (arXiv 2307.04725), section 4.2; guoyww/AnimateDiff:
animatediff/models/motion_module.py. The group norm is that of each frame by itself, as there; diffusers
(models/unets/unet_motion_model.py: AnimateDiffTransformer3D) takes it over all frames together.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch

HEADS = 8
GROUPS = 32

Shapes = Mapping[str, tuple[int, ...]]
Attention = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, int], torch.Tensor]
"""Queries, keys, values (B,T,C) and the number of heads -> (B,T,C)."""

KEY = re.compile(r"(down_blocks|up_blocks)\.(\d+)\.motion_modules\.(\d+)\.|(mid_block)\.motion_modules\.0\.")


def plain_attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, heads: int) -> torch.Tensor:
    """Multi-head attention (B,T,C) of torch, for use without the host."""
    q, k, v = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (q, k, v))
    return torch.nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


@dataclass(frozen=True)
class Layers:
    """What a network is built of: linear and norm layers, the attention, and the weights' type and device."""

    kinds: Any = torch.nn
    attention: Attention = plain_attention
    dtype: torch.dtype | None = None
    device: torch.device | str | None = None

    def linear(self, width_in: int, width_out: int, bias: bool = True) -> torch.nn.Module:
        return self.kinds.Linear(width_in, width_out, bias=bias, dtype=self.dtype, device=self.device)

    def layer_norm(self, width: int) -> torch.nn.Module:
        return self.kinds.LayerNorm(width, dtype=self.dtype, device=self.device)

    def group_norm(self, width: int) -> torch.nn.Module:
        return self.kinds.GroupNorm(GROUPS, width, eps=1e-6, dtype=self.dtype, device=self.device)


class Effect(NamedTuple):
    """How the modules act: `strength` scales what they add, `scale` the keys of their attention."""

    strength: float = 1.0
    scale: float = 1.0


PLAIN = Effect()


class Sizes(NamedTuple):
    """Sizes of one module: channels, attentions per block, blocks, and the most frames it knows."""

    width: int
    attentions: int
    blocks: int
    frames: int


class Positions(torch.nn.Module):
    """Adds the position of the frame, as the file has it: `pe` (1,frames,C)."""

    pe: torch.Tensor

    def __init__(self, frames: int, width: int, layers: Layers) -> None:
        super().__init__()
        self.register_buffer("pe", torch.zeros(1, frames, width, dtype=layers.dtype, device=layers.device))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.pe[:, : x.shape[1]].to(x)


class FrameAttention(torch.nn.Module):
    """Self-attention (B,T,C) over the frames T, which know their position."""

    def __init__(self, sizes: Sizes, layers: Layers) -> None:
        super().__init__()
        self.pos_encoder = Positions(sizes.frames, sizes.width, layers)
        self.to_q = layers.linear(sizes.width, sizes.width, bias=False)
        self.to_k = layers.linear(sizes.width, sizes.width, bias=False)
        self.to_v = layers.linear(sizes.width, sizes.width, bias=False)
        self.to_out = torch.nn.ModuleList([layers.linear(sizes.width, sizes.width)])
        self.attention = layers.attention

    def forward(self, x: torch.Tensor, scale: float) -> torch.Tensor:
        x = self.pos_encoder(x)
        keys = self.to_k(x)
        if scale != 1.0:
            keys = keys * scale
        return self.to_out[0](self.attention(self.to_q(x), keys, self.to_v(x), HEADS))


class GatedLinear(torch.nn.Module):
    """Linear layer whose second half gates the first."""

    def __init__(self, width: int, layers: Layers) -> None:
        super().__init__()
        self.proj = layers.linear(width, width * 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x, gate = self.proj(x).chunk(2, dim=-1)
        return x * torch.nn.functional.gelu(gate)


class FeedForward(torch.nn.Module):
    """Gated feed-forward layers (B,T,C); the place in between is the dropout of the training."""

    def __init__(self, width: int, layers: Layers) -> None:
        super().__init__()
        gated = GatedLinear(width, layers)
        self.net = torch.nn.Sequential(gated, torch.nn.Identity(), layers.linear(width * 4, width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.net(x)


class TransformerBlock(torch.nn.Module):
    """One or two attentions over the frames and a feed-forward layer, each added to its input."""

    def __init__(self, sizes: Sizes, layers: Layers) -> None:
        super().__init__()
        count = range(sizes.attentions)
        self.attention_blocks = torch.nn.ModuleList(FrameAttention(sizes, layers) for _ in count)
        self.norms = torch.nn.ModuleList(layers.layer_norm(sizes.width) for _ in count)
        self.ff = FeedForward(sizes.width, layers)
        self.ff_norm = layers.layer_norm(sizes.width)

    def forward(self, x: torch.Tensor, scale: float) -> torch.Tensor:
        for attention, norm in zip(self.attention_blocks, self.norms, strict=True):
            x = attention(norm(x), scale) + x
        return self.ff(self.ff_norm(x)) + x


class TemporalTransformer(torch.nn.Module):
    """What a module adds to hidden values (B * T,C,h,w), frames within, per position of the picture."""

    def __init__(self, sizes: Sizes, layers: Layers) -> None:
        super().__init__()
        self.norm = layers.group_norm(sizes.width)
        self.proj_in = layers.linear(sizes.width, sizes.width)
        blocks = (TransformerBlock(sizes, layers) for _ in range(sizes.blocks))
        self.transformer_blocks = torch.nn.ModuleList(blocks)
        self.proj_out = layers.linear(sizes.width, sizes.width)

    def forward(self, x: torch.Tensor, frames: int, scale: float) -> torch.Tensor:
        rows, channels, height, width = x.shape
        x = self.norm(x).reshape(rows // frames, frames, channels, height * width)
        x = self.proj_in(x.permute(0, 3, 1, 2).reshape(-1, frames, channels))
        for block in self.transformer_blocks:
            x = block(x, scale)
        x = self.proj_out(x).reshape(rows // frames, height * width, frames, channels)
        return x.permute(0, 2, 3, 1).reshape(rows, channels, height, width)


class MotionModule(torch.nn.Module):
    """Hidden values (B * T,C,h,w), frames within -> the same, with the motion added.

    Raises ValueError for more frames than the module has positions for, or rows that are no whole clips.
    """

    def __init__(self, sizes: Sizes, layers: Layers) -> None:
        super().__init__()
        self.sizes = sizes
        self.temporal_transformer = TemporalTransformer(sizes, layers)

    def forward(self, x: torch.Tensor, frames: int, effect: Effect = PLAIN) -> torch.Tensor:
        check_frames(frames, self.sizes.frames)
        if effect.strength == 0.0:
            return x
        added = self.temporal_transformer(x, frames, effect.scale)
        return x + (added if effect.strength == 1.0 else added * effect.strength)


def check_frames(frames: int, known: int) -> None:
    """Raises ValueError when a clip has more frames than the motion modules have positions for."""
    if frames > known:
        raise ValueError(
            f"These motion modules take at most {known} frames at once, got {frames}. Make the batch of "
            "the latent smaller, or put Context Windows (Manual) with dim 0 and a context_length of 16 "
            "behind the model."
        )


class Level(torch.nn.Module):
    """The modules of one resolution."""

    def __init__(self, sizes: list[Sizes], layers: Layers) -> None:
        super().__init__()
        self.motion_modules = torch.nn.ModuleList(MotionModule(one, layers) for one in sizes)


Side = Literal["down_blocks", "up_blocks", "mid_block"]


class Place(NamedTuple):
    """Where a module sits: the side of the UNet, the level and its number there."""

    side: Side
    level: int
    number: int


def places(shapes: Shapes) -> dict[Place, Sizes]:
    """Key -> shape listing of the weights -> the modules in there, in the order of the UNet.

    Raises ValueError for a module that lacks what its sizes are read from.
    """
    found: dict[Place, str] = {}
    for key in shapes:
        match = KEY.match(key)
        if match is not None:
            place = Place("mid_block", 0, 0) if match[4] else _place(match)
            found[place] = match[0] + "temporal_transformer."
    order = {"down_blocks": 0, "mid_block": 1, "up_blocks": 2}
    in_order = sorted(found, key=lambda place: (order[place.side], place.level, place.number))
    return {place: _sizes(shapes, found[place]) for place in in_order}


def _place(match: re.Match[str]) -> Place:
    side: Side = "down_blocks" if match[1] == "down_blocks" else "up_blocks"
    return Place(side, int(match[2]), int(match[3]))


def _sizes(shapes: Shapes, prefix: str) -> Sizes:
    def count(name: str, after: str) -> int:
        pattern = re.compile(re.escape(prefix + name) + r"(\d+)\." + re.escape(after))
        return sum(pattern.fullmatch(key) is not None for key in shapes)

    norm, position = f"{prefix}norm.weight", "attention_blocks.0.pos_encoder.pe"
    encoder = f"{prefix}transformer_blocks.0.{position}"
    for key in (norm, encoder):
        if key not in shapes:
            raise ValueError(
                f"Motion modules of AnimateDiff (v2, v3) or SparseCtrl were needed, but {key} is missing. "
                "Modules without learned positions, such as those of AnimateLCM, are not supported."
            )
    attentions = count("transformer_blocks.0.attention_blocks.", "to_q.weight")
    blocks = count("transformer_blocks.", "ff_norm.weight")
    return Sizes(shapes[norm][0], attentions, blocks, shapes[encoder][1])


class MotionNetwork(torch.nn.Module):
    """All motion modules of a file, under its names; calls nothing by itself.

    Raises ValueError where `places` does, and for levels that are not numbered without gaps.
    """

    def __init__(self, found: Mapping[Place, Sizes], layers: Layers | None = None) -> None:
        super().__init__()
        layers = layers or Layers()
        self.found = dict(found)
        for side in ("down_blocks", "up_blocks"):
            levels = _levels(found, side)
            if levels:
                self.add_module(side, torch.nn.ModuleList(Level(sizes, layers) for sizes in levels))
        if Place("mid_block", 0, 0) in found:
            self.mid_block = Level([found[Place("mid_block", 0, 0)]], layers)

    def module(self, place: Place) -> MotionModule:
        """The module at a place."""
        side: Any = self.get_submodule(place.side)
        level = side if place.side == "mid_block" else side[place.level]
        return level.motion_modules[place.number]

    def __iter__(self) -> Iterator[tuple[Place, MotionModule]]:
        return ((place, self.module(place)) for place in self.found)


def _levels(found: Mapping[Place, Sizes], side: str) -> list[list[Sizes]]:
    levels: list[list[Sizes]] = []
    for place, sizes in found.items():
        if place.side != side:
            continue
        if place.number == 0:
            levels.append([])
        if place.level != len(levels) - 1 or place.number != len(levels[-1]):
            raise ValueError(
                f"Motion modules numbered from 0 were needed, but {side}.{place.level}.motion_modules."
                f"{place.number} comes after a gap. Download the file again."
            )
        levels[-1].append(sizes)
    return levels
