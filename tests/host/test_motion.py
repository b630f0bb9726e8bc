"""Motion modules between the blocks of a model: where diffusers has them, and only in the clone."""

from typing import Any

import pytest
import torch
from tiller.tests.host import inprocess as real
from tiller.tests.host import sparse

FRAMES = 6
TIGHT = 1e-5


def loaded(net: torch.nn.Module) -> Any:
    real.host()
    from tiller.adapters.identify import Identified
    from tiller.adapters.motion.apply import load

    weights = {key: tensor for key, tensor in sparse.published(net).items() if ".motion_modules." in key}
    return load(weights, Identified("control", "AnimateDiff motion modules", "SD1.5"))


def applied(model: Any, motion: Any, schedule: str = "model", **effect: float) -> Any:
    from tiller.adapters.motion.apply import apply_motion
    from tiller.adapters.motion.network import Effect

    return apply_motion(model, motion, Effect(**effect), schedule)


def called(model: Any, x: torch.Tensor, text: torch.Tensor, **more: Any) -> torch.Tensor:
    """One call of the model's UNet: two conditionings of a clip each, at step 431."""
    options = {**model.model_options["transformer_options"], "cond_or_uncond": [1, 0]}
    with torch.no_grad():
        steps = torch.full((x.shape[0],), 431.0)
        return model.model.diffusion_model(x, steps, context=text, transformer_options=options, **more)


def inputs(height=8, width=12):
    generator = torch.Generator().manual_seed(1)
    sample = torch.randn(2, 4, FRAMES, height, width, generator=generator)
    text = torch.randn(2, 7, 48, generator=generator).repeat_interleave(FRAMES, 0)
    return sample, sample.transpose(1, 2).flatten(0, 1), text


@pytest.mark.parametrize("middle", [True, False], ids=["v2", "v3"])
@pytest.mark.parametrize("size", [(8, 12), (9, 14)], ids=["even", "odd"])
def test_a_model_with_motion_equals_diffusers(middle, size):
    net = sparse.motion_unet(middle)
    motion = loaded(net)
    sample, x, text = inputs(*size)
    with torch.no_grad():
        expected = net(sample, 431, text, return_dict=False)[0].transpose(1, 2).flatten(0, 1)
    model = sparse.host_model(net)
    plain = called(model, x, text)
    given = called(applied(model, motion), x, text)
    assert real.difference(given, expected) <= TIGHT * float(expected.abs().max())
    assert real.difference(plain, expected) > 1e-2 * float(expected.abs().max())
    assert real.difference(called(model, x, text), plain) == 0.0
    assert real.difference(called(applied(model, motion, strength=0.0), x, text), plain) == 0.0
