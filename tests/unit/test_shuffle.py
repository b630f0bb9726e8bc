"""Content shuffle: the reference's field from the same draws, one field per seed."""

import numpy as np
import pytest
import torch
from tiller.preprocessors.shuffle import shuffle
from tiller.tests.unit.hint_pictures import as_image, levels, picture, worst


@pytest.mark.parametrize("size", [(128, 192), (64, 64), (320, 576)])
def test_the_same_draws_give_controlnet_auxs_picture(size, monkeypatch):
    from controlnet_aux.shuffle import ContentShuffleDetector

    array = picture(*size)
    monkeypatch.setattr(np.random, "uniform", np.random.default_rng(7).uniform)
    short = min(size)
    wanted = ContentShuffleDetector()(
        array, detect_resolution=short, image_resolution=short, output_type="np"
    )
    assert worst(shuffle(as_image(array), 7, 0), wanted) <= 1


def test_the_same_seed_gives_the_same_picture_and_another_seed_another():
    image = as_image(picture(90, 120))
    assert torch.equal(shuffle(image, 3, 64), shuffle(image, 3, 64))
    assert not torch.equal(shuffle(image, 3, 64), shuffle(image, 4, 64))


def test_seed_0_is_an_ordinary_seed():
    image = as_image(picture(90, 120))
    assert torch.equal(shuffle(image, 0, 0), shuffle(image, 0, 0))


def test_each_picture_of_a_batch_has_the_field_of_its_own_seed():
    first, second = picture(90, 120, 1), picture(90, 120, 2)
    both = shuffle(as_image(first, second), 11, 0)
    assert torch.equal(both[:1], shuffle(as_image(first), 11, 0))
    assert torch.equal(both[1:], shuffle(as_image(second), 12, 0))


def test_the_global_generators_are_left_alone():
    np.random.seed(0)
    torch.manual_seed(0)
    before = np.random.get_state()[1].copy(), torch.get_rng_state()
    out = shuffle(as_image(picture(40, 40)), 1, 0)
    assert np.array_equal(before[0], np.random.get_state()[1])
    assert torch.equal(before[1], torch.get_rng_state())
    np.random.seed(1)
    assert torch.equal(out, shuffle(as_image(picture(40, 40)), 1, 0))


def test_the_contents_move_and_the_colours_stay():
    array = picture(200, 200)
    out = levels(shuffle(as_image(array), 1, 0))[0]
    assert (np.abs(out - array).max(axis=2) > 20).mean() > 0.3
    assert np.abs(out.mean(axis=(0, 1)) - array.mean(axis=(0, 1))).max() < 50


@pytest.mark.filterwarnings("error")
def test_a_single_pixel_stays_itself():
    pixel = as_image(np.array([[[200, 100, 50]]], np.uint8))
    assert torch.equal(shuffle(pixel, 1, 0), pixel)


def test_a_negative_seed_is_named():
    with pytest.raises(ValueError, match=r"needs a seed from 0 up, got -1"):
        shuffle(torch.zeros(1, 4, 4, 3), -1)


def test_a_side_beyond_opencvs_reach_is_named():
    with pytest.raises(ValueError, match=r"sides of at most 32766 pixels, got 33000 x 1. Lower"):
        shuffle(torch.zeros(1, 1, 33000, 3), 0, 0)
