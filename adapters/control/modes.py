"""Control modes: whom the picture follows more, the prompt or the hint.

Source: Mikubill/sd-webui-controlnet: scripts/enums.py (ControlMode), scripts/hook.py. "unbalanced", which
spares the negative and has no soft weights, is InvokeAI's fourth.
"""

from typing import Any, Literal, get_args

import torch

from .call import UNCOND, Call, Layers, cond_rows
from .curve import SOFT_BASE, Curve, Soft

ControlMode = Literal["balanced", "prompt", "control", "unbalanced"]
CONTROL_MODES: tuple[ControlMode, ...] = get_args(ControlMode)

SOFT_MODES: frozenset[ControlMode] = frozenset({"prompt", "control"})
"""Modes in which the shallow layers of the net count less than the deep ones."""

COND_ONLY_MODES: frozenset[ControlMode] = frozenset({"control", "unbalanced"})
"""Modes that leave the negative conditioning without control."""

ADAPTER_SOFT = (0.25, 0.62, 0.825, 1.0)
"""Soft factors of a T2I-Adapter's four features, shallowest first.

Source: Mikubill/sd-webui-controlnet: scripts/hook.py (soft_injection)."""


def layers_of(mode: ControlMode, curve: Curve | None, adapter: bool) -> Layers | None:
    """The factors of a net's layers, None where all are 1: an explicit curve replaces that of the mode.

    `adapter` says that the net is a T2I-Adapter, which has soft factors of its own.
    """
    if curve is None and mode in SOFT_MODES:
        curve = Soft()
    if adapter and isinstance(curve, Soft):
        powers = Soft(curve.base)
        own = curve.base == SOFT_BASE
        return lambda count: ADAPTER_SOFT if own and count == len(ADAPTER_SOFT) else powers.layers(count)
    return None if curve is None else curve.layers


def pick_rows(value: Any, rows: torch.Tensor) -> Any:
    """The chosen rows of a tensor that has one row per row of the batch; lists item by item.

    `rows` (n,) bool. Anything else, a tensor of another first size included, comes back as it is.
    """
    if isinstance(value, torch.Tensor):
        if value.ndim == 0 or value.shape[0] != rows.shape[0]:
            return value
        return value.index_select(0, rows.nonzero()[:, 0].to(value.device))
    if isinstance(value, list):
        return [pick_rows(item, rows) for item in value]
    return value


def steered_rows(mode: ControlMode, call: Call) -> torch.Tensor | None:
    """(rows,) bool: which rows of the call the mode steers; None for all of them.

    Raises ValueError when the mode has to know the rows of the negative and the sampler does not tell.
    """
    if mode not in COND_ONLY_MODES:
        return None
    numbers = call.options.get("cond_or_uncond")
    if not numbers:
        raise ValueError(
            f"The control mode {mode} needs to know the rows of the negative conditioning "
            "(cond_or_uncond), but this sampler does not tell. Set mode to balanced or prompt, or sample "
            "with KSampler or SamplerCustom."
        )
    rows = cond_rows(numbers, call.x.shape[0])
    return None if bool(rows.all()) else rows


def call_of_rows(call: Call, rows: torch.Tensor) -> Call:
    """The call with the chosen rows alone, which are whole chunks; its options are a copy."""
    numbers = call.options["cond_or_uncond"]
    kept = [index for index, number in enumerate(numbers) if number != UNCOND]
    options = {**call.options, "cond_or_uncond": [numbers[index] for index in kept]}
    if len(call.options.get("uuids", ())) == len(numbers):
        options["uuids"] = [call.options["uuids"][index] for index in kept]
    cond = {key: pick_rows(value, rows) for key, value in call.cond.items()}
    if "transformer_options" in cond:
        cond["transformer_options"] = options
    return Call(pick_rows(call.x, rows), pick_rows(call.t, rows), cond, len(kept), options)
