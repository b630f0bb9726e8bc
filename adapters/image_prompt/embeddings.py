"""Embeddings of pictures put together: tiles of one picture, pictures of a batch, prompts of a graph."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch

from .records import EmbedState, HiddenState, ImagePrompt, PromptPart

BatchMode = Literal["concat", "average", "one per picture"]
BATCH_MODES: tuple[BatchMode, ...] = ("concat", "average", "one per picture")
Method = Literal[
    "concat",
    "average",
    "norm average",
    "norm average (IPAdapter_plus)",
    "add",
    "subtract",
    "max",
    "min",
]
METHODS: tuple[Method, ...] = (
    "concat",
    "average",
    "norm average",
    "norm average (IPAdapter_plus)",
    "add",
    "subtract",
    "max",
    "min",
)


def merged_tiles(tiles: torch.Tensor, state: HiddenState) -> torch.Tensor:
    """Embeddings (k*k,S,E) of the tiles of one picture, row by row -> (1,S,E), as if of the whole picture.

    Of hidden states, the class tokens are averaged; the grids of the others are laid side by side as the
    tiles lie and averaged down to one tile's grid. Of one vector per tile, the mean.

    Source: cubiq/ComfyUI_IPAdapter_plus: utils.py (merge_hiddenstates).
    """
    if state != "penultimate":
        return tiles.mean(dim=0, keepdim=True)
    across = round(len(tiles) ** 0.5)
    side = round((tiles.shape[1] - 1) ** 0.5)
    grid = tiles[:, 1:].reshape(across, across, side, side, -1).permute(4, 0, 2, 1, 3)
    merged = grid.reshape(1, -1, across * side, across * side)
    pooled = torch.nn.functional.avg_pool2d(merged, across).flatten(2).transpose(1, 2)
    return torch.cat([tiles[:, :1].mean(dim=0, keepdim=True), pooled], dim=1)


def batch_parts(
    pieces: Sequence[torch.Tensor], negative: torch.Tensor, mode: BatchMode, weight: float
) -> tuple[PromptPart, ...]:
    """Embeddings of a batch -> the parts of a prompt.

    Each piece (B,S,E) is what one square of every picture gave, `negative` (B or 1,S,E). "concat": the
    tokens of every piece of every picture side by side; "average": the mean of the pictures; "one per
    picture": picture n of the batch is for picture n of the batch that is drawn. `weight` multiplies the
    embeddings, not the negative ones.
    """
    negative = negative.expand(len(pieces[0]), -1, -1)
    weighted = [piece * weight for piece in pieces]
    if mode == "one per picture":
        return tuple(PromptPart(piece, negative) for piece in weighted)
    if mode == "average":
        mean = negative.mean(dim=0, keepdim=True)
        return tuple(PromptPart(piece.mean(dim=0, keepdim=True), mean) for piece in weighted)
    return tuple(
        PromptPart(piece[number : number + 1], negative[number : number + 1])
        for number in range(len(negative))
        for piece in weighted
    )


def _described(state: EmbedState) -> str:
    return f"{state.encoder}, {state.state} ({state.tokens} x {state.width})"


def combined(prompts: Sequence[ImagePrompt], weights: Sequence[float], method: Method) -> ImagePrompt:
    """Several prompts as one: their tokens side by side, or their embeddings put together by `method`.

    Each prompt's embeddings are multiplied by its weight first. concat keeps every part. The others look at
    all parts together and make one of them; "subtract" takes the mean of all other prompts' parts from each
    part of the first. "norm average" is the mean of the embeddings' directions at their mean length, so that
    a picture with long vectors does not outweigh the others; its weights act on the directions.
    "norm average (IPAdapter_plus)" divides each number by the length over the pictures, not over the
    embedding, as that pack does. The negative embedding is the mean of all.

    Raises ValueError for no prompt, for prompts of different encoders or states, and for batches of
    different sizes.

    Source: cubiq/ComfyUI_IPAdapter_plus: IPAdapterPlus.py (IPAdapterCombineEmbeds).
    """
    _check_alike(prompts)
    state = prompts[0].state
    if method == "concat":
        pairs = zip(prompts, weights, strict=True)
        return ImagePrompt(
            state,
            tuple(
                PromptPart(part.embeds * weight, part.negative)
                for prompt, weight in pairs
                for part in prompt.parts
            ),
        )
    size = max(len(part.embeds) for prompt in prompts for part in prompt.parts)
    groups = [torch.stack([part.embeds.expand(size, -1, -1) for part in prompt.parts]) for prompt in prompts]
    negative = torch.stack(
        [part.negative.expand(size, -1, -1) for prompt in prompts for part in prompt.parts]
    ).mean(dim=0)
    if method == "subtract":
        first, *others = (group * weight for group, weight in zip(groups, weights, strict=True))
        if others:
            first = first - torch.cat(others).mean(dim=0)
        return ImagePrompt(state, tuple(PromptPart(embeds, negative) for embeds in first))
    return ImagePrompt(state, (PromptPart(_put_together(groups, weights, method), negative),))


def _put_together(groups: Sequence[torch.Tensor], weights: Sequence[float], method: Method) -> torch.Tensor:
    """Embeddings (parts,N,S,E) of each prompt -> (N,S,E), by any method that makes one of all."""
    weighted = torch.cat([group * weight for group, weight in zip(groups, weights, strict=True)])
    if method == "norm average":
        every = torch.cat(list(groups))
        length = every.norm(dim=-1, keepdim=True).mean(dim=0)
        turned = [_directions(group) * weight for group, weight in zip(groups, weights, strict=True)]
        return torch.cat(turned).mean(dim=0) * length
    if method == "norm average (IPAdapter_plus)":
        length = weighted.norm(dim=0, keepdim=True)
        return torch.where(length > 0, weighted / length, torch.zeros_like(weighted)).mean(dim=0)
    if method == "add":
        return weighted.sum(dim=0)
    if method == "max":
        return weighted.amax(dim=0)
    if method == "min":
        return weighted.amin(dim=0)
    return weighted.mean(dim=0)


def _directions(embeds: torch.Tensor) -> torch.Tensor:
    """Each vector at length 1; one of zeros stays as it is."""
    length = embeds.norm(dim=-1, keepdim=True)
    return torch.where(length > 0, embeds / length, embeds)


def _check_alike(prompts: Sequence[ImagePrompt]) -> None:
    if not prompts:
        raise ValueError("At least one image prompt is needed, got none. Connect Encode Image Prompt.")
    states = list(dict.fromkeys(prompt.state for prompt in prompts))
    if len(states) > 1:
        raise ValueError(
            "Image prompts can be combined when all are of one encoder and state, got "
            f"{' and '.join(_described(state) for state in states)}. "
            "Encode every picture for the same adapter."
        )
    sizes = sorted({len(part.embeds) for prompt in prompts for part in prompt.parts} - {1})
    if len(sizes) > 1:
        raise ValueError(
            "Image prompts with one picture for each picture of a batch can be combined when all are for "
            f"one size of batch, got {' and '.join(map(str, sizes))}. Give batches of the same size."
        )
