"""Line hints against the reference: no level of difference."""

import cv2
import numpy as np
import pytest
import torch
from tiller.preprocessors.lines import canny, line_art_standard, scribble, scribble_xdog, threshold
from tiller.tests.unit.hint_pictures import as_image, picture, worst

SIZES = [(1, 1), (1, 40), (37, 53), (64, 128), (200, 131), (256, 256)]


def sized(array: np.ndarray, resolution: int) -> np.ndarray:
    """The references' resize: area down, cubic up, the shorter side becomes `resolution`."""
    k = resolution / min(array.shape[:2])
    size = int(np.round(array.shape[1] * k)), int(np.round(array.shape[0] * k))
    return cv2.resize(array, size, interpolation=cv2.INTER_CUBIC if k > 1 else cv2.INTER_AREA)


def padded(array: np.ndarray) -> np.ndarray:
    height, width = array.shape[:2]
    return np.pad(array, [(0, -height % 64), (0, -width % 64), (0, 0)], mode="edge")


def reference_xdog(array: np.ndarray, level: int) -> np.ndarray:
    """The formula of the webui's scribble_xdog, 8-bit arithmetic included."""
    full = padded(array).astype(np.float32)
    response = np.min(cv2.GaussianBlur(full, (0, 0), 5.0) - cv2.GaussianBlur(full, (0, 0), 0.5), axis=2)
    dog = (255 - response).clip(0, 255).astype(np.uint8)
    out = np.where(2 * (255 - dog) > level, 255, 0).astype(np.uint8)
    return out[: array.shape[0], : array.shape[1]]


def reference_line_art(array: np.ndarray, sigma: float, level: int) -> np.ndarray:
    """The formula of the webui's lineart_standard."""
    full = padded(array).astype(np.float32)
    v = np.min(cv2.GaussianBlur(full, (0, 0), sigma) - full, axis=2).clip(0, 255)
    v /= max(16, np.median(v[v > level])) if (v > level).any() else 16
    v *= 127
    return v.clip(0, 255).astype(np.uint8)[: array.shape[0], : array.shape[1]]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("pair", [(100, 200), (20, 60), (200, 100)])
def test_canny_is_opencvs_to_the_pixel(size, pair):
    array = picture(*size)
    assert worst(canny(as_image(array), *pair, resolution=0), cv2.Canny(array, *pair)) == 0


def test_canny_draws_white_on_black_by_the_thresholds():
    array = picture(128, 96)
    share = [float(canny(as_image(array), low, 2 * low, 0).mean()) for low in (20, 60, 120)]
    assert 0.5 > share[0] > share[1] > share[2] > 0.0


@pytest.mark.parametrize("resolution", [48, 96])
def test_canny_works_at_the_working_size(resolution):
    array = picture(75, 64)
    assert (
        worst(canny(as_image(array), resolution=resolution), cv2.Canny(sized(array, resolution), 100, 200))
        == 0
    )


def test_canny_equals_controlnet_aux():
    from controlnet_aux.canny import CannyDetector

    array = picture(128, 192)
    wanted = CannyDetector()(array, 100, 200, detect_resolution=128, image_resolution=128)
    assert worst(canny(as_image(array), resolution=128), wanted) == 0


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("level", [1, 32, 33, 64])
def test_xdog_equals_the_reference_formula(size, level):
    array = picture(*size)
    assert worst(scribble_xdog(as_image(array), level, 0), reference_xdog(array, level)) == 0


def test_xdog_keeps_the_references_8_bit_doubling():
    array = np.full((64, 64, 3), 255, np.uint8)
    array[:, 30:34] = 66
    array[:, 31:33] = 60
    wanted = reference_xdog(array, 32)
    assert worst(scribble_xdog(as_image(array), 32, 0), wanted) == 0
    full = array.astype(np.float32)
    response = np.min(cv2.GaussianBlur(full, (0, 0), 5.0) - cv2.GaussianBlur(full, (0, 0), 0.5), axis=2)
    assert ((wanted == 0) & (response > 128)).any()


def test_xdog_of_a_resized_picture_equals_the_reference():
    array = picture(100, 75)
    for resolution in (48, 120):
        wanted = reference_xdog(sized(array, resolution), 32)
        assert worst(scribble_xdog(as_image(array), 32, resolution), wanted) == 0


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("setting", [(6.0, 8), (2.0, 3), (0.5, 0)])
def test_line_art_equals_the_reference_formula(size, setting):
    array = picture(*size)
    assert worst(line_art_standard(as_image(array), *setting, 0), reference_line_art(array, *setting)) == 0


def test_line_art_equals_controlnet_aux():
    from controlnet_aux.lineart_standard import LineartStandardDetector

    array = picture(128, 192)
    wanted = LineartStandardDetector()(array, 6.0, 8, detect_resolution=128, output_type="np")
    assert worst(line_art_standard(as_image(array), resolution=128), wanted) == 0


def test_only_differences_above_the_threshold_set_the_contrast_of_line_art():
    array = np.full((64, 64, 3), 255, np.uint8)
    array[8::16, 8::16] = 0
    wanted = reference_line_art(array, 6.0, 0)
    assert wanted.max() == 127
    assert worst(line_art_standard(as_image(array), 6.0, 0, 0), wanted) == 0


@pytest.mark.filterwarnings("error")
def test_line_art_of_a_flat_picture_is_black():
    assert not line_art_standard(torch.full((1, 70, 50, 3), 0.3), resolution=0).any()


@pytest.mark.parametrize("sigma", [0.0, -1.0])
def test_line_art_names_a_wrong_sigma(sigma):
    with pytest.raises(ValueError, match=f"needs a sigma above 0, got {sigma}. Set it to 6"):
        line_art_standard(torch.zeros(1, 4, 4, 3), sigma)


@pytest.mark.parametrize("level", [0, 126, 127, 128, 254, 255])
def test_threshold_equals_the_reference_formula(level):
    ramp = np.stack([np.arange(256)] * 3, -1).astype(np.uint8)[None]
    array = np.concatenate([ramp, picture(30, 256)])
    wanted = np.where(array.min(axis=2) > level, 255, 0).astype(np.uint8)
    assert worst(threshold(as_image(array), level, 0), wanted) == 0


def test_scribble_equals_the_reference_formula():
    ramp = np.stack([np.arange(256)] * 3, -1).astype(np.uint8)[None]
    array = np.concatenate([ramp, picture(30, 256)])
    wanted = np.where(array.min(axis=2) < 127, 0, 255).astype(np.uint8)
    assert worst(scribble(as_image(array), resolution=0), wanted) == 0
    assert worst(scribble(as_image(array), dark_lines=True, resolution=0), 255 - wanted) == 0
