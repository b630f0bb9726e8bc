"""The motion modules are those of AnimateDiff: read from the keys, equal to diffusers' module."""

import importlib
import json
from pathlib import Path

import pytest
import torch
from tiller.adapters.identify import identify
from tiller.adapters.motion.network import Effect, Layers, MotionNetwork, Place, Sizes, places
from tiller.tests.host import sparse

FRAMES, WIDTH = 5, 64


def one(attentions=2, frames=32):
    """diffusers' module of one place, random, and ours with the same weights."""
    kind = importlib.import_module("diffusers.models.unets.unet_motion_model").AnimateDiffTransformer3D
    theirs = sparse.per_frame(
        sparse.redraw(
            kind(
                num_attention_heads=8,
                attention_head_dim=WIDTH // 8,
                in_channels=WIDTH,
                norm_num_groups=32,
                double_self_attention=attentions == 2,
                positional_embeddings="sinusoidal",
                num_positional_embeddings=frames,
            )
        )
    )
    holder = torch.nn.Module()
    level = torch.nn.Module()
    level.motion_modules = torch.nn.ModuleList([theirs])
    holder.down_blocks = torch.nn.ModuleList([level])
    weights = sparse.published(holder, frames)
    ours = MotionNetwork(places({key: tuple(tensor.shape) for key, tensor in weights.items()}))
    ours.load_state_dict(weights)
    return theirs, ours.module(Place("down_blocks", 0, 0))


def hidden(rows=2 * FRAMES, seed=1):
    return torch.randn(rows, WIDTH, 3, 5, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("attentions", [1, 2])
def test_a_module_equals_diffusers(attentions):
    theirs, ours = one(attentions)
    x = hidden()
    with torch.no_grad():
        expected, given = theirs(x, num_frames=FRAMES), ours(x, FRAMES)
    assert (expected - x).abs().max() > 0.1
    assert (given - expected).abs().max() <= 1e-5 * expected.abs().max()


def test_strength_scales_what_is_added_and_scale_the_keys():
    _, ours = one()
    x = hidden()
    with torch.no_grad():
        plain, half = ours(x, FRAMES), ours(x, FRAMES, Effect(strength=0.5))
        assert ours(x, FRAMES, Effect(strength=0.0)) is x
        torch.testing.assert_close(half, (x + plain) / 2, rtol=1e-6, atol=1e-6)
        scaled = ours(x, FRAMES, Effect(scale=1.7))
        block = ours.temporal_transformer.transformer_blocks[0]
        for attention in block.attention_blocks:
            attention.to_k.weight.mul_(1.7)
        assert (scaled - plain).abs().max() > 1e-3
        torch.testing.assert_close(ours(x, FRAMES), scaled, rtol=1e-5, atol=1e-5)


def test_clips_of_one_batch_do_not_meet():
    _, ours = one()
    x = hidden()
    with torch.no_grad():
        both = ours(x, FRAMES)
        apart = torch.cat([ours(clip, FRAMES) for clip in x.split(FRAMES)])
        assert (ours(x, 2 * FRAMES) - both).abs().max() > 1e-3
    torch.testing.assert_close(both, apart, rtol=1e-6, atol=1e-6)


def test_half_precision_stays_close():
    _, ours = one()
    x = hidden()
    with torch.no_grad():
        whole = ours(x, FRAMES)
        ours.to(torch.bfloat16)
        for attention in ours.temporal_transformer.transformer_blocks[0].attention_blocks:
            attention.pos_encoder.float()
        half = ours(x.bfloat16(), FRAMES)
    assert half.dtype == torch.bfloat16
    assert (half - whole).abs().max() <= 0.05 * whole.abs().max()


def test_more_frames_than_positions_are_refused():
    _, ours = one(frames=4)
    with pytest.raises(ValueError, match=r"at most 4 frames at once, got 5.*context_length"):
        ours(hidden(), FRAMES)


def listing(attentions=2, frames=24, middle=True):
    found = {
        Place("down_blocks", level, number): Sizes(WIDTH, attentions, 1, frames)
        for level in range(4)
        for number in range(2)
    }
    if middle:
        found[Place("mid_block", 0, 0)] = Sizes(WIDTH, attentions, 1, frames)
    found |= {
        Place("up_blocks", level, number): Sizes(WIDTH, attentions, 1, frames)
        for level in range(4)
        for number in range(3)
    }
    return found


def test_what_is_built_reads_back_the_same():
    for middle in (True, False):
        found = listing(middle=middle)
        network = MotionNetwork(found, Layers(device="meta"))
        shapes = {key: tuple(tensor.shape) for key, tensor in network.state_dict().items()}
        assert places(shapes) == found
        assert list(places(shapes)) == list(found)
        assert [module.sizes for _, module in network] == list(found.values())


def test_weights_that_are_not_whole_are_refused_by_name():
    network = MotionNetwork(listing(), Layers(device="meta"))
    shapes = {key: tuple(tensor.shape) for key, tensor in network.state_dict().items()}
    without = {key: shape for key, shape in shapes.items() if "pos_encoder" not in key}
    with pytest.raises(ValueError, match=r"pos_encoder\.pe is missing.*AnimateLCM"):
        places(without)
    gap = {
        key: shape for key, shape in shapes.items() if not key.startswith("down_blocks.1.motion_modules.0")
    }
    with pytest.raises(ValueError, match=r"down_blocks\.1\.motion_modules\.1 comes after a gap"):
        MotionNetwork(places(gap), Layers(device="meta"))


@pytest.mark.parametrize(("name", "count"), [("motion_v2", 21), ("motion_v3", 20)])
def test_the_listing_of_a_published_file_fits_the_network_key_by_key(name, count):
    path = Path(__file__).parent.parent / "shapes" / f"{name}.json"
    shapes = {key: tuple(shape) for key, shape in json.loads(path.read_text(encoding="utf-8")).items()}
    found = identify({f"module.{key}": shape for key, shape in shapes.items()})
    assert (found.role, found.kind) == ("other", "AnimateDiff motion module")
    network = MotionNetwork(places(shapes), Layers(device="meta"))
    assert len(network.found) == count
    assert {sizes.frames for sizes in network.found.values()} == {32}
    assert {key: tuple(tensor.shape) for key, tensor in network.state_dict().items()} == shapes
