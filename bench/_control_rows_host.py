"""Rows for the control nets that the host loads: our nodes beside its own."""

from __future__ import annotations

from collections.abc import Callable

from _control_rows import Row, host


def _sampling(name: str) -> Callable[[], tuple[float, float]]:
    """Our Load Control and Apply Control beside the host's loader and Apply ControlNet, three steps."""

    def measure() -> tuple[float, float]:
        real = host()
        of = real.family(name)
        from tiller.adapters.control.load._host import load_control

        from devtools import standins

        stand_in = f"tiller_standin_control_{name}"
        net = load_control(standins.ensure_standins(real.MODELS, [stand_in])[stand_in])
        positive, negative = real.conditioning(of, 1), real.conditioning(of, 2)
        image = real.picture(64, 64)
        plain = real.sample(of, positive, negative)
        core = real.sample(of, *real.core_apply(positive, negative, of.control, image))
        ours = real.sample(of, *real.tiller_apply(positive, negative, net, image))
        return real.difference(core, ours), real.difference(core, plain)

    return measure


ROWS = [
    Row("ControlNet (LDM layout)", "SD1.5", "three steps", "ComfyUI", _sampling("sd15")),
    Row("ControlNet (LDM layout)", "SDXL", "three steps", "ComfyUI", _sampling("sdxl")),
    Row("Flux ControlNet (XLabs)", "Flux", "three steps", "ComfyUI", _sampling("flux")),
]
