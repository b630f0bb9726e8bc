"""The default model's text encoder: CLIP-L's form with weights that are written down, not trained.

A token's vector is 256 random signs and their negations, the same on every machine. One attention layer
sets beside each token the first 64 signs of the token before it and of the one before that, so that
"background" knows it is a blue one; all other layers pass their input on. Positions are 32 pairs of a
cosine and a sine at odd multiples of pi / 64, which makes different positions orthogonal and a step
backwards a rotation.

Form: Radford et al. 2021 (openai/CLIP), text model of clip-vit-large-patch14.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

VOCABULARY = 49408
LENGTH = 77
WIDTH = 768
LAYERS = 12
SIGNS = 256
HEAD = 64
PAIRS = HEAD // 2
SHARPNESS = 2.0
SEED = 20_261_121
PREVIOUS = 2 * SIGNS
POSITION = PREVIOUS + 2 * HEAD
PREFIX = "cond_stage_model.transformer.text_model."


def token_signs() -> torch.Tensor:
    """(49408, 256) float32 of -1 and 1. PCG64's raw stream is the same on every platform."""
    words = np.random.PCG64(SEED).random_raw(VOCABULARY * SIGNS // 64).astype("<u8")
    bits = np.unpackbits(words.view(np.uint8)).reshape(VOCABULARY, SIGNS)
    return torch.from_numpy(bits.astype(np.float32)) * 2 - 1


def angles() -> torch.Tensor:
    return torch.pi * (torch.arange(PAIRS) + 0.5) / PAIRS


def token_table(signs: torch.Tensor) -> torch.Tensor:
    table = torch.zeros(VOCABULARY, WIDTH)
    table[:, :SIGNS] = signs
    table[:, SIGNS : 2 * SIGNS] = -signs
    return table


def position_table() -> torch.Tensor:
    turns = torch.arange(LENGTH)[:, None] * angles()
    wave = torch.cat([turns.cos(), turns.sin()], 1)
    table = torch.zeros(LENGTH, WIDTH)
    table[:, POSITION:] = torch.cat([wave, -wave], 1)
    return table.half().float()


def look_back(steps: int) -> torch.Tensor:
    """(64, 768): the query that fits the key `steps` positions before."""
    cosine, sine = torch.diag((steps * angles()).cos()), torch.diag((steps * angles()).sin())
    query = torch.zeros(HEAD, WIDTH)
    query[:, POSITION : POSITION + HEAD] = torch.cat(
        [torch.cat([cosine, sine], 1), torch.cat([-sine, cosine], 1)]
    )
    return SHARPNESS * query


def state_dict() -> dict[str, torch.Tensor]:
    """The weights under the names of an SD1.5 checkpoint, float16."""
    tensors = {
        "embeddings.token_embedding.weight": token_table(token_signs()),
        "embeddings.position_embedding.weight": position_table(),
        "final_layer_norm.weight": torch.ones(WIDTH),
        "final_layer_norm.bias": torch.zeros(WIDTH),
    }
    for layer in range(LAYERS):
        name = f"encoder.layers.{layer}."
        for norm in ("layer_norm1", "layer_norm2"):
            tensors[f"{name}{norm}.weight"] = torch.ones(WIDTH)
            tensors[f"{name}{norm}.bias"] = torch.zeros(WIDTH)
        for part, inside, outside in (
            *((f"self_attn.{p}_proj", WIDTH, WIDTH) for p in ("q", "k", "v", "out")),
            ("mlp.fc1", WIDTH, 4 * WIDTH),
            ("mlp.fc2", 4 * WIDTH, WIDTH),
        ):
            tensors[f"{name}{part}.weight"] = torch.zeros(outside, inside)
            tensors[f"{name}{part}.bias"] = torch.zeros(outside)
    first = "encoder.layers.0.self_attn."
    for head in range(2):
        rows = slice(head * HEAD, (head + 1) * HEAD)
        tensors[f"{first}q_proj.weight"][rows] = look_back(head + 1)
        tensors[f"{first}k_proj.weight"][rows] = look_back(0)
        tensors[f"{first}v_proj.weight"][rows, :HEAD] = torch.eye(HEAD)
        tensors[f"{first}out_proj.weight"][PREVIOUS + head * HEAD : PREVIOUS + (head + 1) * HEAD, rows] = (
            torch.eye(HEAD)
        )
    return {PREFIX + name: tensor.half() for name, tensor in tensors.items()}


class TextEncoder:
    """Tokens (B, 77) -> context (B, 77, 768) float32: what the host computes from `state_dict`, directly."""

    def __init__(self) -> None:
        self.signs, self.positions = token_signs(), position_table()

    def __call__(self, tokens: torch.Tensor) -> torch.Tensor:
        signs = self.signs[tokens]
        x = torch.cat([signs, -signs, torch.zeros(*signs.shape[:2], WIDTH - 2 * SIGNS)], 2) + self.positions
        known = F.layer_norm(x, (WIDTH,))[..., :HEAD]
        for head in range(2):
            place = slice(PREVIOUS + head * HEAD, PREVIOUS + (head + 1) * HEAD)
            x[:, head + 1 :, place] = known[:, : -(head + 1)]
            # The first tokens have no such neighbour: all the earlier ones count alike.
            for row in range(head + 1):
                x[:, row, place] = known[:, : row + 1].mean(1)
        return F.layer_norm(x, (WIDTH,))
