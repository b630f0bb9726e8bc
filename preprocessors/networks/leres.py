"""LeReS: relative depth by a ResNeXt and a decoder that merges its four depths."""

import re
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional

from ...adapters.identify import Shapes

ENCODER = "depth_model.encoder_modules.encoder."
DECODER = "depth_model.decoder_modules."


class LeReSSizes(NamedTuple):
    """What a LeReS file's shapes tell: the published widths and depths are the defaults.

    `blocks`: residual blocks per stage. `inner` and `outer`: channels inside and behind the blocks of the
    first stage; each stage has twice as many. `widest` and `merged`: channels of the decoder.
    """

    stem: int = 64
    blocks: tuple[int, ...] = (3, 4, 23, 3)
    inner: int = 256
    outer: int = 256
    groups: int = 32
    widest: int = 512
    merged: int = 256

    @classmethod
    def of(cls, shapes: Shapes) -> "LeReSSizes":
        """Key -> shape listing -> its sizes; what is missing is taken as published."""
        usual = cls()

        def side(key: str, index: int, otherwise: int) -> int:
            shape = shapes.get(key, ())
            return max(1, shape[index]) if index < len(shape) else otherwise

        blocks = [0] * len(usual.blocks)
        for key in shapes:
            found = re.fullmatch(re.escape(ENCODER) + r"layer([1-4])\.\d+\.conv1\.weight", key)
            if found:
                blocks[int(found[1]) - 1] += 1
        inner = side(f"{ENCODER}layer1.0.conv1.weight", 0, usual.inner)
        per_group = side(f"{ENCODER}layer1.0.conv2.weight", 1, usual.inner // usual.groups)
        return cls(
            stem=side(f"{ENCODER}conv1.weight", 0, usual.stem),
            blocks=tuple(count or known for count, known in zip(blocks, usual.blocks, strict=True)),
            inner=inner,
            outer=side(f"{ENCODER}layer1.0.conv3.weight", 0, usual.outer),
            groups=inner // per_group if inner % per_group == 0 else 1,
            widest=side(f"{DECODER}conv.conv1.weight", 0, usual.widest),
            merged=side(f"{DECODER}conv1.weight", 0, usual.merged),
        )


class LeReS(nn.Module):
    """(B,3,h,w) float BGR, ImageNet-normalised as `leres_input` does -> (B,1,h,w) float, far
    is greater, in no unit.

    Height and width are multiples of 32. `res101.pth` holds tensors of these names and shapes.

    Source: Yin et al. 2021 (Learning to recover 3D scene shape from a single image);
    Mikubill/sd-webui-controlnet: annotator/leres/leres/network_auxi.py, Resnext_torch.py.
    """

    def __init__(self, shapes: Shapes) -> None:
        super().__init__()
        sizes = LeReSSizes.of(shapes)
        encoder = nn.ModuleDict({"encoder": _Encoder(sizes)})
        self.depth_model = nn.ModuleDict({"encoder_modules": encoder, "decoder_modules": _Decoder(sizes)})

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        features = self.get_submodule(ENCODER.rstrip("."))(image)
        return self.get_submodule(DECODER.rstrip("."))(features)


class _Encoder(nn.Module):
    """ResNeXt: features at a quarter, an eighth, a sixteenth and a thirty-second of the size."""

    def __init__(self, sizes: LeReSSizes) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, sizes.stem, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(sizes.stem)
        before = sizes.stem
        for stage, count in enumerate(sizes.blocks):
            inner, outer = sizes.inner << stage, sizes.outer << stage
            first = _Block(
                before, inner, outer, sizes.groups, _Shortcut(before, outer, 1 if stage == 0 else 2)
            )
            rest = [_Block(outer, inner, outer, sizes.groups) for _ in range(count - 1)]
            self.add_module(f"layer{stage + 1}", nn.Sequential(first, *rest))
            before = outer

    def forward(self, image: torch.Tensor) -> list[torch.Tensor]:
        features = self.bn1(self.conv1(image)).relu_()
        features = functional.max_pool2d(features, 3, stride=2, padding=1)
        depths = []
        for stage in range(1, 5):
            features = self.get_submodule(f"layer{stage}")(features)
            depths.append(features)
        return depths


class _Shortcut(nn.Sequential):
    """The way round a block that changes size or channels."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__(nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after))
        self.stride = stride


class _Block(nn.Module):
    """A residual block whose middle convolution works in groups of channels."""

    def __init__(
        self, before: int, inner: int, outer: int, groups: int, shortcut: _Shortcut | None = None
    ) -> None:
        super().__init__()
        stride = shortcut.stride if shortcut else 1
        self.conv1 = nn.Conv2d(before, inner, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(inner)
        self.conv2 = nn.Conv2d(inner, inner, 3, stride, padding=1, groups=groups, bias=False)
        self.bn2 = nn.BatchNorm2d(inner)
        self.conv3 = nn.Conv2d(inner, outer, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outer)
        self.downsample = shortcut

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        seen = self.bn1(self.conv1(features)).relu_()
        seen = self.bn2(self.conv2(seen)).relu_()
        seen = self.bn3(self.conv3(seen))
        seen += features if self.downsample is None else self.downsample(features)
        return seen.relu_()


class _Decoder(nn.Module):
    """From the coarsest features up, each time twice the size, to a map of the picture's size."""

    def __init__(self, sizes: LeReSSizes) -> None:
        super().__init__()
        merged, outer = sizes.merged, sizes.outer
        self.conv = _Adapt(outer << 3, sizes.widest)
        self.conv1 = nn.Conv2d(sizes.widest, merged, 3, padding=1)
        self.ffm2 = _Merge(outer << 2, merged)
        self.ffm1 = _Merge(outer << 1, merged)
        self.ffm0 = _Merge(outer, merged)
        self.outconv = _Output(merged)

    def forward(self, depths: list[torch.Tensor]) -> torch.Tensor:
        quarter, eighth, sixteenth, coarsest = depths
        features = _doubled(self.conv1(self.conv(coarsest)))
        features = self.ffm2(sixteenth, features)
        features = self.ffm1(eighth, features)
        return self.outconv(self.ffm0(quarter, features))


class _Adapt(nn.Module):
    """A convolution and a residual branch behind it.

    What the branch is added to has passed its ReLU, because in the reference that one works in place.
    """

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 3, padding=1)
        self.conv_branch = nn.Sequential(
            nn.ReLU(inplace=True),
            nn.Conv2d(after, after, 3, padding=1),
            nn.BatchNorm2d(after),
            nn.ReLU(inplace=True),
            nn.Conv2d(after, after, 3, padding=1),
        )

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        features = self.conv_branch[0](self.conv1(features))
        return (features + self.conv_branch[1:](features)).relu_()


class _Merge(nn.Module):
    """Features of the encoder on top of the coarser ones, then twice the size."""

    def __init__(self, before: int, merged: int) -> None:
        super().__init__()
        self.ftb1 = _Adapt(before, merged)
        self.ftb2 = _Adapt(merged, merged)

    def forward(self, seen: torch.Tensor, coarser: torch.Tensor) -> torch.Tensor:
        return _doubled(self.ftb2(self.ftb1(seen) + coarser))


class _Output(nn.Module):
    def __init__(self, merged: int) -> None:
        super().__init__()
        self.adapt_conv = nn.Sequential(
            nn.Conv2d(merged, merged // 2, 3, padding=1),
            nn.BatchNorm2d(merged // 2),
            nn.ReLU(inplace=True),
            nn.Conv2d(merged // 2, 1, 3, padding=1),
        )

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return _doubled(self.adapt_conv(features))


def _doubled(features: torch.Tensor) -> torch.Tensor:
    return functional.interpolate(features, scale_factor=2.0, mode="bilinear", align_corners=True)
