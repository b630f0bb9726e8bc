"""SigLIP's attention pooling, which the host's class leaves out."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

HEADS = 16
EPS = 1e-6


def pooled(tokens: Tensor, head: dict[str, Tensor], heads: int = HEADS) -> Tensor:
    """Tokens (B,L,E) float32 behind the last norm -> one vector (B,1,E) for each picture.

    A learned query attends to all tokens; a norm and an MLP with a shortcut follow. `head` holds the tensors
    of `vision_model.head.` by what follows that name.

    Source: huggingface/transformers: models/siglip/modeling_siglip.py
    (SiglipMultiheadAttentionPoolingHead).
    """
    width = tokens.shape[-1]
    probe = head["probe"].expand(len(tokens), -1, -1)
    weights = head["attention.in_proj_weight"].chunk(3)
    biases = head["attention.in_proj_bias"].chunk(3)
    query, key, value = (
        functional.linear(given, weight, bias).unflatten(-1, (heads, -1)).transpose(1, 2)
        for given, weight, bias in zip((probe, tokens, tokens), weights, biases, strict=True)
    )
    seen = functional.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
    seen = functional.linear(seen, head["attention.out_proj.weight"], head["attention.out_proj.bias"])
    normed = functional.layer_norm(seen, (width,), head["layernorm.weight"], head["layernorm.bias"], eps=EPS)
    inner = functional.linear(normed, head["mlp.fc1.weight"], head["mlp.fc1.bias"])
    inner = functional.gelu(inner, approximate="tanh")
    return seen + functional.linear(inner, head["mlp.fc2.weight"], head["mlp.fc2.bias"])
