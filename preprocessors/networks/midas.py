"""MiDaS DPT-hybrid: relative inverse depth, by a convolutional trunk, a transformer and a DPT decoder."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

from .dpt import Merging, enlarged
from .vit import NORM_EPSILON, Block

PATCH = 16
"""Side of the square of pixels that one token stands for."""

HEAD_WIDTH = 64
"""Channels per head of attention."""

PLACES = 577
"""Learned places of tokens: one for the picture as a whole, and a grid of 24 x 24."""

GROUPS = 32
"""Groups of channels that are normalised together in the trunk."""

KERNEL_EPSILON = 1e-8
LAST_FEATURES = 32
TRUNK = "pretrained.model.patch_embed.backbone"


@dataclass(frozen=True)
class Stage:
    """Blocks of the trunk at one size: channels inside a block, channels between them, their number."""

    inner: int
    outer: int
    blocks: int


@dataclass(frozen=True)
class MidasSizes:
    """Channels of the trunk's first layer, its three stages; the transformer's width, blocks and wider layer;
    the channels in which the decoder merges, and the classes of a head that no one asks for depth."""

    stem: int
    stages: tuple[Stage, Stage, Stage]
    width: int
    blocks: int
    wide: int
    features: int
    classes: int


def midas(shapes: Mapping[str, tuple[int, ...]]) -> "Midas":
    """Key -> shape listing of a file of this kind -> the network of its size."""

    def count(start: str, ending: str) -> int:
        return sum(key.startswith(start) and key.endswith(ending) for key in shapes)

    def stage(index: int) -> Stage:
        name = f"{TRUNK}.stages.{index}.blocks."
        outer, inner = shapes[f"{name}0.conv3.weight"][:2]
        return Stage(inner, outer, count(name, ".conv3.weight"))

    wide, width = shapes["pretrained.model.blocks.0.mlp.fc1.weight"]
    return Midas(
        MidasSizes(
            stem=shapes[f"{TRUNK}.stem.conv.weight"][0],
            stages=(stage(0), stage(1), stage(2)),
            width=width,
            blocks=count("pretrained.model.blocks.", ".norm1.weight"),
            wide=wide,
            features=shapes["scratch.layer1_rn.weight"][0],
            classes=shapes["pretrained.model.head.weight"][0],
        )
    )


class Midas(nn.Module):
    """(B,3,h,w) float RGB -1..1 -> (B,1,h,w) inverse depth from 0, near = large.

    Height and width are multiples of 32. `dpt_hybrid-midas-501f0c75.pt` holds tensors of these names and
    shapes; depth is relative, without unit.

    Source: Ranftl et al. 2021 (Vision transformers for dense prediction);
    isl-org/MiDaS: midas/dpt_depth.py (DPTDepthModel, vitb_rn50_384).
    """

    def __init__(self, sizes: MidasSizes) -> None:
        super().__init__()
        self.pretrained = _Encoder(sizes)
        channels = sizes.stages[0].outer, sizes.stages[1].outer, sizes.width, sizes.width
        self.scratch = _Scratch(channels, sizes.features)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.scratch(self.pretrained(image))


class _Encoder(nn.Module):
    """Picture -> maps of a quarter, an eighth, a sixteenth and a thirty-second of its size."""

    def __init__(self, sizes: MidasSizes) -> None:
        super().__init__()
        self.model = _Transformer(sizes)
        self.act_postprocess3 = _Reassembly(sizes.width, halves=False)
        self.act_postprocess4 = _Reassembly(sizes.width, halves=True)

    def forward(self, image: torch.Tensor) -> list[torch.Tensor]:
        quarter, eighth, early, late = self.model(image)
        grid = image.shape[-2] // PATCH, image.shape[-1] // PATCH
        return [quarter, eighth, self.act_postprocess3(early, grid), self.act_postprocess4(late, grid)]


class _Transformer(nn.Module):
    """The trunk's features become tokens. The norm and the head for classes are in the files, but unused."""

    def __init__(self, sizes: MidasSizes) -> None:
        super().__init__()
        width = sizes.width
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, PLACES, width))
        self.patch_embed = _Embedding(sizes)
        heads = max(1, width // HEAD_WIDTH)
        self.blocks = nn.ModuleList(Block(width, heads, sizes.wide) for _ in range(sizes.blocks))
        self.norm = nn.LayerNorm(width, eps=NORM_EPSILON)
        self.head = nn.Linear(width, sizes.classes)
        self.taps = sizes.blocks * 3 // 4 - 1, sizes.blocks - 1

    def forward(self, image: torch.Tensor) -> list[torch.Tensor]:
        """(B,3,h,w) -> two maps of the trunk, then the tokens (B,1+n,width) of two blocks."""
        quarter, eighth, squares = self.patch_embed(image)
        tokens = squares.flatten(2).transpose(1, 2) + self._places(squares.shape[-2:])
        whole = (self.cls_token + self.pos_embed[:, :1]).expand(len(tokens), -1, -1)
        tokens = torch.cat((whole, tokens), dim=1)
        read = [quarter, eighth]
        for index, block in enumerate(self.blocks):
            tokens = block(tokens)
            if index in self.taps:
                read.append(tokens)
        return read

    def _places(self, grid: torch.Size) -> torch.Tensor:
        """The learned places (1,n,width), spread over a grid of squares."""
        learned = self.pos_embed[:, 1:].transpose(1, 2)
        side = round(learned.shape[2] ** 0.5)
        spread = functional.interpolate(learned.unflatten(2, (side, side)), tuple(grid), mode="bilinear")
        return spread.flatten(2).transpose(1, 2)


class _Embedding(nn.Module):
    def __init__(self, sizes: MidasSizes) -> None:
        super().__init__()
        self.backbone = _Trunk(sizes)
        self.proj = nn.Conv2d(sizes.stages[2].outer, sizes.width, 1)

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        quarter, eighth, sixteenth = self.backbone(image)
        return quarter, eighth, self.proj(sixteenth)


class _Trunk(nn.Module):
    """ResNetV2 with standardised kernels: maps of a quarter, an eighth and a sixteenth of the picture's size.

    Source: Kolesnikov et al. 2020 (Big Transfer); huggingface/pytorch-image-models: timm/models/resnetv2.py.
    """

    def __init__(self, sizes: MidasSizes) -> None:
        super().__init__()
        self.stem = _Stem(sizes.stem)
        before, stages = sizes.stem, []
        for index, stage in enumerate(sizes.stages):
            stages.append(_Stage(before, stage, stride=1 if index == 0 else 2))
            before = stage.outer
        self.stages = nn.ModuleList(stages)

    def forward(self, image: torch.Tensor) -> list[torch.Tensor]:
        features, maps = self.stem(image), []
        for stage in self.stages:
            features = stage(features)
            maps.append(features)
        return maps


class _StandardConv(nn.Conv2d):
    """A convolution without bias, each of its kernels brought to mean 0 and variance 1.

    Pads as TensorFlow does: half the size rounded up, an odd rest on the right and at the bottom.

    Source: Qiao et al. 2019 (Weight standardization).
    """

    def __init__(self, before: int, after: int, kernel: int = 1, stride: int = 1) -> None:
        super().__init__(before, after, kernel, stride, bias=False)
        rest = kernel - stride
        self.rest = (rest // 2, rest - rest // 2) * 2 if rest > 0 else ()

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        flat = self.weight.flatten(1)[None]
        standard = functional.batch_norm(flat, None, None, training=True, eps=KERNEL_EPSILON)
        kernel = standard.view_as(self.weight)
        padded = functional.pad(input, self.rest) if self.rest else input
        return functional.conv2d(padded, kernel, stride=self.stride)


class _Stem(nn.Module):
    """Picture -> features of a quarter of its size."""

    def __init__(self, after: int) -> None:
        super().__init__()
        self.conv = _StandardConv(3, after, 7, 2)
        self.norm = nn.GroupNorm(GROUPS, after)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        features = self.norm(self.conv(image)).relu_()
        return functional.max_pool2d(functional.pad(features, (0, 1, 0, 1)), 3, 2)


class _Stage(nn.Module):
    def __init__(self, before: int, stage: Stage, stride: int) -> None:
        super().__init__()
        first = _Bottleneck(before, stage, stride, changes=True)
        rest = [_Bottleneck(stage.outer, stage, 1, changes=False) for _ in range(stage.blocks - 1)]
        self.blocks = nn.Sequential(first, *rest)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.blocks(features)


class _Bottleneck(nn.Module):
    """`changes`: of the size or the channels, so that the shortcut is a convolution, too."""

    def __init__(self, before: int, stage: Stage, stride: int, *, changes: bool) -> None:
        super().__init__()
        if changes:
            self.downsample = _Shortcut(before, stage.outer, stride)
        self.changes = changes
        self.conv1 = _StandardConv(before, stage.inner)
        self.norm1 = nn.GroupNorm(GROUPS, stage.inner)
        self.conv2 = _StandardConv(stage.inner, stage.inner, 3, stride)
        self.norm2 = nn.GroupNorm(GROUPS, stage.inner)
        self.conv3 = _StandardConv(stage.inner, stage.outer)
        self.norm3 = nn.GroupNorm(GROUPS, stage.outer)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        shortcut = self.downsample(features) if self.changes else features
        features = self.norm1(self.conv1(features)).relu_()
        features = self.norm2(self.conv2(features)).relu_()
        return (self.norm3(self.conv3(features)) + shortcut).relu_()


class _Shortcut(nn.Module):
    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.conv = _StandardConv(before, after, 1, stride)
        self.norm = nn.GroupNorm(GROUPS, after)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.norm(self.conv(features))


class _Reassembly(nn.ModuleList):
    """Tokens (B,1+n,width) -> a map (B,width,h,w): the token of the whole picture goes into all the others.

    A list, because the files count its parts with gaps.
    """

    def __init__(self, width: int, *, halves: bool) -> None:
        layers: list[nn.Module] = [_Readout(width), nn.Identity(), nn.Identity(), nn.Conv2d(width, width, 1)]
        super().__init__([*layers, nn.Conv2d(width, width, 3, 2, padding=1)] if halves else layers)

    def forward(self, tokens: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
        features = self[0](tokens).transpose(1, 2).unflatten(2, grid)
        for layer in list(self)[3:]:
            features = layer(features)
        return features


class _Readout(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.project = nn.Sequential(nn.Linear(2 * width, width), nn.GELU())

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        whole = tokens[:, :1].expand_as(tokens[:, 1:])
        return self.project(torch.cat((tokens[:, 1:], whole), dim=2))


class _Scratch(Merging):
    """Maps of four sizes -> (B,1,h,w) of four times the size of the first."""

    def __init__(self, channels: tuple[int, ...], features: int) -> None:
        super().__init__(channels, features)
        self.output_conv = nn.Sequential(
            nn.Conv2d(features, features // 2, 3, padding=1),
            _Doubled(),
            nn.Conv2d(features // 2, LAST_FEATURES, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(LAST_FEATURES, 1, 1),
            nn.ReLU(inplace=True),
        )

    def forward(self, maps: list[torch.Tensor]) -> torch.Tensor:
        return self.output_conv(self.merged(maps))


class _Doubled(nn.Module):
    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return enlarged(features)
