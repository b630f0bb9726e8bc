"""OneFormer's transformer decoder: queries look for one thing each, and say what it is and where."""

from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional

from .oneformer_pixels import HEADS, LEVELS, Layers, sine_positions
from .oneformer_sizes import OneFormerSizes


class Attention(nn.Module):
    """(B,Q,C) asks (B,N,C) -> (B,Q,C); `allowed` (B,1,Q,N) says who may look where."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.in_proj_weight = nn.Parameter(torch.zeros(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)

    def forward(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        allowed: torch.Tensor | None = None,
    ) -> torch.Tensor:
        projected = (
            functional.linear(one, weight, bias).unflatten(-1, (HEADS, -1)).transpose(1, 2)
            for one, weight, bias in zip(
                (query, key, value), self.in_proj_weight.chunk(3), self.in_proj_bias.chunk(3), strict=True
            )
        )
        seen = functional.scaled_dot_product_attention(*projected, attn_mask=allowed)
        return self.out_proj(seen.transpose(1, 2).flatten(2))


class Perceptron(nn.Module):
    """Linear layers with ReLU between them."""

    def __init__(self, before: int, inner: int, after: int, layers: int) -> None:
        super().__init__()
        widths = [before, *[inner] * (layers - 1), after]
        self.layers = nn.ModuleList(nn.Linear(*pair) for pair in pairwise(widths))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        for layer in self.layers[:-1]:
            features = torch.relu(layer(features))
        return self.layers[-1](features)


class QueryDecoder(nn.Module):
    """Three maps (B,C,...) coarsest first, features of the masks (B,C,h,w) and the task (B,C) -> class logits
    (B,Q,classes), the last of them "nothing", and mask logits (B,Q,h,w).

    Source: Jain et al. 2023 (OneFormer), Cheng et al. 2022 (Mask2Former); Mikubill/sd-webui-controlnet:
    annotator/oneformer/oneformer/modeling/transformer_decoder/oneformer_transformer_decoder.py.
    """

    def __init__(self, sizes: OneFormerSizes) -> None:
        super().__init__()
        width, layers = sizes.width, range(sizes.query_layers)
        self.class_transformer = _ClassTransformer(width, sizes.query_inner, sizes.class_layers)
        self.transformer_self_attention_layers = nn.ModuleList(_SelfAttention(width) for _ in layers)
        self.transformer_cross_attention_layers = nn.ModuleList(_CrossAttention(width) for _ in layers)
        self.transformer_ffn_layers = nn.ModuleList(_FeedForward(width, sizes.query_inner) for _ in layers)
        self.decoder_norm = nn.LayerNorm(width)
        self.query_embed = nn.Embedding(sizes.queries, width)
        self.level_embed = nn.Embedding(LEVELS, width)
        self.class_input_proj = nn.Conv2d(width, width, 1)
        self.class_embed = nn.Linear(width, sizes.classes)
        self.mask_embed = Perceptron(width, width, width, 3)

    def forward(
        self, maps: list[torch.Tensor], features: torch.Tensor, task: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        keys, values = [], []
        for one, embed in zip(maps, self.level_embed.weight, strict=True):
            values.append(one.flatten(2).transpose(1, 2) + embed)
            keys.append(values[-1] + sine_positions((one.shape[2], one.shape[3]), one.shape[1], one.device))
        where = self.query_embed.weight
        queries = self._first(features, self.decoder_norm(task)[:, None])
        for number, (cross, itself, forward) in enumerate(
            zip(
                self.transformer_cross_attention_layers,
                self.transformer_self_attention_layers,
                self.transformer_ffn_layers,
                strict=True,
            )
        ):
            level = number % LEVELS
            allowed = places_inside(self._masks(queries, features), maps[level])
            queries = cross(queries, where, keys[level], values[level], allowed)
            queries = forward(itself(queries, where))
        return self.class_embed(self.decoder_norm(queries)), self._masks(queries, features)

    def _first(self, features: torch.Tensor, task: torch.Tensor) -> torch.Tensor:
        """Queries (B,Q,C) before the layers: the task's token that has looked at the picture, and itself.

        What the reference calls source and positions come in exchanged order there, and the published
        weights were trained so: the values are the positions alone, the keys have the features, too.
        """
        batch, _, height, width = features.shape
        positions = sine_positions((height, width), task.shape[2], features.device).expand(batch, -1, -1)
        keys = positions + self.class_input_proj(features).flatten(2).transpose(1, 2)
        made = self.class_transformer(task, self.query_embed.weight[:-1], keys, positions)
        return torch.cat((made, task), dim=1)

    def _masks(self, queries: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        return torch.einsum("bqc,bchw->bqhw", self.mask_embed(self.decoder_norm(queries)), features)


def places_inside(masks: torch.Tensor, one: torch.Tensor) -> torch.Tensor:
    """Mask logits (B,Q,h,w) -> (B,1,Q,places of `one`) bool: inside the mask; everywhere if it is empty."""
    small = functional.interpolate(masks, size=one.shape[2:], mode="bilinear", align_corners=False)
    inside = small.sigmoid().flatten(2) >= 0.5
    return (inside | ~inside.any(dim=-1, keepdim=True))[:, None]


class _SelfAttention(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.self_attn = Attention(width)
        self.norm = nn.LayerNorm(width)

    def forward(self, queries: torch.Tensor, where: torch.Tensor) -> torch.Tensor:
        asking = queries + where
        return self.norm(queries + self.self_attn(asking, asking, queries))


class _CrossAttention(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.multihead_attn = Attention(width)
        self.norm = nn.LayerNorm(width)

    def forward(
        self,
        queries: torch.Tensor,
        where: torch.Tensor,
        keys: torch.Tensor,
        values: torch.Tensor,
        allowed: torch.Tensor,
    ) -> torch.Tensor:
        return self.norm(queries + self.multihead_attn(queries + where, keys, values, allowed))


class _FeedForward(nn.Module):
    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.linear1 = nn.Linear(width, inner)
        self.linear2 = nn.Linear(inner, width)
        self.norm = nn.LayerNorm(width)

    def forward(self, queries: torch.Tensor) -> torch.Tensor:
        return self.norm(queries + self.linear2(torch.relu(self.linear1(queries))))


class _ClassTransformer(nn.Module):
    """The task (B,1,C) at every place of `where` (Q,C) looks at the picture -> (B,Q,C)."""

    def __init__(self, width: int, inner: int, layers: int) -> None:
        super().__init__()
        self.decoder = _ClassDecoder(width, inner, layers)

    def forward(
        self, task: torch.Tensor, where: torch.Tensor, keys: torch.Tensor, values: torch.Tensor
    ) -> torch.Tensor:
        return self.decoder(task.expand(-1, len(where), -1), where, keys, values)


class _ClassDecoder(Layers):
    def __init__(self, width: int, inner: int, layers: int) -> None:
        super().__init__(_ClassLayer(width, inner) for _ in range(layers))
        self.norm = nn.LayerNorm(width)

    def forward(
        self, queries: torch.Tensor, where: torch.Tensor, keys: torch.Tensor, values: torch.Tensor
    ) -> torch.Tensor:
        for layer in self.layers:
            queries = layer(queries, where, keys, values)
        return self.norm(queries)


class _ClassLayer(nn.Module):
    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.self_attn = Attention(width)
        self.multihead_attn = Attention(width)
        self.linear1 = nn.Linear(width, inner)
        self.linear2 = nn.Linear(inner, width)
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(width) for _ in range(3))

    def forward(
        self, queries: torch.Tensor, where: torch.Tensor, keys: torch.Tensor, values: torch.Tensor
    ) -> torch.Tensor:
        asking = queries + where
        queries = self.norm1(queries + self.self_attn(asking, asking, queries))
        queries = self.norm2(queries + self.multihead_attn(queries + where, keys, values))
        return self.norm3(queries + self.linear2(torch.relu(self.linear1(queries))))
