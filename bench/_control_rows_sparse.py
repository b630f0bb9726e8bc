"""Rows for SparseCtrl and AnimateDiff's motion modules: ours beside diffusers, random weights.

diffusers' motion modules take the group norm over all frames together; the authors' code takes it frame by
frame, and so does ours. The rows give diffusers the authors' norm (tests/host/sparse.py: per_frame).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from _rows import Row, host

FRAMES = 6


def _worst(pairs: list[tuple[Any, Any]]) -> tuple[float, float]:
    """Difference and greatest value of the pair that differs most for its size."""
    real = host()
    found = [(real.difference(ours, theirs), float(theirs.abs().max())) for ours, theirs in pairs]
    return max(found, key=lambda pair: pair[0] / pair[1])


def _sparse(latent: bool, motion: bool) -> Callable[[], tuple[float, float]]:
    """All residuals of one call: two clips of six frames, pictures on the first and the fifth."""

    def measure() -> tuple[float, float]:
        host()
        from tiller.adapters.motion.network import Effect
        from tiller.tests.host import sparse, test_sparse_control

        net = sparse.sparse_net(latent)
        if not motion:
            sparse.without_motion(net)
        ours = test_sparse_control.loaded(net).control_model
        theirs, hints, text = test_sparse_control.one_call(net, latent, FRAMES)
        with torch.no_grad():
            steps = torch.full((2 * FRAMES,), 431.0)
            given = ours.residuals(ours.encode(hints), steps, text, FRAMES, Effect(float(motion)))
        return _worst(list(zip([*given["output"], *given["middle"]], theirs, strict=True)))

    return measure


def _motion(middle: bool) -> Callable[[], tuple[float, float]]:
    """One call of a small SD1.5 UNet with motion modules: two clips of six frames."""

    def measure() -> tuple[float, float]:
        host()
        from tiller.tests.host import sparse, test_motion

        net = sparse.motion_unet(middle)
        sample, rows, text = test_motion.inputs()
        with torch.no_grad():
            expected = net(sample, 431, text, return_dict=False)[0].transpose(1, 2).flatten(0, 1)
        moving = test_motion.applied(sparse.host_model(net), test_motion.loaded(net))
        return _worst([(test_motion.called(moving, rows, text), expected)])

    return measure


CALL = "one call, two clips"
ROWS = [
    Row("SparseCtrl (rgb)", "SD1.5", CALL, "diffusers, norms of the authors", _sparse(True, True)),
    Row("SparseCtrl (rgb), no motion", "SD1.5", CALL, "diffusers", _sparse(True, False)),
    Row("SparseCtrl (scribble)", "SD1.5", CALL, "diffusers, norms of the authors", _sparse(False, True)),
    Row("AnimateDiff v2", "SD1.5", CALL, "diffusers, norms of the authors", _motion(True)),
    Row("AnimateDiff v3", "SD1.5", CALL, "diffusers, norms of the authors", _motion(False)),
]
