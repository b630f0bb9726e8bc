"""The edge between the host's pictures and 8-bit arrays."""

import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from tiller.preprocessors.image import (
    check_image,
    from_uint8,
    hint_of,
    map_images,
    pad_to_multiple,
    resize_short_side,
    short_side_size,
    to_uint8,
)


def levels(*values: float) -> np.ndarray:
    image = torch.tensor(values, dtype=torch.float32).reshape(1, 1, -1, 1) / 255.0
    return to_uint8(image)[0, 0, :, 0]


def test_every_level_survives_the_round_trip():
    every = np.arange(256, dtype=np.uint8).reshape(1, 16, 16)
    image = from_uint8(every)
    assert np.array_equal(to_uint8(image)[..., 1], every)
    assert torch.equal(image[0, ..., 0], torch.arange(256).reshape(16, 16) / 255.0)


def test_values_between_levels_are_rounded_not_truncated():
    assert levels(127.4, 127.6, 0.6, 254.6, 3.4).tolist() == [127, 128, 1, 255, 3]


def test_values_outside_the_range_are_clamped():
    assert levels(-1.0, -300.0, 255.4, 256.0, 1e9).tolist() == [0, 0, 255, 255, 255]


def test_transparency_is_laid_over_white():
    image = torch.tensor([[1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0], [0.0, 0.2, 1.0, 0.5]]).reshape(
        1, 1, 3, 4
    )
    assert to_uint8(image)[0, 0].tolist() == [[255, 255, 255], [0, 0, 0], [128, 153, 255]]


def test_gray_is_repeated_to_three_channels():
    image = torch.rand(2, 5, 3, 1)
    assert np.array_equal(to_uint8(image), to_uint8(image.expand(-1, -1, -1, 3)))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_float_types_are_taken(dtype):
    image = torch.tensor([0.0, 0.5, 1.0], dtype=dtype).reshape(1, 1, 3, 1)
    assert to_uint8(image)[0, 0, :, 0].tolist() == [0, 128, 255]


def test_a_view_is_read_as_it_looks():
    image = torch.rand(2, 6, 7, 4)[:, ::2, 1:, :3]
    assert np.array_equal(to_uint8(image), to_uint8(image.contiguous()))


@pytest.mark.parametrize("shape", [(2, 4, 5), (2, 4, 5, 3), (1, 1, 1), (1, 1, 1, 3), (3, 1, 7)])
def test_the_result_owns_real_channels(shape):
    array = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    image = from_uint8(array)
    before = image.clone()
    image[..., 0] += 1.0
    assert image.dtype == torch.float32
    assert image.is_contiguous()
    assert torch.equal(image[..., 1:], before[..., 1:])
    wanted = array if array.ndim == 4 else np.repeat(array[..., None], 3, axis=3)
    assert torch.equal(before, torch.from_numpy(wanted) / 255.0)


@pytest.mark.parametrize(
    ("image", "text"),
    [
        (None, r"Canny needs an image of shape \(batch, .*got nothing\. Connect"),
        ("x", r"got a str\. Connect"),
        (torch.zeros(4, 4, 3), r"got a tensor of shape \(4, 4, 3\)"),
        (torch.zeros(1, 0, 0, 3), r"at least one picture of 1 x 1 pixel, got 1 of 0 x 0 .*Check the crop"),
        (torch.zeros(0, 4, 4, 3), r"got 0 of 4 x 4"),
        (torch.zeros(1, 4, 0, 3), r"got 1 of 0 x 4"),
        (torch.zeros(1, 4, 4, 2), r"1 \(gray\), 3 \(RGB\) or 4 \(RGBA\) channels, got 2\. Convert"),
        (
            torch.full((1, 2, 2, 3), torch.nan),
            r"finite pixel values .* NaN or infinity in 12 of 12 .* decode it",
        ),
        (torch.tensor([0.0, torch.inf, 0.0]).reshape(1, 1, 1, 3), r"in 1 of 3 values"),
        (torch.tensor([0.0, torch.inf, -torch.inf]).reshape(1, 1, 1, 3), r"in 2 of 3 values"),
    ],
)
def test_a_bad_image_is_named(image, text):
    with pytest.raises(ValueError, match=text):
        check_image(image, "Canny")


def test_huge_finite_values_are_not_called_infinite():
    check_image(torch.full((1, 2, 2, 3), 3e38), "Canny")


@pytest.mark.parametrize(
    ("size", "resolution", "wanted"),
    [
        ((768, 768), 512, (512, 512)),
        ((600, 400), 512, (768, 512)),
        ((333, 1000), 512, (512, 1538)),
        ((333, 1000), 0, (333, 1000)),
        ((5, 1000), 1, (1, 200)),
        ((3, 5), 1, (1, 2)),
        ((1, 1), 64, (64, 64)),
    ],
)
def test_the_shorter_side_becomes_the_resolution(size, resolution, wanted):
    assert short_side_size(size, resolution) == wanted
    array = np.zeros((*size, 3), np.uint8)
    assert resize_short_side(array, resolution).shape == (*wanted, 3)
    assert resize_short_side(array[None], resolution).shape == (1, *wanted, 3)


def test_shrinking_averages_and_enlarging_is_cubic():
    import cv2

    array = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    small = cv2.resize(array, (30, 20), interpolation=cv2.INTER_AREA)
    large = cv2.resize(array, (120, 80), interpolation=cv2.INTER_CUBIC)
    assert np.array_equal(resize_short_side(array, 20), small)
    assert np.array_equal(resize_short_side(array, 80), large)
    by_area = cv2.resize(array, (120, 80), interpolation=cv2.INTER_AREA)
    assert np.array_equal(resize_short_side(array, 80, enlarge_by_area=True), by_area)


def test_a_needle_is_not_blown_up_beyond_memory():
    with pytest.raises(
        ValueError, match=r"at most \d+ pixels, got 2048000 x 512: a resolution of 512 .*Lower"
    ):
        short_side_size((1, 4000), 512)


def test_padding_repeats_the_border_and_is_cut_off_again():
    array = np.random.default_rng(0).integers(0, 256, (70, 64, 3), dtype=np.uint8)
    padded = pad_to_multiple(array)
    assert np.array_equal(padded.array, np.pad(array, [(0, 58), (0, 0), (0, 0)], mode="edge"))
    assert np.array_equal(padded.crop(padded.array), array)


def test_pictures_keep_their_place_and_progress_is_told_in_order():
    image = (torch.arange(9) / 255.0).reshape(9, 1, 1, 1).repeat(1, 2, 2, 1)
    told = []
    out = hint_of(image, lambda picture, index: picture + np.uint8(index), lambda *now: told.append(now))
    assert to_uint8(out)[:, 0, 0, 0].tolist() == [2 * k for k in range(9)]
    assert told == [(k, 9) for k in range(1, 10)]
    mapped = map_images(lambda picture, index: picture[..., 0] * index, to_uint8(image))
    assert mapped[:, 0, 0].tolist() == [k * k for k in range(9)]


@pytest.mark.parametrize("threads", [True, False])
def test_an_interrupt_stops_the_rest(threads):
    ran = []

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    def one(picture: np.ndarray, index: int) -> np.ndarray:
        ran.append(index)
        time.sleep(0.001)
        return picture

    with pytest.raises(KeyboardInterrupt):
        hint_of(torch.rand(400, 8, 8, 3), one, stop, threads=threads)
    assert 1 <= len(ran) < 400


def test_an_error_in_a_picture_reaches_the_caller():
    def one(picture: np.ndarray, index: int) -> np.ndarray:
        raise ValueError(f"picture {index}")

    with pytest.raises(ValueError, match="picture 0"):
        hint_of(torch.rand(3, 8, 8, 3), one)


def test_importing_the_hints_pulls_in_no_heavy_module():
    code = (
        "import conftest; from tiller.preprocessors import lines, shuffle, tone;"
        "print([m for m in ('cv2', 'segno', 'onnxruntime', 'transformers', 'scipy') if m in sys.modules])"
    )
    from tiller.preprocessors import image as module

    tests = f"{module.__file__}/../../tests"
    run = subprocess.run(
        [sys.executable, "-c", f"import sys, os; sys.path.insert(0, os.path.normpath({tests!r}));{code}"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout.strip() == "[]"
