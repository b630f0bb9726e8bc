"""Straight lines against controlnet-aux's M-LSD, with the same random weights."""

import logging

import numpy as np
import pytest
import torch
from tiller.preprocessors.networks.mlsd import MLSD
from tiller.preprocessors.straight_lines import MAX_LINES, line_segments, straight_lines
from tiller.tests.unit.annotators import SIZES, detected, randomise
from tiller.tests.unit.hint_pictures import as_image, levels, picture, worst

RESOLUTION = 192


@pytest.fixture(scope="module")
def mlsd():
    """controlnet-aux's detector and our network, with the same weights: lines of all strengths."""
    from controlnet_aux.mlsd import MLSDdetector
    from controlnet_aux.mlsd.models.mbv2_mlsd_large import MobileV2_MLSD_Large

    theirs, ours = MobileV2_MLSD_Large().eval(), MLSD().eval()
    randomise(theirs, 4)
    last = theirs.block23.conv3
    seen = []
    with last.register_forward_hook(lambda _, __, channels: seen.append(channels)), torch.no_grad():
        theirs(torch.randn(1, 4, 192, 192, generator=torch.Generator().manual_seed(4)))
        spread = 6.0 / seen[0].std((0, 2, 3))
        last.weight.mul_(spread[:, None, None, None])
        last.bias.sub_(seen[0].mean((0, 2, 3))).mul_(spread)
    ours.load_state_dict(theirs.state_dict(), strict=True)
    return MLSDdetector(theirs), torch.inference_mode()(ours)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("thresholds", [(0.1, 0.1), (0.6, 5.0), (0.1, 9.0)])
def test_lines_are_the_references(mlsd, size, thresholds):
    detector, network = mlsd
    array = picture(*size)
    hint = straight_lines(as_image(array), network, *thresholds, RESOLUTION)
    assert worst(hint, detected(detector, array, RESOLUTION, *thresholds)) == 0
    assert 0.01 < float(hint.mean()) < 0.5


def test_a_batch_of_three_is_three_pictures(mlsd):
    detector, network = mlsd
    arrays = [picture(83, 151, seed) for seed in range(3)]
    hint = straight_lines(as_image(*arrays), network, resolution=RESOLUTION)
    assert worst(hint, *(detected(detector, array, RESOLUTION) for array in arrays)) == 0


def maps_with(
    *lines: tuple[int, int, float, tuple[float, ...]], size: tuple[int, int] = (32, 48)
) -> torch.Tensor:
    """Maps (1,5,h,w) with centres (x, y, logit, displacements) on nothing."""
    maps = torch.zeros(1, 5, *size)
    maps[:, 0] = -20.0
    for x, y, logit, displacements in lines:
        maps[0, 0, y, x] = logit
        maps[0, 1:, y, x] = torch.tensor(displacements)
    return maps


def test_ends_are_displaced_from_the_centre_doubled_and_cut_towards_zero():
    (found,) = line_segments(maps_with((10, 4, 3.0, (-10.4, -1.2, 3.3, 5.6))), 0.1, 0.1)
    assert found.tolist() == [[[0, 5], [26, 19]]]


def test_only_the_strongest_centre_of_a_neighbourhood_counts():
    ends = (-4.0, 0.0, 4.0, 0.0)
    near, far = (
        maps_with((10, 4, 3.0, ends), (11, 5, 2.9, ends)),
        maps_with((10, 4, 3.0, ends), (12, 5, 2.9, ends)),
    )
    assert [len(line_segments(maps, 0.1, 0.1)[0]) for maps in (near, far)] == [1, 2]


@pytest.mark.parametrize(
    ("value", "distance", "count"), [(0.1, 0.1, 2), (0.6, 0.1, 1), (0.1, 8.1, 1), (0.6, 8.1, 0)]
)
def test_thresholds_drop_weak_and_short_lines(value, distance, count):
    maps = maps_with((10, 4, 0.2, (-5.0, 0.0, 5.0, 0.0)), (20, 9, 3.0, (0.0, -4.0, 0.0, 4.0)))
    assert len(line_segments(maps, value, distance)[0]) == count


def test_two_hundred_centres_of_a_picture_count_the_strongest_first():
    strong = [
        (2 * x, 2 * y, 5.0 - (x + y) / 100, (-1.0, 0.0, 1.0, 0.0)) for x in range(20) for y in range(15)
    ]
    (found,) = line_segments(maps_with(*strong), 0.1, 0.1)
    centres = found.mean(axis=1)
    assert len(found) == MAX_LINES
    assert (centres.sum(axis=1) / 4).max() < 34 - 10


def test_values_that_are_not_numbers_give_no_line_and_far_ends_do_not_wrap_around():
    nan = float("nan")
    lines = (
        (3, 3, nan, (1.0,) * 4),
        (9, 9, 3.0, (nan, 0.0, 1.0, 1.0)),
        (20, 20, 3.0, (-1e12, 0.0, 1e12, 0.0)),
    )
    (found,) = line_segments(maps_with(*lines), 0.1, 0.1)
    assert found[:, :, 0].tolist() == [[-(2**31), 2**31 - 1]]


def test_no_line_gives_a_black_map_and_one_log_line(caplog):
    def network(batch: torch.Tensor) -> torch.Tensor:
        line = maps_with((10, 4, 3.0, (-5.0, 0.0, 5.0, 0.0)))
        return torch.cat([maps_with(), line, maps_with()])

    with caplog.at_level(logging.WARNING, "tiller"):
        hint = straight_lines(as_image(*[picture(64, 96)] * 3), network, resolution=0)
    assert hint.shape == (3, 64, 96, 3)
    assert [float(one.max()) for one in hint] == [0.0, 1.0, 0.0]
    assert [record.message for record in caplog.records] == [
        "No straight line in 2 of 3 pictures: their maps are black. Lower the value threshold (0.1) "
        "or the distance threshold (0.1) to find weaker and shorter lines."
    ]


@pytest.mark.parametrize("size", [(1, 1), (7, 130), (65, 64)])
def test_odd_sizes_keep_their_size_and_lines_are_one_pixel_wide(size):
    def network(batch: torch.Tensor) -> torch.Tensor:
        assert batch.shape[2] % 64 == batch.shape[3] % 64 == 0
        assert batch.dtype == torch.float32
        return maps_with(
            (10, 0, 3.0, (-10.0, 0.0, 20.0, 0.0)), size=(batch.shape[2] // 2, batch.shape[3] // 2)
        )

    hint = straight_lines(as_image(picture(*size)), network, resolution=0)
    wanted = np.zeros((1, *size, 3), np.int16)
    wanted[:, 0, :61] = 255
    assert (levels(hint) == wanted).all()


def test_no_picture_is_said():
    with pytest.raises(ValueError, match="Straight lines needs an image of shape"):
        straight_lines(torch.zeros(3, 3), lambda batch: batch)
