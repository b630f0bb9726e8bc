"""What the usual packs do in every layer at every step: a stand-in to measure beside ours.

Written from what cubiq/ComfyUI_IPAdapter_plus does per layer and step (CrossAttentionPatch.py): the noise
level is brought to the processor, the tokens of both sides go through the layer's weights, the results are
repeated and joined, and a mask is resized. The formula is the same as ours, the middle block included, which
that pack misses on today's host.
"""

from __future__ import annotations

import importlib
from typing import Any

import torch
import torch.nn.functional as functional


class PerStepTerm:
    """One adapter at one layer, as such a pack keeps it: weights, tokens, and everything done anew."""

    def __init__(self, term: Any, window: tuple[float, float], mask: torch.Tensor | None, like: Any) -> None:
        device, dtype = like
        self.to_k, self.to_v = (weight.to(device, dtype) for weight in term.projection[:2])
        self.cond, self.uncond = (side.to(device, dtype) for side in (term.tokens.cond, term.tokens.uncond))
        self.weight, self.window = term.weight[0], window
        self.mask = None if mask is None else mask.to(device, dtype)

    def __call__(self, q: torch.Tensor, options: dict[str, Any], attention: Any) -> torch.Tensor:
        chunks = options["cond_or_uncond"]
        each = q.shape[0] // len(chunks)

        def sides(weight: torch.Tensor) -> torch.Tensor:
            both = [functional.linear(side, weight).repeat(each, 1, 1) for side in (self.cond, self.uncond)]
            return torch.cat([both[chunk] for chunk in chunks])

        own = attention(q, sides(self.to_k), sides(self.to_v), options["n_heads"]) * self.weight
        if self.mask is None:
            return own
        size = options["activations_shape"][-2:]
        mask = functional.interpolate(self.mask, size, mode="bilinear").repeat(q.shape[0], 1, 1, 1)
        return own * mask.flatten(2).movedim(1, 2).repeat(1, 1, own.shape[2])


class PerStepLayer:
    """What stands at one layer of the model: all adapters, each asked for its window by its own look."""

    def __init__(self, terms: list[PerStepTerm], attention: Any) -> None:
        self.terms, self.attention = terms, attention

    def __call__(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, options: Any) -> torch.Tensor:
        out = self.attention(q, k, v, options["n_heads"])
        sigma = options["sigmas"].detach().cpu()[0].item()
        for term in self.terms:
            if term.window[1] <= sigma <= term.window[0]:
                out = out + term(q, options, self.attention)
        return out.to(q.dtype)


def usual(model: Any, injections: list[Any], like: tuple[torch.device, torch.dtype]) -> Any:
    """A clone of the model with the injections' terms done per layer and step; `like`: device and type."""
    attention = importlib.import_module("comfy.ldm.modules.attention").optimized_attention
    clone, noise = model.clone(), model.get_model_object("model_sampling").percent_to_sigma
    for site in injections[0].terms:
        terms = [
            PerStepTerm(
                injection.terms[site], (noise(injection.start), noise(injection.end)), injection.mask, like
            )
            for injection in injections
        ]
        clone.set_model_attn2_replace(PerStepLayer(terms, attention), *site)
    return clone
