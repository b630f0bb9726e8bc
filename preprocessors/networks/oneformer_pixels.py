"""OneFormer's pixel decoder: the backbone's maps look at each other by deformable attention."""

from collections.abc import Iterable, Sequence

import torch
from torch import nn
from torch.nn import functional

from .oneformer_sizes import OneFormerSizes

HEADS = 8
POINTS = 4
"""Places that each head reads on each map."""

LEVELS = 3
GROUPS = 32
WAVELENGTH = 10000.0

Size = tuple[int, int]


def sine_positions(size: Size, width: int, device: torch.device) -> torch.Tensor:
    """(height * width of `size`, width) float32: sines and cosines of the row, then of the column.

    Source: Carion et al. 2020 (DETR); the last row and column count as 2 pi.
    """
    steps = torch.arange(width // 2, dtype=torch.float32, device=device)
    waves = WAVELENGTH ** (2 * (steps // 2) / (width // 2))

    def along(length: int) -> torch.Tensor:
        place = torch.arange(1, length + 1, dtype=torch.float32, device=device)
        angles = (place / (length + 1e-6) * (2 * torch.pi))[:, None] / waves
        return torch.stack((angles[:, 0::2].sin(), angles[:, 1::2].cos()), dim=-1).flatten(1)

    rows, columns = along(size[0])[:, None], along(size[1])[None]
    both = torch.cat((rows.expand(-1, size[1], -1), columns.expand(size[0], -1, -1)), dim=-1)
    return both.flatten(0, 1)


class Layers(nn.Module):
    """Layers under the name that published files have for them."""

    def __init__(self, layers: Iterable[nn.Module]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)


class PixelDecoder(nn.Module):
    """The backbone's four maps, finest first -> features of the masks (B,C,h/4,w/4), and three maps
    (B,C,...), coarsest first.

    Source: Cheng et al. 2022 (Mask2Former), Zhu et al. 2021 (Deformable DETR);
    Mikubill/sd-webui-controlnet: annotator/oneformer/oneformer/modeling/pixel_decoder/msdeformattn.py.
    """

    def __init__(self, sizes: OneFormerSizes) -> None:
        super().__init__()
        width, (finest, *others) = sizes.width, sizes.swin.widths
        self.input_proj = nn.ModuleList(
            nn.Sequential(nn.Conv2d(before, width, 1), nn.GroupNorm(GROUPS, width))
            for before in reversed(others)
        )
        self.transformer = _Encoder(width, sizes.pixel_inner, sizes.pixel_layers)
        self.adapter_1 = _NormedConv(finest, width, kernel=1)
        self.layer_1 = _NormedConv(width, width, kernel=3)
        self.mask_features = nn.Conv2d(width, width, 1)

    def forward(self, maps: Sequence[torch.Tensor]) -> tuple[torch.Tensor, list[torch.Tensor]]:
        finest, *others = maps
        coarse_first = [project(one) for project, one in zip(self.input_proj, reversed(others), strict=True)]
        levels = self.transformer(coarse_first)
        enlarged = functional.interpolate(
            levels[-1], size=finest.shape[2:], mode="bilinear", align_corners=False
        )
        merged = torch.relu(self.layer_1(self.adapter_1(finest) + enlarged))
        return self.mask_features(merged), levels


class _NormedConv(nn.Conv2d):
    def __init__(self, before: int, after: int, kernel: int) -> None:
        super().__init__(before, after, kernel, padding=kernel // 2, bias=False)
        self.norm = nn.GroupNorm(GROUPS, after)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return self.norm(super().forward(input))


class _Encoder(nn.Module):
    """Maps (B,C,h,w) -> the same sizes, every place having looked at all of the maps."""

    def __init__(self, width: int, inner: int, layers: int) -> None:
        super().__init__()
        self.level_embed = nn.Parameter(torch.zeros(LEVELS, width))
        self.encoder = Layers(_EncoderLayer(width, inner) for _ in range(layers))

    def forward(self, maps: list[torch.Tensor]) -> list[torch.Tensor]:
        sizes: list[Size] = [(one.shape[2], one.shape[3]) for one in maps]
        features = torch.cat([one.flatten(2).transpose(1, 2) for one in maps], dim=1)
        positions = [sine_positions(size, features.shape[2], features.device) for size in sizes]
        where = torch.cat([one + embed for one, embed in zip(positions, self.level_embed, strict=True)])
        centres = torch.cat([_centres(size, features.device) for size in sizes])
        for layer in self.encoder.layers:
            features = layer(features, where, centres, sizes)
        parts = features.split([height * width for height, width in sizes], dim=1)
        return [
            part.transpose(1, 2).reshape(len(part), -1, *size)
            for part, size in zip(parts, sizes, strict=True)
        ]


def _centres(size: Size, device: torch.device) -> torch.Tensor:
    """(height * width, 2) float32: x and y of the middle of each place, 0..1."""
    rows, columns = (
        torch.linspace(0.5, length - 0.5, length, dtype=torch.float32, device=device) / length
        for length in size
    )
    y, x = torch.meshgrid(rows, columns, indexing="ij")
    return torch.stack((x.flatten(), y.flatten()), dim=-1)


class _EncoderLayer(nn.Module):
    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.self_attn = _DeformableAttention(width)
        self.norm1 = nn.LayerNorm(width)
        self.linear1 = nn.Linear(width, inner)
        self.linear2 = nn.Linear(inner, width)
        self.norm2 = nn.LayerNorm(width)

    def forward(
        self, features: torch.Tensor, where: torch.Tensor, centres: torch.Tensor, sizes: list[Size]
    ) -> torch.Tensor:
        features = self.norm1(features + self.self_attn(features + where, features, centres, sizes))
        return self.norm2(features + self.linear2(torch.relu(self.linear1(features))))


class _DeformableAttention(nn.Module):
    """Each place reads a few others, where it says itself: (B,N,C) -> (B,N,C)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.sampling_offsets = nn.Linear(width, HEADS * LEVELS * POINTS * 2)
        self.attention_weights = nn.Linear(width, HEADS * LEVELS * POINTS)
        self.value_proj = nn.Linear(width, width)
        self.output_proj = nn.Linear(width, width)

    def forward(
        self, asking: torch.Tensor, features: torch.Tensor, centres: torch.Tensor, sizes: list[Size]
    ) -> torch.Tensor:
        batch, length, width = features.shape
        offsets = self.sampling_offsets(asking).view(batch, length, HEADS, LEVELS, POINTS, 2)
        weights = self.attention_weights(asking).view(batch, length, HEADS, LEVELS * POINTS).softmax(-1)
        weights = weights.view(batch, length, HEADS, LEVELS, POINTS).permute(0, 2, 3, 1, 4).flatten(0, 1)
        parts = self.value_proj(features).split([height * width for height, width in sizes], dim=1)
        seen = torch.zeros((), device=features.device)
        for level, (part, size) in enumerate(zip(parts, sizes, strict=True)):
            values = part.transpose(1, 2).reshape(batch * HEADS, width // HEADS, *size)
            moved = offsets[:, :, :, level] / offsets.new_tensor((size[1], size[0]))
            places = (2 * (centres[:, None, None] + moved) - 1).transpose(1, 2).flatten(0, 1)
            read = functional.grid_sample(values, places, align_corners=False)
            seen = seen + (read * weights[:, level, None]).sum(-1)
        return self.output_proj(seen.view(batch, width, length).transpose(1, 2))
