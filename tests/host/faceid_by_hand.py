"""FaceID written out in the host's model as its authors wrote it: a LoRA beside every projection.

Attention has a LoRA on q, k, v and the output; cross-attention gets the image's own keys and values, which
have none. Source: tencent-ailab/IP-Adapter: ip_adapter/attention_processor_faceid.py (LoRAAttnProcessor2_0,
LoRAIPAttnProcessor2_0), ip_adapter_faceid.py (set_ip_adapter for the numbers of the layers).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as functional
from tiller.tests.host import inprocess as real
from tiller.tests.host.small_unets import CONFIGS, WIDTH, build, small


class ByHand(NamedTuple):
    """What the layers are given: weights by bare keys, tokens (1,T,X) of both sides, scale, LoRA's scale."""

    weights: dict[str, torch.Tensor]
    cond: torch.Tensor
    uncond: torch.Tensor
    scale: float = 1.0
    lora_scale: float = 1.0


def attentions(unet: Any) -> list[Any]:
    """All attentions in the order of adapter files: down, up, middle; self before cross."""
    return [
        attention
        for blocks in (unet.input_blocks, unet.output_blocks, unet.middle_block)
        for module in blocks.modules()
        if type(module).__name__ == "BasicTransformerBlock"
        for attention in (module.attn1, module.attn2)
    ]


@real.kept
def precise(name: str) -> real.Family:
    """`small(name)` with its weights in double precision, where rounding does not hide what is different."""
    return small(name)._replace(model=_build(name))


def _build(name: str) -> Any:
    return build(name, {**CONFIGS[name], "model_channels": WIDTH}, torch.device("cpu"), torch.float64)


def by_hand(name: str, given: ByHand) -> tuple[Any, list[int]]:
    """A model with the weights of `precise(name)`, its attentions replaced; the layers it reaches."""
    model, reached = _build(name), []
    for number, attention in enumerate(attentions(model.model.diffusion_model)):
        attention.forward = _forward(attention, number, given, reached)
    return model, reached


def _split(tensor: torch.Tensor, heads: int) -> torch.Tensor:
    return tensor.unflatten(-1, (heads, -1)).transpose(1, 2)


def _attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, heads: int) -> torch.Tensor:
    q, k, v = (_split(each, heads) for each in (q, k, v))
    weights = torch.softmax(q @ k.transpose(2, 3) / q.shape[-1] ** 0.5, dim=-1)
    return (weights @ v).transpose(1, 2).flatten(2)


def _forward(attention: Any, number: int, given: ByHand, reached: list[int]) -> Any:
    def with_lora(linear: Any, part: str, x: torch.Tensor) -> torch.Tensor:
        out = linear(x)
        down = given.weights.get(f"{number}.to_{part}_lora.down.weight")
        if down is None:
            return out
        up = given.weights[f"{number}.to_{part}_lora.up.weight"]
        return out + given.lora_scale * functional.linear(functional.linear(x, down.to(x)), up.to(x))

    def forward(
        x: torch.Tensor,
        context: Any = None,
        value: Any = None,
        mask: Any = None,
        transformer_options: Any = None,
    ) -> torch.Tensor:
        text = x if context is None else context
        q = with_lora(attention.to_q, "q", x)
        k, v = with_lora(attention.to_k, "k", text), with_lora(attention.to_v, "v", text)
        out = _attend(q, k, v, attention.heads)
        if number % 2:
            reached.append(number)
            chunks = transformer_options["cond_or_uncond"]
            each = len(x) // len(chunks)
            sides = (given.cond, given.uncond)
            tokens = torch.cat([sides[chunk].expand(each, -1, -1) for chunk in chunks]).to(x)
            weights = (given.weights[f"{number}.to_{side}_ip.weight"].to(x) for side in "kv")
            own_k, own_v = (functional.linear(tokens, weight) for weight in weights)
            out = out + given.scale * _attend(q, own_k, own_v, attention.heads)
        return with_lora(attention.to_out[0], "out", out)

    return forward


def picture(of: Any, model: Any, **run: Any) -> torch.Tensor:
    """The host's KSampler with this model in place of the family's own."""
    family = of._replace(model=model)
    positive, negative = real.conditioning(family, 1), real.conditioning(family, 2)
    return real.sample(family, positive, negative, real.Run(**{"size": (8, 8), "steps": 2, **run}))
