"""The tones of one picture with the colours of another: exact tones, the webui's colours."""

import cv2
import numpy as np
import pytest
import torch
from tiller.preprocessors.recolor import lightness, recolor
from tiller.tests.unit.hint_pictures import as_image, picture

EACH_CHANNEL = pytest.mark.parametrize("channel", ["luminance", "intensity"])


def noise(seed: int, height: int = 40, width: int = 56, batch: int = 1) -> torch.Tensor:
    return torch.rand(batch, height, width, 3, generator=torch.Generator().manual_seed(seed))


def tone(image: torch.Tensor, channel: str) -> torch.Tensor:
    values = image.double()
    return lightness(values) if channel == "luminance" else values.amax(dim=-1)


def worst(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one - other).abs().max())


@EACH_CHANNEL
def test_the_result_has_the_originals_tones_exactly(channel):
    image, original = noise(1), noise(2)
    made = recolor(image, original, channel)
    assert worst(tone(made, channel), tone(original, channel)) < 1e-6
    assert made.min() >= 0
    assert made.max() <= 1
    assert worst(made, original) > 0.3


def test_lightness_is_that_of_cielab():
    colours = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 1], [0.5, 0.5, 0.5], [0.05, 0.05, 0.05]])
    published = torch.tensor([0.532408, 0.877347, 0.322970, 0.533890, 0.035553]).double()
    assert worst(lightness(colours.double()), published) < 2e-5
    image = noise(3)
    expected = cv2.cvtColor(image[0].numpy(), cv2.COLOR_RGB2LAB)[..., 0] / 100.0
    assert np.abs(lightness(image[0].double()).numpy() - expected).max() < 3e-3, "OpenCV is coarse"


def test_saturated_colours_keep_hue_and_lightness_and_lose_chroma():
    red = torch.tensor([1.0, 0.0, 0.0]).expand(1, 4, 5, 3)
    light = torch.full((1, 4, 5, 3), 0.9)
    made = recolor(red, light)
    assert worst(lightness(made.double()), lightness(light.double())) < 1e-6
    before = cv2.cvtColor(red[0].numpy().copy(), cv2.COLOR_RGB2LAB)[0, 0]
    after = cv2.cvtColor(made[0].numpy(), cv2.COLOR_RGB2LAB)[0, 0]
    assert np.hypot(*after[1:]) < 0.5 * np.hypot(*before[1:])
    assert np.arctan2(after[2], after[1]) == pytest.approx(np.arctan2(before[2], before[1]), abs=0.01)
    assert made.max() > 0.999, "more chroma would have fitted"


@EACH_CHANNEL
def test_a_picture_on_itself_is_itself_and_gray_stays_gray(channel):
    image = noise(4)
    assert worst(recolor(image, image, channel), image) < 1e-6
    gray = noise(5)[..., :1].expand(-1, -1, -1, 3)
    assert worst(recolor(gray, gray, channel), gray) < 1e-6
    toned = recolor(gray, image, channel)
    assert worst(toned.amax(-1), toned.amin(-1)) == 0.0


@EACH_CHANNEL
def test_black_and_white_stay_black_and_white(channel):
    ends = torch.tensor([0.0, 1.0]).reshape(1, 1, 2, 1).expand(1, 1, 2, 3)
    for colours in (noise(6, 1, 2), ends.flip(2), torch.zeros(1, 1, 2, 3)):
        assert recolor(colours, ends, channel)[0, 0, 0].max() < 1e-6
    for colours in (ends.flip(2), torch.zeros(1, 1, 2, 3)):
        assert worst(recolor(colours, ends, channel)[0, 0, 1], torch.ones(3)) < 1e-6


def webui(image: np.ndarray, original: np.ndarray, channel: str) -> np.ndarray:
    """The webui's step on levels of 8 bit, with the right channel of the original as its feed."""
    to, back, index = {
        "luminance": (cv2.COLOR_RGB2LAB, cv2.COLOR_LAB2RGB, 0),
        "intensity": (cv2.COLOR_RGB2HSV, cv2.COLOR_HSV2RGB, 2),
    }[channel]
    changed = cv2.cvtColor(image, to)
    changed[..., index] = cv2.cvtColor(original, to)[..., index]
    return cv2.cvtColor(changed, back)


@EACH_CHANNEL
def test_it_is_the_webuis_step_without_its_rounding_where_nothing_clips(channel):
    array = picture(64, 80)
    image = (127.5 + 0.15 * (array.astype(np.float32) - 127.5)).round().astype(np.uint8)
    original = (127.5 + 0.4 * (array[::-1, ::-1].astype(np.float32) - 127.5)).round().astype(np.uint8)
    made = recolor(as_image(image), as_image(original), channel)[0].numpy() * 255.0
    difference = np.abs(made - webui(image, original, channel).astype(np.float32))
    assert difference.max() < 3.0, "OpenCV's 8-bit conversions are off by up to that much"
    assert difference.mean() < 0.6


@EACH_CHANNEL
def test_float_tones_do_not_band(channel):
    ramp = torch.linspace(0.4, 0.41, 500).reshape(1, 1, 500, 1).expand(-1, -1, -1, 3)
    colour = torch.tensor([0.5, 0.4, 0.3]).expand(1, 1, 500, 3)
    assert len(torch.unique(recolor(colour, ramp, channel)[0, 0, :, 0])) > 400


@EACH_CHANNEL
def test_gamma_is_a_power_of_the_channel(channel):
    image, original = noise(7), noise(8)
    made = recolor(image, original, channel, 0.5)
    assert worst(tone(made, channel), tone(original, channel).sqrt()) < 1e-6


@EACH_CHANNEL
def test_a_batch_is_its_pictures_one_by_one(channel):
    images, originals = noise(9, batch=2), noise(10, batch=2)
    both = recolor(images, originals, channel)
    single = [recolor(images[i : i + 1], originals[i : i + 1], channel) for i in range(2)]
    assert torch.equal(both, torch.cat(single))
    one_for_all = recolor(images, originals[:1], channel)
    assert torch.equal(one_for_all[:1], single[0])


def test_an_original_of_another_size_is_scaled_and_cut_around_the_centre():
    image, original = noise(11, 32, 48), noise(12, 36, 48)
    cut = recolor(image, original[:, 2:34])
    assert torch.equal(recolor(image, original), cut)
    flat = torch.full((1, 17, 90, 3), 0.3)
    made = recolor(image, flat)
    assert made.shape == image.shape
    assert worst(lightness(made.double()), lightness(torch.full((1, 3), 0.3).double())) < 1e-5


@pytest.mark.parametrize("channels", [1, 4])
def test_gray_and_transparent_pictures(channels):
    image = torch.rand(1, 9, 7, channels, generator=torch.Generator().manual_seed(13))
    made = recolor(image, noise(14, 9, 7))
    assert made.shape == (1, 9, 7, 3)
    if channels == 4:
        clear = torch.cat([image[..., :3], torch.zeros(1, 9, 7, 1)], dim=-1)
        assert torch.equal(recolor(noise(14, 9, 7), clear), recolor(noise(14, 9, 7), torch.ones(1, 9, 7, 3)))


def test_what_cannot_be_done_is_said():
    image = noise(15, 8, 8, batch=3)
    with pytest.raises(ValueError, match=r"one for each of the 3 pictures, got 2\. Connect the pictures"):
        recolor(image, noise(16, 8, 8, batch=2))
    with pytest.raises(ValueError, match=r"channels luminance, intensity, got 'hue'"):
        recolor(image, image, "hue")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"gamma above 0, got 0"):
        recolor(image, image, gamma=0.0)
    with pytest.raises(ValueError, match=r"^The original of Recolor needs an image"):
        recolor(image, torch.zeros(3))
