"""The generator of realistic and coarse line art: one architecture, two published files."""

import torch
from torch import nn

RESIDUAL_BLOCKS = 3


class LineArtGenerator(nn.Module):
    """(B,3,h,w) float RGB levels 0..255 -> (B,1,h,w) float 0..1, dark lines on white.

    Height and width are multiples of 4. `sk_model.pth` (realistic) and `sk_model2.pth` (coarse) hold
    tensors of these names and shapes.

    Source: Chan, Durand, Isola 2022 (Learning to generate line drawings that convey geometry and semantics);
    lllyasviel/ControlNet-v1-1-nightly: annotator/lineart/__init__.py (Generator).
    """

    def __init__(self) -> None:
        super().__init__()
        self.model0 = nn.Sequential(nn.ReflectionPad2d(3), nn.Conv2d(3, 64, 7), *_normed(64))
        self.model1 = nn.Sequential(*_halving(64, 128), *_halving(128, 256))
        self.model2 = nn.Sequential(*(_ResidualBlock(256) for _ in range(RESIDUAL_BLOCKS)))
        self.model3 = nn.Sequential(*_doubling(256, 128), *_doubling(128, 64))
        self.model4 = nn.Sequential(nn.ReflectionPad2d(3), nn.Conv2d(64, 1, 7), nn.Sigmoid())

    def forward(self, levels: torch.Tensor) -> torch.Tensor:
        features = self.model1(self.model0(levels / 255.0))
        return self.model4(self.model3(self.model2(features)))


class _ResidualBlock(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv_block = nn.Sequential(
            nn.ReflectionPad2d(1),
            nn.Conv2d(channels, channels, 3),
            *_normed(channels),
            nn.ReflectionPad2d(1),
            nn.Conv2d(channels, channels, 3),
            nn.InstanceNorm2d(channels),
        )

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return features + self.conv_block(features)


def _normed(channels: int) -> tuple[nn.Module, nn.Module]:
    return nn.InstanceNorm2d(channels), nn.ReLU(inplace=True)


def _halving(before: int, after: int) -> tuple[nn.Module, ...]:
    return nn.Conv2d(before, after, 3, stride=2, padding=1), *_normed(after)


def _doubling(before: int, after: int) -> tuple[nn.Module, ...]:
    enlarging = nn.ConvTranspose2d(before, after, 3, stride=2, padding=1, output_padding=1)
    return enlarging, *_normed(after)
