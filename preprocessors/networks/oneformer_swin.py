"""Swin, the backbone of OneFormer: attention in windows of patches, shifted by half in every other block."""

from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional

from .oneformer_sizes import SwinSizes

PATCH = 4
BLOCKED = -100.0
"""Added to the attention between patches that lie side by side only because of the shift."""


class Swin(nn.Module):
    """(B,3,h,w) float, normalised -> four maps (B,C,h/4,w/4) to (B,8C,h/32,w/32), sides rounded up.

    Source: Liu et al. 2021 (Swin Transformer);
    Mikubill/sd-webui-controlnet: annotator/oneformer/oneformer/modeling/backbone/swin.py.
    """

    def __init__(self, sizes: SwinSizes) -> None:
        super().__init__()
        self.window = sizes.window
        self.patch_embed = _PatchEmbed(sizes.width)
        stages = len(sizes.depths)
        self.layers = nn.ModuleList(
            _Stage(sizes, stage, shrinks=stage < stages - 1) for stage in range(stages)
        )
        self.norm0, self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(width) for width in sizes.widths)

    def forward(self, picture: torch.Tensor) -> list[torch.Tensor]:
        patches = self.patch_embed(picture)
        places = relative_places(self.window, patches.device)
        maps = []
        for layer, norm in zip(self.layers, (self.norm0, self.norm1, self.norm2, self.norm3), strict=True):
            made, patches = layer(patches, places)
            maps.append(norm(made).permute(0, 3, 1, 2).contiguous())
        return maps


def relative_places(window: int, device: torch.device) -> torch.Tensor:
    """Row of the table of position biases for each pair of patches in a window: (window^4,) int64."""
    side = torch.arange(window, device=device)
    rows, columns = (place.flatten() for place in torch.meshgrid(side, side, indexing="ij"))
    down = rows[:, None] - rows[None] + window - 1
    right = columns[:, None] - columns[None] + window - 1
    return (down * (2 * window - 1) + right).flatten()


class _PatchEmbed(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, width, PATCH, PATCH)
        self.norm = nn.LayerNorm(width)

    def forward(self, picture: torch.Tensor) -> torch.Tensor:
        height, width = picture.shape[2:]
        padded = functional.pad(picture, (0, -width % PATCH, 0, -height % PATCH))
        return self.norm(self.proj(padded).permute(0, 2, 3, 1))


class _Stage(nn.Module):
    """(B,h,w,C) -> the same, and (B,h/2,w/2,2C) for the next stage."""

    def __init__(self, sizes: SwinSizes, stage: int, *, shrinks: bool) -> None:
        super().__init__()
        self.window = sizes.window
        width, heads = sizes.widths[stage], sizes.heads[stage]
        self.blocks = nn.ModuleList(
            _Block(width, heads, sizes.widening, _Window(sizes.window, sizes.window // 2 * (index % 2)))
            for index in range(sizes.depths[stage])
        )
        self.downsample = _Merge(width) if shrinks else None

    def forward(self, patches: torch.Tensor, places: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        apart = _Window(self.window, self.window // 2).apart(patches)
        for block in self.blocks:
            patches = block(patches, places, apart)
        return patches, patches if self.downsample is None else self.downsample(patches)


class _Window(NamedTuple):
    """How a map is cut: the side of a window, and how far the map is moved up and left before."""

    side: int
    shift: int

    def cut(self, patches: torch.Tensor) -> torch.Tensor:
        """(B,h,w,C) -> (B,windows,side^2,C), padded with zeros to whole windows."""
        _, height, width, channels = patches.shape
        patches = functional.pad(patches, (0, 0, 0, -width % self.side, 0, -height % self.side))
        if self.shift:
            patches = patches.roll((-self.shift, -self.shift), (1, 2))
        batch, height, width, _ = patches.shape
        cells = patches.view(
            batch, height // self.side, self.side, width // self.side, self.side, channels
        ).transpose(2, 3)
        return cells.reshape(batch, -1, self.side**2, channels)

    def join(self, windows: torch.Tensor, height: int, width: int) -> torch.Tensor:
        """(B,windows,side^2,C) -> (B,height,width,C): `cut` backwards."""
        batch, _, _, channels = windows.shape
        rows, columns = -(-height // self.side), -(-width // self.side)
        cells = windows.view(batch, rows, columns, self.side, self.side, channels).transpose(2, 3)
        patches = cells.reshape(batch, rows * self.side, columns * self.side, channels)
        if self.shift:
            patches = patches.roll((self.shift, self.shift), (1, 2))
        return patches[:, :height, :width]

    def apart(self, patches: torch.Tensor) -> torch.Tensor:
        """For maps like `patches`: what is added to the attention of each pair, (windows,1,side^2,side^2).

        Patches that the shift brought from the other end of the map stay among themselves.
        """
        height, width = (length + -length % self.side for length in patches.shape[1:3])
        down, right = (
            (torch.arange(length, device=patches.device) >= length - self.shift).long()
            for length in (height, width)
        )
        zones = (2 * down[:, None] + right[None])[None, :, :, None]
        cells = _Window(self.side, 0).cut(zones)[0, :, :, 0]
        is_apart = cells[:, None, :] != cells[:, :, None]
        return torch.where(is_apart, BLOCKED, 0.0)[:, None]


class _Block(nn.Module):
    def __init__(self, width: int, heads: int, widening: int, window: _Window) -> None:
        super().__init__()
        self.window = window
        self.norm1 = nn.LayerNorm(width)
        self.attn = _WindowAttention(width, heads, window.side)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = _Perceptron(width, width * widening)

    def forward(self, patches: torch.Tensor, places: torch.Tensor, apart: torch.Tensor) -> torch.Tensor:
        windows = self.window.cut(self.norm1(patches))
        seen = self.attn(windows, places, apart if self.window.shift else None)
        patches = patches + self.window.join(seen, patches.shape[1], patches.shape[2])
        return patches + self.mlp(self.norm2(patches))


class _WindowAttention(nn.Module):
    """(B,windows,N,C) -> the same; every patch looks at the patches of its window."""

    def __init__(self, width: int, heads: int, side: int) -> None:
        super().__init__()
        self.heads = heads
        self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * side - 1) ** 2, heads))
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(
        self, windows: torch.Tensor, places: torch.Tensor, apart: torch.Tensor | None
    ) -> torch.Tensor:
        batch, count, length, width = windows.shape
        split = self.qkv(windows).view(batch * count, length, 3, self.heads, width // self.heads)
        query, key, value = split.permute(2, 0, 3, 1, 4)
        bias = self.relative_position_bias_table[places].view(length, length, -1).permute(2, 0, 1)
        if apart is not None:
            bias = (bias + apart).repeat(batch, 1, 1, 1)
        weights = (query * (width // self.heads) ** -0.5) @ key.transpose(-2, -1)
        seen = (weights + bias).softmax(dim=-1) @ value
        return self.proj(seen.transpose(1, 2).reshape(batch, count, length, width))


class _Perceptron(nn.Module):
    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, inner)
        self.fc2 = nn.Linear(inner, width)

    def forward(self, patches: torch.Tensor) -> torch.Tensor:
        return self.fc2(functional.gelu(self.fc1(patches)))


class _Merge(nn.Module):
    """(B,h,w,C) -> (B,h/2,w/2,2C): four neighbours become one patch; odd sides are padded with zeros."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * width)
        self.reduction = nn.Linear(4 * width, 2 * width, bias=False)

    def forward(self, patches: torch.Tensor) -> torch.Tensor:
        patches = functional.pad(patches, (0, 0, 0, patches.shape[2] % 2, 0, patches.shape[1] % 2))
        corners = [patches[:, down::2, right::2] for right in (0, 1) for down in (0, 1)]
        return self.reduction(self.norm(torch.cat(corners, dim=-1)))
