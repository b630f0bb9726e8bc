"""Puts control units on conditioning: the host's own control nets behind one thin control object."""

import logging
import math
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import torch
from comfy.controlnet import ControlBase, T2IAdapter

from ...preprocessors.fit import Size, fit_image
from ...preprocessors.image import check_image
from ._host import check_family, identify_net
from .call import Call, Steering
from .ldm.apply import Hint, Picture, can_run, runner_for
from .modes import call_of_rows, layers_of, steered_rows
from .options import AUTO, UNION_TYPES, ControlOptions, check_union_type
from .patches.apply import ModelPatchNet
from .region import Region
from .residuals import add_residuals, mask_residuals, pad_rows, scale_layers
from .together import UnionPass, join_units, joining_lines, union_type
from .unit import ControlUnit
from .window import (
    active_steps,
    is_outside,
    is_step_active,
    percent_of_noise,
    step_index,
)

logger = logging.getLogger("tiller")

Conditioning = list[list[Any]]


class UnitControl(ControlBase):
    """A control object of the host that runs a unit's net inside the unit's window.

    It owns a copy of the net and hands the host whatever the net needs (models, memory, hooks). The
    result of the control object before it in the chain, ours or not, is added by itself, so the net
    never sees a chain. The net that the unit came with is not changed.
    """

    def __init__(self, unit: ControlUnit, inner: Any) -> None:
        """`inner` is the unit's own copy of the net (a concrete ControlBase), with its hint set."""
        super().__init__()
        self.unit = unit
        self.inner = inner
        self.identified = identify_net(unit.control_net)
        self.extra_hooks = inner.extra_hooks
        self.runner = runner_for(inner, _hints(unit))
        options = unit.options or ControlOptions()
        self.layers = layers_of(unit.mode, options.layers, isinstance(inner, T2IAdapter))
        self.steps = options.steps
        self.mask = options.mask
        self._forget_run()

    def _forget_run(self) -> None:
        self._sigmas_seen: torch.Tensor | None = None
        self._sigmas: list[float] = []
        self._fitted: dict[Size, torch.Tensor] = {}
        self._noise_at: Callable[[float], float] | None = None
        self._factor_seen = (math.nan, 1.0)
        self._region = None if self.mask is None else Region(self.mask)
        if self.runner is not None:
            self.runner.rest()

    def pre_run(self, model: Any, percent_to_timestep_function: Any) -> None:
        super().pre_run(model, percent_to_timestep_function)
        self._forget_run()  # the host cleans up after a run, but not after one that was stopped
        check_family(self.identified, model)
        self._noise_at = percent_to_timestep_function
        self.inner.pre_run(model, percent_to_timestep_function)

    def get_control(
        self, x_noisy: torch.Tensor, t: torch.Tensor, cond: Any, batched_number: int, transformer_options: Any
    ) -> Any:
        call = Call(x_noisy, t, cond, batched_number, transformer_options)
        chained: Any = self.previous_controlnet
        previous = None if chained is None else chained.get_control(*call)
        self._note_sigmas(transformer_options)
        step = self._step_factor(t)
        images = x_noisy.shape[0] // batched_number
        if step == 0.0 or (self._region is not None and self._region.is_empty(images)):
            return previous
        rows = steered_rows(self.unit.mode, call)
        if rows is not None and not bool(rows.any()):
            return previous
        if self.runner is None:
            self._fit_hint(x_noisy)
        if isinstance(self.inner, ModelPatchNet):
            self._patch(call, step, rows)
            return previous
        own = self._residuals(call if rows is None else call_of_rows(call, rows), step)
        if own is not None and rows is not None:
            own = pad_rows(own, rows)
        return own if previous is None else add_residuals(own, previous)

    def _patch(self, call: Call, step: float, rows: torch.Tensor | None) -> None:
        """Lets a net that acts inside the model put its patches into the call."""
        mask = None
        if self._region is not None and not self._region.is_whole(call.x.shape[0] // call.chunks):
            mask = self._region.rows(call.x.shape[0] // call.chunks, call.chunks).to(call.x)
        self.inner.patch(call, Steering(self.unit.strength * step, rows, self.layers, mask))

    def _residuals(self, call: Call, step: float) -> Any:
        """What the net gives for the call, times the factors of layer and step and the mask."""
        self._refresh_adapter(call)
        own = self.inner.get_control(*call) if self.runner is None else self.runner(call)
        if own is None:
            return None
        if self.layers is not None or step != 1.0:
            own = scale_layers(own, self.layers, step)
        region, images = self._region, call.x.shape[0] // call.chunks
        if region is None or region.is_whole(images):
            return own
        return mask_residuals(own, partial(region.fit, images, call.chunks), call.x.shape)

    def _refresh_adapter(self, call: Call) -> None:
        """Lets a T2I-Adapter read its hint again when its features are those of another number of rows.

        The host's keeps them, and the model then leaves them out with a line in the log.
        """
        if not isinstance(self.inner, T2IAdapter) or self.inner.control_input is None:
            return
        features = self.inner.control_input
        counts = {value.shape[0] for values in features.values() for value in values if value is not None}
        if not counts <= {1, call.x.shape[0]}:
            self.inner.cond_hint = None

    def _note_sigmas(self, transformer_options: Any) -> None:
        """Keeps the sampler's noise levels as numbers, once per run, and says when no step is covered."""
        seen = transformer_options.get("sample_sigmas")
        if seen is None or seen is self._sigmas_seen:
            return
        self._sigmas_seen, self._sigmas = seen, [float(sigma) for sigma in seen.tolist()]
        unit, total = self.unit, len(self._sigmas) - 1
        if unit.window == "steps":
            active = len(active_steps(total, unit.start_percent, unit.end_percent))
        else:
            levels = seen[:-1].cpu().split(1)
            active = sum(not is_outside(level, self.inner.timestep_range) for level in levels)
        if active == 0:
            logger.warning(
                "A control unit acts in none of the %d steps of this sampler: its window %.3f to %.3f, "
                "measured by %s, covers none of them. Widen the window or take more steps.",
                total,
                unit.start_percent,
                unit.end_percent,
                unit.window,
            )

    def _step_factor(self, t: torch.Tensor) -> float:
        """The factor of the step that this call belongs to: 0 outside the window."""
        if self.unit.window == "noise":
            if is_outside(t, self.inner.timestep_range):
                return 0.0
        elif self._sigmas_seen is None:
            raise ValueError(
                "A control unit whose window counts steps needs the sampler's noise levels "
                "(sample_sigmas), but this sampler does not pass them on. Set window to noise, or sample "
                "with KSampler or SamplerCustom."
            )
        else:
            index, total = step_index(float(t[0]), self._sigmas), len(self._sigmas) - 1
            if not is_step_active(index, total, self.unit.start_percent, self.unit.end_percent):
                return 0.0
            if self.steps is not None:
                return self.steps.at(index / total)
        return 1.0 if self.steps is None else self._factor_at_noise(float(t[0]))

    def _factor_at_noise(self, sigma: float) -> float:
        """The factor of the curve over the percent of the noise, found once per noise level."""
        if self.steps is None or self._noise_at is None:
            return 1.0
        if sigma != self._factor_seen[0]:
            self._factor_seen = (sigma, self.steps.at(percent_of_noise(sigma, self._noise_at)))
        return self._factor_seen[1]

    def _hint_size(self, x_noisy: torch.Tensor) -> Size:
        """The size in pixels that the net makes of any hint for this latent."""
        ratio = self.inner.compression_ratio
        if self.inner.vae is not None:
            ratio *= self.inner.vae.spacial_compression_encode()
        size = Size(x_noisy.shape[-2] * ratio, x_noisy.shape[-1] * ratio)
        if isinstance(self.inner, T2IAdapter):
            width, height = self.inner.scale_image_to(size.width, size.height)
            size = Size(height, width)
        return size

    def _fit_hint(self, x_noisy: torch.Tensor) -> None:
        """Gives the net the hint at the size it wants, so that the host's own resize does nothing."""
        mode = self.unit.resize_mode
        if mode == "core":
            return
        size = self._hint_size(x_noisy)
        if size not in self._fitted:
            self._fitted[size] = _hint(fit_image(_rgb(self.unit.image), size, mode))
        self.inner.cond_hint_original = self._fitted[size]

    def get_models(self) -> list[Any]:
        return super().get_models() + self.inner.get_models()

    def inference_memory_requirements(self, dtype: torch.dtype) -> float:
        own = self.inner.inference_memory_requirements(dtype)
        return own + super().inference_memory_requirements(dtype)

    def copy(self) -> "UnitControl":
        return UnitControl(self.unit, self.inner.copy())

    def deepclone_multigpu(self, load_device: torch.device, autoregister: bool = False) -> "UnitControl":
        clone = UnitControl(self.unit, self.inner.deepclone_multigpu(load_device))
        if autoregister:
            self.multigpu_clones[load_device] = clone
        return clone

    def cleanup(self) -> None:
        super().cleanup()
        self._forget_run()
        self.inner.cleanup()


def _rgb(image: torch.Tensor) -> torch.Tensor:
    """IMAGE (B,H,W,1 or 3) -> (B,H,W,3), the same object where it has three channels."""
    return image.repeat(1, 1, 1, 3) if image.shape[-1] == 1 else image


def _hint(image: torch.Tensor) -> torch.Tensor:
    """IMAGE (B,H,W,C) -> hint (B,C,H,W) as the host's control nets take it."""
    return image.movedim(-1, 1)


def _picture(unit: ControlUnit) -> Picture:
    """The unit's hint as the unit fits it; "core" leaves that to the host."""

    def picture(size: Size) -> torch.Tensor:
        mode = unit.resize_mode
        image = _rgb(unit.image)
        return _hint(image if mode == "core" else fit_image(image, size, mode))

    return picture


def _hints(unit: ControlUnit) -> list[Hint]:
    """The hint of a unit, or those of all units that a pass of a Union net serves."""
    joint = [Hint(_picture(one), len(one.image), union_type(one), one.strength) for one in unit.together]
    return joint or [Hint(_picture(unit), len(unit.image))]


def check_unit(unit: ControlUnit, needed_by: str) -> None:
    """Raises ValueError for a unit that cannot run: no control net, an unfit image, a missing VAE."""
    net = unit.control_net
    if not isinstance(net, ControlBase):
        raise ValueError(
            f"{needed_by} needs a control net, got {type(net).__name__}. "
            "Connect the output of Load ControlNet Model to control_net."
        )
    check_image(unit.image, needed_by)
    if unit.image.shape[-1] == 4:
        raise ValueError(
            f"{needed_by} needs a hint of 1 or 3 channels, got 4 (RGBA). "
            "Take the alpha channel off, for example with Split Image with Alpha."
        )
    if net.latent_format is not None and unit.vae is None:
        raise ValueError(
            f"{needed_by} got a control net that reads the hint through a VAE, but no VAE. "
            "Connect the VAE of the model's checkpoint to vae."
        )
    if unit.options is not None and unit.options.union_type != AUTO:
        known = identify_net(net)
        check_union_type(unit.options.union_type, 0 if known is None else known.control_types, needed_by)


def _control_of(unit: ControlUnit, previous: ControlBase | None) -> UnitControl:
    percents = (0.0, 1.0) if unit.window == "steps" else (unit.start_percent, unit.end_percent)
    inner = unit.control_net.copy()
    inner.set_cond_hint(_hint(_rgb(unit.image)), unit.strength, percents, vae=unit.vae)
    if unit.options is not None and unit.options.union_type != AUTO:
        inner.set_extra_arg("control_type", [UNION_TYPES[unit.options.union_type]])
    control = UnitControl(unit, inner)
    control.set_previous_controlnet(previous)
    return control


def apply_unit(unit: ControlUnit, conditionings: Sequence[Conditioning]) -> list[Conditioning]:
    """Conditionings with the unit chained behind the control each entry already has.

    Entries with the same control before get the same object after, in all conditionings: the host runs
    positive and negative as one batch only then.
    """
    controls: dict[ControlBase | None, UnitControl] = {}
    applied = []
    for conditioning in conditionings:
        entries = []
        for entry in conditioning:
            options = entry[1].copy()
            previous = options.get("control")
            if previous not in controls:
                controls[previous] = _control_of(unit, previous)
            options["control"] = controls[previous]
            options["control_apply_to_uncond"] = False
            entries.append([entry[0], options])
        applied.append(entries)
    return applied


def apply_units(
    positive: Conditioning,
    negative: Conditioning,
    units: Iterable[ControlUnit],
    needed_by: str,
    union: UnionPass = "one pass",
) -> tuple[Conditioning, Conditioning]:
    """Positive and negative conditioning with every unit chained on both, in order.

    A unit of strength 0 is left out, so the conditioning without one comes back unchanged. With `union`
    "one pass", units over one Union net are joined where they can be (`join_units`).

    Raises ValueError for a unit that cannot run (`check_unit`).
    """
    acting = []
    for unit in units:
        check_unit(unit, needed_by)
        if unit.strength != 0:
            acting.append(unit)
    if union == "one pass":
        acting = join_units(acting, lambda unit: can_run(unit.control_net))
    for line in joining_lines(acting):
        logger.info(line)
    for unit in acting:
        positive, negative = apply_unit(unit, (positive, negative))
    return positive, negative
