"""MobileSAM's image encoder: TinyViT, convolutions first, then attention in windows at three sizes."""

import torch
from torch import nn
from torch.nn import functional

from .sam_parts import below, count, join_windows, neck, split_windows

SIDE = 1024
"""The published network's picture; the file does not say it."""

STRIDES = (2, 2, 1)
"""How much each stage's end shrinks the map; the last one keeps it, for an embedding of 1/16."""


class SamTinyViT(nn.Module):
    """(B,3,1024,1024) float, normalised -> embedding (B,C,64,64) float. Sizes are those of the file's shapes.

    The `image_encoder` of `mobile_sam.pt` holds tensors of these names and shapes, and those of a classifier
    (`norm_head`, `head`) that nothing here needs.

    Source: Wu et al. 2022 (TinyViT); Zhang et al. 2023 (Faster Segment Anything);
    ChaoningZhang/MobileSAM: mobile_sam/modeling/tiny_vit_sam.py.
    """

    def __init__(self, shapes: dict[str, tuple[int, ...]]) -> None:
        super().__init__()
        self.patch_embed = _Stem(shapes)
        self.layers = nn.ModuleList(
            _Stage(below(shapes, f"layers.{index}"), STRIDES[index] if index < len(STRIDES) else 1)
            for index in range(count(shapes, "layers"))
        )
        after, before = shapes["neck.0.weight"][:2]
        self.neck = neck(before, after)
        self.side = SIDE

    def forward(self, picture: torch.Tensor) -> torch.Tensor:
        features = self.patch_embed(picture)
        for stage in self.layers:
            features = stage(features)
        return self.neck(features)


class _Conv(nn.Module):
    """A convolution without bias, normalised."""

    def __init__(self, before: int, after: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        self.c = nn.Conv2d(before, after, kernel, stride, kernel // 2, groups=groups, bias=False)
        self.bn = nn.BatchNorm2d(after)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.bn(self.c(features))


class _Stem(nn.Module):
    def __init__(self, shapes: dict[str, tuple[int, ...]]) -> None:
        super().__init__()
        half, channels = shapes["patch_embed.seq.0.c.weight"][:2]
        width = shapes["patch_embed.seq.2.c.weight"][0]
        self.seq = nn.Sequential(_Conv(channels, half, 3, 2), nn.GELU(), _Conv(half, width, 3, 2))

    def forward(self, picture: torch.Tensor) -> torch.Tensor:
        return self.seq(picture)


class _Stage(nn.Module):
    """Blocks of one size, and in all stages but the last the step to the next size."""

    def __init__(self, shapes: dict[str, tuple[int, ...]], stride: int) -> None:
        super().__init__()
        parts = [below(shapes, f"blocks.{index}") for index in range(count(shapes, "blocks"))]
        self.blocks = nn.ModuleList(
            _WindowBlock(part) if "attn.qkv.weight" in part else _ConvBlock(part) for part in parts
        )
        step = shapes.get("downsample.conv1.c.weight")
        self.downsample = None if step is None else _Step(step[1], step[0], stride)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            features = block(features)
        return features if self.downsample is None else self.downsample(features)


class _ConvBlock(nn.Module):
    """Widened, convolved channel by channel, and narrowed again."""

    def __init__(self, shapes: dict[str, tuple[int, ...]]) -> None:
        super().__init__()
        wide, narrow = shapes["conv1.c.weight"][:2]
        self.conv1 = _Conv(narrow, wide)
        self.conv2 = _Conv(wide, wide, 3, groups=wide)
        self.conv3 = _Conv(wide, narrow)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        inner = functional.gelu(self.conv2(functional.gelu(self.conv1(features))))
        return functional.gelu(features + self.conv3(inner))


class _Step(nn.Module):
    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.conv1 = _Conv(before, after)
        self.conv2 = _Conv(after, after, 3, stride, groups=after)
        self.conv3 = _Conv(after, after)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.conv3(functional.gelu(self.conv2(functional.gelu(self.conv1(features)))))


class _WindowBlock(nn.Module):
    """Attention in windows, a convolution channel by channel, and two layers on each token."""

    def __init__(self, shapes: dict[str, tuple[int, ...]]) -> None:
        super().__init__()
        width = shapes["mlp.norm.weight"][0]
        self.attn = _Attention(width, *shapes["attn.attention_biases"])
        self.local_conv = _Conv(width, width, 3, groups=width)
        self.mlp = _TwoLayers(width, shapes["mlp.fc1.weight"][0])

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        size = (features.shape[2], features.shape[3])
        windows = split_windows(features.permute(0, 2, 3, 1), self.attn.side)
        seen = join_windows(self.attn(windows), size).permute(0, 3, 1, 2)
        tokens = self.local_conv(features + seen).permute(0, 2, 3, 1)
        return (tokens + self.mlp(tokens)).permute(0, 3, 1, 2).contiguous()


class _Attention(nn.Module):
    """Attention within windows, with one learned bias for each head and each distance down and across."""

    def __init__(self, width: int, heads: int, distances: int) -> None:
        super().__init__()
        self.side = round(distances**0.5)
        self.attention_biases = nn.Parameter(torch.zeros(heads, distances))
        self.norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, width * 3)
        self.proj = nn.Linear(width, width)

    def forward(self, windows: torch.Tensor) -> torch.Tensor:
        number, side, _, width = windows.shape
        heads = len(self.attention_biases)
        mixed = self.qkv(self.norm(windows)).reshape(number, side * side, heads, -1)
        queries, keys, values = mixed.transpose(1, 2).chunk(3, dim=-1)
        bias = self.attention_biases[:, _distances(side, windows.device)]
        seen = functional.scaled_dot_product_attention(queries, keys, values, attn_mask=bias)
        return self.proj(seen.transpose(1, 2).reshape(number, side, side, width))


def _distances(side: int, device: torch.device) -> torch.Tensor:
    """(side*side,side*side) whole numbers: the place of each pair's distance in the table of biases.

    The table goes by the distance down, then by the one across.
    """
    rows, columns = torch.meshgrid(*[torch.arange(side, device=device)] * 2, indexing="ij")
    down, across = rows.flatten(), columns.flatten()
    return (down[:, None] - down).abs() * side + (across[:, None] - across).abs()


class _TwoLayers(nn.Module):
    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.fc1 = nn.Linear(width, inner)
        self.fc2 = nn.Linear(inner, width)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.fc2(functional.gelu(self.fc1(self.norm(tokens))))
