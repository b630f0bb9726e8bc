"""Blocks of vision transformers, under the names that published files give their tensors."""

import torch
from torch import nn
from torch.nn import functional

NORM_EPSILON = 1e-6


class Attention(nn.Module):
    """Tokens (B,n,width) -> likewise: every token reads every token, `heads` times side by side."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        split = self.qkv(tokens).unflatten(2, (3, self.heads, -1))
        queries, keys, values = split.permute(2, 0, 3, 1, 4)
        read = functional.scaled_dot_product_attention(queries, keys, values)
        return self.proj(read.transpose(1, 2).flatten(2))


class Perceptron(nn.Module):
    """Tokens (B,n,width) -> likewise, each by itself through one wider layer."""

    def __init__(self, width: int, wide: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, wide)
        self.fc2 = nn.Linear(wide, width)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.fc2(functional.gelu(self.fc1(tokens)))


class Scale(nn.Module):
    """A learned factor per channel."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(width))

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return tokens * self.gamma


class Block(nn.Module):
    """Tokens (B,n,width) -> likewise: attention, then a perceptron, each normalised first and added.

    `scaled`: with a learned factor per channel before each sum, as DINOv2 has it.

    Source: Dosovitskiy et al. 2021 (An image is worth 16x16 words), equations 2 and 3.
    """

    def __init__(self, width: int, heads: int, wide: int, *, scaled: bool = False) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=NORM_EPSILON)
        self.attn = Attention(width, heads)
        self.ls1 = Scale(width) if scaled else nn.Identity()
        self.norm2 = nn.LayerNorm(width, eps=NORM_EPSILON)
        self.mlp = Perceptron(width, wide)
        self.ls2 = Scale(width) if scaled else nn.Identity()

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        tokens = tokens + self.ls1(self.attn(self.norm1(tokens)))
        return tokens + self.ls2(self.mlp(self.norm2(tokens)))
