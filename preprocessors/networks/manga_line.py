"""MangaLineExtraction: lines of drawn pictures, without screen tone and noise."""

import torch
from torch import nn


class MangaLineExtraction(nn.Module):
    """(B,1,h,w) float gray levels 0..255 -> (B,1,h,w) float levels, dark lines on white, unclipped.

    Height and width are multiples of 16. `erika.pth` holds tensors of these names and shapes.

    Source: Li, Liu, Wong 2017 (Deep extraction of manga structural lines);
    Mikubill/sd-webui-controlnet: annotator/manga_line/__init__.py (res_skip).
    """

    def __init__(self) -> None:
        super().__init__()
        self.block0 = _Stage(1, 24, 2)
        self.block1 = _Stage(24, 48, 3, halves=True)
        self.block2 = _Stage(48, 96, 5, halves=True)
        self.block3 = _Stage(96, 192, 7, halves=True)
        self.block4 = _Stage(192, 384, 12, halves=True)
        self.block5 = _Stage(384, 192, 7, doubles=True)
        self.block6 = _Stage(192, 96, 5, doubles=True)
        self.block7 = _Stage(96, 48, 3, doubles=True)
        self.block8 = _Stage(48, 24, 2, doubles=True)
        self.block9 = _Stage(24, 16, 2)
        self.conv15 = _NormedConv(16, 1, kernel=1)

    def forward(self, levels: torch.Tensor) -> torch.Tensor:
        full = self.block0(levels)
        half = self.block1(full)
        quarter = self.block2(half)
        eighth = self.block3(quarter)
        features = eighth + self.block5(self.block4(eighth))
        features = quarter + self.block6(features)
        features = half + self.block7(features)
        features = full + self.block8(features)
        return self.conv15(self.block9(features))


class _Stage(nn.Module):
    """`count` residual blocks. The last one halves the size, or the first one doubles it."""

    def __init__(
        self, before: int, after: int, count: int, *, halves: bool = False, doubles: bool = False
    ) -> None:
        super().__init__()
        blocks = [_Block(before, after, doubles=doubles)]
        blocks += [
            _Block(after, after, stride=2 if halves and i == count - 1 else 1) for i in range(1, count)
        ]
        self.model = nn.Sequential(*blocks)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.model(features)


class _Block(nn.Module):
    def __init__(self, before: int, after: int, *, stride: int = 1, doubles: bool = False) -> None:
        super().__init__()
        self.conv1 = _NormedConv(before, after, stride=stride, doubles=doubles)
        self.residual = _NormedConv(after, after)
        self.shortcut = _Shortcut(before, after, stride, doubles)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.shortcut(features) + self.residual(self.conv1(features))


class _NormedConv(nn.Module):
    """Normalisation and activation in front of a convolution, and an enlargement behind it."""

    def __init__(
        self, before: int, after: int, *, kernel: int = 3, stride: int = 1, doubles: bool = False
    ) -> None:
        super().__init__()
        self.model = nn.Sequential(
            nn.BatchNorm2d(before, eps=1e-3),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Conv2d(before, after, kernel, stride, padding=kernel // 2),
            *_enlargement(doubles),
        )

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.model(features)


class _Shortcut(nn.Module):
    """The way past a block: a 1 x 1 convolution where channels or size change, else the features."""

    def __init__(self, before: int, after: int, stride: int, doubles: bool) -> None:
        super().__init__()
        if before == after and stride == 1:
            self.model: nn.Module = nn.Identity()
        else:
            self.model = nn.Sequential(nn.Conv2d(before, after, 1, stride), *_enlargement(doubles))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.model(features)


def _enlargement(doubles: bool) -> tuple[nn.Module, ...]:
    return (nn.Upsample(scale_factor=2, mode="nearest"),) if doubles else ()
