"""What both image encoders of Segment Anything share: windows over a map, and the neck behind them."""

import torch
from torch import nn
from torch.nn import functional


class MapNorm(nn.Module):
    """Layer norm over the channels of a map (B,C,h,w)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        apart = features - features.mean(1, keepdim=True)
        scaled = apart / torch.sqrt(apart.square().mean(1, keepdim=True) + 1e-6)
        return self.weight[:, None, None] * scaled + self.bias[:, None, None]


def neck(before: int, after: int) -> nn.Sequential:
    """From the encoder's last map to the embedding."""
    return nn.Sequential(
        nn.Conv2d(before, after, 1, bias=False),
        MapNorm(after),
        nn.Conv2d(after, after, 3, padding=1, bias=False),
        MapNorm(after),
    )


def split_windows(tokens: torch.Tensor, side: int) -> torch.Tensor:
    """(B,h,w,C) -> (B*windows,side,side,C), row by row; zeros fill up the last row and column."""
    batch, height, width, channels = tokens.shape
    tokens = functional.pad(tokens, (0, 0, 0, -width % side, 0, -height % side))
    down, across = tokens.shape[1] // side, tokens.shape[2] // side
    grid = tokens.reshape(batch, down, side, across, side, channels).transpose(2, 3)
    return grid.reshape(-1, side, side, channels)


def join_windows(windows: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """The windows of `split_windows` -> the map (B,h,w,C) of the given height and width again."""
    side, channels = windows.shape[1], windows.shape[-1]
    down, across = -(-size[0] // side), -(-size[1] // side)
    grid = windows.reshape(-1, down, across, side, side, channels).transpose(2, 3)
    return grid.reshape(-1, down * side, across * side, channels)[:, : size[0], : size[1]]


def count(shapes: dict[str, tuple[int, ...]], prefix: str) -> int:
    """How many numbered parts a listing has: prefix.0, prefix.1, and so on."""
    numbers = {key[len(prefix) + 1 :].split(".")[0] for key in shapes if key.startswith(f"{prefix}.")}
    return sum(str(number) in numbers for number in range(len(numbers)))


def below(shapes: dict[str, tuple[int, ...]], prefix: str) -> dict[str, tuple[int, ...]]:
    """The part of a listing whose keys start with the prefix and a dot, without these."""
    start = f"{prefix}."
    return {key.removeprefix(start): shape for key, shape in shapes.items() if key.startswith(start)}
