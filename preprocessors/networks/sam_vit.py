"""Segment Anything's plain image encoders (ViT-B, ViT-L, ViT-H): attention in windows and, in a few blocks,
over the whole picture, with decomposed relative positions."""

import torch
from torch import nn
from torch.nn import functional

from .sam_parts import below, count, join_windows, neck, split_windows

EPSILON = 1e-6


class SamViT(nn.Module):
    """(B,3,S,S) float, normalised -> embedding (B,C,S/16,S/16) float. Sizes are those of the file's shapes.

    S is 16 times the side of `pos_embed`: 1024 in `sam_vit_b_01ec64.pth`, `sam_vit_l_0b3195.pth` and
    `sam_vit_h_4b8939.pth`, whose `image_encoder` holds tensors of these names and shapes.

    Source: Kirillov et al. 2023 (Segment Anything, appendix A); Li et al. 2022 (MViTv2, section 4.1);
    facebookresearch/segment-anything: segment_anything/modeling/image_encoder.py.
    """

    def __init__(self, shapes: dict[str, tuple[int, ...]]) -> None:
        super().__init__()
        _, grid, _, width = shapes["pos_embed"]
        self.patch_embed = _Patches(*shapes["patch_embed.proj.weight"][:3])
        self.pos_embed = nn.Parameter(torch.zeros(1, grid, grid, width))
        self.blocks = nn.ModuleList(
            _Block(below(shapes, f"blocks.{index}")) for index in range(count(shapes, "blocks"))
        )
        self.neck = neck(width, shapes["neck.0.weight"][0])
        self.side = grid * shapes["patch_embed.proj.weight"][-1]

    def forward(self, picture: torch.Tensor) -> torch.Tensor:
        tokens = self.patch_embed(picture) + self.pos_embed
        for block in self.blocks:
            tokens = block(tokens)
        return self.neck(tokens.permute(0, 3, 1, 2))


class _Patches(nn.Module):
    def __init__(self, width: int, channels: int, side: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(channels, width, side, side)

    def forward(self, picture: torch.Tensor) -> torch.Tensor:
        return self.proj(picture).permute(0, 2, 3, 1)


class _Block(nn.Module):
    """Attention and two layers on each token. The table of positions tells the window, or the whole grid."""

    def __init__(self, shapes: dict[str, tuple[int, ...]]) -> None:
        super().__init__()
        width = shapes["norm1.weight"][0]
        distances, head_width = shapes["attn.rel_pos_h"]
        self.side = (distances + 1) // 2
        self.norm1 = nn.LayerNorm(width, EPSILON)
        self.attn = _Attention(width, head_width, self.side)
        self.norm2 = nn.LayerNorm(width, EPSILON)
        self.mlp = _TwoLayers(width, shapes["mlp.lin1.weight"][0])

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        seen = self.attn(split_windows(self.norm1(tokens), self.side))
        tokens = tokens + join_windows(seen, (tokens.shape[1], tokens.shape[2]))
        return tokens + self.mlp(self.norm2(tokens))


class _Attention(nn.Module):
    def __init__(self, width: int, head_width: int, side: int) -> None:
        super().__init__()
        self.qkv = nn.Linear(width, width * 3)
        self.proj = nn.Linear(width, width)
        self.rel_pos_h = nn.Parameter(torch.zeros(2 * side - 1, head_width))
        self.rel_pos_w = nn.Parameter(torch.zeros(2 * side - 1, head_width))

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        batch, height, width, channels = tokens.shape
        heads = channels // self.rel_pos_h.shape[1]
        queries, keys, values = (
            self.qkv(tokens).reshape(batch, height * width, 3, heads, -1).permute(2, 0, 3, 1, 4)
        )
        grid = queries.reshape(batch, heads, height, width, -1)
        down = torch.einsum("bnhwc,hkc->bnhwk", grid, _by_distance(self.rel_pos_h, height))
        across = torch.einsum("bnhwc,wkc->bnhwk", grid, _by_distance(self.rel_pos_w, width))
        bias = (down[..., :, None] + across[..., None, :]).reshape(batch, heads, height * width, -1)
        seen = functional.scaled_dot_product_attention(queries, keys, values, attn_mask=bias)
        return self.proj(seen.transpose(1, 2).reshape(batch, height, width, channels))


def _by_distance(table: torch.Tensor, side: int) -> torch.Tensor:
    """Table (2*side-1,C) of distances -> (side,side,C): for each place of a query, those of the keys."""
    places = torch.arange(side, device=table.device)
    return table[places[:, None] - places + side - 1]


class _TwoLayers(nn.Module):
    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.lin1 = nn.Linear(width, inner)
        self.lin2 = nn.Linear(inner, width)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.lin2(functional.gelu(self.lin1(tokens)))
