"""One call of the model with references: a pass over each of them that writes, then the pass that reads.

Source: Mikubill/sd-webui-controlnet: scripts/hook.py. Unlike there, references of different kinds may be
mixed: no reference acts in the writing pass of another one.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import torch
from comfy.ldm.modules.attention import BasicTransformerBlock, optimized_attention
from comfy.ldm.modules.diffusionmodules.openaimodel import apply_control
from torch import Tensor

from ..patching import add_wrapper, plain_patches
from .blend import Pair, Plain, exchanged_statistics, plain_share, referenced_attention, statistics
from .gates import Block, adain_gates, attention_gates
from .settings import ReferenceSettings

AttentionBlock = tuple[str, int, int]
"""The host's name of a transformer block: the block it is in, and its number there."""

Options = dict[str, Any]
KEY = "tiller_references"


@dataclass(frozen=True)
class Gates:
    """Gate of each block of one model: transformer blocks, and whole blocks for their statistics."""

    is_sdxl: bool
    attention: dict[AttentionBlock, float]
    adain: dict[Block, float]

    def open(
        self, weight: float, settings: ReferenceSettings
    ) -> tuple[frozenset[AttentionBlock], frozenset[Block]]:
        """The blocks that a reference of this weight acts in."""
        attention = self.attention if settings.attention else {}
        adain = self.adain if settings.adain else {}
        return (
            frozenset(block for block, gate in attention.items() if weight > gate),
            frozenset(block for block, gate in adain.items() if weight > gate),
        )


def gates_of(unet: Any, is_sdxl: bool) -> Gates:
    """The gates of a UNet of the host (UNetModel) as it stands."""
    names, widths = [], []
    for name, module in unet.named_modules():
        if isinstance(module, BasicTransformerBlock):
            place, *numbers = name.replace("_block.", "_blocks.0.").split(".")
            names.append((place.removesuffix("_blocks"), int(numbers[0]), int(numbers[-1])))
            widths.append(module.norm1.normalized_shape[0])
    return Gates(is_sdxl, dict(zip(names, attention_gates(widths), strict=True)), adain_gates(is_sdxl))


class Reference(NamedTuple):
    """One reference in one call.

    `latent` (R,C,h,w) is what the UNet takes: noisy, and with every channel that it wants. `attention`
    and `adain` are the blocks that are open to it, `plain` says which rows it reaches.
    """

    latent: Tensor
    attention: frozenset[AttentionBlock]
    adain: frozenset[Block]
    plain: Plain


@dataclass
class Bank:
    """What the references wrote, by block: keys and values, or means and variances; and for whom."""

    pairs: dict[Any, list[Pair]] = field(default_factory=dict)
    shares: dict[Any, list[Plain]] = field(default_factory=dict)

    def write(self, block: Any, pair: Pair, share: Plain) -> None:
        self.pairs.setdefault(block, []).append(pair)
        self.shares.setdefault(block, []).append(share)

    def read(self, block: Any, height: int, width: int) -> tuple[list[Pair], Tensor]:
        """Empties the block's place, so that memory falls as the reading goes on."""
        return self.pairs.pop(block), plain_share(self.shares.pop(block), height, width)


def _attend(options: Options) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """The host's attention as a block's own layer would call it."""

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return optimized_attention(
            q,
            k,
            v,
            options["n_heads"],
            attn_precision=options["attn_precision"],
            transformer_options=options,
        )

    return attend


def _check_whole(q: Tensor, k: Tensor) -> None:
    if q.shape[0] != k.shape[0]:
        raise ValueError(
            f"Reference needs self-attention over the whole picture, but another node has cut it into "
            f"{q.shape[0] // k.shape[0]} tiles (HyperTile does that). Take that node off the model."
        )


def _block_patches(visit: Callable[[Block, Tensor], Tensor], held: Options | None) -> dict[str, Any]:
    """Patches of the host that show `visit` the output of every block, before `held` residuals are added."""

    def on_input(h: Tensor, options: Options) -> Tensor:
        return apply_control(visit(options["block"], h), held, "input")

    def on_middle(arguments: Options) -> Options:
        h = apply_control(visit(("middle", 0), arguments["h"]), held, "middle")
        return {**arguments, "h": h}

    def on_output(h: Tensor, skip: Any, options: Options) -> tuple[Tensor, Any]:
        place, index = options["block"]
        return (visit((place, index - 1), h) if index else h), skip

    return {
        "input_block_patch": on_input,
        "middle_block_after_patch": on_middle,
        "output_block_patch": on_output,
    }


class Passes:
    """A wrapper around the diffusion model for one call; holds the references that act in it."""

    def __init__(self) -> None:
        self.references: list[Reference] = []

    def __call__(
        self,
        executor: Any,
        x: Tensor,
        timesteps: Tensor,
        context: Any,
        y: Any,
        control: Any,
        options: Options,
        **more: Any,
    ) -> Tensor:
        rows = self._rows(options)
        attention, adain = Bank(), Bank()
        plain = {**options, "patches": plain_patches(options), **_described(options, rows, x.shape[0])}
        for reference in self.references:
            latent, times, text, vector, *others = (
                _rows_of(value, rows, x.shape[0])
                for value in (reference.latent.to(x), timesteps, context, y, *more.values())
            )
            given = _writing(plain, reference, attention, adain)
            executor.original(
                latent, times, text, vector, None, given, **dict(zip(more, others, strict=True))
            )
        held = None
        if adain.pairs and control is not None:
            held = {place: control.get(place, []) for place in ("input", "middle")}
            control = {place: control[place] for place in control if place not in held}
        given = _reading(options, attention, adain, rows, held)
        return executor(x, timesteps, context, y, control, given, **more)

    def _rows(self, options: Options) -> Tensor | None:
        """The rows that any reference reaches, in whole chunks of the batch; None for all of them."""
        reached = torch.stack([reference.plain.rows < 1.0 for reference in self.references]).any(0)
        chunks = reached.view(len(options["cond_or_uncond"]), -1).any(1)
        if bool(chunks.all()):
            return None
        return chunks.repeat_interleave(len(reached) // len(chunks)).nonzero().flatten()


def _rows_of(value: Any, rows: Tensor | None, count: int) -> Any:
    if rows is None or not isinstance(value, Tensor) or value.shape[:1] != (count,):
        return value
    return value[rows.to(value.device)]


def _described(options: Options, rows: Tensor | None, count: int) -> Options:
    """What the host notes about each chunk of a batch, for the chunks of `rows` alone."""
    if rows is None:
        return {}
    per_chunk = count // len(options["cond_or_uncond"])
    kept = [int(row) // per_chunk for row in rows[::per_chunk]]
    names = [name for name in ("cond_or_uncond", "uuids") if name in options]
    return {name: [options[name][chunk] for chunk in kept] for name in names}


def _writing(options: Options, reference: Reference, attention: Bank, adain: Bank) -> Options:
    """Options of the pass in which the open blocks write."""

    def remember(block: AttentionBlock, q: Tensor, k: Tensor, v: Tensor, extra: Options) -> Tensor:
        _check_whole(q, k)
        attention.write(block, (k, v), reference.plain)
        return _attend(extra)(q, k, v)

    def visit(block: Block, h: Tensor) -> Tensor:
        if block in reference.adain:
            adain.write(block, statistics(h), reference.plain)
        return h

    return _patched(options, {block: partial(remember, block) for block in reference.attention}, visit, None)


def _reading(
    options: Options, attention: Bank, adain: Bank, rows: Tensor | None, held: Options | None
) -> Options:
    """Options of the pass in which the blocks that hold something read it."""

    def recall(block: AttentionBlock, q: Tensor, k: Tensor, v: Tensor, extra: Options) -> Tensor:
        _check_whole(q, k)
        banked, share = attention.read(block, *extra["activations_shape"][-2:])
        share = share.flatten(2).movedim(1, 2)
        return referenced_attention((q, k), v, banked, share, rows, _attend(extra))

    def visit(block: Block, h: Tensor) -> Tensor:
        if block not in adain.pairs:
            return h
        banked, share = adain.read(block, *h.shape[-2:])
        return exchanged_statistics(h, banked, share, rows)

    replaced = {block: partial(recall, block) for block in attention.pairs}
    return _patched(options, replaced, visit if adain.pairs else None, held)


def _patched(options: Options, replaced: dict[Any, Any], visit: Any, held: Options | None) -> Options:
    """A copy of the options with our patches before those that are there, and our attention."""
    replacements = options.get("patches_replace", {})
    foreign = replacements.get("attn1", {})
    ours = {block: f for block, f in replaced.items() if block not in foreign and block[:2] not in foreign}
    patches = options.get("patches", {})
    if visit is not None:
        added = _block_patches(visit, held)
        patches = {**patches, **{name: [patch, *patches.get(name, ())] for name, patch in added.items()}}
    return {
        **options,
        "patches": patches,
        "patches_replace": {**replacements, "attn1": {**foreign, **ours}},
    }


def add_reference(options: Options, reference: Reference) -> None:
    """Lets a reference act in the call that the options belong to, beside others that do already."""
    if KEY not in options:
        options[KEY] = Passes()
        add_wrapper(options, options[KEY])
    options[KEY].references.append(reference)
