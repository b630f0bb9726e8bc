"""The boost of leres++ against controlnet-aux's, with cheap functions in place of the networks."""

import functools
import warnings

import cv2
import numpy as np
import pytest
import torch
from tiller.preprocessors import depth_boost
from tiller.preprocessors.depth_boost import best_side, boosted_depth, boosting_plan
from tiller.preprocessors.depth_leres import depth_leres, leres_input
from tiller.preprocessors.networks.leres_merge import LeReSMerge
from tiller.tests.unit.annotators import listing, randomise, shapes_of
from tiller.tests.unit.hint_pictures import as_image, picture, worst

PATCHES = [((192, 448), 8, 1.5), ((512, 192), 10, 0.0), ((64, 448), 0, 0.0)]
"""Sizes of `spots`, patches that the reference finds on them, and an offset that narrows merged depths."""


class Depths(torch.nn.Module):
    """Stands in for LeReS: other depths at other sizes, so that no size can be taken for another."""

    def __init__(self) -> None:
        super().__init__()
        self.none = torch.nn.Parameter(torch.zeros(1))
        self.sides: list[tuple[int, ...]] = []

    def depth_model(self, batch: torch.Tensor) -> torch.Tensor:
        self.sides += [tuple(batch.shape[2:])] * len(batch)
        ramp = torch.linspace(-300, 900, batch.shape[2])[:, None] + batch.shape[3] / 10
        return batch[:, :1] - 0.3 * batch[:, 1:2] + ramp * (1 + torch.linspace(0, 1, batch.shape[3]))


def merged(maps: torch.Tensor, offset: float = 0.0) -> torch.Tensor:
    """Stands in for the merging network; the two maps have different parts in it."""
    coarse, fine = maps[:, :1], maps[:, 1:]
    return torch.tanh(0.7 * fine + 0.2 * coarse - 0.3 * fine * coarse + offset)


@pytest.fixture(scope="module")
def reference():
    """controlnet-aux's modules: the boost, its mask made only once, and what surrounds the second network."""
    from controlnet_aux.leres.leres import depthmap
    from controlnet_aux.leres.pix2pix.models.pix2pix4depth_model import Pix2Pix4DepthModel

    patched = pytest.MonkeyPatch()
    patched.setattr(depthmap, "generatemask", functools.cache(depthmap.generatemask))
    around = Pix2Pix4DepthModel.__new__(Pix2Pix4DepthModel)
    around.device, around.netG, around.visual_names = torch.device("cpu"), merged, ["fake_B"]
    yield depthmap, around
    patched.undo()


def theirs(reference, array: np.ndarray, offset: float = 0.0) -> tuple[np.ndarray, list[tuple[int, ...]]]:
    """The reference's depth, and the sizes that it asked the depth network for."""
    depthmap, around = reference
    network, around.netG = Depths(), functools.partial(merged, offset=offset)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        depth = depthmap.estimateboost(array, network, 0, around, max(array.shape[:2]))
    return depth, network.sides


def ours(array: np.ndarray, offset: float = 0.0) -> tuple[np.ndarray, list[tuple[int, ...]]]:
    network = Depths()

    def estimate(pictures: np.ndarray) -> np.ndarray:
        return network.depth_model(leres_input(pictures))[:, 0].numpy()

    return boosted_depth(array, estimate, functools.partial(merged, offset=offset)), network.sides


def spots(height: int, width: int, count: int = 5) -> np.ndarray:
    """Detail in few places, which is what makes patches."""
    random = np.random.default_rng(2)
    canvas = np.full((height, width, 3), 120, np.uint8)
    for _ in range(count):
        x, y = random.integers(0, width), random.integers(0, height)
        colour = [int(level) for level in random.integers(0, 256, 3)]
        cv2.circle(canvas, (int(x), int(y)), int(random.integers(4, 30)), colour, -1)
    return canvas


@pytest.mark.parametrize(("size", "patches", "offset"), PATCHES)
def test_patches_are_merged_as_in_the_reference(reference, size, patches, offset):
    array = spots(*size)
    wanted, asked = theirs(reference, array, offset)
    made, sides = ours(array, offset)
    assert sorted(sides) == sorted(asked)
    assert len(sides) == 2 + 2 * patches
    assert np.abs(made - wanted).max() < 1e-4
    assert wanted.std() > 0.05


@pytest.mark.parametrize("size", [(256, 320), (192, 192), (64, 320)])
def test_dense_and_small_pictures_are_only_seen_twice(reference, size):
    array = picture(*size)
    wanted, asked = theirs(reference, array)
    made, sides = ours(array)
    assert sides == asked
    assert len(sides) == 2
    assert np.abs(made - wanted).max() < 1e-4


@pytest.mark.parametrize("count", [0, 2, 6, 10, 40, 200])
@pytest.mark.parametrize("size", [(160, 128), (320, 256), (192, 512), (512, 512)])
def test_the_best_side_is_the_references(reference, size, count):
    array = spots(*size, count)
    assert best_side(array) == reference[0].calculateprocessingres(array, 448, 0.2, 3, 1600)


def test_the_mask_is_the_references(reference):
    depthmap, _ = reference
    whole = depthmap.generatemask((3000, 3000))
    for height, width in ((300, 300), (57, 90), (1001, 1000)):
        wanted = cv2.resize(whole, (width, height), interpolation=cv2.INTER_LINEAR)
        assert np.abs(depth_boost._mask(height, width) - wanted).max() < 5e-6


def test_a_boosted_hint_is_the_references(reference):
    """From the picture to the levels, in a batch of different pictures."""
    from controlnet_aux.leres import LeresDetector

    reference[1].netG = merged
    detector = LeresDetector(Depths(), reference[1])
    arrays = [spots(192, 256), picture(192, 256)]
    wanted = [
        detector(one, 20.0, 30.0, True, detect_resolution=192, image_resolution=192, output_type="np")
        for one in arrays
    ]
    network = Depths().depth_model
    hint = depth_leres(as_image(*arrays), network, 20.0, 30.0, resolution=0, merge=merged)
    assert worst(hint, *wanted) <= 1
    assert len(hint.unique()) > 50
    assert not torch.equal(hint, depth_leres(as_image(*arrays), network, 20.0, 30.0, 0))


@pytest.mark.parametrize("size", [(1, 1), (65, 33), (7, 130)])
def test_any_size_can_be_boosted(size):
    """The reference has no answer below 160 pixels."""
    hint = depth_leres(as_image(picture(*size)), Depths().depth_model, resolution=0, merge=merged)
    assert hint.shape == (1, *size, 3)
    assert hint.isfinite().all()


def test_a_picture_without_edges_and_maps_of_one_value_stay_finite(caplog):
    def flat(batch: torch.Tensor) -> torch.Tensor:
        return torch.full_like(batch[:, :1], 3.0)

    gray = torch.full((1, 64, 64, 3), 0.5)
    level = np.full((64, 64, 3), 128, np.uint8)
    assert np.isfinite(boosted_depth(level, lambda batch: batch[..., 0] * np.float32(1), merged)).all()
    hint = depth_leres(gray, flat, resolution=0, merge=lambda maps: maps[:, :1])
    assert float(hint.max()) == 0.0
    assert [record.message for record in caplog.records] == [
        "LeReS sees no depth in 1 of 1 pictures: their maps are black."
    ]


def test_detail_in_too_few_places_is_said(monkeypatch):
    monkeypatch.setattr(depth_boost, "MAX_PIXELS", 4480 * 4480 - 1)
    with pytest.raises(
        ValueError, match="needs at most 20070399 pixels after enlarging, got 4480 x 4480 for"
    ):
        boosting_plan(spots(512, 512))


@pytest.fixture(scope="module")
def merge_networks():
    """controlnet-aux's merging network, an eighth as wide as published, and ours with its weights."""
    from controlnet_aux.leres.pix2pix.models.networks import UnetGenerator, get_norm_layer

    made = UnetGenerator(2, 1, 10, 8, norm_layer=get_norm_layer("none")).eval()
    network = LeReSMerge(shapes_of(made)).eval()
    network.load_state_dict(randomise(made, 6), strict=True)
    return made, network


def test_the_merging_network_is_the_references(merge_networks):
    maps = torch.rand(1, 2, 1024, 1024, generator=torch.Generator().manual_seed(6)) * 2 - 1
    with torch.inference_mode():
        wanted, made = (network(maps.clone()) for network in merge_networks)
    assert torch.equal(made, wanted)
    assert wanted.std() > 0.05


@pytest.mark.parametrize("shapes", [{}, listing("leres_merge")], ids=["nothing", "published"])
def test_a_merging_network_built_by_a_listing_has_its_keys_and_shapes(shapes):
    with torch.device("meta"):
        assert shapes_of(LeReSMerge(shapes)) == listing("leres_merge")
    assert len(listing("leres_merge")) == 21
