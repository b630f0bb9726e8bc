"""Soft edges, scribbles and sketches with networks against controlnet-aux, with the same random weights."""

import cv2
import numpy as np
import pytest
import torch
from tiller.preprocessors import soft_edge
from tiller.preprocessors.networks.hed import HED
from tiller.preprocessors.networks.pidinet import PiDiNet, plain_kernel
from tiller.tests.unit.annotators import SIZES, at_working_size, listing, randomise, shapes_of
from tiller.tests.unit.hint_pictures import as_image, levels, picture

RESOLUTION = 96
HINTS = {
    "hed": (soft_edge.soft_edges_hed, "HED"),
    "pidinet": (soft_edge.soft_edges_pidinet, "PiDiNet"),
    "scribble_hed": (soft_edge.scribble_hed, "HED"),
    "scribble_pidinet": (soft_edge.scribble_pidinet, "PiDiNet"),
    "sketch_pidinet": (soft_edge.sketch_pidinet, "PiDiNet"),
}
each_size = pytest.mark.parametrize("size", SIZES)
each_hint = pytest.mark.parametrize("name", HINTS)


@pytest.fixture(scope="module")
def pairs():
    """Network -> controlnet-aux's detector and our network, with the same weights."""
    from controlnet_aux import HEDdetector, PidiNetDetector
    from controlnet_aux.hed import ControlNetHED_Apache2
    from controlnet_aux.pidi.model import pidinet

    hed, pidi = ControlNetHED_Apache2().eval(), pidinet().eval()
    ours = HED().eval(), PiDiNet().eval()
    ours[0].load_state_dict(randomise(hed, 0, gain=0.9), strict=True)
    ours[1].load_state_dict(randomise(pidi, 0, gain=1.2), strict=True)
    return {
        "HED": (HEDdetector(hed), torch.inference_mode()(ours[0])),
        "PiDiNet": (PidiNetDetector(pidi), torch.inference_mode()(ours[1])),
    }


@pytest.fixture
def networks(pairs):
    return {name: ours for name, (_, ours) in pairs.items()}


def reference(detector, array, **options):
    """(h,w) int16 levels of the detector at the webui's working size, the padding cut off."""
    padded = at_working_size(array, RESOLUTION)
    short = min(padded.shape[:2])
    made = detector(padded, detect_resolution=short, image_resolution=short, output_type="np", **options)
    k = RESOLUTION / min(array.shape[:2])
    return made[: round(array.shape[0] * k), : round(array.shape[1] * k), 0].astype(np.int16)


def gray(image):
    assert torch.equal(image[..., 0], image[..., 1])
    assert torch.equal(image[..., 0], image[..., 2])
    return levels(image)[..., 0]


@pytest.mark.parametrize(("key", "module"), [("hed", HED), ("pidinet", PiDiNet)])
def test_a_network_has_the_published_parameters(key, module):
    with torch.device("meta"):
        assert shapes_of(module()) == listing(key)


@each_size
@pytest.mark.parametrize("name", ["hed", "pidinet"])
def test_soft_edges_equal_the_reference(pairs, name, size):
    hint, which = HINTS[name]
    detector, network = pairs[which]
    pictures = [picture(*size, seed) for seed in range(3)]
    made = gray(hint(as_image(*pictures), network, False, RESOLUTION))
    wanted = np.stack([reference(detector, one) for one in pictures])
    assert len(np.unique(wanted)) > 50, "the reference's map is too flat to tell anything"
    assert np.abs(made - wanted).max() <= 1
    assert np.abs(made - wanted).mean() < 0.01


@each_size
@pytest.mark.parametrize("name", ["hed", "pidinet"])
def test_safe_edges_equal_the_reference(pairs, name, size):
    hint, which = HINTS[name]
    detector, network = pairs[which]
    one = picture(*size, 4)
    made = gray(hint(as_image(one), network, True, RESOLUTION))[0]
    wanted = reference(detector, one, safe=True)
    assert set(np.unique(made)) == set(np.unique(wanted)) == {0, 127, 255}
    assert (made != wanted).mean() < 0.001


@each_size
def test_a_sketch_equals_the_reference(pairs, size):
    detector, network = pairs["PiDiNet"]
    one = picture(*size, 5)
    made = gray(soft_edge.sketch_pidinet(as_image(one), network, RESOLUTION))[0]
    wanted = reference(detector, one, apply_filter=True)
    assert set(np.unique(made)) == set(np.unique(wanted)) == {0, 255}
    assert (made != wanted).mean() < 0.001


BRIGHTNESS = {
    "HED": lambda batch: (batch.mean(1, True) - 128) / 30,
    "PiDiNet": lambda batch: batch.mean(1, True),
}
"""In place of networks whose maps are bright enough for lines only by chance."""


@each_size
@pytest.mark.parametrize("name", ["hed", "pidinet"])
def test_scribbles_are_drawn_as_in_the_reference_after_the_padding_was_cut_off(name, size):
    from controlnet_aux.util import nms

    hint, which = HINTS[name]
    one = as_image(picture(*size, 6))
    soft = levels(hint(one, BRIGHTNESS[which], False, RESOLUTION))[0, ..., 0].astype(np.uint8)
    wanted = cv2.GaussianBlur(nms(soft, 127, 3.0), (0, 0), 3.0)
    wanted = np.where(wanted > 4, 255, 0)
    made = gray(HINTS[f"scribble_{name}"][0](one, BRIGHTNESS[which], RESOLUTION))[0]
    assert 0.02 < (wanted == 255).mean() < 0.98
    np.testing.assert_array_equal(made, wanted)


def test_the_safe_levels_are_the_references():
    from controlnet_aux.util import safe_step

    values = np.linspace(0, 1, 1001)
    np.testing.assert_array_equal(soft_edge.quantise_safe(values), safe_step(values))
    assert set(np.unique(soft_edge.quantise_safe(values))) == {0.0, 0.5, 1.0, 1.5}


@pytest.mark.parametrize("kind", ["central", "angular", "radial"])
def test_a_plain_kernel_gives_what_the_difference_convolution_gives(kind):
    from controlnet_aux.pidi.model import createConvFunc

    generator = torch.Generator().manual_seed(1)
    features, weight = (
        torch.randn(1, 4, 9, 9, generator=generator),
        torch.randn(6, 4, 3, 3, generator=generator),
    )
    reference_kind = {"central": "cd", "angular": "ad", "radial": "rd"}[kind]
    wanted = createConvFunc(reference_kind)(features, weight, padding=1)
    kernel = plain_kernel(weight, kind)
    made = torch.nn.functional.conv2d(features, kernel, padding=kernel.shape[-1] // 2)
    torch.testing.assert_close(made, wanted, atol=1e-5, rtol=1e-5)


@each_hint
@pytest.mark.parametrize("size", [(1, 1), (1, 9), (33, 47), (65, 64)])
def test_any_size_gives_a_finite_hint(networks, name, size):
    hint, which = HINTS[name]
    out = hint(as_image(picture(*size)), networks[which], resolution=0)
    assert out.shape == (1, *size, 3)
    assert out.dtype == torch.float32
    assert 0.0 <= float(out.min()) <= float(out.max()) <= 1.0


@each_hint
def test_a_network_sees_the_whole_padded_batch_once(networks, name):
    hint, which = HINTS[name]
    seen = []

    def spy(batch):
        seen.append((tuple(batch.shape), batch.dtype, batch.device.type, float(batch.max()) > 1.0))
        return networks[which](batch)

    hint(as_image(picture(70, 90, 1), picture(70, 90, 2)), spy, resolution=64)
    assert seen == [((2, 3, 64, 128), torch.float32, "cpu", which == "HED")]


def test_pidinet_reads_blue_first(networks):
    red = torch.zeros(1, 64, 64, 3)
    red[..., 0] = 1.0
    seen = []

    def spy(batch):
        seen.append(batch[0, :, 0, 0].tolist())
        return networks["PiDiNet"](batch)

    soft_edge.soft_edges_pidinet(red, spy, resolution=64)
    assert seen == [[0.0, 0.0, 1.0]]


@each_hint
def test_a_bad_image_is_refused_before_the_network_is_asked(name):
    def never(_):
        raise AssertionError("the network was asked")

    with pytest.raises(ValueError, match=r"needs at least one picture of 1 x 1 pixel, got 1 of 0 x 0"):
        HINTS[name][0](torch.zeros(1, 0, 0, 3), never)
    with pytest.raises(ValueError, match="needs finite pixel values"):
        HINTS[name][0](torch.full((1, 2, 2, 3), torch.nan), never)
