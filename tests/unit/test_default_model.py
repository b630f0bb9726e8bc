"""The default model's parts: its pictures, its padded norms, its stored form and its measures."""

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from default_model import evaluate, expand, networks, scenes, text

KINDS = [kind for kind, _ in scenes.KINDS]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_a_scene_is_a_function_of_its_seed(kind):
    first, again, other = scenes.draw(5, kind), scenes.draw(5, kind), scenes.draw(6, kind)
    assert (first.picture == again.picture).all()
    assert (first.prompt, first.colour) == (again.prompt, again.colour)
    assert first.picture.shape == (256, 256, 3)
    assert (first.picture != other.picture).any()


def test_the_mask_of_an_object_shows_the_colour_of_its_prompt():
    for seed in range(60):
        scene = scenes.draw(seed, scenes.draw_object)
        assert scene.colour in scene.prompt
        assert evaluate.dominant_colour(scene.picture, scene.mask) == scene.colour, scene.prompt


def test_a_line_hint_follows_the_edges_of_its_picture():
    random = np.random.default_rng(0)
    scene = scenes.draw(3, scenes.draw_object)
    canny = scenes.line_hint(scene.picture, random, way=0)
    assert (canny == cv2.Canny(scene.picture, 100, 200)).all()
    scribble = scenes.scribble_of(canny, random)
    near = cv2.dilate(canny, np.ones((21, 21), np.uint8)) > 0
    assert scribble.any()
    assert near[scribble > 0].mean() > 0.95
    assert (scribble != canny).any()


@pytest.mark.parametrize("repeats", [1, 2])
def test_the_narrow_group_norm_is_the_wide_one_on_the_real_channels(repeats):
    torch.manual_seed(0)
    narrow = networks.GroupNorm(64 * repeats)
    torch.nn.init.normal_(narrow.weight)
    torch.nn.init.normal_(narrow.bias)
    x = torch.randn(2, 64 * repeats, 5, 7) + torch.randn(64 * repeats)[:, None, None]
    axis = expand.features(repeats)
    spread = expand.widen(x.transpose(0, 1), axis, expand.same(2)).transpose(0, 1)
    weight = expand.widen(narrow.weight.detach(), axis, None)
    bias = expand.widen(narrow.bias.detach(), axis, None)
    wide = F.group_norm(spread, 32, weight, bias, 1e-5)
    torch.testing.assert_close(wide[:, axis.places], narrow(x), atol=2e-6, rtol=1e-6)
    dead = torch.ones(axis.length, dtype=torch.bool)
    dead[axis.places] = False
    assert (wide[:, dead] == 0).all()


def test_the_narrow_layer_norm_is_the_wide_one_on_the_real_channels():
    torch.manual_seed(0)
    x = torch.randn(2, 5, 64) + 0.3
    axis = expand.features()
    spread = torch.zeros(2, 5, 320)
    spread[..., axis.places] = x
    wide = F.layer_norm(spread, (320,))
    torch.testing.assert_close(wide[..., axis.places], networks.LayerNorm(64)(x), atol=2e-6, rtol=0)


def test_every_real_weight_survives_the_widening_and_nothing_else_appears():
    torch.manual_seed(0)
    narrow = {name: torch.randn_like(tensor) for name, tensor in networks.UNet().state_dict().items()}
    wide = expand.widen_network(narrow)
    assert wide.keys() == narrow.keys()
    for name, tensor in narrow.items():
        assert wide[name].count_nonzero() == tensor.count_nonzero(), name
        assert torch.equal(wide[name][wide[name] != 0].sort()[0], tensor.flatten().sort()[0]), name
    assert wide["input_blocks.1.0.in_layers.2.weight"].shape == (320, 320, 3, 3)
    assert wide["output_blocks.0.0.in_layers.2.weight"].shape == (320, 640, 3, 3)
    assert wide["input_blocks.3.1.transformer_blocks.0.attn2.to_k.weight"].shape == (320, 768)


def test_packing_and_loading_gives_every_bit_back(tmp_path):
    torch.manual_seed(0)
    stored = {"a.weight": torch.randn(3, 5, 2).half(), "b": torch.randn(7).half()}
    expand.pack(stored, tmp_path / "packed.npz")
    loaded = expand.load(tmp_path / "packed.npz")
    assert loaded.keys() == stored.keys()
    for name, tensor in stored.items():
        assert torch.equal(loaded[name], tensor), name


def test_storing_scales_the_queries_and_nothing_else():
    weights = {"x.to_q.weight": torch.ones(2, 2), "x.to_k.weight": torch.ones(2, 2)}
    stored = expand.store({"unet": weights})
    assert stored["unet.x.to_q.weight"][0, 0] == pytest.approx(5**0.5, rel=1e-3)
    assert stored["unet.x.to_k.weight"][0, 0] == 1
    back = expand.unstore(stored)["unet"]
    assert back["x.to_q.weight"][0, 0] == pytest.approx(1, rel=1e-3)


def test_a_token_knows_the_two_before_it():
    """Signs only: the last layer norm shifts the numbers a little with the other parts of a vector."""
    encode = text.TextEncoder()
    end = [49407] * 73
    one, other = (
        encode(torch.tensor([[49406, 320, colour, 7117, *end]]))[0].sign() for colour in (736, 1746)
    )
    before, before_that = (slice(text.PREVIOUS + 64 * i, text.PREVIOUS + 64 * (i + 1)) for i in range(2))
    assert torch.equal(one[:2], other[:2])
    assert (one[3, before] != other[3, before]).any()
    assert torch.equal(one[3, before_that], other[3, before_that])
    assert (one[4, before_that] != other[4, before_that]).any()
    assert torch.equal(one[4, before], other[4, before])
    assert torch.equal(one[5:], other[5:])


def test_edges_agree_within_two_pixels_and_no_further():
    picture = np.zeros((64, 64, 3), np.uint8)
    picture[20:44, 20:44] = 255
    hint = cv2.Canny(picture, 100, 200)
    assert evaluate.edge_agreement(picture, hint) == 1
    assert evaluate.edge_agreement(picture, np.roll(hint, 2, 1)) == 1
    assert evaluate.edge_agreement(picture, np.roll(hint, (6, 6), (0, 1))) < 0.3
    assert evaluate.edge_agreement(np.zeros_like(picture), hint) == 0
