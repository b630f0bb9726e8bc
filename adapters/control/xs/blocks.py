"""The blocks of ControlNet-XS's thin encoder, by the names and with the shapes of the published files.

They are those of the UNet they were trained beside, but for widths that 32 does not divide: a group norm
takes the greatest number of groups up to 32 that divides the width, and heads are cut likewise.

Source: vislearn/ControlNet-XS: sgm/modules/diffusionmodules/twoStreamControl.py,
ldm/modules/diffusionmodules/twoStreamControl.py, ldm/modules/attention.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Shapes = Mapping[str, tuple[int, ...]]
Attention = Callable[[Tensor, Tensor, Tensor, int], Tensor]

GROUPS = 32


def divisor(number: int, limit: int) -> int:
    """The greatest divisor of a number that is no greater than the limit."""
    return next(candidate for candidate in range(min(number, limit), 0, -1) if number % candidate == 0)


def torch_attention(query: Tensor, key: Tensor, value: Tensor, heads: int) -> Tensor:
    """Attention of query (B,T,C) over key and value (B,S,C), in `heads` heads -> (B,T,C)."""
    query, key, value = (t.unflatten(2, (heads, -1)).transpose(1, 2) for t in (query, key, value))
    return F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)


@dataclass(frozen=True)
class Family:
    """What the shapes of a file do not say: how a width is cut into heads, and the transformer's epsilon.

    Exactly one of `heads` and `head_width` is given.
    """

    heads: int | None
    head_width: int | None
    epsilon: float

    def heads_of(self, width: int) -> int:
        return self.heads or width // divisor(width, self.head_width or width)


FAMILIES: dict[int, Family] = {
    768: Family(8, None, 1e-6),
    1024: Family(None, 8, 1e-6),
    2048: Family(None, 64, 1e-5),
}
"""Text width -> the settings of the published files. Source: configs/inference of the same repository."""


@dataclass(frozen=True)
class Kit:
    """What blocks are made with: the classes of the layers, the attention, the family's settings."""

    family: Family
    operations: Any = nn
    attention: Attention = torch_attention

    def conv(self, shape: tuple[int, ...], stride: int = 1) -> nn.Module:
        """A convolution of the weight's shape that keeps the size, or divides it by the stride."""
        return self.operations.Conv2d(shape[1], shape[0], shape[2], stride, shape[2] // 2)

    def linear(self, shape: tuple[int, ...], bias: bool = True) -> nn.Module:
        return self.operations.Linear(shape[1], shape[0], bias=bias)

    def group_norm(self, shape: tuple[int, ...], epsilon: float = 1e-5) -> nn.Module:
        return self.operations.GroupNorm(divisor(shape[0], GROUPS), shape[0], eps=epsilon)


def within(shapes: Shapes, prefix: str) -> dict[str, tuple[int, ...]]:
    """The shapes below a prefix, by the rest of their names."""
    return {key.removeprefix(prefix): shape for key, shape in shapes.items() if key.startswith(prefix)}


class ResBlock(nn.Module):
    """Values (B,C,h,w) and time embedding (B,E) -> (B,C',h,w)."""

    def __init__(self, shapes: Shapes, kit: Kit) -> None:
        super().__init__()
        self.in_layers = nn.Sequential(
            kit.group_norm(shapes["in_layers.0.weight"]), nn.SiLU(), kit.conv(shapes["in_layers.2.weight"])
        )
        self.emb_layers = nn.Sequential(nn.SiLU(), kit.linear(shapes["emb_layers.1.weight"]))
        self.out_layers = nn.Sequential(
            kit.group_norm(shapes["out_layers.0.weight"]),
            nn.SiLU(),
            nn.Identity(),
            kit.conv(shapes["out_layers.3.weight"]),
        )
        skip = shapes.get("skip_connection.weight")
        self.skip_connection = nn.Identity() if skip is None else kit.conv(skip)

    def forward(self, values: Tensor, embedding: Tensor, context: Tensor) -> Tensor:
        inner = self.in_layers(values) + self.emb_layers(embedding)[..., None, None]
        return self.skip_connection(values) + self.out_layers(inner)


class Downsample(nn.Module):
    """Values (B,C,h,w) -> (B,C',h/2,w/2), rounded up."""

    def __init__(self, shapes: Shapes, kit: Kit) -> None:
        super().__init__()
        self.op = kit.conv(shapes["op.weight"], 2)

    def forward(self, values: Tensor, embedding: Tensor, context: Tensor) -> Tensor:
        return self.op(values)


class CrossAttention(nn.Module):
    """Tokens (B,T,C) that read a context (B,S,K)."""

    def __init__(self, shapes: Shapes, kit: Kit) -> None:
        super().__init__()
        self.to_q, self.to_k, self.to_v = (
            kit.linear(shapes[f"to_{place}.weight"], bias=False) for place in ("q", "k", "v")
        )
        self.to_out = nn.Sequential(kit.linear(shapes["to_out.0.weight"]), nn.Identity())
        self.heads, self.attention = kit.family.heads_of(shapes["to_q.weight"][0]), kit.attention

    def forward(self, tokens: Tensor, context: Tensor) -> Tensor:
        read = self.attention(self.to_q(tokens), self.to_k(context), self.to_v(context), self.heads)
        return self.to_out(read)


class GatedLinear(nn.Module):
    """Tokens (B,T,C) -> (B,T,C'): one half of a projection, gated by the other."""

    def __init__(self, shape: tuple[int, ...], kit: Kit) -> None:
        super().__init__()
        self.proj = kit.linear(shape)

    def forward(self, tokens: Tensor) -> Tensor:
        values, gate = self.proj(tokens).chunk(2, dim=-1)
        return values * F.gelu(gate)


class FeedForward(nn.Module):
    """Tokens (B,T,C) -> (B,T,C), each for itself."""

    def __init__(self, shapes: Shapes, kit: Kit) -> None:
        super().__init__()
        gated = GatedLinear(shapes["net.0.proj.weight"], kit)
        self.net = nn.Sequential(gated, nn.Identity(), kit.linear(shapes["net.2.weight"]))

    def forward(self, tokens: Tensor) -> Tensor:
        return self.net(tokens)


class TransformerBlock(nn.Module):
    """Tokens (B,T,C) that read each other, then the text (B,S,K)."""

    def __init__(self, shapes: Shapes, kit: Kit) -> None:
        super().__init__()
        self.attn1 = CrossAttention(within(shapes, "attn1."), kit)
        self.ff = FeedForward(within(shapes, "ff."), kit)
        self.attn2 = CrossAttention(within(shapes, "attn2."), kit)
        self.norm1, self.norm2, self.norm3 = (
            kit.operations.LayerNorm(shapes[f"norm{number}.weight"][0]) for number in (1, 2, 3)
        )

    def forward(self, tokens: Tensor, context: Tensor) -> Tensor:
        normed = self.norm1(tokens)
        tokens = tokens + self.attn1(normed, normed)
        tokens = tokens + self.attn2(self.norm2(tokens), context)
        return tokens + self.ff(self.norm3(tokens))


class SpatialTransformer(nn.Module):
    """Values (B,C,h,w) as tokens through transformer blocks."""

    def __init__(self, shapes: Shapes, kit: Kit) -> None:
        super().__init__()
        self.norm = kit.group_norm(shapes["norm.weight"], kit.family.epsilon)
        into, out = shapes["proj_in.weight"], shapes["proj_out.weight"]
        self.is_linear = len(into) == 2
        self.proj_in = kit.linear(into) if self.is_linear else kit.conv(into)
        depth = len({key.split(".")[1] for key in shapes if key.startswith("transformer_blocks.")})
        self.transformer_blocks = nn.ModuleList(
            TransformerBlock(within(shapes, f"transformer_blocks.{index}."), kit) for index in range(depth)
        )
        self.proj_out = kit.linear(out) if self.is_linear else kit.conv(out)

    def forward(self, values: Tensor, embedding: Tensor, context: Tensor) -> Tensor:
        inner = self.norm(values)
        if not self.is_linear:
            inner = self.proj_in(inner)
        tokens = inner.flatten(2).transpose(1, 2)
        if self.is_linear:
            tokens = self.proj_in(tokens)
        for block in self.transformer_blocks:
            tokens = block(tokens, context)
        if self.is_linear:
            tokens = self.proj_out(tokens)
        inner = tokens.transpose(1, 2).unflatten(2, values.shape[-2:])
        return values + (inner if self.is_linear else self.proj_out(inner))


def layer(shapes: Shapes, kit: Kit) -> nn.Module:
    """One numbered layer of a block, by the names of its tensors.

    Raises KeyError for a layer that lacks tensors.
    """
    if "weight" in shapes:
        return kit.conv(shapes["weight"])
    if "op.weight" in shapes:
        return Downsample(shapes, kit)
    if "norm.weight" in shapes:
        return SpatialTransformer(shapes, kit)
    return ResBlock(shapes, kit)


class Block(nn.Sequential):
    """The layers of one numbered block of the encoder, in order."""

    def forward(self, values: Tensor, embedding: Tensor, context: Tensor) -> Tensor:
        for inner in self:
            plain = not isinstance(inner, ResBlock | Downsample | SpatialTransformer)
            values = inner(values) if plain else inner(values, embedding, context)
        return values


def block(shapes: Shapes, kit: Kit) -> Block:
    """A numbered block from the shapes below its name."""
    count = len({key.split(".")[0] for key in shapes})
    return Block(*(layer(within(shapes, f"{index}."), kit) for index in range(count)))


def text_width(shapes: Shapes) -> int | None:
    """Width of the text that the file's cross-attention reads; None where it has none."""
    return next(
        (shape[1] for key, shape in sorted(shapes.items()) if key.endswith("attn2.to_k.weight")), None
    )


def join(values: Tensor, grid: torch.Size) -> Tensor:
    """Values (B,C,h,w) on another stream's grid; the same object where the grids are equal.

    The grids differ only under patches that scale the model's values inside.
    """
    return values if values.shape[-2:] == grid else F.interpolate(values, grid, mode="bilinear")
