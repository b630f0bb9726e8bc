"""UniFormer with UPerNet: which class every pixel belongs to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

HEAD_WIDTH = 64
"""Channels of one attention head."""

WIDENING = 4
POOLS = (1, 2, 3, 6)
"""Sides of the grids that the deepest features are averaged on."""

MEAN, DEVIATION = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
"""Of ImageNet's pictures, levels 0..255, for the first, second and third channel."""


@dataclass(frozen=True)
class UniFormerSizes:
    """`widths` and `depths` of the four stages, the first two of convolutions, the others of attention;
    `head`: channels of UPerNet; `classes`."""

    widths: tuple[int, ...]
    depths: tuple[int, ...]
    head: int
    classes: int

    @classmethod
    def of(cls, shapes: Mapping[str, tuple[int, ...]]) -> UniFormerSizes:
        """Key -> shape listing of a file -> the sizes of its network."""
        stages = range(1, 5)
        return cls(
            tuple(shapes[f"backbone.patch_embed{stage}.proj.weight"][0] for stage in stages),
            tuple(sum(_is_first_of_block(key, stage) for key in shapes) for stage in stages),
            shapes["decode_head.conv_seg.weight"][1],
            shapes["decode_head.conv_seg.weight"][0],
        )


def _is_first_of_block(key: str, stage: int) -> bool:
    return key.startswith(f"backbone.blocks{stage}.") and key.endswith(".pos_embed.weight")


class UniFormer(nn.Module):
    """(B,3,h,w) float levels 0..255, the picture's channels in the order that the weights were made for ->
    (B,classes,h/4,w/4) float: a logit of each class.

    Height and width are 32 or more. `upernet_global_small.pth` holds tensors of these names and shapes, and
    those of an `auxiliary_head`, which served the training only.

    Source: Li et al. 2022 (UniFormer: unifying convolution and self-attention for visual recognition); Xiao
    et al. 2018 (Unified perceptual parsing for scene understanding); Mikubill/sd-webui-controlnet:
    annotator/uniformer/uniformer.py, annotator/mmpkg/mmseg/models/decode_heads/uper_head.py.
    """

    def __init__(self, sizes: UniFormerSizes) -> None:
        super().__init__()
        self.backbone = _Backbone(sizes)
        self.decode_head = _UPerHead(sizes)

    @classmethod
    def from_shapes(cls, shapes: Mapping[str, tuple[int, ...]]) -> UniFormer:
        """The network whose file has this key -> shape listing."""
        return cls(UniFormerSizes.of(shapes))

    def forward(self, levels: torch.Tensor) -> torch.Tensor:
        mean, deviation = (levels.new_tensor(each)[:, None, None] for each in (MEAN, DEVIATION))
        return self.decode_head(self.backbone((levels - mean) / deviation))


class _Backbone(nn.Module):
    """Picture -> features of the four stages, at 1/4, 1/8, 1/16 and 1/32 of its size."""

    def __init__(self, sizes: UniFormerSizes) -> None:
        super().__init__()
        first, second, third, fourth = sizes.widths
        self.patch_embed1 = _Patches(3, first, 4)
        self.patch_embed2 = _Patches(first, second, 2)
        self.patch_embed3 = _Patches(second, third, 2)
        self.patch_embed4 = _Patches(third, fourth, 2)
        local, wide = sizes.depths[:2], sizes.depths[2:]
        self.blocks1 = nn.ModuleList(_LocalBlock(first) for _ in range(local[0]))
        self.blocks2 = nn.ModuleList(_LocalBlock(second) for _ in range(local[1]))
        self.blocks3 = nn.ModuleList(_GlobalBlock(third) for _ in range(wide[0]))
        self.blocks4 = nn.ModuleList(_GlobalBlock(fourth) for _ in range(wide[1]))
        self.norm1, self.norm2 = nn.LayerNorm(first, eps=1e-6), nn.LayerNorm(second, eps=1e-6)
        self.norm3, self.norm4 = nn.LayerNorm(third, eps=1e-6), nn.LayerNorm(fourth, eps=1e-6)

    def forward(self, features: torch.Tensor) -> list[torch.Tensor]:
        stages = (
            (self.patch_embed1, self.blocks1, self.norm1),
            (self.patch_embed2, self.blocks2, self.norm2),
            (self.patch_embed3, self.blocks3, self.norm3),
            (self.patch_embed4, self.blocks4, self.norm4),
        )
        taps = []
        for patches, blocks, norm in stages:
            features = patches(features)
            for block in blocks:
                features = block(features)
            taps.append(_over_channels(norm, features))
        return taps


def _over_channels(norm: nn.LayerNorm, features: torch.Tensor) -> torch.Tensor:
    return norm(features.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class _Patches(nn.Module):
    """Each square of `side` pixels becomes one."""

    def __init__(self, before: int, after: int, side: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(after)
        self.proj = nn.Conv2d(before, after, side, side)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return _over_channels(self.norm, self.proj(features))


class _LocalBlock(nn.Module):
    """Each pixel looks at its neighbours by convolutions."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.pos_embed = nn.Conv2d(width, width, 3, padding=1, groups=width)
        self.norm1 = nn.BatchNorm2d(width)
        self.conv1 = nn.Conv2d(width, width, 1)
        self.attn = nn.Conv2d(width, width, 5, padding=2, groups=width)
        self.conv2 = nn.Conv2d(width, width, 1)
        self.norm2 = nn.BatchNorm2d(width)
        self.mlp = _ConvMLP(width)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        features = features + self.pos_embed(features)
        features = features + self.conv2(self.attn(self.conv1(self.norm1(features))))
        return features + self.mlp(self.norm2(features))


class _ConvMLP(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(width, width * WIDENING, 1)
        self.fc2 = nn.Conv2d(width * WIDENING, width, 1)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.fc2(functional.gelu(self.fc1(features)))


class _GlobalBlock(nn.Module):
    """Each pixel looks at all others by attention."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.pos_embed = nn.Conv2d(width, width, 3, padding=1, groups=width)
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attn = _Attention(width)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = _MLP(width)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        features = features + self.pos_embed(features)
        size = features.shape[2:]
        tokens = features.flatten(2).transpose(1, 2)
        tokens = tokens + self.attn(self.norm1(tokens))
        tokens = tokens + self.mlp(self.norm2(tokens))
        return tokens.transpose(1, 2).unflatten(2, size)


class _Attention(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        parts = self.qkv(tokens).unflatten(2, (3, -1, HEAD_WIDTH)).permute(2, 0, 3, 1, 4)
        seen = functional.scaled_dot_product_attention(*parts.unbind())
        return self.proj(seen.transpose(1, 2).flatten(2))


class _MLP(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, width * WIDENING)
        self.fc2 = nn.Linear(width * WIDENING, width)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.fc2(functional.gelu(self.fc1(tokens)))


class _UPerHead(nn.Module):
    """Features of the four stages -> logits at the size of the first."""

    def __init__(self, sizes: UniFormerSizes) -> None:
        super().__init__()
        *others, deepest = sizes.widths
        width = sizes.head
        self.psp_modules = nn.ModuleList(
            nn.Sequential(nn.AdaptiveAvgPool2d(side), _NormedConv(deepest, width, 1)) for side in POOLS
        )
        self.bottleneck = _NormedConv(deepest + len(POOLS) * width, width, 3)
        self.lateral_convs = nn.ModuleList(_NormedConv(each, width, 1) for each in others)
        self.fpn_convs = nn.ModuleList(_NormedConv(width, width, 3) for _ in others)
        self.fpn_bottleneck = _NormedConv(len(sizes.widths) * width, width, 3)
        self.conv_seg = nn.Conv2d(width, sizes.classes, 1)

    def forward(self, taps: list[torch.Tensor]) -> torch.Tensor:
        deepest = taps[-1]
        pooled = [resized(pool(deepest), deepest.shape[2:]) for pool in self.psp_modules]
        levels = [self.bottleneck(torch.cat((deepest, *pooled), dim=1))]
        for lateral, tap in zip(reversed(self.lateral_convs), reversed(taps[:-1]), strict=True):
            levels.insert(0, lateral(tap) + resized(levels[0], tap.shape[2:]))
        size = levels[0].shape[2:]
        levels = [conv(level) for conv, level in zip(self.fpn_convs, levels, strict=False)] + levels[-1:]
        merged = torch.cat([resized(level, size) for level in levels], dim=1)
        return self.conv_seg(self.fpn_bottleneck(merged))


class _NormedConv(nn.Module):
    def __init__(self, before: int, after: int, kernel: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(before, after, kernel, padding=kernel // 2, bias=False)
        self.bn = nn.BatchNorm2d(after)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return functional.relu(self.bn(self.conv(features)), inplace=True)


def resized(maps: torch.Tensor, size: tuple[int, ...]) -> torch.Tensor:
    """Maps (B,C,h,w) -> (B,C,height,width), bilinear, the corners of the outer pixels in place."""
    return functional.interpolate(maps, size=tuple(size), mode="bilinear", align_corners=False)
