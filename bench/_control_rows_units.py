"""Rows for what a unit adds to any net: modes, curves and masks, by hand formula on the host's residuals."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from _rows import Row, host
from torch.nn.functional import interpolate

MODES = ("prompt", "control", "unbalanced")


def _soft(count: int, mode: str) -> list[float]:
    return [1.0 if mode == "unbalanced" else 0.825 ** (count - 1 - index) for index in range(count)]


def _residuals(name: str) -> tuple[Any, Callable[[Any], list[torch.Tensor]]]:
    """A family, and what gives a control's residuals of one call: shallowest first, the negative in row 0."""
    real = host()
    of = real.family(name)
    model = of.model.model
    generator = torch.Generator().manual_seed(9)
    x = torch.randn(2, 4, 9, 14, generator=generator)
    cond = {"c_crossattn": torch.randn(2, 16, of.text_width, generator=generator)}
    if name == "sdxl":
        cond["y"] = torch.randn(2, 2816, generator=generator)

    def given(control: Any) -> list[torch.Tensor]:
        control.pre_run(model, model.model_sampling.percent_to_sigma)
        with torch.no_grad():
            found = control.get_control(x.clone(), torch.full((2,), 5.0), cond, 2, {"cond_or_uncond": [1, 0]})
        control.cleanup()
        return [*found["output"], *found["middle"]]

    return of, given


def _largest(values: list[torch.Tensor]) -> float:
    return max(float(value.abs().max()) for value in values)


def _mode(name: str, mode: str) -> Callable[[], tuple[float, float]]:
    def measure() -> tuple[float, float]:
        real = host()
        of, given = _residuals(name)
        positive, image = real.conditioning(of, 1), real.picture(72, 112)
        plain = given(real.core_apply(positive, [], of.control, image)[0][0][1]["control"])
        mark = torch.tensor([float(mode == "prompt"), 1.0]).view(2, 1, 1, 1)
        wanted = [v * f * mark for v, f in zip(plain, _soft(len(plain), mode), strict=True)]
        ours = given(real.tiller_apply(positive, [], of.control, image, mode=mode)[0][0][1]["control"])
        return _largest([a - b for a, b in zip(ours, wanted, strict=True)]), _largest(wanted)

    return measure


def _positive_alone(name: str) -> Callable[[], tuple[float, float]]:
    def measure() -> tuple[float, float]:
        real = host()
        of = real.family(name)
        positive, negative, image = real.conditioning(of, 1), real.conditioning(of, 2), real.picture(64, 64)
        plain = real.sample(of, positive, negative)
        core = real.sample(of, real.core_apply(positive, [], of.control, image)[0], negative)
        ours = real.sample(of, *real.tiller_apply(positive, negative, of.control, image, mode="unbalanced"))
        return real.difference(core, ours), real.difference(core, plain)

    return measure


def _mask(name: str) -> Callable[[], tuple[float, float]]:
    def measure() -> tuple[float, float]:
        real = host()
        of, given = _residuals(name)
        positive, image = real.conditioning(of, 1), real.picture(72, 112)
        mask = torch.rand(1, 50, 70, generator=torch.Generator().manual_seed(3))
        plain = given(real.core_apply(positive, [], of.control, image)[0][0][1]["control"])
        wanted = [v * interpolate(mask[:, None], v.shape[-2:], mode="bilinear") for v in plain]
        settings = {"options": real.options(mask=mask)}
        ours = given(real.tiller_apply(positive, [], of.control, image, **settings)[0][0][1]["control"])
        return _largest([a - b for a, b in zip(ours, wanted, strict=True)]), _largest(wanted)

    return measure


FAMILIES = {"SD1.5": "sd15", "SDXL": "sdxl"}
ROWS = [
    *(
        Row(f"unit, mode {mode}", family, "residuals of one call", "web UI's formula", _mode(name, mode))
        for family, name in FAMILIES.items()
        for mode in MODES
    ),
    *(
        Row(
            "unit, mode unbalanced",
            family,
            "three steps",
            "control on the positive alone",
            _positive_alone(name),
        )
        for family, name in {**FAMILIES, "Flux": "flux"}.items()
    ),
    *(
        Row("unit, mask", family, "residuals of one call", "bilinear mask times residual", _mask(name))
        for family, name in FAMILIES.items()
    ),
]
