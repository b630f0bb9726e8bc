"""Rows for ControlNet-Union: every type, several in one pass, a factor per type, hints encoded once."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import torch
from _rows import Row, host

Measure = Callable[[], tuple[float, float]]
KIND = "ControlNet-Union"
DIFFUSERS = "diffusers: ControlNetUnionModel"
THREE = [3, 1, 0]
ALL = list(range(8))


def nets() -> Any:
    """The module tests/host/union_nets.py: the same Union weights in the host's and diffusers' class."""
    host()
    return importlib.import_module("tiller.tests.host.union_nets")


def _largest(one: Any, other: Any) -> float:
    return max(float((a - b).abs().max()) for a, b in zip(one, other, strict=True))


def _single(family: str, count: int, by: str) -> Measure:
    """Every type by itself: the worst difference, and the smallest effect of taking the next type instead."""

    def measure() -> tuple[float, float]:
        union = nets()
        of, given, worst, effect = union.pair(family, count), union.inputs(family), 0.0, float("inf")
        for kind in range(count):
            hints = [union.hint(kind)]
            mine = union.ours(of, given, hints, [kind])
            theirs = getattr(union, by)(of, given, hints, [kind])
            worst = max(worst, _largest(mine, theirs))
            other = union.ours(of, given, hints, [(kind + 1) % count])
            effect = min(effect, _largest(mine, other))
        return worst, effect

    return measure


def _several(family: str, types: list[int], factors: list[float] | None = None) -> Measure:
    """Several types at once, two rows with the same hints; the effect is that of all hints but the first."""

    def measure() -> tuple[float, float]:
        union = nets()
        of, given = union.pair(family, 8), union.inputs(family, rows=2)
        hints = [union.hint(kind) for kind in types]
        shared = [hint.repeat(2, 1, 1, 1) for hint in hints]
        theirs = union.diffusers(of, given, shared, types, factors)
        mine = union.ours(of, given, hints, types, factors)
        return _largest(mine, theirs), _largest(union.ours(of, given, hints[:1], types[:1]), theirs)

    return measure


def _images() -> tuple[float, float]:
    """Two images on four rows, each encoded once: one call of the net beside the host's own call."""
    union = nets()
    of, given = union.pair("sdxl", 8), union.inputs("sdxl", rows=4)
    hints = union.hint(3, rows=2)
    rows = hints.repeat(2, 1, 1, 1)
    encoding = union.forward().encode_hint(of.module, hints).repeat(2, 1, 1, 1)
    guided = union.forward().fuse_hints(of.module, [encoding], [3], [1.0])
    core = union.cores(of, given, [rows], [3])
    without = union.ours_of(of, given, torch.zeros_like(guided), [3])
    return _largest(union.ours_of(of, given, guided, [3]), core), _largest(without, core)


def _sampling() -> tuple[float, float]:
    """Three steps of the host's sampler: our Apply Control beside its own nodes, one type."""
    real, union = host(), nets()
    of, net = real.family("sdxl"), union.union_for_sampling(8).copy()
    net.set_extra_arg("control_type", [1])
    positive, negative, image = real.conditioning(of, 1), real.conditioning(of, 2), real.picture(64, 64)
    plain = real.sample(of, positive, negative)
    core = real.sample(of, *real.core_apply(positive, negative, net, image))
    ours = real.sample(of, *real.tiller_apply(positive, negative, net, image))
    return real.difference(core, ours), real.difference(core, plain)


ROWS = [
    *(
        Row(KIND, f"{name} shaped", f"each of {count} types, one call", reference, _single(family, count, by))
        for family, name in (("sdxl", "SDXL"), ("sd15", "SD1.5"))
        for count in (6, 8)
        for reference, by in (("ComfyUI", "cores"), (DIFFUSERS, "diffusers"))
    ),
    *(
        Row(KIND, f"{name} shaped", what, DIFFUSERS, _several(family, types, factors))
        for family, name in (("sdxl", "SDXL"), ("sd15", "SD1.5"))
        for what, types, factors in (
            ("three types, one call", THREE, None),
            ("three types with factors, one call", THREE, [0.4, 1.0, 1.7]),
            ("all 8 types, one call", ALL, None),
        )
    ),
    Row(KIND, "SDXL shaped", "two images on four rows, one call", "ComfyUI", _images),
    Row(KIND, "SDXL", "one type, three steps", "ComfyUI", _sampling),
]
