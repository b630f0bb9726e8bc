"""K and V of image tokens: computed once, scaled once, laid out for the rows of a batch.

The tokens do not change while sampling runs, so neither do their keys and values: what the usual packs
project in every layer at every step is a table here.

Source: tencent-ailab/IP-Adapter: ip_adapter/attention_processor.py (IPAttnProcessor2_0);
cubiq/ComfyUI_IPAdapter_plus: CrossAttentionPatch.py (embeds scaling).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as functional

from .tokens import Tokens

UNCOND = 1
"""The host's number of the negative conditioning in `cond_or_uncond`."""

PENALTY_WIDTH = 1280
"""Layers narrower than this get less in the scalings with a channel penalty."""


class Projection(NamedTuple):
    """Weights that make K and V of tokens (…,X): `to_k` and `to_v` (C,X), biases (C,) or None."""

    to_k: torch.Tensor
    to_v: torch.Tensor
    bias_k: torch.Tensor | None = None
    bias_v: torch.Tensor | None = None


class Pair(NamedTuple):
    """Keys and values, each (N,T,C)."""

    k: torch.Tensor
    v: torch.Tensor


Scaling = Callable[[Pair, torch.Tensor], Pair]
"""Pair and weight (N,1,1) -> the scaled pair."""


def _value_only(pair: Pair, weight: torch.Tensor) -> Pair:
    return Pair(pair.k, pair.v * weight)


def _key_and_value(pair: Pair, weight: torch.Tensor) -> Pair:
    return Pair(pair.k * weight, pair.v * weight)


def _penalised(pair: Pair, weight: torch.Tensor) -> torch.Tensor:
    return weight * (pair.k.shape[-1] / PENALTY_WIDTH)


def _key_and_value_penalised(pair: Pair, weight: torch.Tensor) -> Pair:
    return _key_and_value(pair, _penalised(pair, weight))


def _key_and_mean_value_penalised(pair: Pair, weight: torch.Tensor) -> Pair:
    own = _penalised(pair, weight)
    mean = pair.v.mean(dim=1, keepdim=True)
    return Pair(pair.k * own, pair.v - mean + mean * own)


SCALINGS: dict[str, Scaling] = {
    "V only": _value_only,
    "K+V": _key_and_value,
    "K+V w/ C penalty": _key_and_value_penalised,
    "K+mean(V) w/ C penalty": _key_and_mean_value_penalised,
}
"""How the weight enters. "V only" is the papers' formula: out + weight * attention(q, K, V)."""


@dataclass(frozen=True, eq=False)
class Term:
    """What is injected at one site: `tokens` through `projection`, by `weight`, one or one per picture."""

    projection: Projection
    tokens: Tokens
    weight: tuple[float, ...]
    scaling: str = "V only"
    finish: Callable[[Pair], Pair] | None = None
    """Applied to the keys and values before the weight (Flux normalises them)."""

    @property
    def acts(self) -> bool:
        return any(self.weight)


def keys_values(term: Term, device: torch.device, dtype: torch.dtype) -> tuple[Pair, Pair]:
    """Scaled keys and values of a term for the positive and the negative side, each (N,T,C)."""

    tokens = torch.cat([term.tokens.cond, term.tokens.uncond]).to(device, dtype)
    to_k, to_v, *biases = term.projection
    bias_k, bias_v = (bias if bias is None else bias.to(device, dtype) for bias in biases)
    pair = Pair(
        functional.linear(tokens, to_k.to(device, dtype), bias_k),
        functional.linear(tokens, to_v.to(device, dtype), bias_v),
    )
    if term.finish is not None:
        pair = term.finish(pair)
    weight = torch.tensor(term.weight, device=device, dtype=dtype)[:, None, None]
    scale = SCALINGS[term.scaling]
    count = max(len(weight), len(term.tokens.cond))
    if len(weight) not in (1, count) or len(term.tokens.cond) not in (1, count):
        raise ValueError(
            "Weights per picture must be one, or as many as there are image prompts in the batch "
            f"({len(term.tokens.cond)}); got {len(weight)}."
        )
    cond, uncond = (
        scale(Pair(k.expand(count, -1, -1), v.expand(count, -1, -1)), weight)
        for k, v in zip(pair.k.chunk(2), pair.v.chunk(2), strict=True)
    )
    return cond, uncond


@dataclass(frozen=True)
class Rows:
    """Which rows a batch has: `chunks` as the host's `cond_or_uncond`, `frames` the pictures of one chunk.

    `frames` gives each row of a chunk its place in the whole batch (context windows show parts of it).
    """

    chunks: tuple[int, ...]
    frames: tuple[int, ...]

    @classmethod
    def of(cls, cond_or_uncond: Sequence[int], rows: int, window: Sequence[int] | None = None) -> Rows:
        """The rows of a batch of `rows`; raises ValueError when they do not divide into the chunks."""
        each, rest = divmod(rows, len(cond_or_uncond))
        if rest:
            raise ValueError(
                f"An attention layer got {rows} rows for {len(cond_or_uncond)} conditionings, which does not "
                "divide. Another patch of the model changes the batch; take it out of the chain."
            )
        frames = range(each) if window is None or len(window) != each else window
        return cls(tuple(cond_or_uncond), tuple(frames))

    def pick(self, per_frame: torch.Tensor) -> torch.Tensor:
        """(N,…) -> one entry per row of a chunk; the last serves all that come after it."""
        if len(per_frame) == 1:
            return per_frame.expand(len(self.frames), *per_frame.shape[1:])
        last = len(per_frame) - 1
        return per_frame[[min(frame, last) for frame in self.frames]]


class Table:
    """Keys and values of every site of one injection for one run, on one device and in one type."""

    def __init__(self, terms: dict[Any, Term], device: torch.device, dtype: torch.dtype) -> None:
        self._pairs = {site: keys_values(term, device, dtype) for site, term in terms.items() if term.acts}
        self._laid: dict[tuple[Any, Rows], Pair] = {}
        self.sites = tuple(self._pairs)

    def rows(self, site: Any, rows: Rows) -> Pair:
        """Keys and values (rows,T,C) of a site for every row of a batch, laid out once per kind of batch."""
        laid = self._laid.get((site, rows))
        if laid is None:
            cond, uncond = self._pairs[site]
            sides = [uncond if chunk == UNCOND else cond for chunk in rows.chunks]
            laid = Pair(
                torch.cat([rows.pick(side.k) for side in sides]),
                torch.cat([rows.pick(side.v) for side in sides]),
            )
            self._laid[site, rows] = laid
        return laid

    @property
    def nbytes(self) -> int:
        """Memory of what is kept for the run, in bytes."""
        pairs = [*(side for both in self._pairs.values() for side in both), *self._laid.values()]
        kept = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for pair in pairs for t in pair}
        return sum(kept.values())
