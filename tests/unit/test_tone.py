"""Tone and colour hints against the reference formulas."""

import cv2
import numpy as np
import pytest
import torch
from tiller.preprocessors.tone import (
    blur,
    brightness,
    color_grid,
    invert,
    recolor_intensity,
    recolor_luminance,
    tile_resample,
)
from tiller.tests.unit.hint_pictures import as_image, levels, picture, worst

SIZES = [(1, 1), (37, 53), (128, 96)]


def reference_recolor(array: np.ndarray, code: int, channel: int, gamma: float) -> np.ndarray:
    """The webui's recolor formulas, which cut to levels where ours round."""
    v = cv2.cvtColor(array, code)[..., channel].astype(np.float32) / 255.0
    return (v**gamma * 255.0).clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize("size", SIZES)
def test_invert_equals_the_reference(size):
    array = picture(*size)
    out = invert(as_image(array))
    assert worst(out, 255 - array) == 0
    assert torch.equal(invert(out), as_image(array))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    ("hint", "code", "channel"),
    [(recolor_luminance, cv2.COLOR_BGR2LAB, 0), (recolor_intensity, cv2.COLOR_BGR2HSV, 2)],
)
def test_recolor_equals_the_reference(size, hint, code, channel):
    array = picture(*size)
    assert worst(hint(as_image(array)), reference_recolor(array, code, channel, 1.0)) == 0
    for gamma in (0.1, 0.7, 2.0):
        assert worst(hint(as_image(array), gamma), reference_recolor(array, code, channel, gamma)) <= 1


def test_gamma_under_one_brightens():
    image = as_image(picture(64, 64))
    means = [float(recolor_luminance(image, gamma).mean()) for gamma in (0.5, 1.0, 2.0)]
    assert means[0] > means[1] + 0.05 > means[2] + 0.1


def test_recolor_luminance_swaps_red_and_blue_as_the_references_do():
    red, blue = (torch.tensor(colour).reshape(1, 1, 1, 3) for colour in ([1.0, 0, 0], [0, 0, 1.0]))
    assert levels(recolor_luminance(red))[0, 0, 0, 0] == 82
    assert levels(recolor_luminance(blue))[0, 0, 0, 0] == 136
    assert levels(brightness(red, "L"))[0, 0, 0, 0] == 136
    assert levels(brightness(blue, "L"))[0, 0, 0, 0] == 82


@pytest.mark.parametrize("hint", [recolor_luminance, recolor_intensity])
def test_recolor_names_a_wrong_gamma(hint):
    with pytest.raises(ValueError, match=r"needs a gamma above 0, got 0. Set it to 1"):
        hint(torch.zeros(1, 4, 4, 3), 0)


@pytest.mark.parametrize("size", SIZES)
def test_brightness_is_the_luma_of_rec_601(size):
    array = picture(*size)
    exact = array @ np.array([0.299, 0.587, 0.114])
    out = levels(brightness(as_image(array)))[0]
    assert np.abs(out - exact[..., None]).max() <= 0.51


@pytest.mark.parametrize("size", SIZES)
def test_brightness_l_is_the_lightness_of_lab(size):
    array = picture(*size)
    linear = np.where(array > 10.31475, ((array / 255 + 0.055) / 1.055) ** 2.4, array / 255 / 12.92)
    y = linear @ np.array([0.212671, 0.715160, 0.072169])
    lightness = np.where(y > 0.008856, 116 * np.cbrt(y) - 16, 903.3 * y) * 2.55
    assert worst(brightness(as_image(array), "L"), np.rint(lightness)) <= 1


def test_brightness_names_an_unknown_scale():
    with pytest.raises(ValueError, match=r"one of the scales luma, L, got 'Y'. Choose luma"):
        brightness(torch.zeros(1, 4, 4, 3), "Y")  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("size", [(1, 7), (37, 53), (128, 96)])
@pytest.mark.parametrize("sigma", [0.01, 3.0, 9.0, 64.0])
def test_blur_is_opencvs(size, sigma):
    array = picture(*size)
    assert worst(blur(as_image(array), sigma, 0), cv2.GaussianBlur(array, (0, 0), sigma)) == 0


def test_blur_works_at_the_working_size():
    array = picture(64, 80)
    small = cv2.resize(array, (40, 32), interpolation=cv2.INTER_AREA)
    assert worst(blur(as_image(array), 2.0, 32), cv2.GaussianBlur(small, (0, 0), 2.0)) == 0


def test_blur_names_a_wrong_sigma():
    with pytest.raises(ValueError, match=r"needs a sigma above 0, got 0.0. Set it to 9"):
        blur(torch.zeros(1, 4, 4, 3), 0.0)


@pytest.mark.parametrize("rate", [1.1, 1.5, 2.0, 8.0])
def test_tile_resample_shrinks_by_areas(rate):
    array = picture(75, 101)
    small = cv2.resize(array, (int(101 / rate), int(75 / rate)), interpolation=cv2.INTER_AREA)
    assert worst(tile_resample(as_image(array), rate), small) == 0


def test_a_rate_under_1_1_changes_nothing():
    image = as_image(picture(75, 101))
    assert torch.equal(tile_resample(image), image)
    assert torch.equal(tile_resample(image, 1.09), image)


def test_tile_resample_keeps_a_pixel():
    assert tile_resample(torch.rand(1, 3, 20, 3), 8.0).shape == (1, 1, 2, 3)


def test_tile_resample_names_a_wrong_rate():
    with pytest.raises(ValueError, match=r"needs a rate from 1 up, got 0.5. Set it to 1"):
        tile_resample(torch.zeros(1, 4, 4, 3), 0.5)


@pytest.mark.parametrize(("size", "resolution"), [((150, 200), 0), ((150, 200), 128), ((100, 130), 192)])
def test_color_grid_equals_the_reference(size, resolution):
    array = picture(*size)
    sized = array
    if resolution:
        width = round(size[1] / size[0] * resolution)
        sized = cv2.resize(array, (width, resolution), interpolation=cv2.INTER_AREA)
    height, width = sized.shape[:2]
    grid = cv2.resize(sized, (width // 64, height // 64), interpolation=cv2.INTER_CUBIC)
    wanted = cv2.resize(grid, (width, height), interpolation=cv2.INTER_NEAREST)
    assert worst(color_grid(as_image(array), resolution), wanted) == 0


def test_color_grid_below_a_cell_is_one_flat_colour():
    out = color_grid(as_image(picture(20, 63)), 0)
    assert out.shape == (1, 20, 63, 3)
    assert (out == out[:, :1, :1]).all()
