"""SparseCtrl equals diffusers' net, frame by frame, and keeps its places in a longer clip."""

from typing import Any

import pytest
import torch
from tiller.tests.host import inprocess as real
from tiller.tests.host import sparse

FRAMES = 6
TIGHT = 1e-5


def loaded(net: torch.nn.Module) -> Any:
    real.host()
    from tiller.adapters.control.sparsectrl.apply import load
    from tiller.adapters.identify import Identified

    weights = {f"module.{key}": tensor for key, tensor in sparse.published(net).items()}
    return load(weights, Identified("control", "SparseCtrl", "SD1.5"))


@pytest.mark.parametrize("latent", [True, False], ids=["rgb", "scribble"])
@pytest.mark.parametrize("strength", [1.0, 0.0], ids=["motion", "motion left out"])
def test_residuals_equal_those_of_diffusers(latent, strength):
    net = sparse.sparse_net(latent)
    if strength == 0.0:
        for part in net.modules():
            if type(part).__name__ == "AnimateDiffTransformer3D":
                part.proj_out.weight.data.zero_()
                part.proj_out.bias.data.zero_()
    ours = loaded(net).control_model
    from tiller.adapters.motion.network import Effect

    height, width = (9, 14) if latent else (8, 12)
    generator = torch.Generator().manual_seed(1)
    pixels = (height, width) if latent else (8 * height, 8 * width)
    hint = torch.zeros(2, 4 if latent else 3, FRAMES, *pixels)
    mask = torch.zeros(2, 1, FRAMES, *pixels)
    hint[:, :, [0, 4]] = torch.rand(hint[:, :, [0, 4]].shape, generator=generator)
    mask[:, :, [0, 4]] = 1.0
    text = torch.randn(2, 7, 48, generator=generator).repeat_interleave(FRAMES, 0)
    sample = torch.randn(2, 4, FRAMES, height, width, generator=generator)
    with torch.no_grad():
        theirs = net(sample, 431, text, hint, conditioning_mask=mask, return_dict=False)
        marked = torch.cat([hint, mask], 1).transpose(1, 2).flatten(0, 1)
        given = ours.residuals(
            ours.encode(marked), torch.full((2 * FRAMES,), 431.0), text, FRAMES, Effect(strength)
        )
    assert len(given["output"]) == len(theirs[0]) == 12
    for one, other in zip([*given["output"], *given["middle"]], [*theirs[0], theirs[1]], strict=True):
        assert one.shape == other.shape
        assert real.difference(one, other) <= TIGHT * float(other.abs().max())
