"""Surface normals with networks against the references, with the same random weights."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tiller.preprocessors.networks.normal_bae import NormalBae
from tiller.preprocessors.normal import normals_bae
from tiller.tests.unit.annotators import SIZES, detected, listing, randomise, shapes_of
from tiller.tests.unit.hint_pictures import as_image, levels, picture, worst

RESOLUTION = 96


@pytest.fixture(scope="module")
def bae():
    """controlnet-aux's detector and our network, with the same weights.

    A little more gain, and values grow until gates are steps and rounding decides the map.
    """
    from controlnet_aux import NormalBaeDetector
    from controlnet_aux.normalbae import NNET

    settings = SimpleNamespace(
        mode="client", architecture="BN", pretrained="scannet", sampling_ratio=0.4, importance_ratio=0.7
    )
    theirs, ours = NNET(settings).eval(), NormalBae().eval()
    ours.load_state_dict(randomise(theirs, 1, gain=1.29), strict=True)
    return NormalBaeDetector(theirs), torch.inference_mode()(ours)


@pytest.mark.parametrize("size", SIZES)
def test_bae_normals_are_the_references(bae, size):
    """Some numbers are a millionth apart, so a few fall to the other side of a level."""
    detector, network = bae
    array = picture(*size)
    hint, wanted = normals_bae(as_image(array), network, RESOLUTION), detected(detector, array, RESOLUTION)
    assert worst(hint, wanted) <= 1
    assert np.abs(levels(hint) - wanted).mean() < 0.001
    assert all(len(np.unique(levels(hint)[..., channel])) > 50 for channel in range(3))


def test_a_batch_of_three_is_three_pictures(bae):
    detector, network = bae
    arrays = [picture(83, 151, seed) for seed in range(3)]
    hint = normals_bae(as_image(*arrays), network, RESOLUTION)
    assert worst(hint, *(detected(detector, array, RESOLUTION) for array in arrays)) <= 1


def test_the_bae_network_is_as_deep_and_wide_as_published():
    with torch.device("meta"):
        shapes = shapes_of(NormalBae())
    assert shapes == listing("normal_bae")
    assert len(shapes) == 936


def test_vectors_become_colours_and_lengths_stay():
    """x, y and z are red, green and blue; -1 is 0, 1 is 255, and what lies between is cut to a level."""
    vectors = torch.tensor([[-1.0, 0.0, 1.0], [0.5, -0.5, 0.25], [3.0, -3.0, 0.999]])
    network = lambda batch: vectors.T[None, :, None].repeat(1, 1, 64, 22)[..., :64]  # noqa: E731
    hint = normals_bae(as_image(picture(64, 64)), network, 0)
    assert levels(hint)[0, 5, :3].tolist() == [[0, 127, 255], [191, 63, 159], [255, 0, 254]]


@pytest.mark.parametrize("size", [(1, 1), (65, 64), (40, 301)])
def test_any_size_reaches_the_network_at_its_multiple_and_comes_back(size):
    def network(batch: torch.Tensor) -> torch.Tensor:
        assert batch.shape[:2] == (2, 3)
        assert batch.shape[2] % 64 == batch.shape[3] % 64 == 0
        assert batch.dtype == torch.float32
        return batch / 255

    assert normals_bae(as_image(picture(*size), picture(*size, 1)), network, 0).shape == (2, *size, 3)


def test_alpha_is_laid_over_white_and_gray_repeated(bae):
    _, network = bae
    colours = as_image(picture(64, 64))
    clear = torch.cat([colours, torch.zeros(1, 64, 64, 1)], dim=3)
    white, gray = torch.ones(1, 64, 64, 3), colours[..., :1]
    assert torch.equal(normals_bae(clear, network, 0), normals_bae(white, network, 0))
    assert torch.equal(normals_bae(gray, network, 0), normals_bae(gray.repeat(1, 1, 1, 3), network, 0))


def test_one_colour_gives_finite_normals(bae):
    _, network = bae
    hint = normals_bae(torch.zeros(1, 64, 64, 3), network, 0)
    assert torch.isfinite(hint).all()


def test_no_picture_is_said():
    with pytest.raises(ValueError, match="BAE normals needs an image of shape"):
        normals_bae(torch.zeros(3, 3), lambda batch: batch)
