"""A clip in the real server: SparseCtrl, motion modules and the host's context windows in one graph."""

import numpy as np
from tiller.tests.host.client import Graph
from tiller.tests.host.test_sparse_windows import WINDOWS

CHECKPOINT = "tiller_standin_sd15.safetensors"


def clip(server, moving=True, key_frames="0, -1"):
    """Nine frames of 64 x 64 in windows of four, pictures on two of them; the probe of the pictures."""
    graph = Graph()
    checkpoint = graph.add("CheckpointLoaderSimple", ckpt_name=CHECKPOINT)
    model = checkpoint[0]
    if moving:
        motion = graph.add("TillerLoadMotion", motion_name="tiller_standin_motion_sd15.safetensors")
        settings = server.defaults("TillerApplyMotion")
        model = graph.add("TillerApplyMotion", **{**settings, "model": model, "motion": motion[0]})[0]
    defaults = server.defaults("ContextWindowsManual")
    model = graph.add("ContextWindowsManual", **{**defaults, **WINDOWS, "model": model})[0]
    name = "tiller_standin_sparse_sd15.safetensors"
    net = graph.add("TillerLoadControl", **{**server.defaults("TillerLoadControl"), "control_name": name})
    settings = server.defaults("TillerSparseControl") | {"key_frames": key_frames}
    net = graph.add("TillerSparseControl", **{**settings, "control_net": net[0]})
    picture = graph.add("TestImage", seed=5, width=64, height=64, batch=2)
    positive, negative = (graph.add("TestConditioning", seed=seed) for seed in (1, 2))
    applied = graph.add(
        "TillerApplyControl",
        **{
            **server.defaults("TillerApplyControl"),
            "positive": positive[0],
            "negative": negative[0],
            "control_net": net[0],
            "image": picture[0],
            "vae": checkpoint[2],
        },
    )
    latent = graph.add("EmptyLatentImage", width=64, height=64, batch_size=9)
    sampled = graph.add(
        "KSampler",
        **{**server.defaults("KSampler"), "seed": 3, "steps": 2, "cfg": 4.0},
        model=model,
        positive=applied[0],
        negative=applied[1],
        latent_image=latent[0],
    )
    decoded = graph.add("VAEDecode", samples=sampled[0], vae=checkpoint[2])
    return graph, graph.add("TestProbe", value=decoded[0])


def frames(server, **changes):
    graph, probe = clip(server, **changes)
    result = server.run(graph)
    assert result.ok, result.errors
    return server.array(result, probe)


def test_the_same_clip_twice_with_others_in_between_is_the_same_to_the_bit(server):
    first = frames(server)
    assert first.shape == (9, 64, 64, 3)
    assert np.isfinite(first).all()
    others = [frames(server, moving=False), frames(server, key_frames="3, 5")]
    server.client.clear_cache()
    np.testing.assert_array_equal(frames(server), first)
    for other in others:
        assert np.abs(other - first).max() > 1e-3


def test_a_key_frame_beyond_the_clip_stops_the_run_with_a_sentence(server):
    graph, _ = clip(server, key_frames="0, 9")
    errors = server.run(graph).errors
    assert len(errors) == 1
    assert "key frames from 0 to 8 (or -1 to -9, from the end), got 9" in errors[0]
