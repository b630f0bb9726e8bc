"""What every hint holds: sizes, batches, channels, clear errors."""

import numpy as np
import pytest
import torch
from tiller.tests.unit.hint_pictures import HINTS, RESIZING, as_image, levels, picture

SIZES = [(1, 1), (1, 9), (9, 1), (2, 3), (33, 47), (65, 64)]
every_hint = pytest.mark.parametrize("name", HINTS)


@every_hint
@pytest.mark.parametrize("size", SIZES)
def test_any_size_gives_a_finite_picture(name, size):
    out = HINTS[name](as_image(picture(*size)), 0)
    if name == "tile_resample":
        size = tuple(max(1, int(side / 2.5)) for side in size)
    assert out.shape == (1, *size, 3)
    assert out.dtype == torch.float32
    assert out.is_contiguous()
    assert 0.0 <= float(out.min()) <= float(out.max()) <= 1.0


@pytest.mark.parametrize("name", RESIZING)
@pytest.mark.parametrize(
    ("size", "wanted"), [((1, 1), (96, 96)), ((60, 45), (128, 96)), ((130, 151), (96, 112))]
)
def test_the_shorter_side_becomes_the_resolution(name, size, wanted):
    assert HINTS[name](as_image(picture(*size)), 96).shape == (1, *wanted, 3)


@pytest.mark.parametrize("name", [name for name in HINTS if name != "shuffle"])
def test_a_batch_of_two_is_two_of_one(name):
    first, second = picture(70, 90, 1), picture(70, 90, 2)
    both = HINTS[name](as_image(first, second), 64)
    alone = [HINTS[name](as_image(one), 64) for one in (first, second)]
    assert torch.equal(both, torch.cat(alone))
    assert not torch.equal(both[:1], both[1:])


@every_hint
def test_one_channel_is_gray_and_four_lie_over_white(name):
    gray = as_image(picture(50, 60))[..., :1]
    assert torch.equal(HINTS[name](gray, 64), HINTS[name](gray.repeat(1, 1, 1, 3), 64))
    colours = as_image(picture(50, 60))
    opaque = torch.cat([colours, torch.ones_like(gray)], -1)
    hidden = torch.cat([colours, torch.zeros_like(gray)], -1)
    assert torch.equal(HINTS[name](opaque, 64), HINTS[name](colours, 64))
    assert torch.equal(HINTS[name](hidden, 64), HINTS[name](torch.ones_like(colours), 64))


@every_hint
def test_the_picture_is_left_alone(name):
    image = as_image(picture(40, 30))
    before = image.clone()
    HINTS[name](image, 0).zero_()
    assert torch.equal(image, before)


@every_hint
def test_a_flat_picture_gives_a_map(name):
    out = levels(HINTS[name](torch.full((1, 70, 66, 3), 0.5), 64))
    assert np.unique(out).size == 1


@every_hint
def test_values_are_rounded_on_the_way_in(name):
    whole = as_image(picture(40, 30))
    jitter = torch.from_numpy(np.random.default_rng(0).uniform(-0.4, 0.4, whole.shape).astype(np.float32))
    assert torch.equal(HINTS[name](whole + jitter / 255.0, 0), HINTS[name](whole, 0))


@every_hint
@pytest.mark.parametrize(
    ("image", "text"),
    [
        (torch.zeros(1, 0, 0, 3), "needs at least one picture of 1 x 1 pixel, got 1 of 0 x 0"),
        (torch.full((1, 2, 2, 3), torch.nan), "needs finite pixel values from 0 to 1, got NaN or infinity"),
        (torch.zeros(1, 2, 2, 5), r"needs 1 \(gray\), 3 \(RGB\) or 4 \(RGBA\) channels, got 5"),
    ],
)
def test_a_bad_image_is_refused(name, image, text):
    with pytest.raises(ValueError, match=text):
        HINTS[name](image, 0)
