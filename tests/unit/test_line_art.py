"""Line art with networks against controlnet-aux, with the same random weights."""

import functools

import cv2
import numpy as np
import pytest
import torch
from tiller.preprocessors.line_art import line_art, line_art_anime, line_art_anime_denoise
from tiller.preprocessors.networks.line_art import LineArtGenerator
from tiller.preprocessors.networks.line_art_anime import LineArtAnimeUNet
from tiller.preprocessors.networks.manga_line import MangaLineExtraction
from tiller.tests.unit.annotators import SIZES, at_working_size, detected, listing, randomise, shapes_of
from tiller.tests.unit.hint_pictures import as_image, levels, picture, worst

RESOLUTION = 96


@pytest.fixture(scope="module")
def generators():
    """controlnet-aux's line art detector and our network, with the same weights."""
    from controlnet_aux.lineart import Generator, LineartDetector

    theirs, ours = Generator(3, 1, 3).eval(), LineArtGenerator().eval()
    ours.load_state_dict(randomise(theirs, 1), strict=True)
    return LineartDetector(theirs, theirs), torch.inference_mode()(ours)


@pytest.fixture(scope="module")
def anime():
    """controlnet-aux's anime detector and our network, with the same weights."""
    from controlnet_aux.lineart_anime import LineartAnimeDetector, UnetGenerator

    norm = functools.partial(torch.nn.InstanceNorm2d, affine=False, track_running_stats=False)
    theirs, ours = UnetGenerator(3, 1, 8, 64, norm_layer=norm).eval(), LineArtAnimeUNet().eval()
    ours.load_state_dict(randomise(theirs, 2), strict=True)
    return LineartAnimeDetector(theirs), torch.inference_mode()(ours)


@pytest.fixture(scope="module")
def manga():
    """Our network with random weights whose values spread over the levels."""
    network = MangaLineExtraction().eval()
    randomise(network, 3, gain=1.0)
    last = network.conv15.model[2]
    with torch.no_grad():
        raw = network(255 * torch.rand(1, 1, 64, 64, generator=torch.Generator().manual_seed(3)))
        scale = 80.0 / float(raw.std())
        last.weight.mul_(scale)
        last.bias.sub_(raw.mean()).mul_(scale).add_(128.0)
    return torch.inference_mode()(network)


@pytest.mark.parametrize("size", SIZES)
def test_line_art_is_the_references(generators, size):
    detector, network = generators
    array = picture(*size)
    hint = line_art(as_image(array), network, RESOLUTION)
    assert worst(hint, detected(detector, array, RESOLUTION)) == 0
    assert len(np.unique(levels(hint))) > 50


@pytest.mark.parametrize("size", SIZES)
def test_anime_line_art_is_the_references(anime, size):
    detector, network = anime
    array = picture(*size)
    hint = line_art_anime(as_image(array), network, RESOLUTION)
    assert worst(hint, detected(detector, array, RESOLUTION)) == 0
    assert len(np.unique(levels(hint))) > 50


def test_a_batch_of_three_is_three_pictures(generators):
    detector, network = generators
    arrays = [picture(83, 151, seed) for seed in range(3)]
    hint = line_art(as_image(*arrays), network, RESOLUTION)
    assert worst(hint, *(detected(detector, array, RESOLUTION) for array in arrays)) == 0


def test_an_anime_batch_of_three_is_three_pictures(anime):
    detector, network = anime
    arrays = [picture(83, 151, seed) for seed in range(3)]
    hint = line_art_anime(as_image(*arrays), network, RESOLUTION)
    assert worst(hint, *(detected(detector, array, RESOLUTION) for array in arrays)) == 0


def test_manga_lines_are_the_formula_of_the_webui(manga):
    """The network's values from the gray picture, taken from 255, clipped, cut to levels."""
    array = picture(83, 151)
    gray = cv2.cvtColor(at_working_size(array, RESOLUTION), cv2.COLOR_RGB2GRAY)
    raw = manga(torch.from_numpy(gray)[None, None].float())
    wanted = (255 - raw[0, 0].numpy()).clip(0, 255).astype(np.uint8)[:RESOLUTION, :175]
    hint = line_art_anime_denoise(as_image(array), manga, RESOLUTION)
    assert worst(hint, wanted) == 0
    assert len(np.unique(levels(hint))) > 50


def test_manga_network_is_as_deep_and_wide_as_published():
    shapes = shapes_of(MangaLineExtraction())
    assert shapes == listing("line_art_anime_denoise")
    assert len(shapes) == 707


@pytest.mark.parametrize("hint", [line_art, line_art_anime, line_art_anime_denoise])
def test_dark_lines_on_white_come_out_white_on_black(hint):
    """A stand-in draws the picture's own dark pixels; levels 255 and 0 must change places."""
    scale = {line_art: lambda levels: levels / 255, line_art_anime: lambda levels: levels / 127.5 - 1}
    array = np.full((64, 128, 3), 255, np.uint8)
    array[20:40, 30:50] = 0
    network = scale.get(hint, lambda levels: levels)
    made = hint(as_image(array), lambda batch: network(batch[:, :1]), 0)
    assert made.shape == (1, 64, 128, 3)
    assert float(made[0, 24:36, 34:46].min()) == 1.0
    assert float(made[0, :, 64:].max()) == 0.0


@pytest.mark.parametrize(
    ("hint", "multiple", "channels"),
    [(line_art, 64, 3), (line_art_anime, 256, 3), (line_art_anime_denoise, 64, 1)],
)
@pytest.mark.parametrize("size", [(1, 1), (65, 64), (40, 301)])
def test_any_size_reaches_the_network_at_its_multiple_and_comes_back(hint, multiple, channels, size):
    def network(batch: torch.Tensor) -> torch.Tensor:
        assert batch.shape[:2] == (2, channels)
        assert batch.shape[2] % multiple == batch.shape[3] % multiple == 0
        assert batch.dtype == torch.float32
        assert batch.is_contiguous()
        return batch[:, :1] / 255

    assert hint(as_image(picture(*size), picture(*size, 1)), network, 0).shape == (2, *size, 3)


def test_alpha_is_laid_over_white_and_gray_repeated(generators):
    _, network = generators
    colours = as_image(picture(64, 64))
    clear = torch.cat([colours, torch.zeros(1, 64, 64, 1)], dim=3)
    white, gray = torch.ones(1, 64, 64, 3), colours[..., :1]
    assert torch.equal(line_art(clear, network, 0), line_art(white, network, 0))
    assert torch.equal(line_art(gray, network, 0), line_art(gray.repeat(1, 1, 1, 3), network, 0))


@pytest.mark.parametrize("hint", [line_art, line_art_anime, line_art_anime_denoise])
def test_no_picture_is_said(hint):
    with pytest.raises(ValueError, match=r"ine art.* needs an image of shape"):
        hint(torch.zeros(3, 3), lambda batch: batch)
