"""Reads the control on a conditioning, whoever put it there, and checks it."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from comfy.controlnet import ControlBase
from torch import Tensor

from .._host import identify_net, model_family
from ..apply import UnitControl
from ..options import AUTO, UNION_TYPES
from ..reference.apply import ReferenceNet
from ..unit import ControlUnit
from .rules import summary, warnings
from .seen import Seen, SeenUnit, Target

DOWNSCALE = 8
"""Pixels per side of a latent's cell, where the model does not say."""


class Report(NamedTuple):
    """Lines of text, one per finding, or a summary where there is none; and how many findings."""

    text: str
    count: int


def _controls(conditioning: Any) -> Iterator[ControlBase]:
    """Every control object on a conditioning, in the order in which they act, each once."""
    known: set[int] = set()
    for entry in conditioning if isinstance(conditioning, list | tuple) else ():
        options = entry[1] if isinstance(entry, list | tuple) and len(entry) > 1 else None
        control = options.get("control") if isinstance(options, dict) else None
        chain: list[ControlBase] = []
        while isinstance(control, ControlBase) and id(control) not in known:
            known.add(id(control))
            chain.append(control)
            control = control.previous_controlnet
        yield from reversed(chain)


def _image(image: Any) -> Tensor | None:
    """An IMAGE (B,H,W,C) that can be looked at, or None."""
    if isinstance(image, Tensor) and image.ndim == 4 and image.numel():
        return image
    return None


def _mask(mask: Any) -> Tensor | None:
    if not isinstance(mask, Tensor) or not mask.numel() or mask.ndim not in (2, 3):
        return None
    return mask if mask.ndim == 3 else mask[None]


def _types(net: Any, unit: ControlUnit | None, count: int) -> tuple[int, ...] | None:
    if not count:
        return None
    if unit is not None and unit.options is not None and unit.options.union_type != AUTO:
        return (UNION_TYPES[unit.options.union_type],)
    return tuple(getattr(net, "extra_args", {}).get("control_type", ()))


def _of_net(net: Any, unit: ControlUnit | None) -> SeenUnit:
    """What can be seen of one net; with a unit, its settings come from there."""
    identified = identify_net(net)
    kind = type(net).__name__ if identified is None else identified.kind
    seen = SeenUnit(
        number=0,
        kind=kind,
        identified=identified,
        union_types=_types(net, unit, 0 if identified is None else identified.control_types),
        is_reference=isinstance(net, ReferenceNet),
    )
    if unit is None:
        hint = net.cond_hint_original
        start, end = net.timestep_percent_range
        image = hint.movedim(1, -1) if isinstance(hint, Tensor) and hint.ndim == 4 else None
        lacks_vae = net.latent_format is not None and net.vae is None
        return replace(
            seen, image=_image(image), strength=net.strength, start=start, end=end, lacks_vae=lacks_vae
        )
    options = unit.options
    return replace(
        seen,
        image=_image(unit.image),
        strength=unit.strength,
        start=unit.start_percent,
        end=unit.end_percent,
        resize_mode=unit.resize_mode,
        mode=unit.mode,
        mask=None if options is None else _mask(options.mask),
        lacks_vae=net.latent_format is not None and unit.vae is None,
    )


def _units(control: ControlBase) -> list[SeenUnit]:
    if not isinstance(control, UnitControl):
        return [_of_net(control, None)]
    units = control.unit.together or (control.unit,)
    return [_of_net(unit.control_net, unit) for unit in units]


def _target(model: Any, latent: Any) -> Target | None:
    samples = latent.get("samples") if isinstance(latent, dict) else None
    if not isinstance(samples, Tensor) or samples.ndim < 4 or not samples.numel():
        return None
    latent_format = getattr(getattr(model, "model", None), "latent_format", None)
    scale = getattr(latent_format, "spacial_downscale_ratio", DOWNSCALE)
    return Target(samples.shape[-2] * scale, samples.shape[-1] * scale, samples.shape[0])


def look(model: Any, positive: Any, negative: Any, latent: Any) -> Seen:
    """Everything that can be seen before sampling; whatever is odd is left out, never refused."""
    on = {"positive": list(_controls(positive)), "negative": list(_controls(negative))}
    by_id = {id(control): control for controls in on.values() for control in controls}
    units: list[SeenUnit] = []
    for key, control in by_id.items():
        sides = frozenset(side for side, controls in on.items() if key in map(id, controls))
        units += [
            replace(unit, number=len(units) + index + 1, sides=sides)
            for index, unit in enumerate(_units(control))
        ]
    family = model_family(getattr(model, "model", None))
    return Seen(tuple(units), family, _target(model, latent), has_negative=negative is not None)


def check_control(model: Any, positive: Any, negative: Any = None, latent: Any = None) -> Report:
    """Findings on the control of the conditionings as text; raises nothing for what it finds."""
    with torch.no_grad():
        seen = look(model, positive, negative, latent)
        lines = warnings(seen)
    return Report("\n".join(lines) if lines else summary(seen), len(lines))
