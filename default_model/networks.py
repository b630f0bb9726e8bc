"""The narrow networks: Stable Diffusion 1's UNet, its ControlNet, and TAESD, with few channels.

Every parameter has the name that ComfyUI's own classes give it, so that `expand.py` can turn the narrow
weights into a file of standard width. The norms take their statistics as if each group held WIDE / NARROW
times as many entries, the added ones zero: exactly what the wide network computes.

Sources: Rombach et al. 2022 (CompVis/stable-diffusion), Zhang et al. 2023 (lllyasviel/ControlNet),
TAESD (madebyollin/taesd).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

NARROW = 64
WIDE = 320
GROUPS = 32
HEADS = 8
CONTEXT = 768
LATENT = 4
HINT_WIDTHS = (8, 8, 16, 16, 32, 32, 64)
HINT_STRIDES = (1, 1, 2, 1, 2, 1, 2, 1)

Control = list[torch.Tensor]
"""What a control net gives: one residual per input block, then the middle one."""


class GroupNorm(nn.Module):
    """Group norm with padded statistics."""

    def __init__(self, channels: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.eps = eps

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        each = x.shape[1] // GROUPS
        count = x.shape[2] * x.shape[3] * each * WIDE // NARROW
        sums = x.sum((2, 3), dtype=torch.float32)
        squares = torch.linalg.vector_norm(x, dim=(2, 3), dtype=torch.float32).square()
        mean = sums.unflatten(1, (GROUPS, each)).sum(2) / count
        variance = squares.unflatten(1, (GROUPS, each)).sum(2) / count - mean.square()
        scale = torch.rsqrt(variance + self.eps).repeat_interleave(each, 1) * self.weight
        shift = self.bias - mean.repeat_interleave(each, 1) * scale
        return torch.addcmul(shift.to(x.dtype)[..., None, None], x, scale.to(x.dtype)[..., None, None])


class LayerNorm(nn.Module):
    """Layer norm with padded statistics."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        share, wide = NARROW / WIDE, x.float()
        mean = wide.mean(-1, keepdim=True) * share
        variance = wide.square().mean(-1, keepdim=True) * share - mean.square()
        return ((wide - mean) * torch.rsqrt(variance + 1e-5) * self.weight + self.bias).to(x.dtype)


def conv(inside: int, outside: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inside, outside, 3, stride, padding=1)


class ResBlock(nn.Module):
    def __init__(self, inside: int, outside: int) -> None:
        super().__init__()
        self.in_layers = nn.Sequential(GroupNorm(inside), nn.SiLU(), conv(inside, outside))
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(4 * NARROW, outside))
        self.out_layers = nn.Sequential(GroupNorm(outside), nn.SiLU(), nn.Identity(), conv(outside, outside))
        self.skip_connection = nn.Identity() if inside == outside else nn.Conv2d(inside, outside, 1)

    def forward(self, x: torch.Tensor, time: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        h = self.in_layers(x) + self.emb_layers(time)[..., None, None]
        return self.skip_connection(x) + self.out_layers(h)


def by_head(x: torch.Tensor) -> torch.Tensor:
    """(B, n, width) -> (B * heads, n, width / heads)."""
    return x.unflatten(2, (HEADS, -1)).transpose(1, 2).flatten(0, 1)


class Attention(nn.Module):
    def __init__(self, context: int) -> None:
        super().__init__()
        self.to_q = nn.Linear(NARROW, NARROW, bias=False)
        self.to_k = nn.Linear(context, NARROW, bias=False)
        self.to_v = nn.Linear(context, NARROW, bias=False)
        self.to_out = nn.Sequential(nn.Linear(NARROW, NARROW))

    def forward(self, x: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        # Plain products: at these sizes the fused attention's backward pass is several times slower.
        scale = (NARROW // HEADS) ** -0.5
        q, k, v = (by_head(t) for t in (self.to_q(x) * scale, self.to_k(context), self.to_v(context)))
        weights = torch.softmax(torch.bmm(q, k.transpose(1, 2)), -1)
        result = torch.bmm(weights.to(v.dtype), v).unflatten(0, (-1, HEADS))
        return self.to_out(result.transpose(1, 2).flatten(2))


class Gated(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.proj = nn.Linear(NARROW, 8 * NARROW)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        value, gate = self.proj(x).chunk(2, -1)
        return value * F.gelu(gate)


class FeedForward(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(Gated(), nn.Identity(), nn.Linear(4 * NARROW, NARROW))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.net(x)


class TransformerBlock(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2, self.norm3 = LayerNorm(NARROW), LayerNorm(NARROW), LayerNorm(NARROW)
        self.attn1, self.attn2, self.ff = Attention(NARROW), Attention(CONTEXT), FeedForward()

    def forward(self, x: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        y = self.norm1(x)
        x = x + self.attn1(y, y)
        x = x + self.attn2(self.norm2(x), context)
        return x + self.ff(self.norm3(x))


class SpatialTransformer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = GroupNorm(NARROW, eps=1e-6)
        self.proj_in = nn.Conv2d(NARROW, NARROW, 1)
        self.transformer_blocks = nn.ModuleList([TransformerBlock()])
        self.proj_out = nn.Conv2d(NARROW, NARROW, 1)

    def forward(self, x: torch.Tensor, time: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        h = self.proj_in(self.norm(x)).flatten(2).transpose(1, 2)
        h = self.transformer_blocks[0](h, context)
        return x + self.proj_out(h.transpose(1, 2).reshape(x.shape))


class Downsample(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.op = conv(NARROW, NARROW, 2)

    def forward(self, x: torch.Tensor, time: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        return self.op(x)


class Upsample(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = conv(NARROW, NARROW)

    def forward(self, x: torch.Tensor, time: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))


class First(nn.Conv2d):
    def __init__(self) -> None:
        super().__init__(LATENT, NARROW, 3, padding=1)

    def forward(self, x: torch.Tensor, time: torch.Tensor, context: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        return super().forward(x)


class Steps(nn.ModuleList):
    """Layers one after the other."""

    def forward(self, x: torch.Tensor, time: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        for layer in self:
            x = layer(x, time, context)
        return x


def encoder_blocks() -> nn.ModuleList:
    """Three levels (32, 16 and 8 latent pixels of a 256-pixel picture), attention at the lower two."""
    return nn.ModuleList(
        [
            Steps([First()]),
            Steps([ResBlock(NARROW, NARROW)]),
            Steps([Downsample()]),
            Steps([ResBlock(NARROW, NARROW), SpatialTransformer()]),
            Steps([Downsample()]),
            Steps([ResBlock(NARROW, NARROW), SpatialTransformer()]),
        ]
    )


def middle_block() -> Steps:
    return Steps([ResBlock(NARROW, NARROW), SpatialTransformer(), ResBlock(NARROW, NARROW)])


def decoder_blocks() -> nn.ModuleList:
    def res() -> ResBlock:
        return ResBlock(2 * NARROW, NARROW)

    return nn.ModuleList(
        [
            Steps([res(), SpatialTransformer()]),
            Steps([res(), SpatialTransformer(), Upsample()]),
            Steps([res(), SpatialTransformer()]),
            Steps([res(), SpatialTransformer(), Upsample()]),
            Steps([res()]),
            Steps([res()]),
        ]
    )


def time_layers() -> nn.Sequential:
    return nn.Sequential(nn.Linear(WIDE, 4 * NARROW), nn.SiLU(), nn.Linear(4 * NARROW, 4 * NARROW))


def sinusoid(timesteps: torch.Tensor) -> torch.Tensor:
    """(B,) -> (B, 320): the wide network's time embedding, cosines first."""
    half = WIDE // 2
    rates = torch.exp(-math.log(10000) * torch.arange(half, dtype=torch.float32) / half)
    angles = timesteps.float()[:, None] * rates
    return torch.cat([angles.cos(), angles.sin()], -1)


class UNet(nn.Module):
    """(B,4,h,w) noisy latents, (B,) timesteps 0..999, (B,n,768) context -> (B,4,h,w) noise."""

    def __init__(self) -> None:
        super().__init__()
        self.time_embed = time_layers()
        self.input_blocks = encoder_blocks()
        self.middle_block = middle_block()
        self.output_blocks = decoder_blocks()
        self.out = nn.Sequential(GroupNorm(NARROW), nn.SiLU(), conv(NARROW, LATENT))

    def forward(
        self, x: torch.Tensor, timesteps: torch.Tensor, context: torch.Tensor, control: Control | None = None
    ) -> torch.Tensor:
        time = self.time_embed(sinusoid(timesteps))
        skips = []
        for block in self.input_blocks:
            x = block(x, time, context)
            skips.append(x)
        x = self.middle_block(x, time, context)
        if control is not None:
            x = x + control[-1]
            skips = [skip + extra for skip, extra in zip(skips, control[:-1], strict=True)]
        for block in self.output_blocks:
            x = block(torch.cat([x, skips.pop()], 1), time, context)
        return self.out(x)


class ControlNet(nn.Module):
    """The UNet's arguments and a hint (B,3,8h,8w) in 0..1 -> residuals."""

    def __init__(self) -> None:
        super().__init__()
        self.time_embed = time_layers()
        self.input_blocks = encoder_blocks()
        self.middle_block = middle_block()
        widths = (3, *HINT_WIDTHS, NARROW)
        layers: list[nn.Module] = []
        for inside, outside, stride in zip(widths[:-1], widths[1:], HINT_STRIDES, strict=True):
            layers += [conv(inside, outside, stride), nn.SiLU()]
        self.input_hint_block = nn.Sequential(*layers[:-1])
        self.zero_convs = nn.ModuleList([nn.Sequential(zero_conv()) for _ in self.input_blocks])
        self.middle_block_out = nn.Sequential(zero_conv())

    def forward(
        self, x: torch.Tensor, timesteps: torch.Tensor, context: torch.Tensor, hint: torch.Tensor
    ) -> Control:
        time = self.time_embed(sinusoid(timesteps))
        extra, residuals = self.input_hint_block(hint), []
        for index, (block, zero) in enumerate(zip(self.input_blocks, self.zero_convs, strict=True)):
            x = block(x, time, context)
            if index == 0:
                x = x + extra
            residuals.append(zero(x))
        residuals.append(self.middle_block_out(self.middle_block(x, time, context)))
        return residuals


def zero_conv() -> nn.Conv2d:
    layer = nn.Conv2d(NARROW, NARROW, 1)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    return layer


class Level(NamedTuple):
    """One resolution of the autoencoder: its channels, its working blocks of the blocks it has."""

    width: int
    working: int
    blocks: int


ENCODER = (Level(16, 0, 1), Level(24, 1, 3), Level(32, 1, 3), Level(48, 2, 3))
DECODER = (Level(64, 3, 3), Level(48, 2, 3), Level(32, 1, 3), Level(16, 1, 1))


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            conv(width, width), nn.ReLU(), conv(width, width), nn.ReLU(), conv(width, width)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(self.conv(x) + x)


def blocks(level: Level) -> list[nn.Module]:
    """A block that does not work is a ReLU: what a block of zero weights computes."""
    return [Block(level.width) if i < level.working else nn.ReLU() for i in range(level.blocks)]


class Clamp(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.tanh(x / 3) * 3


def make_encoder(levels: Sequence[Level] = ENCODER) -> nn.Sequential:
    """(B,3,H,W) in 0..1 -> (B,4,H/8,W/8)."""
    layers: list[nn.Module] = [conv(3, levels[0].width), *blocks(levels[0])]
    for before, level in itertools.pairwise(levels):
        layers += [nn.Conv2d(before.width, level.width, 3, 2, padding=1, bias=False), *blocks(level)]
    return nn.Sequential(*layers, conv(levels[-1].width, LATENT))


def make_decoder(levels: Sequence[Level] = DECODER) -> nn.Sequential:
    """(B,4,h,w) -> (B,3,8h,8w), about 0..1."""
    layers: list[nn.Module] = [Clamp(), conv(LATENT, levels[0].width), nn.ReLU(), *blocks(levels[0])]
    for before, level in itertools.pairwise(levels):
        layers += [
            nn.Upsample(scale_factor=2),
            nn.Conv2d(before.width, level.width, 3, padding=1, bias=False),
            *blocks(level),
        ]
    return nn.Sequential(*layers, conv(levels[-1].width, 3))


class Autoencoder(nn.Module):
    """Latents of about unit variance; the names of the parts are the file format's."""

    def __init__(self) -> None:
        super().__init__()
        self.taesd_encoder = make_encoder()
        self.taesd_decoder = make_decoder()
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        for module in self.modules():
            if isinstance(module, Block):
                nn.init.zeros_(module.conv[-1].weight)  # type: ignore[arg-type]

    def encode(self, picture: torch.Tensor) -> torch.Tensor:
        return self.taesd_encoder(picture)

    def decode(self, latent: torch.Tensor) -> torch.Tensor:
        return self.taesd_decoder(latent)
