"""Noise for the negative side: the formulas, the seed, and torchvision's blur and displacement."""

import pytest
import torch
from tiller.adapters.image_prompt.noise import (
    NOISE_KINDS,
    Noise,
    blurred,
    displaced,
    noise_pictures,
    noised,
)
from torchvision.transforms.v2 import functional as theirs


def seeded(seed=7):
    return torch.Generator().manual_seed(seed)


def picture(size=24, seed=1):
    return torch.rand(1, size, size, 3, generator=seeded(seed))


def test_fade_dissolve_and_gaussian_are_their_formulas():
    image, shape = picture(), (1, 24, 24, 3)
    field = torch.rand(shape, generator=seeded())
    made = noised(image, Noise("fade", 0.3), seeded())
    torch.testing.assert_close(made, image * 0.7 + field * 0.3, rtol=0, atol=1e-6)

    draw = seeded()
    taken, field = torch.rand(shape, generator=draw) < 0.3, torch.rand(shape, generator=draw)
    made = noised(image, Noise("dissolve", 0.3), seeded())
    assert torch.equal(made, torch.where(taken, field, image))

    field = torch.randn(shape, generator=seeded())
    made = noised(image, Noise("gaussian", 0.3), seeded())
    torch.testing.assert_close(made, (image + field * 0.3).clamp(0, 1), rtol=0, atol=1e-6)


@pytest.mark.parametrize("strength", [0.4, 1.0])
def test_shuffle_is_torchvisions_elastic_transform_turned_and_noised(strength):
    image, draw, sigma = picture(64), seeded(), (1 - strength) * 3.5
    field = torch.rand(1, 64, 64, 2, generator=draw) * 2 - 1
    if sigma:
        size = int(8 * sigma + 1) | 1
        field = theirs.gaussian_blur(field.movedim(-1, 1), [size, size], [sigma, sigma]).movedim(1, -1)
    planes = torch.nn.functional.pad(image.movedim(-1, 1), (80,) * 4, mode="replicate")
    shift = torch.nn.functional.pad((field * 75 / 64 * 64 / 224).movedim(-1, 1), (80,) * 4).movedim(1, -1)
    elastic = theirs.elastic(planes, shift)[:, :, 80:-80, 80:-80].movedim(1, -1)
    made = displaced(image, sigma, seeded())
    torch.testing.assert_close(made, elastic, rtol=0, atol=1e-4)
    noise = torch.randn(image.shape, generator=draw) * strength * 0.75
    wanted = (elastic.flip(1, 2) * (1 - noise) + noise).clamp(0, 1)
    torch.testing.assert_close(noised(image, Noise("shuffle", strength), seeded()), wanted, rtol=0, atol=2e-4)


@pytest.mark.parametrize("size", [1, 3, 9, 33])
def test_blur_is_torchvisions(size):
    image = picture(40)
    wanted = theirs.gaussian_blur(image.movedim(-1, 1), [size, size]).movedim(1, -1)
    torch.testing.assert_close(blurred(image, size), wanted, rtol=0, atol=2e-6)
    if size > 1:
        assert float((wanted - image).abs().max()) > 0.05


def test_an_even_blur_takes_the_next_odd_kernel_and_none_leaves_the_noise():
    image = picture()
    plain = noised(image, Noise("fade"), seeded())
    assert torch.equal(noised(image, Noise("fade", blur=4), seeded()), blurred(plain, 5))
    assert torch.equal(noised(image, Noise("fade", blur=5), seeded()), blurred(plain, 5))


@pytest.mark.parametrize("kind", NOISE_KINDS)
def test_the_seed_alone_decides_and_stays_its_own(kind):
    image = picture(40)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    one = noise_pictures(image, Noise(kind, 0.6), 28, 5)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(noise_pictures(image, Noise(kind, 0.6), 28, 5), one)
    assert not torch.equal(noise_pictures(image, Noise(kind, 0.6), 28, 6), one)
    two = noise_pictures(torch.cat([image, image]), Noise(kind, 0.6), 28, 5)
    assert torch.equal(two[:1], one)
    assert torch.equal(two[1:], noise_pictures(image, Noise(kind, 0.6), 28, 6))
    assert one.shape == (1, 28, 28, 3)
    assert float(one.min()) >= 0.0
    assert float(one.max()) <= 1.0


def test_strength_zero_leaves_the_square():
    image = (picture(28) * 255).round() / 255
    for kind in ("fade", "dissolve", "gaussian"):
        assert torch.equal(noise_pictures(image, Noise(kind, 0.0), 28, 5), image)


def test_without_a_picture_there_is_one_of_noise():
    made = noise_pictures(None, Noise("fade"), 16, 2**64 - 1)
    assert made.shape == (1, 16, 16, 3)
    assert float(made.std()) > 0.2
    assert noise_pictures(picture(1), Noise("shuffle", 0.5, 32), 16, 0).shape == (1, 16, 16, 3)
