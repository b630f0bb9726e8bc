"""Tokens of a picture's style after those of the text: the T2I style adapter, host-free.

Source: Mou et al. 2023, "T2I-Adapter" (arXiv:2302.08453); ComfyUI: nodes.py (StyleModelApply); Mikubill/
sd-webui-controlnet: scripts/hook.py ("prompt token control").
"""

from collections.abc import Sequence
from typing import Any, Literal

import torch

StyleRows = Literal["positive", "webui"]
STYLE_ROWS: tuple[StyleRows, ...] = ("positive", "webui")

Conditioning = Sequence[Sequence[Any]]


def style_tokens(style_model: Any, clip_vision_output: Any) -> torch.Tensor:
    """(1,n,C) tokens of a style: those of every picture in the batch, one after the other.

    Raises ValueError for something else than a style model, and for embeddings of another width than it
    reads.
    """
    states = getattr(clip_vision_output, "last_hidden_state", None)
    if not hasattr(style_model, "get_cond") or states is None:
        raise ValueError(
            "Apply Style needs a style model and the output of CLIP Vision Encode, got "
            f"{type(style_model).__name__} and {type(clip_vision_output).__name__}. Connect Load Style Model "
            "to style_model and CLIP Vision Encode to clip_vision_output."
        )
    embedding = getattr(getattr(style_model, "model", None), "style_embedding", None)
    if embedding is not None and embedding.shape[-1] != states.shape[-1]:
        raise ValueError(
            f"This style model reads CLIP vision embeddings of width {embedding.shape[-1]}, got "
            f"{states.shape[-1]}. The T2I style adapter wants CLIP ViT-L/14 (width 1024): load that one with "
            "Load CLIP Vision."
        )
    try:
        tokens = style_model.get_cond(clip_vision_output)
    except RuntimeError as error:
        raise ValueError(
            f"This style model cannot read CLIP vision embeddings of width {states.shape[-1]}: {error}. "
            "Load the CLIP vision model that its page names with Load CLIP Vision."
        ) from error
    return tokens.flatten(start_dim=0, end_dim=1).unsqueeze(dim=0)


def _wider(mask: torch.Tensor, text: int, more: int) -> torch.Tensor:
    """An attention mask over text and pictures, (b,text + p,text + p), with `more` free tokens in between.

    Masks of yes and no become biases of 0 and -inf, as the host makes them.
    """
    bias = torch.log(mask.to(torch.float16)) if mask.dtype == torch.bool else mask
    side = mask.shape[-1] + more
    wider = torch.zeros((mask.shape[0], side, side), dtype=torch.float16)
    old = [*range(text), *range(text + more, side)]
    rows, columns = torch.tensor(old)[:, None], torch.tensor(old)[None, :]
    wider[:, rows, columns] = bias.to(wider)
    return wider.to(mask.device)


def with_tokens(conditioning: Conditioning, tokens: torch.Tensor) -> list[list[Any]]:
    """The conditioning with (1,n,C) tokens after those of the text, in every entry.

    Raises ValueError for a text of another width, which belongs to another model family.
    """
    result = []
    for text, options in conditioning:
        if text.shape[-1] != tokens.shape[-1]:
            raise ValueError(
                f"This style model makes tokens of width {tokens.shape[-1]}, but the conditioning has width "
                f"{text.shape[-1]}. The T2I style adapter is for SD1.5 (width 768), Redux for Flux (4096); "
                "take the text encoder and the checkpoint of that family."
            )
        options = options.copy()
        mask = options.get("attention_mask")
        if mask is not None:
            options["attention_mask"] = _wider(mask, text.shape[1], tokens.shape[1])
            options.setdefault("attention_mask_img_shape", (1, 1))
        result.append([torch.cat((text, tokens.expand(len(text), -1, -1)), dim=1), options])
    return result


def apply_style(
    positive: Conditioning, negative: Conditioning, tokens: torch.Tensor, strength: float, rows: StyleRows
) -> tuple[Conditioning, Conditioning]:
    """Positive and negative with (1,n,C) tokens times `strength` after the positive's text.

    "positive" leaves the negative as it is, like ComfyUI's Apply Style Model; "webui" adds as many tokens of
    zeros to it, like the A1111 web UI. Strength 0 returns both untouched.
    """
    if strength == 0:
        return positive, negative
    styled = with_tokens(positive, tokens * strength)
    return styled, with_tokens(negative, torch.zeros_like(tokens)) if rows == "webui" else negative
