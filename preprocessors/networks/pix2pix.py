"""The U-Net of pix2pix, which anime line art and the merging of depth maps share."""

import torch
from torch import nn


class UNet(nn.Module):
    """(B,`before`,h,w) float -> (B,1,h,w) float -1..1. Height and width are multiples of 2^`halvings`.

    `width`: channels after the first halving; after the fourth there are eight times as many. `is_normed`:
    each channel of each picture is normalised between the levels, and the convolutions have biases.

    Source: Isola et al. 2017 (Image-to-image translation with conditional adversarial networks), section
    6.1.1; lllyasviel/ControlNet-v1-1-nightly: annotator/lineart_anime/__init__.py (UnetGenerator).
    """

    def __init__(self, before: int, width: int, halvings: int, *, is_normed: bool) -> None:
        super().__init__()
        step = _innermost(8 * width, is_normed)
        for _ in range(halvings - 5):
            step = _between(8 * width, 8 * width, step, is_normed)
        for outer in (4 * width, 2 * width, width):
            step = _between(outer, 2 * outer, step, is_normed)
        first, last = _halving(before, width, is_normed), _doubling(2 * width, 1, has_bias=True)
        self.model = _Step(first, step, nn.ReLU(inplace=True), last, nn.Tanh())

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.model.model(image)


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


def _innermost(channels: int, is_normed: bool) -> _SkipStep:
    return _SkipStep(
        nn.LeakyReLU(0.2, inplace=True),
        _halving(channels, channels, is_normed),
        nn.ReLU(inplace=True),
        _doubling(channels, channels, is_normed),
        _norm(channels, is_normed),
    )


def _between(outer: int, inner: int, deeper: _SkipStep, is_normed: bool) -> _SkipStep:
    return _SkipStep(
        nn.LeakyReLU(0.2, inplace=True),
        _halving(outer, inner, is_normed),
        _norm(inner, is_normed),
        deeper,
        nn.ReLU(inplace=True),
        _doubling(2 * inner, outer, is_normed),
        _norm(outer, is_normed),
    )


def _halving(before: int, after: int, has_bias: bool) -> nn.Conv2d:
    return nn.Conv2d(before, after, kernel_size=4, stride=2, padding=1, bias=has_bias)


def _doubling(before: int, after: int, has_bias: bool) -> nn.ConvTranspose2d:
    return nn.ConvTranspose2d(before, after, kernel_size=4, stride=2, padding=1, bias=has_bias)


def _norm(channels: int, is_normed: bool) -> nn.Module:
    return nn.InstanceNorm2d(channels) if is_normed else nn.Identity()
