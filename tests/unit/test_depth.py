"""Depth against the references, with the same random weights."""

import logging

import cv2
import numpy as np
import pytest
import torch
from tiller.preprocessors.depth import SEEN_LONGEST, depth_anything_v2, depth_midas, near_white, seen_size
from tiller.preprocessors.networks.depth_anything import DepthAnything, DepthAnythingSizes, depth_anything
from tiller.preprocessors.networks.midas import midas
from tiller.preprocessors.normal import normals_midas
from tiller.tests.unit.annotators import SIZES, at_working_size, listing, randomise, shapes_of
from tiller.tests.unit.depth_anything_reference import depth_by_the_authors, reference_network
from tiller.tests.unit.hint_pictures import as_image, levels, picture, worst

SMALL = DepthAnythingSizes(width=128, blocks=4, wide=256, channels=(8, 16, 24, 32), features=16)
TAPS = {"_vits": (2, 5, 8, 11), "_vitb": (2, 5, 8, 11), "": (4, 11, 17, 23)}
"""Ending of the published listing -> the blocks that the reference reads (dpt.py, intermediate_layer_idx)."""


@pytest.fixture(scope="module")
def networks():
    """transformers' network and ours, with the same weights: depths of many levels."""
    ours = DepthAnything(SMALL).eval()
    randomise(ours, 3, gain=1.0)
    ours.pretrained.pos_embed.data.normal_(0, 0.5, generator=torch.Generator().manual_seed(3))
    ours.depth_head.scratch.output_conv2[2].bias.data.fill_(1.5)
    theirs = reference_network(SMALL, ours.state_dict())
    return torch.inference_mode()(theirs), torch.inference_mode()(ours)


@pytest.mark.parametrize("size", SIZES)
def test_depth_is_the_references(networks, size):
    theirs, ours = networks
    array = picture(*size)
    hint, wanted = depth_anything_v2(as_image(array), ours, resolution=0), depth_by_the_authors(theirs, array)
    assert worst(hint, wanted) <= 1
    assert np.abs(levels(hint)[0, :, :, 0] - wanted).mean() < 0.01
    assert len(np.unique(wanted)) > 100


def test_a_batch_of_three_is_three_pictures(networks):
    theirs, ours = networks
    arrays = [picture(83, 151, seed) for seed in range(3)]
    hint = depth_anything_v2(as_image(*arrays), ours, resolution=0)
    assert worst(hint, *(depth_by_the_authors(theirs, array) for array in arrays)) <= 1


def test_the_picture_comes_to_the_working_resolution_first(networks):
    theirs, ours = networks
    array = picture(90, 120)
    working = cv2.resize(array, (80, 60), interpolation=cv2.INTER_AREA)
    hint = depth_anything_v2(as_image(array), ours, resolution=60)
    assert worst(hint, depth_by_the_authors(theirs, working)) <= 1


@pytest.mark.parametrize("ending", TAPS)
def test_published_sizes_come_from_the_listing(ending):
    shapes = listing(f"depth_anything_v2{ending}")
    with torch.device("meta"):
        network = depth_anything(shapes)
    assert shapes_of(network) == shapes
    assert network.pretrained.taps == TAPS[ending]
    assert {block.attn.heads for block in network.pretrained.blocks} == {
        network.pretrained.norm.weight.numel() // 64
    }


@pytest.mark.parametrize(
    ("size", "seen"),
    [
        ((512, 512), (518, 518)),
        ((480, 640), (518, 686)),
        ((1024, 700), (756, 518)),
        ((1, 1), (518, 518)),
        ((1000, 8000), (518, SEEN_LONGEST)),
        ((100, 1000), (420, SEEN_LONGEST)),
        ((1, 4000), (14, SEEN_LONGEST)),
    ],
)
def test_the_shorter_side_is_518_up_to_eight_to_one(size, seen):
    assert seen_size(size) == seen
    assert seen_size(size[::-1]) == seen[::-1]


@pytest.mark.parametrize("size", [(1, 1), (7, 130), (65, 64)])
@pytest.mark.parametrize(("function", "multiple"), [(depth_anything_v2, 14), (depth_midas, 32)])
def test_odd_sizes_keep_their_size(function, multiple, size):
    def network(batch: torch.Tensor) -> torch.Tensor:
        assert batch.dtype == torch.float32
        assert batch.is_contiguous()
        assert batch.shape[2] % multiple == batch.shape[3] % multiple == 0
        return torch.arange(batch[:, :1].numel(), dtype=torch.float32).view_as(batch[:, :1])

    hint = function(as_image(picture(*size)), network, resolution=0)
    assert hint.shape == (1, *size, 3)
    if size != (1, 1) and function is depth_anything_v2:
        assert (float(hint.min()), float(hint.max())) == (0.0, 1.0)


@pytest.fixture(scope="module")
def midas_networks():
    """controlnet-aux's detector and our network, with the same weights: depths of many levels."""
    from controlnet_aux.midas import MidasDetector
    from controlnet_aux.midas.midas.dpt_depth import DPTDepthModel

    theirs = DPTDepthModel(path=None, backbone="vitb_rn50_384").eval()
    randomise(theirs, 5, gain=1.0)
    theirs.pretrained.model.pos_embed.data.normal_(0, 0.5, generator=torch.Generator().manual_seed(5))
    theirs.scratch.output_conv[4].bias.data.fill_(1.5)
    with torch.device("meta"):
        ours = midas(listing("midas"))
    assert shapes_of(ours) == shapes_of(theirs) == listing("midas")
    ours.load_state_dict(theirs.state_dict(), strict=True, assign=True)
    return MidasDetector(theirs), torch.inference_mode()(ours.eval())


def seen_by_midas(detector, array: np.ndarray, resolution: int, threshold: float = 0.4) -> list[np.ndarray]:
    """The detector's depth and normals at the webui's working size, the pad cut off."""
    padded = at_working_size(array, resolution)
    side, k = min(padded.shape[:2]), resolution / min(array.shape[:2])
    made = detector(
        padded, bg_th=threshold, depth_and_normal=True, detect_resolution=side, image_resolution=side
    )
    return [one[: round(array.shape[0] * k), : round(array.shape[1] * k)] for one in made]


@pytest.mark.parametrize("size", SIZES)
def test_midas_depth_and_normals_are_the_references(midas_networks, size):
    detector, network = midas_networks
    array = picture(*size)
    depth, normals = seen_by_midas(detector, array, 96)
    assert worst(depth_midas(as_image(array), network, resolution=96), depth) <= 1
    assert worst(normals_midas(as_image(array), network, resolution=96), normals) <= 1
    assert len(np.unique(depth)) > 100
    assert min(len(np.unique(normals[..., channel])) for channel in range(3)) > 50


def test_the_background_of_normals_is_below_the_threshold(midas_networks):
    detector, network = midas_networks
    array = picture(64, 96)
    shares = []
    for threshold in (0.0, 0.4, 1.0):
        _, wanted = seen_by_midas(detector, array, 64, threshold)
        hint = normals_midas(as_image(array), network, threshold, resolution=64)
        assert worst(hint, wanted) <= 1
        shares.append((levels(hint) == (255, 127, 127)).all(-1).mean())
    assert shares[0] < 0.1 < shares[1] < 0.9 < shares[2]


def test_midas_sees_a_batch_of_three_as_three_pictures(midas_networks):
    detector, network = midas_networks
    arrays = [picture(83, 151, seed) for seed in range(3)]
    depths, normals = zip(*(seen_by_midas(detector, array, 64) for array in arrays), strict=True)
    assert worst(depth_midas(as_image(*arrays), network, resolution=64), *depths) <= 1
    assert worst(normals_midas(as_image(*arrays), network, resolution=64), *normals) <= 1


@pytest.mark.parametrize("depth", [0.0, 3.0, float("nan"), float("inf")])
def test_without_depth_the_map_is_black_and_every_surface_faces_the_viewer(depth):
    def network(batch: torch.Tensor) -> torch.Tensor:
        return torch.full_like(batch[:, :1], depth)

    image = as_image(picture(20, 30))
    assert float(depth_midas(image, network, resolution=0).max()) == 0.0
    for threshold in (0.0, 0.4):
        assert (levels(normals_midas(image, network, threshold, 0)) == (255, 127, 127)).all()


def test_each_picture_reaches_from_black_to_white_and_flat_ones_are_black(caplog):
    slope = np.linspace(3, 7, 12, dtype=np.float32).reshape(3, 4)
    flat, broken = np.full((3, 4), 5.0, np.float32), np.full((3, 4), np.nan, np.float32)
    endless = np.where(slope > 6, np.float32(np.inf), slope)
    with caplog.at_level(logging.WARNING, "tiller"):
        made = near_white(np.stack([slope, flat, 10 * slope, broken, endless]), "Depth X")
    assert made[0].ravel().tolist() == [255 * k // 11 for k in range(12)]
    assert np.array_equal(made[0], made[2])
    assert made[[1, 3, 4]].max() == 0
    assert [record.message for record in caplog.records] == [
        "Depth X sees no depth in 3 of 5 pictures: their maps are black."
    ]


def test_no_picture_is_said():
    for function, name in (
        (depth_anything_v2, "Depth Anything V2"),
        (depth_midas, "MiDaS depth"),
        (normals_midas, "MiDaS normals"),
    ):
        with pytest.raises(ValueError, match=f"{name} needs an image of shape"):
            function(torch.zeros(3, 3), lambda batch: batch)
