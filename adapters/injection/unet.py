"""Injection into the cross-attention of a UNet: out = attention(q, text) + weight * attention(q, image).

Source: Ye et al., "IP-Adapter" (arXiv 2308.06721), section 3.2.2; tencent-ailab/IP-Adapter:
ip_adapter/attention_processor.py (IPAttnProcessor2_0).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from .injection import Call, Injection, Run
from .sites import Site

Replace = Callable[..., torch.Tensor]


@dataclass(frozen=True, eq=False)
class UNetInjection(Injection):
    """Terms at cross-attentions, keyed by `Site`; added to what is there before the output projection."""

    def place(self, call: Call, run: Run, options: dict[str, Any]) -> None:
        replace = options.get("patches_replace", {})
        attn2 = dict(replace.get("attn2", {}))
        for site in run.table.sites:
            previous = attn2.get(site, attn2.get(site[:2]))
            attn2[site] = _layer(self, site, call, run, previous)
        options["patches_replace"] = {**replace, "attn2": attn2}


def _layer(injection: UNetInjection, site: Site, call: Call, run: Run, previous: Replace | None) -> Replace:
    """A replacement of the host's kind "attn2": (q, k, v, options) -> attention before the projection."""

    def layer(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, options: dict[str, Any]) -> torch.Tensor:
        heads = options["n_heads"]
        if previous is not None:
            out = previous(q, k, v, options)
        else:
            out = call.attention(
                q, k, v, heads, attn_precision=options.get("attn_precision"), transformer_options=options
            )
        own = injection.attend(q, site, heads, call, run)
        return out + injection.masked(own, call, run, tuple(options["activations_shape"][-2:]))

    return layer
