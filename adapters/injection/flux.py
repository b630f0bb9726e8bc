"""Injection into the blocks of a Flux network, in the two ways of published adapters.

Both attend to the image tokens with the queries after their norm and before their rotation. XLabs adds the
result to the picture's stream behind the whole double block; InstantX adds it to the attention's own result,
in double blocks for the picture's stream, in single blocks for text and picture.

Only the tokens of the picture being made take part: of the further latents that the host puts behind them
(reference pictures) nothing is asked and nothing is added there. Under a mask, text tokens get nothing.

Source: XLabs-AI/x-flux-comfyui: layers.py (IPProcessor, DoubleStreamMixerProcessor);
Shakker-Labs/ComfyUI-IPAdapter-Flux: attention_processor.py, flux/layers.py; diffusers:
models/transformers/transformer_flux.py (FluxIPAdapterAttnProcessor).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as functional

from .injection import Call, Injection, Run
from .keys_values import Pair

PATCH = 2
"""Latent pixels that one picture token stands for, each way."""

NORM_EPSILON = 1e-5

Block = Callable[..., dict[str, Any]]


class FluxSite(NamedTuple):
    """One block: ("double", 4), ("single", 30)."""

    stream: Literal["double", "single"]
    index: int

    @property
    def name(self) -> str:
        """The block's short name: D04, S30."""
        return f"{self.stream[0].upper()}{self.index:02d}"


class FluxBlocks(NamedTuple):
    """What a Flux network has: numbers of double and single blocks, width, attention heads."""

    double: int
    single: int
    hidden: int
    heads: int

    @property
    def sites(self) -> tuple[FluxSite, ...]:
        """All blocks in the order in which they run."""
        double = [FluxSite("double", index) for index in range(self.double)]
        return (*double, *(FluxSite("single", index) for index in range(self.single)))


@dataclass(frozen=True)
class HeadNorm:
    """Divides keys and values (N,T,C) of each head by their root mean square, as InstantX does."""

    heads: int

    def __call__(self, pair: Pair) -> Pair:
        return Pair(*(self._of(side) for side in pair))

    def _of(self, side: torch.Tensor) -> torch.Tensor:
        split = side.unflatten(-1, (self.heads, -1)).float()
        return functional.rms_norm(split, split.shape[-1:], eps=NORM_EPSILON).flatten(-2).to(side)


@dataclass(frozen=True, eq=False)
class XLabsInjection(Injection):
    """Terms at double blocks, keyed by `FluxSite`; added to the picture's stream behind the block."""

    def place(self, call: Call, run: Run, options: dict[str, Any]) -> None:
        if not run.table.sites:
            return
        made = _Made(self, call, run, whole=False)
        _put_first(options, "attn1_patch", made.seen)
        replace = options.get("patches_replace", {})
        blocks = dict(replace.get("dit", {}))
        for site in run.table.sites:
            key = (f"{site.stream}_block", site.index)
            blocks[key] = _behind(made, site, blocks.get(key))
        options["patches_replace"] = {**replace, "dit": blocks}


@dataclass(frozen=True, eq=False)
class InstantXInjection(Injection):
    """Terms at double and single blocks, keyed by `FluxSite`; added before the output projection."""

    def place(self, call: Call, run: Run, options: dict[str, Any]) -> None:
        if not run.table.sites:
            return
        made = _Made(self, call, run, whole=True)
        _put_first(options, "attn1_patch", made.seen)
        _put_first(options, "attn1_output_patch", made.added)


class _Made:
    """The terms of one call, from where the queries are seen to where the terms are added.

    `whole`: they are added to text and picture together, else to the picture's stream.
    """

    def __init__(self, injection: Injection, call: Call, run: Run, whole: bool) -> None:
        self._injection, self._call, self._run, self._whole = injection, call, run, whole
        self._grid = (-(-call.size[0] // PATCH), -(-call.size[1] // PATCH))
        self._own: dict[FluxSite, tuple[int, torch.Tensor]] = {}

    def seen(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, **more: Any) -> dict[str, Any]:
        """A patch of the host's kind "attn1_patch": queries (rows,heads,L,d), text first."""
        options = more["extra_options"]
        site = FluxSite(options["block_type"], options["block_index"])
        if site in self._run.table.sites:
            text, end = options["img_slice"]
            with_text = self._whole and site.stream == "single" and self._injection.mask is None
            start, stop = 0 if with_text else text, min(end, text + self._grid[0] * self._grid[1])
            self._own[site] = start if self._whole else 0, self._attended(q[:, :, start:stop], site)
        return {}

    def added(self, attention: torch.Tensor, options: dict[str, Any]) -> torch.Tensor:
        """A patch of the host's kind "attn1_output_patch": (rows,L,C) with this block's term."""
        return self.plus(attention, FluxSite(options["block_type"], options["block_index"]))

    def plus(self, sequence: torch.Tensor, site: FluxSite) -> torch.Tensor:
        """(rows,L,C) with the term of a site, where its block has been run since the last one was taken."""
        start, own = self._own.pop(site, (0, None))
        if own is None:
            return sequence
        out = sequence.clone()
        out[:, start : start + own.shape[1]] += own
        return out

    def _attended(self, q: torch.Tensor, site: FluxSite) -> torch.Tensor:
        """Queries (rows,heads,L,d) -> what is to be added there, (rows,L,heads * d)."""
        rows, heads = self._call.rows(q.shape[0]), q.shape[1]
        pair = self._run.table.rows(site, rows)
        k, v = (side.unflatten(-1, (heads, -1)).transpose(1, 2) for side in pair)
        own = functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        if self._injection.mask is not None and own.shape[1] != self._grid[0] * self._grid[1]:
            raise ValueError(
                f"A mask needs the {self._grid[0]} x {self._grid[1]} tokens of the picture, but a block of "
                f"the model got {own.shape[1]}: another patch takes tokens out. Use one of the two."
            )
        return self._injection.masked(own, self._call, self._run, self._grid)


def _behind(made: _Made, site: FluxSite, previous: Block | None) -> Block:
    """A replacement of the host's kind "dit": the block, or what stood in its place, and the term added."""

    def block(args: dict[str, Any], extra: dict[str, Any]) -> dict[str, Any]:
        out = extra["original_block"](args) if previous is None else previous(args, extra)
        return {**out, "img": made.plus(out["img"], site)}

    return block


def _put_first(options: dict[str, Any], kind: str, patch: Any) -> None:
    """One more patch before the others of its kind; the lists that are there may be others' and stay."""
    patches = options.get("patches", {})
    options["patches"] = {**patches, kind: [patch, *patches.get(kind, ())]}
