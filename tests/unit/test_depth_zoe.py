"""ZoeDepth against controlnet-aux's, cut down to a small network with the same random weights."""

import logging

import numpy as np
import pytest
import torch
from tiller.adapters.identify import UnknownWeightsError
from tiller.preprocessors import depth_zoe as ours
from tiller.preprocessors.depth_zoe import depth_zoe, inner_size, near_is_white
from tiller.preprocessors.networks.zoe import ZoeDepth
from tiller.preprocessors.networks.zoe_beit import position_table, relative_positions
from tiller.preprocessors.weight_files import WEIGHT_FILES
from tiller.preprocessors.weights import check_annotator
from tiller.tests.unit.annotators import SIZES, detected, listing, randomise, shapes_of
from tiller.tests.unit.hint_pictures import as_image, levels, picture, worst

RESOLUTION = 96
INNER = (96, 128)
UNUSED = ("fc_norm.weight", "fc_norm.bias", "head.weight", "head.bias", "k_idx", "K_minus_1")
"""Endings of what is in the file and nothing is computed with."""


@pytest.fixture(scope="module")
def zoe():
    """controlnet-aux's detector around a narrow, flat network, and ours, with the same weights."""
    import timm
    from controlnet_aux.zoe import ZoeDepth as Reference
    from controlnet_aux.zoe import ZoeDetector, get_config
    from controlnet_aux.zoe.zoedepth.models.base_models.midas import MidasCore
    from controlnet_aux.zoe.zoedepth.models.base_models.midas_repo.midas import blocks
    from controlnet_aux.zoe.zoedepth.models.base_models.midas_repo.midas.backbones import beit
    from controlnet_aux.zoe.zoedepth.models.base_models.midas_repo.midas.dpt_depth import DPTDepthModel

    channels = [16, 24, 32, 40]

    def encoder(_, use_readout, hooks):
        model = timm.create_model(
            "beit_large_patch16_384", embed_dim=64, depth=8, num_heads=4, img_size=96, num_classes=5
        )
        return beit._make_beit_backbone(model, channels, [96, 96], [1, 3, 5, 7], 64, use_readout)

    scratch = blocks._make_scratch
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks, "_make_pretrained_beitl16_384", encoder)
        patch.setattr(blocks, "_make_scratch", lambda _, *rest, **more: scratch(channels, *rest, **more))
        middle = DPTDepthModel(backbone="beitl16_384", features=32)
    config = get_config("zoedepth", "infer")
    core = MidasCore(middle, img_size=list(INNER), keep_aspect_ratio=config["force_keep_ar"])
    core.output_channels = [32] * 5
    theirs = Reference(core, **config).eval()
    network = ZoeDepth(shapes_of(theirs)).eval()
    drawn = randomise(network, 5)
    assert drawn.keys() == {name for name in theirs.state_dict() if not name.endswith(UNUSED)}
    theirs.load_state_dict(drawn)
    assert all(torch.equal(theirs.state_dict()[name], tensor) for name, tensor in drawn.items())
    return ZoeDetector(theirs), torch.inference_mode()(network)


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(ours, "INNER", INNER)


@pytest.mark.parametrize("size", [*SIZES, (151, 83)])
def test_depth_is_the_references(zoe, size):
    detector, network = zoe
    array = picture(*size)
    hint = depth_zoe(as_image(array), network, RESOLUTION)
    wanted = detected(detector, array, RESOLUTION)
    assert worst(hint, wanted) <= 1
    assert np.abs(levels(hint)[0, :, :, 0] - wanted[..., 0]).mean() < 0.01
    assert len(np.unique(levels(hint))) > 50


def test_a_batch_of_three_is_three_pictures(zoe):
    _, network = zoe
    arrays = [picture(83, 151, seed) for seed in range(3)]
    hint = depth_zoe(as_image(*arrays), network, RESOLUTION)
    for one, array in zip(hint, arrays, strict=True):
        assert worst(one[None], levels(depth_zoe(as_image(array), network, RESOLUTION))[0]) <= 1


def test_the_published_file_fits_a_network_built_from_its_listing():
    published = listing("zoe")
    with torch.device("meta"):
        module = ZoeDepth(published)
    assert shapes_of(module) == {
        name: shape for name, shape in published.items() if not name.endswith(UNUSED)
    }
    assert len(module.core["core"].pretrained.model.blocks) == 24
    assert module.core["core"].pretrained.model.taps == [5, 11, 17, 23]


def test_the_files_for_streets_are_refused():
    """Their bins are made otherwise: twice as many numbers per attractor, or one head for each place."""
    published, file = listing("zoe"), WEIGHT_FILES["zoe"]
    streets = {
        name: (2 * shape[0], *shape[1:]) if name.startswith("attractors.") and "_net.2" in name else shape
        for name, shape in published.items()
    }
    with torch.device("meta"):
        needed = shapes_of(ZoeDepth(streets))
    with pytest.raises(
        UnknownWeightsError, match=r"8 of them are missing or of another size \(attractors\.0"
    ):
        check_annotator(streets, needed, file, "ZoeD_M12_K.pt")
    both = {
        name.replace("seed_bin_regressor.", "seed_bin_regressors.nyu."): published[name] for name in published
    }
    with pytest.raises(UnknownWeightsError, match=r"ZoeDepth comes nearest, but seed_bin_regressor\._net\.2"):
        check_annotator(both, needed, file, "ZoeD_M12_NK.pt")


@pytest.mark.parametrize("grid", [(3, 3), (2, 5), (6, 4)])
def test_positions_are_the_encoders(grid):
    from timm.models.beit import gen_relative_position_index

    assert torch.equal(relative_positions(grid, torch.device("cpu")), gen_relative_position_index(grid))


def test_a_position_table_of_its_own_size_stays():
    table = torch.randn(7 * 7 + 3, 2)
    assert torch.equal(position_table(table, (4, 4)), table.T)


@pytest.mark.parametrize(
    ("size", "wanted"),
    [
        ((608, 608), (512, 512)),
        ((96, 96), (384, 384)),
        ((576, 864), (384, 576)),
        ((864, 576), (768, 512)),
        ((96, 12960), (32, 512)),
        ((8000, 96), (384, 32)),
        ((608, 4000), (384, 2528)),
        ((608, 20000), (192, 5888)),
    ],
)
def test_the_network_sees_the_size_that_changes_least(monkeypatch, size, wanted):
    monkeypatch.setattr(ours, "INNER", (384, 512))
    assert inner_size(size) == wanted


def test_near_is_white_and_percentiles_are_the_ends():
    depth = np.arange(101, dtype=np.float32).reshape(1, 101)
    made = near_is_white(depth)[0]
    assert made[:3].tolist() == [255, 255, 255]
    assert made[84:].max() <= 3
    assert made[85:].tolist() == [0] * 16
    assert made[43] == int((1 - 41 / 83) * 255)


def test_flat_depth_gives_a_black_map_and_one_log_line(caplog):
    def network(pairs: torch.Tensor) -> torch.Tensor:
        depth = torch.ones_like(pairs[:, :1])
        depth[2:4] = torch.linspace(1, 2, depth.shape[-2])[:, None]
        return depth

    with caplog.at_level(logging.WARNING, "tiller"):
        hint = depth_zoe(as_image(*[picture(64, 96)] * 3), network, 0)
    assert [float(one.max()) for one in hint] == [0.0, 1.0, 0.0]
    assert [record.message for record in caplog.records] == [
        "ZoeDepth sees no depth in 2 of 3 pictures: their maps are black."
    ]


def test_the_mirror_image_counts_as_much_as_the_picture():
    """A network that sees depth grow to the right only: what the mirror image says takes it back."""

    def network(pairs: torch.Tensor) -> torch.Tensor:
        return torch.arange(pairs.shape[-1]).float().expand(len(pairs), 1, *pairs.shape[-2:])

    depth = torch.tensor(levels(depth_zoe(as_image(picture(64, 128)), network, 0))[0, :, :, 0])
    assert (depth == depth.flip(1)).all()


@pytest.mark.parametrize("size", [(1, 1), (7, 130), (65, 64)])
def test_odd_sizes_keep_their_size_and_come_to_the_network_in_steps_of_32(size):
    def network(pairs: torch.Tensor) -> torch.Tensor:
        assert pairs.shape[:2] == (4, 3)
        assert pairs.shape[2] % 32 == pairs.shape[3] % 32 == 0
        assert pairs.dtype == torch.float32
        assert 0.0 <= float(pairs.min()) <= float(pairs.max()) <= 1.0
        return pairs[:, :1]

    assert depth_zoe(as_image(picture(*size), picture(*size, 1)), network, 0).shape == (2, *size, 3)


def test_no_picture_is_said():
    with pytest.raises(ValueError, match="ZoeDepth needs an image of shape"):
        depth_zoe(torch.zeros(3, 3), lambda batch: batch)
