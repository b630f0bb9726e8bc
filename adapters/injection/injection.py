"""An injection: terms at sites of the model, a window of steps, a mask; and its state for one run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as functional
from torch.utils.weak import WeakTensorKeyDictionary

from .keys_values import Pair, Rows, Table, Term
from .mask import Area, fit

AREAS = "tiller_areas"
"""Where the parts of the picture that conditionings are for stand in a call's options, by the host's uuid."""

Attention = Callable[..., torch.Tensor]
"""attention(q, k, v, heads) -> (rows, L, heads * d), all three as (rows, length, heads * d)."""


def few_tokens_attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, heads: int) -> torch.Tensor:
    """Attention of queries (rows, L, heads * d) on tokens (rows, T, heads * d), as `Attention`.

    The host's choice of attention saves memory with long contexts, and takes several times as long as this
    for a few tokens.
    """
    q, k, v = (each.unflatten(-1, (heads, -1)).transpose(1, 2) for each in (q, k, v))
    return functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


@dataclass
class Run:
    """What one injection keeps while one sampling runs: its table, its masks, its window as noise levels."""

    table: Table
    window: tuple[float, float] | None
    masks: dict[Any, torch.Tensor] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Call:
    """One call of the model, as patches see it. It holds nothing of the call's options: patches are kept
    in those, and a circle would keep the run's tables alive after it.

    `chunks` is the host's `cond_or_uncond`; `window` the pictures of the batch that a context window shows;
    `size` the height and width of the latent. `areas` has one entry per chunk where conditionings are for
    parts of the picture, None for one that is for all of it; it is empty where all are.
    """

    chunks: tuple[int, ...]
    window: tuple[int, ...] | None
    attention: Attention
    device: torch.device
    dtype: torch.dtype
    size: tuple[int, int]
    areas: tuple[Area | None, ...] = ()

    @classmethod
    def of(cls, options: dict[str, Any], attention: Attention, x: torch.Tensor, dtype: torch.dtype) -> Call:
        """The call with these options on the latent `x` (rows,C,...,h,w), computed in `dtype`."""
        window = frames_shown(options.get("context_window"))
        chunks, (height, width) = tuple(options.get("cond_or_uncond") or (0,)), x.shape[-2:]
        noted = options.get(AREAS, {})
        areas = tuple(noted.get(each) for each in options.get("uuids", ()))
        areas = areas if any(areas) else ()
        return cls(chunks, window, attention, x.device, dtype, (height, width), areas)

    def rows(self, rows: int) -> Rows:
        """How the `rows` rows of a layer's batch divide into conditionings and pictures."""
        return Rows.of(self.chunks, rows, self.window)


def frames_shown(window: Any) -> tuple[int, ...] | None:
    """The pictures of the batch that the host's context window shows, the one that it puts before them too.

    None without a window over the batch.
    """
    if window is None or window.dim != 0:
        return None
    anchor = getattr(window, "causal_anchor_index", None)
    return (*(() if anchor is None or anchor < 0 else (anchor,)), *window.index_list)


def _level(noise_at: Callable[[float], float], percent: float) -> float:
    """The noise level in the precision in which the host hands them: a step at the edge is inside."""
    return torch.tensor(noise_at(percent), dtype=torch.float32).item()


@dataclass(frozen=True, eq=False)
class Injection:
    """Terms at sites of a model: unchanging, so clones and branches may share it.

    `start` and `end` are the share of the sampling in 0..1 in which it acts. `mask` (N,1,H,W) in 0..1, one
    for all pictures or one per picture of the batch, confines it. A subclass says how terms get into the
    model: `place`.
    """

    terms: dict[Any, Term]
    start: float = 0.0
    end: float = 1.0
    mask: torch.Tensor | None = None
    _runs: WeakTensorKeyDictionary = field(default_factory=WeakTensorKeyDictionary, repr=False)

    def __post_init__(self) -> None:
        if not 0.0 <= self.start <= self.end <= 1.0:
            raise ValueError(
                f"Start and end must be in 0..1 with start first, got {self.start:g} and {self.end:g}."
            )

    @property
    def is_always_active(self) -> bool:
        return self.start <= 0.0 and self.end >= 1.0

    def run(self, call: Call, sigmas: torch.Tensor | None, noise_at: Callable[[float], float]) -> Run:
        """The state for the run that a call belongs to; made at its first call, gone with its noise levels.

        `sigmas` are the run's own noise levels, as the host hands them to every call; `noise_at` is the
        model's percent_to_sigma. Levels that a node has made may serve several runs, on other devices or of
        models that measure noise differently: each has its own state.
        """
        runs: dict[Any, Run] | None = None if sigmas is None else self._runs.get(sigmas)
        if runs is None:
            runs = {}
            if sigmas is not None:
                self._runs[sigmas] = runs
        key = (call.device, call.dtype, noise_at)
        if key not in runs:
            window = (
                None if self.is_always_active else (_level(noise_at, self.start), _level(noise_at, self.end))
            )
            runs[key] = Run(Table(self.terms, call.device, call.dtype), window)
        return runs[key]

    def place(self, call: Call, run: Run, options: dict[str, Any]) -> None:
        """Puts what the injection does into `options`, which belong to this call alone."""
        raise NotImplementedError

    def masked(self, own: torch.Tensor, call: Call, run: Run, size: tuple[int, int]) -> torch.Tensor:
        """(rows, L, C) of a layer of `size` (h,w), L = h * w -> the same, confined to the mask.

        A conditioning for a part of the picture gets that part of the mask. Raises ValueError for a layer
        whose tokens are not those of its size.
        """
        if self.mask is None:
            return own
        if own.shape[1] != size[0] * size[1]:
            raise ValueError(
                f"A mask needs the {size[0]} x {size[1]} tokens of a layer, but the layer got {own.shape[1]}"
                ": another patch of the model merges or tiles tokens. Use one of the two."
            )
        rows = call.rows(own.shape[0])
        key = (size, rows, call.areas, own.dtype)
        if key not in run.masks:
            areas = call.areas or (None,)
            fitted = [rows.pick(fit(self.mask, *size, area).to(own)) for area in areas]
            repeats = 1 if call.areas else len(rows.chunks)
            run.masks[key] = torch.cat(fitted).repeat(repeats, 1, 1)
        return own * run.masks[key]

    def attend(self, q: torch.Tensor, site: Any, heads: int, call: Call, run: Run) -> torch.Tensor:
        """Attention of the queries (rows, L, heads * d) on the site's tokens, weight included."""
        pair: Pair = run.table.rows(site, call.rows(q.shape[0]))
        return few_tokens_attention(q, pair.k, pair.v, heads)
