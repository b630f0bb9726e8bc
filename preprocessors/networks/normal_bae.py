"""Surface normals with their uncertainty: EfficientNet-B5, a decoder, and a refinement of every pixel."""

import torch
from torch import nn
from torch.nn import functional

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of ImageNet's RGB pictures in 0..1."""

STAGES = (
    (3, 3, 1, 24),
    (5, 3, 2, 40),
    (5, 5, 2, 64),
    (7, 3, 2, 128),
    (7, 5, 1, 176),
    (9, 5, 2, 304),
    (3, 3, 1, 512),
)
"""EfficientNet-B5: blocks, kernel, stride of the first block, channels."""

TAPS = (0, 1, 2, 4)
"""Stages whose features the decoder reads: the last ones at 1/2, 1/4, 1/8 and 1/16 of the size."""

WIDENING = 6
LEAST_KAPPA = 0.01


class NormalBae(nn.Module):
    """(B,3,h,w) float RGB levels 0..255 -> (B,3,h,w) float: unit vectors x, y, z in -1..1.

    Height and width are multiples of 32. `scannet.pt` holds tensors of these names and shapes.

    Source: Bae et al. 2021 (Estimating and exploiting the aleatoric uncertainty in surface normal
    estimation); Tan and Le 2019 (EfficientNet), with TensorFlow's padding;
    lllyasviel/ControlNet-v1-1-nightly: annotator/normalbae/models/NNET.py.
    """

    def __init__(self) -> None:
        super().__init__()
        self.encoder = _Encoder()
        self.decoder = _Decoder()

    def forward(self, levels: torch.Tensor) -> torch.Tensor:
        mean, deviation = (levels.new_tensor(each)[:, None, None] for each in (MEAN, DEVIATION))
        return self.decoder(self.encoder((levels / 255.0 - mean) / deviation))[:, :3]


class _Encoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.original_model = _EfficientNet()

    def forward(self, picture: torch.Tensor) -> list[torch.Tensor]:
        return self.original_model(picture)


class _EfficientNet(nn.Module):
    """`bn2` is in the file, but what the decoder reads was taken in front of it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv_stem = _SameConv(3, 48, 3, stride=2)
        self.bn1 = _norm(48)
        stages, before = [], 48
        for count, kernel, stride, after in STAGES:
            kind = _Inverted if stages else _Separable
            blocks = [kind(before, after, kernel, stride)]
            blocks += [kind(after, after, kernel, 1) for _ in range(count - 1)]
            stages.append(nn.Sequential(*blocks))
            before = after
        self.blocks = nn.ModuleList(stages)
        self.conv_head = nn.Conv2d(before, 2048, 1, bias=False)
        self.bn2 = _norm(2048)

    def forward(self, picture: torch.Tensor) -> list[torch.Tensor]:
        features = functional.silu(self.bn1(self.conv_stem(picture)), inplace=True)
        taps = []
        for index, stage in enumerate(self.blocks):
            features = stage(features)
            if index in TAPS:
                taps.append(features)
        return [*taps, self.conv_head(features)]


class _SameConv(nn.Conv2d):
    """Convolution padded as in TensorFlow: of an odd number of rows, the greater part goes to the bottom."""

    def __init__(self, before: int, after: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__(
            before, after, kernel, stride, 0 if stride == 2 else kernel // 2, groups=groups, bias=False
        )

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        if self.stride[0] == 2:
            above = (self.kernel_size[0] - 2) // 2
            below = self.kernel_size[0] - 2 - above
            input = functional.pad(input, (above, below, above, below))
        return super().forward(input)


class _Separable(nn.Module):
    def __init__(self, before: int, after: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.conv_dw = _SameConv(before, before, kernel, stride, groups=before)
        self.bn1 = _norm(before)
        self.se = _Gate(before, before // 4)
        self.conv_pw = nn.Conv2d(before, after, 1, bias=False)
        self.bn2 = _norm(after)
        self.adds = before == after and stride == 1

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        deep = functional.silu(self.bn1(self.conv_dw(features)), inplace=True)
        deep = self.bn2(self.conv_pw(self.se(deep)))
        return deep + features if self.adds else deep


class _Inverted(nn.Module):
    def __init__(self, before: int, after: int, kernel: int, stride: int) -> None:
        super().__init__()
        wide = before * WIDENING
        self.conv_pw = nn.Conv2d(before, wide, 1, bias=False)
        self.bn1 = _norm(wide)
        self.conv_dw = _SameConv(wide, wide, kernel, stride, groups=wide)
        self.bn2 = _norm(wide)
        self.se = _Gate(wide, before // 4)
        self.conv_pwl = nn.Conv2d(wide, after, 1, bias=False)
        self.bn3 = _norm(after)
        self.adds = before == after and stride == 1

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        deep = functional.silu(self.bn1(self.conv_pw(features)), inplace=True)
        deep = functional.silu(self.bn2(self.conv_dw(deep)), inplace=True)
        deep = self.bn3(self.conv_pwl(self.se(deep)))
        return deep + features if self.adds else deep


class _Gate(nn.Module):
    """Squeeze and excitation: each channel times a factor made from all channels' means."""

    def __init__(self, channels: int, narrow: int) -> None:
        super().__init__()
        self.conv_reduce = nn.Conv2d(channels, narrow, 1)
        self.conv_expand = nn.Conv2d(narrow, channels, 1)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        means = features.mean((2, 3), keepdim=True)
        return features * self.conv_expand(functional.silu(self.conv_reduce(means))).sigmoid()


class _Decoder(nn.Module):
    """Features at 1/2, 1/4, 1/8, 1/16 and 1/32 of the size -> (B,4,h,w): unit vector and its certainty."""

    def __init__(self) -> None:
        super().__init__()
        self.conv2 = nn.Conv2d(2048, 2048, 1)
        self.up1 = _Up(2048 + 176, 1024)
        self.up2 = _Up(1024 + 64, 512)
        self.up3 = _Up(512 + 40, 256)
        self.up4 = _Up(256 + 24, 128)
        self.out_conv_res8 = nn.Conv2d(512, 4, 3, padding=1)
        self.out_conv_res4 = _pixel_net(512 + 4)
        self.out_conv_res2 = _pixel_net(256 + 4)
        self.out_conv_res1 = _pixel_net(128 + 4)

    def forward(self, taps: list[torch.Tensor]) -> torch.Tensor:
        half, quarter, eighth, sixteenth, deepest = taps
        features = self.up1(self.conv2(deepest), sixteenth)
        at_eighth = self.up2(features, eighth)
        at_quarter = self.up3(at_eighth, quarter)
        at_half = self.up4(at_quarter, half)
        normals = _unit(self.out_conv_res8(at_eighth))
        normals = _refined(self.out_conv_res4, at_eighth, normals)
        normals = _refined(self.out_conv_res2, at_quarter, normals)
        return _refined(self.out_conv_res1, at_half, normals)


class _Up(nn.Module):
    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self._net = nn.Sequential(
            nn.Conv2d(before, after, 3, padding=1),
            nn.BatchNorm2d(after),
            nn.LeakyReLU(inplace=True),
            nn.Conv2d(after, after, 3, padding=1),
            nn.BatchNorm2d(after),
            nn.LeakyReLU(inplace=True),
        )

    def forward(self, below: torch.Tensor, skip: torch.Tensor) -> torch.Tensor:
        return self._net(torch.cat((_enlarged(below), skip), dim=1))


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3)


def _pixel_net(before: int) -> nn.Sequential:
    """The same small network for every pixel."""
    return nn.Sequential(
        nn.Conv1d(before, 128, 1),
        nn.ReLU(inplace=True),
        nn.Conv1d(128, 128, 1),
        nn.ReLU(inplace=True),
        nn.Conv1d(128, 128, 1),
        nn.ReLU(inplace=True),
        nn.Conv1d(128, 4, 1),
    )


def _refined(net: nn.Sequential, features: torch.Tensor, normals: torch.Tensor) -> torch.Tensor:
    """Normals (B,4,h,w) and the features they came from -> normals (B,4,2h,2w).

    The reference enlarges both, then runs the network. Its first layer weighs channels and enlarging weighs
    pixels, so the two may change places: a quarter of the work.
    """
    first, *others = net
    small = first(torch.cat((features, normals), dim=1).flatten(2))
    pixels = _enlarged(small.unflatten(2, features.shape[2:]))
    size = pixels.shape[2:]
    pixels = pixels.flatten(2)
    for layer in others:
        pixels = layer(pixels)
    return _unit(pixels.unflatten(2, size))


def _enlarged(features: torch.Tensor) -> torch.Tensor:
    return functional.interpolate(features, scale_factor=2.0, mode="bilinear", align_corners=True)


def _unit(raw: torch.Tensor) -> torch.Tensor:
    """(B,4,h,w) -> its first three channels as unit vectors, the last one positive: how sure they are."""
    vectors, kappa = raw[:, :3], raw[:, 3:]
    lengths = vectors.square().sum(1, keepdim=True).sqrt() + 1e-10
    return torch.cat((vectors / lengths, functional.elu(kappa) + (1.0 + LEAST_KAPPA)), dim=1)
