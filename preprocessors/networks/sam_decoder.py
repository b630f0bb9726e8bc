"""Segment Anything's prompt encoder and mask decoder: points and corners of boxes to masks."""

import math

import torch
from torch import nn
from torch.nn import functional

from .sam_parts import MapNorm, below, count

HEADS = 8
"""Of every attention in the decoder; the file does not say it."""

NO_POINT = -1
EXCLUDED, INCLUDED, FIRST_CORNER, SECOND_CORNER = range(4)
"""Labels of prompts. A list of points without a box ends with one that is none."""


class SamPrompts(nn.Module):
    """Points (P,N,2) x and y as shares of the picture's side, 0..1, and labels (P,N) -> tokens (P,N,C).

    The file's `prompt_encoder` holds tensors of these names and shapes, and those for masks as prompts
    (`mask_downscaling`), which nothing here gives.

    Source: facebookresearch/segment-anything: segment_anything/modeling/prompt_encoder.py.
    """

    def __init__(self, shapes: dict[str, tuple[int, ...]]) -> None:
        super().__init__()
        width = shapes["no_mask_embed.weight"][1]
        self.pe_layer = _Positions(width // 2)
        self.point_embeddings = nn.ModuleList(nn.Embedding(1, width) for _ in range(SECOND_CORNER + 1))
        self.not_a_point_embed = nn.Embedding(1, width)
        self.no_mask_embed = nn.Embedding(1, width)

    def forward(self, points: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        kinds = torch.cat([one for one in self.point_embeddings.parameters()])
        tokens = self.pe_layer(points) + kinds[labels.clamp(min=0)]
        return torch.where((labels == NO_POINT)[..., None], self.not_a_point_embed.weight, tokens)

    def grid(self, side: int) -> torch.Tensor:
        """(1,side*side,C): the positions of the embedding's places, row by row."""
        places = (torch.arange(side, device=self.no_mask_embed.weight.device) + 0.5) / side
        rows, columns = torch.meshgrid(places, places, indexing="ij")
        return self.pe_layer(torch.stack((columns, rows), dim=-1).reshape(1, -1, 2))


class _Positions(nn.Module):
    """Random waves over the picture."""

    def __init__(self, waves: int) -> None:
        super().__init__()
        self.positional_encoding_gaussian_matrix = nn.Parameter(torch.zeros(2, waves))

    def forward(self, points: torch.Tensor) -> torch.Tensor:
        angles = 2 * math.pi * ((2 * points - 1) @ self.positional_encoding_gaussian_matrix)
        return torch.cat((angles.sin(), angles.cos()), dim=-1)


class SamMasks(nn.Module):
    """Image tokens (1,g*g,C), their positions likewise, prompt tokens (P,N,C) ->
    mask logits (P,4,4g,4g), and how good each mask is (P,4), about 0..1.

    Mask 0 is meant for prompts that leave no doubt, 1 to 3 for those that do: part, thing, whole.

    Source: facebookresearch/segment-anything: segment_anything/modeling/mask_decoder.py.
    """

    def __init__(self, shapes: dict[str, tuple[int, ...]]) -> None:
        super().__init__()
        masks, width = shapes["mask_tokens.weight"]
        self.transformer = _TwoWay(width, below(shapes, "transformer"))
        self.iou_token = nn.Embedding(1, width)
        self.mask_tokens = nn.Embedding(masks, width)
        self.output_upscaling = nn.Sequential(
            nn.ConvTranspose2d(width, width // 4, 2, 2),
            MapNorm(width // 4),
            nn.GELU(),
            nn.ConvTranspose2d(width // 4, width // 8, 2, 2),
            nn.GELU(),
        )
        self.output_hypernetworks_mlps = nn.ModuleList(
            _Layers(below(shapes, f"output_hypernetworks_mlps.{index}")) for index in range(masks)
        )
        self.iou_prediction_head = _Layers(below(shapes, "iou_prediction_head"))

    def forward(
        self, image: torch.Tensor, positions: torch.Tensor, prompts: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        own = torch.cat((self.iou_token.weight, self.mask_tokens.weight))
        tokens = torch.cat((own.expand(len(prompts), -1, -1), prompts), dim=1)
        tokens, image = self.transformer(image, positions, tokens)
        side = math.isqrt(image.shape[1])
        pixels = self.output_upscaling(image.transpose(1, 2).reshape(len(prompts), -1, side, side))
        weights = torch.stack(
            [mlp(tokens[:, index + 1]) for index, mlp in enumerate(self.output_hypernetworks_mlps)], dim=1
        )
        masks = (weights @ pixels.flatten(2)).reshape(len(prompts), -1, *pixels.shape[2:])
        return masks, self.iou_prediction_head(tokens[:, 0])


class _TwoWay(nn.Module):
    """Prompts look at the picture and the picture at the prompts, in turn."""

    def __init__(self, width: int, shapes: dict[str, tuple[int, ...]]) -> None:
        super().__init__()
        inner = shapes["layers.0.mlp.lin1.weight"][0]
        narrow = shapes["final_attn_token_to_image.q_proj.weight"][0]
        self.layers = nn.ModuleList(
            _TwoWayLayer(width, narrow, inner, follows=index > 0) for index in range(count(shapes, "layers"))
        )
        self.final_attn_token_to_image = _Attention(width, narrow)
        self.norm_final_attn = nn.LayerNorm(width)

    def forward(
        self, image: torch.Tensor, positions: torch.Tensor, prompts: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        tokens = prompts
        for layer in self.layers:
            tokens, image = layer(tokens, image, prompts, positions)
        seen = self.final_attn_token_to_image(tokens + prompts, image + positions, image)
        return self.norm_final_attn(tokens + seen), image


class _TwoWayLayer(nn.Module):
    """`image` may be one for all prompts; it comes out as one for each.

    `follows`: another layer was before, so that the tokens are no longer the prompts themselves.
    """

    def __init__(self, width: int, narrow: int, inner: int, *, follows: bool) -> None:
        super().__init__()
        self.self_attn = _Attention(width, width)
        self.norm1 = nn.LayerNorm(width)
        self.cross_attn_token_to_image = _Attention(width, narrow)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = _TwoLayers(width, inner)
        self.norm3 = nn.LayerNorm(width)
        self.norm4 = nn.LayerNorm(width)
        self.cross_attn_image_to_token = _Attention(width, narrow)
        self.follows = follows

    def forward(
        self, tokens: torch.Tensor, image: torch.Tensor, prompts: torch.Tensor, positions: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if self.follows:
            asked = tokens + prompts
            tokens = tokens + self.self_attn(asked, asked, tokens)
        else:
            tokens = self.self_attn(tokens, tokens, tokens)
        tokens = self.norm1(tokens)
        placed = image + positions
        tokens = self.norm2(tokens + self.cross_attn_token_to_image(tokens + prompts, placed, image))
        tokens = self.norm3(tokens + self.mlp(tokens))
        seen = self.cross_attn_image_to_token(placed, tokens + prompts, tokens)
        return tokens, self.norm4(image + seen)


class _Attention(nn.Module):
    """Attention in a narrower space. What comes once serves every item of the batch."""

    def __init__(self, width: int, narrow: int) -> None:
        super().__init__()
        self.q_proj = nn.Linear(width, narrow)
        self.k_proj = nn.Linear(width, narrow)
        self.v_proj = nn.Linear(width, narrow)
        self.out_proj = nn.Linear(narrow, width)

    def forward(self, queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
        batch = max(len(queries), len(keys))
        parts = (self.q_proj(queries), self.k_proj(keys), self.v_proj(values))
        heads = [part.unflatten(2, (HEADS, -1)).transpose(1, 2).expand(batch, -1, -1, -1) for part in parts]
        seen = functional.scaled_dot_product_attention(heads[0], heads[1], heads[2])
        return self.out_proj(seen.transpose(1, 2).flatten(2))


class _TwoLayers(nn.Module):
    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.lin1 = nn.Linear(width, inner)
        self.lin2 = nn.Linear(inner, width)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.lin2(self.lin1(tokens).relu_())


class _Layers(nn.Module):
    """Linear layers with ReLU between them, as the listing has them."""

    def __init__(self, shapes: dict[str, tuple[int, ...]]) -> None:
        super().__init__()
        widths = [shapes[f"layers.{index}.weight"] for index in range(count(shapes, "layers"))]
        self.layers = nn.ModuleList(nn.Linear(before, after) for after, before in widths)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        for index, layer in enumerate(self.layers):
            tokens = layer(tokens.relu() if index else tokens)
        return tokens
