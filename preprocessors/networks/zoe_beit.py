"""The encoder of ZoeDepth: BEiT, a transformer with a table of relative positions per layer."""

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

PATCH = 16
"""Side of the square of pixels that makes one token."""

TAPS = 4
"""How many depths of the transformer the decoder reads, at equal distances."""

APART = 3
"""Last rows of a position table: class token to patch, patch to class token, class token to itself."""


@dataclass(frozen=True)
class BeitSizes:
    """Widths and depths: `features` are the channels of the four maps that are read, the finest first."""

    width: int
    hidden: int
    heads: int
    depth: int
    positions: int
    features: tuple[int, ...]


class BeitEncoder(nn.Module):
    """(B,3,h,w) float -1..1 -> four maps (B,C,h/4,w/4), (B,C,h/8,w/8), (B,C,h/16,w/16), (B,C,h/32,w/32).

    Height and width are multiples of 32.

    Source: Bao et al. 2022 (BEiT); Ranftl et al. 2021 (Vision Transformers for Dense Prediction);
    isl-org/MiDaS: midas/backbones/beit.py, midas/backbones/utils.py.
    """

    def __init__(self, sizes: BeitSizes) -> None:
        super().__init__()
        self.model = _Beit(sizes)
        first, second, third, fourth = sizes.features
        self.act_postprocess1 = _Read(sizes.width, first, nn.ConvTranspose2d(first, first, 4, stride=4))
        self.act_postprocess2 = _Read(sizes.width, second, nn.ConvTranspose2d(second, second, 2, stride=2))
        self.act_postprocess3 = _Read(sizes.width, third)
        self.act_postprocess4 = _Read(sizes.width, fourth, nn.Conv2d(fourth, fourth, 3, 2, padding=1))

    def forward(self, image: torch.Tensor) -> list[torch.Tensor]:
        grid = image.shape[-2] // PATCH, image.shape[-1] // PATCH
        reads = (self.act_postprocess1, self.act_postprocess2, self.act_postprocess3, self.act_postprocess4)
        return [read(tokens, grid) for read, tokens in zip(reads, self.model(image, grid), strict=True)]


class _Beit(nn.Module):
    def __init__(self, sizes: BeitSizes) -> None:
        super().__init__()
        self.cls_token = nn.Parameter(torch.zeros(1, 1, sizes.width))
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(3, sizes.width, PATCH, stride=PATCH)})
        self.blocks = nn.ModuleList(_Block(sizes) for _ in range(sizes.depth))
        self.taps = [max(0, sizes.depth * (number + 1) // TAPS - 1) for number in range(TAPS)]

    def forward(self, image: torch.Tensor, grid: tuple[int, int]) -> list[torch.Tensor]:
        tokens = self.patch_embed["proj"](image).flatten(2).transpose(1, 2)
        tokens = torch.cat((self.cls_token.expand(len(tokens), -1, -1), tokens), dim=1)
        index = relative_positions(grid, image.device)
        read: dict[int, torch.Tensor] = {}
        for number, block in enumerate(self.blocks):
            tokens = block(tokens, grid, index)
            if number in self.taps:
                read[number] = tokens
        return [read[tap] for tap in self.taps]


class _Block(nn.Module):
    def __init__(self, sizes: BeitSizes) -> None:
        super().__init__()
        self.gamma_1 = nn.Parameter(torch.zeros(sizes.width))
        self.gamma_2 = nn.Parameter(torch.zeros(sizes.width))
        self.norm1 = nn.LayerNorm(sizes.width, eps=1e-6)
        self.attn = _Attention(sizes)
        self.norm2 = nn.LayerNorm(sizes.width, eps=1e-6)
        self.mlp = nn.ModuleDict(
            {"fc1": nn.Linear(sizes.width, sizes.hidden), "fc2": nn.Linear(sizes.hidden, sizes.width)}
        )

    def forward(self, tokens: torch.Tensor, grid: tuple[int, int], index: torch.Tensor) -> torch.Tensor:
        tokens = tokens + self.gamma_1 * self.attn(self.norm1(tokens), grid, index)
        inner = functional.gelu(self.mlp["fc1"](self.norm2(tokens)))
        return tokens + self.gamma_2 * self.mlp["fc2"](inner)


class _Attention(nn.Module):
    """Self-attention; keys have no bias, and each pair of places adds a number of its own."""

    def __init__(self, sizes: BeitSizes) -> None:
        super().__init__()
        self.heads = sizes.heads
        self.q_bias = nn.Parameter(torch.zeros(sizes.width))
        self.v_bias = nn.Parameter(torch.zeros(sizes.width))
        self.relative_position_bias_table = nn.Parameter(torch.zeros(sizes.positions, sizes.heads))
        self.qkv = nn.Linear(sizes.width, 3 * sizes.width, bias=False)
        self.proj = nn.Linear(sizes.width, sizes.width)

    def forward(self, tokens: torch.Tensor, grid: tuple[int, int], index: torch.Tensor) -> torch.Tensor:
        batch, count, width = tokens.shape
        bias = torch.cat((self.q_bias, torch.zeros_like(self.q_bias), self.v_bias))
        mixed = functional.linear(tokens, self.qkv.weight, bias)
        query, key, value = mixed.view(batch, count, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        places = position_table(self.relative_position_bias_table, grid)[:, index][None]
        seen = functional.scaled_dot_product_attention(query, key, value, attn_mask=places)
        return self.proj(seen.transpose(1, 2).reshape(batch, count, width))


def position_table(table: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
    """Table (rows, heads) of a square grid -> (heads, rows) for `grid` (rows and columns of tokens).

    The part with distances is stretched linearly; the three rows for the class token stay.

    Source: isl-org/MiDaS: midas/backbones/beit.py (_get_rel_pos_bias).
    """
    side = round((len(table) - APART) ** 0.5)
    distances = table[:-APART].view(1, side, side, -1).permute(0, 3, 1, 2)
    size = 2 * grid[0] - 1, 2 * grid[1] - 1
    stretched = functional.interpolate(distances, size, mode="bilinear", align_corners=False)
    return torch.cat((stretched[0].flatten(1), table[-APART:].T), dim=1)


def relative_positions(grid: tuple[int, int], device: torch.device) -> torch.Tensor:
    """Rows and columns of tokens -> (n+1,n+1) int64: for each pair of tokens its row of the position table.

    Token 0 is the class token.
    """
    rows, columns = (torch.arange(length, device=device) for length in grid)
    down = rows[:, None] - rows + grid[0] - 1
    right = columns[:, None] - columns + grid[1] - 1
    across = 2 * grid[1] - 1
    count, last = grid[0] * grid[1], (2 * grid[0] - 1) * across
    index = torch.empty(count + 1, count + 1, dtype=torch.int64, device=device)
    index[1:, 1:] = (down[:, None, :, None] * across + right[None, :, None, :]).reshape(count, count)
    index[0, :] = last
    index[:, 0] = last + 1
    index[0, 0] = last + 2
    return index


class _Read(nn.ModuleDict):
    """Tokens (B,n+1,width) -> map (B,C,h,w): each sees the class token, then a change of size."""

    def __init__(self, width: int, channels: int, resize: nn.Module | None = None) -> None:
        readout = nn.ModuleDict({"project": nn.Sequential(nn.Linear(2 * width, width), nn.GELU())})
        parts: dict[str, nn.Module] = {"0": readout, "3": nn.Conv2d(width, channels, 1)}
        super().__init__(parts | ({"4": resize} if resize is not None else {}))

    def forward(self, tokens: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
        patches = tokens[:, 1:]
        beside = torch.cat((patches, tokens[:, :1].expand_as(patches)), dim=-1)
        readout: nn.ModuleDict = self["0"]  # pyright: ignore[reportAssignmentType]
        features = self["3"](readout["project"](beside).transpose(1, 2).unflatten(2, grid))
        return self["4"](features) if "4" in self else features
