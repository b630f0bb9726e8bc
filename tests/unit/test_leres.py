"""LeReS depth against controlnet-aux's, with the same random weights."""

import json
import logging

import numpy as np
import pytest
import torch
from tiller.preprocessors.depth_leres import depth_leres
from tiller.preprocessors.networks.leres import LeReS
from tiller.tests.unit.annotators import SHAPES, SIZES, detected, listing, randomise, shapes_of
from tiller.tests.unit.hint_pictures import as_image, levels, picture, worst

RESOLUTION = 96


@pytest.fixture(scope="module")
def leres():
    """controlnet-aux's detector with fewer blocks than published, and our network with its weights."""
    from controlnet_aux.leres import LeresDetector, RelDepthModel
    from controlnet_aux.leres.leres.Resnext_torch import Bottleneck, ResNet

    with torch.device("meta"):
        theirs = RelDepthModel(backbone="resnext101")
        theirs.depth_model.encoder_modules.encoder = ResNet(
            Bottleneck, [1, 2, 1, 1], groups=32, width_per_group=8
        )
    theirs = theirs.to_empty(device="cpu").eval()
    state = randomise(theirs, 5)
    ours = LeReS(shapes_of(theirs)).eval()
    ours.load_state_dict(state, strict=True)
    return LeresDetector(theirs, None), torch.inference_mode()(ours)


@pytest.mark.parametrize("size", SIZES)
def test_depth_is_the_references(leres, size):
    detector, network = leres
    array = picture(*size)
    hint = depth_leres(as_image(array), network, resolution=RESOLUTION)
    assert worst(hint, detected(detector, array, RESOLUTION)) == 0
    assert len(np.unique(levels(hint))) > 50


@pytest.mark.parametrize(("near", "background"), [(30.0, 0.0), (0.0, 40.0), (25.3, 33.3), (100.0, 100.0)])
def test_near_and_background_go_as_in_the_reference(leres, near, background):
    detector, network = leres
    array = picture(83, 151)
    plain = depth_leres(as_image(array), network, resolution=RESOLUTION)
    hint = depth_leres(as_image(array), network, near, background, RESOLUTION)
    assert worst(hint, detected(detector, array, RESOLUTION, near, background)) == 0
    assert not torch.equal(hint, plain)


def test_a_batch_of_three_is_three_pictures(leres):
    detector, network = leres
    arrays = [picture(83, 151, seed) for seed in range(3)]
    hint = depth_leres(as_image(*arrays), network, resolution=RESOLUTION)
    wanted = [detected(detector, array, RESOLUTION) for array in arrays]
    assert worst(hint, *wanted) <= 1
    assert np.mean(levels(hint) != np.stack(wanted)) < 0.01, "sums of three together round otherwise"


@pytest.mark.parametrize("path", [SHAPES / "leres.json", SHAPES / "small" / "leres.json"], ids=str)
def test_a_network_built_by_a_listing_has_its_keys_and_shapes(path):
    shapes = {name: tuple(shape) for name, shape in json.loads(path.read_text()).items()}
    with torch.device("meta"):
        assert shapes_of(LeReS(shapes)) == shapes


def test_what_a_listing_lacks_is_built_as_published():
    """So that the check of a file against its network can say what is missing."""
    with torch.device("meta"):
        assert shapes_of(LeReS({})) == listing("leres")
    assert len(listing("leres")) == 712


def far_to_the_right(batch: torch.Tensor) -> torch.Tensor:
    """Depth 0..1 from the left to the right of the map."""
    line = torch.linspace(0, 1, batch.shape[3])
    return line.expand(batch.shape[0], 1, *batch.shape[2:])


def test_near_is_white_and_each_percentage_takes_its_end():
    image = as_image(picture(64, 128))
    plain = depth_leres(image, far_to_the_right, resolution=0)[0, 0, :, 0]
    assert plain[0] == 1.0
    assert plain[-1] == 0.0
    assert (plain.diff() <= 0).all()
    cut = depth_leres(image, far_to_the_right, 25, 40, 0)[0, 0, :, 0]
    assert 30 <= int((cut == 1).sum()) <= 34
    assert 50 <= int((cut == 0).sum()) <= 53
    assert torch.equal(cut[35:75], plain[35:75])


def test_pictures_reach_the_network_in_bgr_levels_less_the_means_of_imagenet():
    seen = []

    def network(batch: torch.Tensor) -> torch.Tensor:
        seen.append(batch)
        return far_to_the_right(batch)

    colour = torch.tensor([10.0, 20.0, 30.0]) / 255
    depth_leres(colour.expand(1, 64, 64, 3), network, resolution=0)
    wanted = torch.tensor([(30 - 0.485) / 0.229, (20 - 0.456) / 0.224, (10 - 0.406) / 0.225])
    assert torch.allclose(seen[0][0, :, 5, 5], wanted)


@pytest.mark.parametrize("value", [0.0, 7.0, float("nan"), float("inf")])
def test_one_depth_gives_a_black_map_and_one_log_line(caplog, value):
    def network(batch: torch.Tensor) -> torch.Tensor:
        depth = far_to_the_right(batch).clone()
        depth[[0, 2]] = value
        return depth

    with caplog.at_level(logging.WARNING, "tiller"):
        hint = depth_leres(as_image(*[picture(64, 96)] * 3), network, 10, 10, resolution=0)
    assert [float(one.max()) for one in hint] == [0.0, 1.0, 0.0]
    assert [record.message for record in caplog.records] == [
        "LeReS sees no depth in 2 of 3 pictures: their maps are black."
    ]


@pytest.mark.parametrize("size", [(1, 1), (65, 64), (40, 201)])
def test_any_size_reaches_the_network_in_multiples_of_64_and_comes_back(size):
    def network(batch: torch.Tensor) -> torch.Tensor:
        assert batch.shape[:2] == (2, 3)
        assert batch.shape[2] % 64 == batch.shape[3] % 64 == 0
        assert batch.dtype == torch.float32
        assert batch.is_contiguous()
        return batch[:, :1]

    assert depth_leres(as_image(picture(*size), picture(*size, 1)), network, resolution=0).shape == (
        2,
        *size,
        3,
    )


def test_no_picture_is_said():
    with pytest.raises(ValueError, match="LeReS depth needs an image of shape"):
        depth_leres(torch.zeros(3, 3), lambda batch: batch)
