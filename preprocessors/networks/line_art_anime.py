"""The U-Net of anime line art."""

import torch
from torch import nn


class LineArtAnimeUNet(nn.Module):
    """(B,3,h,w) float RGB levels 0..255 -> (B,1,h,w) float -1..1, dark lines on white.

    Height and width are multiples of 256. `netG.pth` holds tensors of these names and shapes.

    Source: Isola et al. 2017 (pix2pix), section 6.1.1;
    lllyasviel/ControlNet-v1-1-nightly: annotator/lineart_anime/__init__.py (UnetGenerator).
    """

    def __init__(self) -> None:
        super().__init__()
        step = _innermost(512)
        for outer, inner in ((512, 512), (512, 512), (512, 512), (256, 512), (128, 256), (64, 128)):
            step = _between(outer, inner, step)
        self.model = _Step(_halving(3, 64), step, nn.ReLU(inplace=True), _doubling(128, 1), nn.Tanh())

    def forward(self, levels: torch.Tensor) -> torch.Tensor:
        return self.model.model(levels / 127.5 - 1.0)


class _Step(nn.Module):
    """One level of the U-Net, with the deeper ones inside it."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.model = nn.Sequential(*layers)


class _SkipStep(_Step):
    """A level whose input is laid beside its output: the input after the leaky ReLU in front of it.

    In the reference the skip carries these values because its ReLU works in place.
    """

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        features = self.model[0](features)
        return torch.cat((features, self.model[1:](features)), dim=1)


def _innermost(channels: int) -> _SkipStep:
    return _SkipStep(
        nn.LeakyReLU(0.2, inplace=True),
        _halving(channels, channels),
        nn.ReLU(inplace=True),
        _doubling(channels, channels),
        nn.InstanceNorm2d(channels),
    )


def _between(outer: int, inner: int, deeper: _SkipStep) -> _SkipStep:
    return _SkipStep(
        nn.LeakyReLU(0.2, inplace=True),
        _halving(outer, inner),
        nn.InstanceNorm2d(inner),
        deeper,
        nn.ReLU(inplace=True),
        _doubling(2 * inner, outer),
        nn.InstanceNorm2d(outer),
    )


def _halving(before: int, after: int) -> nn.Conv2d:
    return nn.Conv2d(before, after, kernel_size=4, stride=2, padding=1)


def _doubling(before: int, after: int) -> nn.ConvTranspose2d:
    return nn.ConvTranspose2d(before, after, kernel_size=4, stride=2, padding=1)
