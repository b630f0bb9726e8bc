"""Depth Anything V2: relative inverse depth, by a DINOv2 transformer with a DPT decoder, in every size."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

from .dpt import Merging, enlarged
from .vit import NORM_EPSILON, Block

PATCH = 14
"""Side of the squares that become tokens, in pixels."""

HEAD_WIDTH = 64
"""Channels per head of attention, in all published sizes."""

PLACES = 1370
"""Learned places of tokens: a grid of 37 x 37, and one for the picture as a whole."""

PLACE_OFFSET = 0.1
"""Added to the grid's new sides before its places are spread over them, so that rounding loses none."""

LAST_FEATURES = 32
TAPS = {24: (4, 11, 17, 23)}
"""Number of blocks -> those whose tokens the decoder reads, where they are not spread evenly."""


@dataclass(frozen=True)
class DepthAnythingSizes:
    """What tells the published files apart: the transformer's width, blocks and wider layer, the decoder's
    channels at its four sizes, and the channels in which these are merged."""

    width: int
    blocks: int
    wide: int
    channels: tuple[int, ...]
    features: int

    @property
    def taps(self) -> tuple[int, ...]:
        """The blocks, counted from 0, whose tokens the decoder reads."""
        return TAPS.get(self.blocks, tuple(self.blocks * part // 4 - 1 for part in range(1, 5)))


def depth_anything(shapes: Mapping[str, tuple[int, ...]]) -> "DepthAnything":
    """Key -> shape listing of a file of this kind -> the network of its size."""
    wide, width = shapes["pretrained.blocks.0.mlp.fc1.weight"]
    blocks = sum(key.startswith("pretrained.blocks.") and key.endswith(".norm1.weight") for key in shapes)
    channels = tuple(shapes[f"depth_head.projects.{index}.weight"][0] for index in range(4))
    features = shapes["depth_head.scratch.layer1_rn.weight"][0]
    return DepthAnything(DepthAnythingSizes(width, blocks, wide, channels, features))


class DepthAnything(nn.Module):
    """(B,3,h,w) float RGB by ImageNet's mean and deviation -> (B,1,h,w) inverse depth from 0, near = large.

    Height and width are multiples of 14. Files named `depth_anything_v2_vit*.pth` hold tensors of these names
    and shapes; depth is relative, without unit.

    Source: Yang et al. 2024 (Depth Anything V2); DepthAnything/Depth-Anything-V2: depth_anything_v2/dpt.py.
    """

    def __init__(self, sizes: DepthAnythingSizes) -> None:
        super().__init__()
        self.pretrained = _Transformer(sizes)
        self.depth_head = _Decoder(sizes)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        grid = image.shape[-2] // PATCH, image.shape[-1] // PATCH
        return self.depth_head([tokens.unflatten(2, grid) for tokens in self.pretrained(image)])


class _Transformer(nn.Module):
    """DINOv2. The token of the picture as a whole takes part in it, but the decoder does not read it."""

    def __init__(self, sizes: DepthAnythingSizes) -> None:
        super().__init__()
        width = sizes.width
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, PLACES, width))
        self.mask_token = nn.Parameter(torch.zeros(1, width))
        self.patch_embed = _Squares(width)
        self.blocks = nn.ModuleList(
            Block(width, max(1, width // HEAD_WIDTH), sizes.wide, scaled=True) for _ in range(sizes.blocks)
        )
        self.norm = nn.LayerNorm(width, eps=NORM_EPSILON)
        self.taps = sizes.taps

    def forward(self, image: torch.Tensor) -> list[torch.Tensor]:
        """(B,3,h,w) -> per tap the tokens of the squares (B,width,n), normalised."""
        squares = self.patch_embed(image)
        tokens = squares.flatten(2).transpose(1, 2) + self._places(squares.shape[-2:])
        whole = (self.cls_token + self.pos_embed[:, :1]).expand(len(tokens), -1, -1)
        tokens = torch.cat((whole, tokens), dim=1)
        read = []
        for index, block in enumerate(self.blocks):
            tokens = block(tokens)
            if index in self.taps:
                read.append(self.norm(tokens)[:, 1:].transpose(1, 2))
        return read

    def _places(self, grid: torch.Size) -> torch.Tensor:
        """The learned places (1,n,width) of a grid of squares; spread, unless it is the learned one."""
        learned = self.pos_embed[:, 1:]
        side = round(learned.shape[1] ** 0.5)
        if tuple(grid) == (side, side):
            return learned
        factors = [(length + PLACE_OFFSET) / side for length in grid]
        spread = functional.interpolate(
            learned.transpose(1, 2).unflatten(2, (side, side)), scale_factor=factors, mode="bicubic"
        )
        return spread.flatten(2).transpose(1, 2)


class _Squares(nn.Module):
    """Every square of the picture as one vector."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, width, PATCH, PATCH)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.proj(image)


class _Decoder(nn.Module):
    """Tokens of four blocks, brought to four sizes, merged, and turned into one number per pixel."""

    def __init__(self, sizes: DepthAnythingSizes) -> None:
        super().__init__()
        one, two, _, four = sizes.channels
        self.projects = nn.ModuleList(nn.Conv2d(sizes.width, channels, 1) for channels in sizes.channels)
        self.resize_layers = nn.ModuleList(
            [
                nn.ConvTranspose2d(one, one, 4, 4),
                nn.ConvTranspose2d(two, two, 2, 2),
                nn.Identity(),
                nn.Conv2d(four, four, 3, 2, padding=1),
            ]
        )
        self.scratch = _Scratch(sizes.channels, sizes.features)

    def forward(self, tokens: list[torch.Tensor]) -> torch.Tensor:
        maps = [
            resize(project(each))
            for each, project, resize in zip(tokens, self.projects, self.resize_layers, strict=True)
        ]
        return self.scratch(maps, [length * PATCH for length in tokens[0].shape[-2:]])


class _Scratch(Merging):
    """Maps of four sizes, the finest first -> (B,1,h,w) of the size asked for."""

    def __init__(self, channels: tuple[int, ...], features: int) -> None:
        super().__init__(channels, features)
        self.output_conv1 = nn.Conv2d(features, features // 2, 3, padding=1)
        self.output_conv2 = nn.Sequential(
            nn.Conv2d(features // 2, LAST_FEATURES, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(LAST_FEATURES, 1, 1),
            nn.ReLU(inplace=True),
        )

    def forward(self, maps: list[torch.Tensor], size: list[int]) -> torch.Tensor:
        return self.output_conv2(enlarged(self.output_conv1(self.merged(maps)), tuple(size)))
