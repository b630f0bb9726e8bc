"""PiDiNet: soft edges from pixel differences, with the difference convolutions rewritten as plain ones."""

from typing import Literal

import torch
from torch import nn
from torch.nn import functional

Difference = Literal["plain", "central", "angular", "radial"]

CHANNELS = (60, 120, 240, 240)
KINDS: tuple[Difference, ...] = ("central", "angular", "radial", "plain")
"""The kind of each block, over and over; the very first one is the convolution in front."""

DILATED_CHANNELS = 24
DILATIONS = (5, 7, 9, 11)
NEXT_ON_THE_RING = (3, 0, 1, 6, 4, 2, 7, 8, 5)
"""Taps of a 3 x 3 kernel, row by row, after one step around its middle."""

OUTER_RING = (0, 2, 4, 10, 14, 20, 22, 24)
INNER_RING = (6, 7, 8, 11, 13, 16, 17, 18)
"""Taps of a 5 x 5 kernel that a radial difference puts its eight weights on, plus and minus."""


def plain_kernel(weight: torch.Tensor, kind: Difference) -> torch.Tensor:
    """Weight (out,in,3,3) of a difference convolution -> kernel of the plain one with the same result.

    (out,in,3,3), or (out,in,5,5) for radial differences. Central: the middle tap loses the sum of all.
    Angular: each tap loses its neighbour on the ring. Radial: outer ring minus inner ring.

    Source: Su et al. 2021 (Pixel Difference Networks for Efficient Edge Detection), section 3.
    """
    taps = weight.flatten(2)
    if kind == "central":
        kernel = taps.clone()
        kernel[..., 4] -= taps.sum(-1)
        return kernel.view_as(weight)
    if kind == "angular":
        return (taps - taps[..., NEXT_ON_THE_RING]).view_as(weight)
    if kind == "radial":
        kernel = weight.new_zeros(*weight.shape[:2], 25)
        kernel[..., OUTER_RING] = taps[..., 1:]
        kernel[..., INNER_RING] = -taps[..., 1:]
        return kernel.view(*weight.shape[:2], 5, 5)
    return weight


class PiDiNet(nn.Module):
    """(B,3,h,w) float BGR 0..1 -> (B,1,h,w) edges 0..1.

    The published variant "carv4" with dilation and attention; `table5_pidinet.pth` holds tensors of these
    names and shapes. Any size from 8 x 8 on.

    Source: Su et al. 2021; lllyasviel/ControlNet-v1-1-nightly: annotator/pidinet/model.py.
    """

    def __init__(self) -> None:
        super().__init__()
        self.init_block = _Difference(3, CHANNELS[0], KINDS[0])
        self.stages: list[list[str]] = []
        before, place = CHANNELS[0], 1
        for stage, after in enumerate(CHANNELS, start=1):
            count = 3 if stage == 1 else 4
            names = [f"block{stage}_{number}" for number in range(1, count + 1)]
            for number, name in enumerate(names):
                halves = stage > 1 and number == 0
                self.add_module(name, _Block(before, after, KINDS[place % len(KINDS)], halves))
                before, place = after, place + 1
            self.stages.append(names)
        self.dilations = nn.ModuleList(_Dilated(channels) for channels in CHANNELS)
        self.attentions = nn.ModuleList(_Attention() for _ in CHANNELS)
        self.conv_reduces = nn.ModuleList(_Reduce() for _ in CHANNELS)
        self.classifier = nn.Conv2d(len(CHANNELS), 1, 1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        size = image.shape[-2:]
        features = self.init_block(image)
        maps = []
        for index, names in enumerate(self.stages):
            for name in names:
                features = self.get_submodule(name)(features)
            seen = self.conv_reduces[index](self.attentions[index](self.dilations[index](features)))
            maps.append(functional.interpolate(seen, size, mode="bilinear", align_corners=False))
        return self.classifier(torch.cat(maps, 1)).sigmoid()


class _Difference(nn.Module):
    """A convolution of pixel differences, channel by channel where `before` equals `after`."""

    def __init__(self, before: int, after: int, kind: Difference) -> None:
        super().__init__()
        self.kind: Difference = kind
        self.groups = before if before == after else 1
        self.weight = nn.Parameter(torch.zeros(after, before // self.groups, 3, 3))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        kernel = plain_kernel(self.weight, self.kind)
        return functional.conv2d(features, kernel, padding=kernel.shape[-1] // 2, groups=self.groups)


class _Block(nn.Module):
    """Differences per channel, a mix of the channels, and the input added."""

    def __init__(self, before: int, after: int, kind: Difference, halves: bool) -> None:
        super().__init__()
        self.halves = halves
        if halves:
            self.shortcut = nn.Conv2d(before, after, 1)
        self.conv1 = _Difference(before, before, kind)
        self.conv2 = nn.Conv2d(before, after, 1, bias=False)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        if self.halves:
            features = functional.max_pool2d(features, 2)
        mixed = self.conv2(self.conv1(features).relu_())
        return mixed + (self.shortcut(features) if self.halves else features)


class _Dilated(nn.Module):
    """Four dilated convolutions side by side, summed."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, DILATED_CHANNELS, 1)
        for number, dilation in enumerate(DILATIONS, start=1):
            wide = nn.Conv2d(
                DILATED_CHANNELS, DILATED_CHANNELS, 3, padding=dilation, dilation=dilation, bias=False
            )
            self.add_module(f"conv2_{number}", wide)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        narrow = self.conv1(features.relu())
        one, two, three, four = (self.get_submodule(f"conv2_{n}")(narrow) for n in range(1, 5))
        return one + two + three + four


class _Attention(nn.Module):
    """A factor per pixel."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(DILATED_CHANNELS, 4, 1)
        self.conv2 = nn.Conv2d(4, 1, 3, padding=1, bias=False)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return features * self.conv2(self.conv1(features.relu())).sigmoid()


class _Reduce(nn.Module):
    """The edges that one stage sees."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(DILATED_CHANNELS, 1, 1)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.conv(features)
