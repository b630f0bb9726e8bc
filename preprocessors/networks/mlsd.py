"""M-LSD large: centres of straight lines, and where each line starts and ends."""

import torch
from torch import nn
from torch.nn import functional

TRUNK = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1))
"""MobileNetV2: widening inside the blocks, channels, blocks, stride of the first of them."""

TAPS = (1, 3, 6, 10, 13)
"""The trunk's layers whose features the decoder reads: after each group of blocks."""

MAPS = slice(7, 12)
"""Of the 16 channels of the last layer: centre logit, then start x, y and end x, y from the centre."""


class MLSD(nn.Module):
    """(B,3,h,w) float RGB levels 0..255 -> (B,5,h/2,w/2) float: centre logit, then the displacements of
    start x, start y, end x and end y from the centre, in pixels of this half-sized map.

    Height and width are multiples of 32. `mlsd_large_512_fp32.pth` holds tensors of these names and shapes.

    Source: Gu et al. 2022 (Towards light-weight and real-time line segment detection);
    lllyasviel/ControlNet-v1-1-nightly: annotator/mlsd/models/mbv2_mlsd_large.py (MobileV2_MLSD_Large).
    """

    def __init__(self) -> None:
        super().__init__()
        self.backbone = _Trunk()
        self.block15 = _Merge(64, 96, enlarges=False)
        self.block16 = _Refine(128, 64)
        self.block17 = _Merge(32, 64)
        self.block18 = _Refine(128, 64)
        self.block19 = _Merge(24, 64)
        self.block20 = _Refine(128, 64)
        self.block21 = _Merge(16, 64)
        self.block22 = _Refine(128, 64)
        self.block23 = _Head(64, 16)

    def forward(self, levels: torch.Tensor) -> torch.Tensor:
        half, quarter, eighth, sixteenth, features = self.backbone(_with_plane_of_ones(levels))
        features = self.block16(self.block15(sixteenth, features))
        features = self.block18(self.block17(eighth, features))
        features = self.block20(self.block19(quarter, features))
        features = self.block22(self.block21(half, features))
        return self.block23(features)[:, MAPS]


def _with_plane_of_ones(levels: torch.Tensor) -> torch.Tensor:
    """(B,3,h,w) levels -> (B,4,h,w) in -1..1. The plane of ones is one *level*, scaled like the others."""
    return torch.cat((levels, torch.ones_like(levels[:, :1])), dim=1) / 127.5 - 1.0


class _Trunk(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = [_NormedConv(4, 32, stride=2)]
        before = 32
        for widening, after, count, stride in TRUNK:
            for index in range(count):
                layers.append(_InvertedResidual(before, after, stride if index == 0 else 1, widening))
                before = after
        self.features = nn.Sequential(*layers)

    def forward(self, features: torch.Tensor) -> list[torch.Tensor]:
        taps = []
        for index, layer in enumerate(self.features):
            features = layer(features)
            if index in TAPS:
                taps.append(features)
        return taps


class _NormedConv(nn.Sequential):
    """Convolution, normalisation, ReLU6. Stride 2 pads on the right and at the bottom only."""

    def __init__(self, before: int, after: int, kernel: int = 3, stride: int = 1, groups: int = 1) -> None:
        padding = 0 if stride == 2 else kernel // 2
        super().__init__(
            nn.Conv2d(before, after, kernel, stride, padding, groups=groups, bias=False),
            nn.BatchNorm2d(after),
            nn.ReLU6(inplace=True),
        )
        self.halves = stride == 2

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return super().forward(functional.pad(input, (0, 1, 0, 1)) if self.halves else input)


class _InvertedResidual(nn.Module):
    def __init__(self, before: int, after: int, stride: int, widening: int) -> None:
        super().__init__()
        wide = before * widening
        first = [_NormedConv(before, wide, kernel=1)] if widening != 1 else []
        self.conv = nn.Sequential(
            *first,
            _NormedConv(wide, wide, stride=stride, groups=wide),
            nn.Conv2d(wide, after, 1, bias=False),
            nn.BatchNorm2d(after),
        )
        self.adds = stride == 1 and before == after

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return features + self.conv(features) if self.adds else self.conv(features)


class _Merge(nn.Module):
    """Features of the trunk beside those from below, 64 channels each, at the trunk's size."""

    def __init__(self, trunk: int, below: int, *, enlarges: bool = True) -> None:
        super().__init__()
        self.conv1 = _activated(nn.Conv2d(below, 64, 1))
        self.conv2 = _activated(nn.Conv2d(trunk, 64, 1))
        self.enlarges = enlarges

    def forward(self, trunk: torch.Tensor, below: torch.Tensor) -> torch.Tensor:
        below = self.conv1(below)
        if self.enlarges:
            below = functional.interpolate(below, scale_factor=2.0, mode="bilinear", align_corners=True)
        return torch.cat((self.conv2(trunk), below), dim=1)


class _Refine(nn.Module):
    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.conv1 = _activated(nn.Conv2d(before, before, 3, padding=1))
        self.conv2 = _activated(nn.Conv2d(before, after, 3, padding=1))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.conv2(self.conv1(features) + features)


class _Head(nn.Module):
    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.conv1 = _activated(nn.Conv2d(before, before, 3, padding=5, dilation=5))
        self.conv2 = _activated(nn.Conv2d(before, before, 3, padding=1))
        self.conv3 = nn.Conv2d(before, after, 1)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.conv3(self.conv2(self.conv1(features)))


def _activated(conv: nn.Conv2d) -> nn.Sequential:
    return nn.Sequential(conv, nn.BatchNorm2d(conv.out_channels), nn.ReLU(inplace=True))
