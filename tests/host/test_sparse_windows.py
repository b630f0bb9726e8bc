"""SparseCtrl and motion modules inside the host's own context windows."""

import importlib
from typing import Any

import pytest
from tiller.tests.host import inprocess as real
from tiller.tests.host.inprocess import Run
from tiller.tests.host.test_sparse_control import PoolVAE, settings, stand_in

LONG = Run(steps=2, batch=9)
WINDOWS = {
    "context_length": 4,
    "context_overlap": 1,
    "context_schedule": "standard_static",
    "context_stride": 1,
    "closed_loop": False,
    "fuse_method": "pyramid",
    "dim": 0,
    "freenoise": False,
}


def windowed(of: Any, **changes: Any) -> Any:
    """The family with the host's Context Windows (Manual) on its model."""
    real.host()
    node = importlib.import_module("comfy_extras.nodes_context_windows").ContextWindowsManualNode
    return of._replace(model=node.execute(of.model, **{**WINDOWS, **changes}).args[0])


@pytest.mark.parametrize("extra_frame", [True, False], ids=["with the host's extra frame", "without"])
def test_pictures_keep_their_frames_of_the_whole_clip(extra_frame):
    """Without motion each frame stands by itself, so windows must change nothing at all."""
    of, net, positive, negative, pictures = stand_in()
    still = net.with_settings(settings(key_frames=(2, -1), motion_strength=0.0, context_aware="off"))
    applied = real.tiller_apply(positive, negative, still, pictures, vae=PoolVAE())
    whole = real.sample(of, *applied, LONG)
    given = real.sample(windowed(of, causal_window_fix=extra_frame), *applied, LONG)
    assert real.difference(given, whole) <= 1e-5 * float(whole.abs().max())
    moved = net.with_settings(settings(key_frames=(3, -1), motion_strength=0.0, context_aware="off"))
    other = real.tiller_apply(positive, negative, moved, pictures, vae=PoolVAE())
    assert real.difference(real.sample(windowed(of), *other, LONG), whole) > 1e-3


def test_the_frames_of_each_window_are_known(monkeypatch):
    of, net, positive, negative, pictures = stand_in()
    module = importlib.import_module("tiller.adapters.control.sparsectrl.apply")
    seen, known = [], module.clip_of

    def noted(*arguments: Any) -> Any:
        seen.append(known(*arguments))
        return seen[-1]

    monkeypatch.setattr(module, "clip_of", noted)
    applied = real.tiller_apply(positive, negative, net, pictures, vae=PoolVAE())
    real.sample(windowed(of), *applied, Run(steps=1, batch=9))
    assert [clip.frames for clip in seen] == [(0, 1, 2, 3), (2, 3, 4, 5, 6), (4, 5, 6, 7, 8)]
    assert {clip.total for clip in seen} == {9}


def test_a_window_without_a_picture_takes_the_nearest_where_it_is_told_to():
    of, net, positive, negative, pictures = stand_in()
    of = windowed(of)
    results = {}
    for aware in ("nearest_hint", "off"):
        control = net.with_settings(settings(key_frames=(0,), context_aware=aware))
        applied = real.tiller_apply(positive, negative, control, pictures[:1], vae=PoolVAE())
        results[aware] = real.sample(of, *applied, LONG)
    near, off = results["nearest_hint"], results["off"]
    assert real.difference(near[:1], off[:1]) == 0.0
    assert real.difference(near[5:], off[5:]) > 1e-3
