"""Which control units one pass of a Union net serves together."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any, Literal, get_args

import torch

from .options import AUTO, UNION_TYPES, ControlOptions
from .unit import ControlUnit

UnionPass = Literal["one pass", "stacked"]
UNION_PASSES: tuple[UnionPass, ...] = get_args(UnionPass)


def union_type(unit: ControlUnit) -> int | None:
    """The number of the type that the unit's Union net takes its hint for.

    None for a net that is no Union net, and for one that was told no type or several.
    """
    net = unit.control_net
    if union_net(unit) is None:
        return None
    if unit.options is not None and unit.options.union_type != AUTO:
        return UNION_TYPES[unit.options.union_type]
    types = net.extra_args.get("control_type", [])
    return types[0] if len(types) == 1 else None


def union_net(unit: ControlUnit) -> Any:
    """The network of a unit over a Union net, the same object for all units over it; None for others."""
    module = getattr(unit.control_net, "control_model", None)
    return None if getattr(module, "num_control_type", None) is None else module


def _same_mask(one: torch.Tensor | None, other: torch.Tensor | None) -> bool:
    if one is None or other is None:
        return one is other
    return one is other or (one.shape == other.shape and torch.equal(one, other))


def _settings(unit: ControlUnit) -> tuple[Any, ...]:
    """What the units of one pass must have in common, but for net and mask."""
    options, net = unit.options or ControlOptions(), unit.control_net
    window = (unit.start_percent, unit.end_percent, unit.window)
    return (*window, unit.mode, options.layers, options.steps, net.global_average_pooling, net.extra_hooks)


def _go_together(unit: ControlUnit, other: ControlUnit) -> bool:
    masks = [(one.options or ControlOptions()).mask for one in (unit, other)]
    return (
        union_net(unit) is union_net(other)
        and _settings(unit) == _settings(other)
        and _same_mask(masks[0], masks[1])
    )


def join_units(
    units: Iterable[ControlUnit], can_join: Callable[[ControlUnit], bool] = lambda unit: True
) -> list[ControlUnit]:
    """The units in order, those that one pass of a Union net serves replaced by one for them all.

    They are units over one and the same Union net, each told a type of its own, with the same window, mode,
    curves and mask. The joint unit stands where the first of them stood, with strength 1: the strengths
    become the factors of the types. A unit for which `can_join` is false stays by itself.
    """
    groups: list[dict[int | None, ControlUnit]] = []
    for unit in units:
        kind = union_type(unit) if can_join(unit) else None
        fitting = (group for group in groups if None not in group and kind not in group)
        home = None if kind is None else next((g for g in fitting if _go_together(_first(g), unit)), None)
        if home is None:
            groups.append({kind: unit})
        else:
            home[kind] = unit
    return [_joint(list(group.values())) for group in groups]


def _first(group: dict[int | None, ControlUnit]) -> ControlUnit:
    return next(iter(group.values()))


def _joint(group: Sequence[ControlUnit]) -> ControlUnit:
    return group[0] if len(group) == 1 else replace(group[0], strength=1.0, together=tuple(group))


def joining_lines(units: Sequence[ControlUnit]) -> list[str]:
    """One line for each Union net that several units use: how many passes of it a step takes, and why."""
    nets: dict[int, list[ControlUnit]] = {}
    for unit in units:
        if union_net(unit) is not None:
            nets.setdefault(id(union_net(unit)), []).append(unit)
    lines = []
    for passes in nets.values():
        hints = sum(max(1, len(unit.together)) for unit in passes)
        if hints == 1:
            continue
        line = f"A ControlNet-Union takes {hints} hints in {len(passes)} pass(es) a step."
        if len(passes) > 1:
            line += (
                " One pass takes hints of different union types, from units with the same window, mode, "
                "curves and mask, when union is set to one pass."
            )
        lines.append(line)
    return lines
