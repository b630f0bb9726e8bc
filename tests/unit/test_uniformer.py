"""UniFormer: its network against numbers of the webui's, its hint against the webui's formula restated."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from tiller.preprocessors.networks.uniformer import DEVIATION, MEAN, UniFormer, UniFormerSizes
from tiller.preprocessors.palettes import PALETTES
from tiller.preprocessors.segmentation import segments_uniformer, uniformer_size
from tiller.tests.unit.annotators import SIZES, at_working_size, listing, randomise, shapes_of
from tiller.tests.unit.hint_pictures import as_image, levels, picture

STORED = Path(__file__).resolve().parent.parent / "reference" / "uniformer_logits.json"
RESOLUTION = 96
ADE = PALETTES["ade20k"]


def test_logits_are_the_webuis():
    """Stored from the webui's own code: its UniFormer and UPerHead with this test's weights and picture.

    Every fifth row and column of its logits. The deepest features are 6 x 8, so that every pool counts.
    """
    network = UniFormer(UniFormerSizes((64, 64, 128, 64), (1, 2, 2, 1), 32, 5)).eval()
    randomise(network, 5, 1.2)
    batch = 255 * torch.rand(1, 3, 200, 264, generator=torch.Generator().manual_seed(6))
    with torch.inference_mode():
        logits = network(batch)
    wanted = torch.tensor(json.loads(STORED.read_text())["logits"])
    assert wanted.std() > 0.5
    torch.testing.assert_close(logits[0, :, ::5, ::5], wanted, rtol=0, atol=1e-4)


def test_the_network_made_from_the_published_listing_has_its_tensors():
    """All but those of the head that served the training only."""
    wanted = listing("uniformer")
    sizes = UniFormerSizes.of(wanted)
    assert sizes == UniFormerSizes((64, 128, 320, 512), (3, 4, 8, 3), 512, 150)
    with torch.device("meta"):
        shapes = shapes_of(UniFormer.from_shapes(wanted))
    assert len(wanted) == 414
    assert shapes == {key: shape for key, shape in wanted.items() if not key.startswith("auxiliary_head.")}


@pytest.fixture(scope="module")
def network():
    """A narrow network that tells some of the 150 classes apart."""
    module = UniFormer(UniFormerSizes((32, 32, 64, 64), (1, 1, 1, 1), 16, 150)).eval()
    randomise(module, 2, 2.0)
    return torch.inference_mode()(module)


def of_the_webui(network, array: np.ndarray) -> np.ndarray:
    """The webui's map: seen at 512 x 2048 at most, blue for red, logits enlarged twice, palette, no pad."""
    padded = at_working_size(array, RESOLUTION)
    height, width = padded.shape[:2]
    scale = min(2048 / max(height, width), 512 / min(height, width))
    inner = int(height * scale + 0.5), int(width * scale + 0.5)
    seen = cv2.resize(padded, inner[::-1], interpolation=cv2.INTER_LINEAR)
    bgr = np.ascontiguousarray(seen[..., ::-1].transpose(2, 0, 1))
    logits = network(torch.from_numpy(bgr)[None].float())
    for size in (inner, (height, width)):
        logits = torch.nn.functional.interpolate(logits, size=size, mode="bilinear", align_corners=False)
    labels = logits.softmax(dim=1).argmax(dim=1)[0].numpy()
    k = RESOLUTION / min(array.shape[:2])
    return ADE.colours[labels][: round(array.shape[0] * k), : round(array.shape[1] * k)]


@pytest.mark.parametrize("size", SIZES)
def test_segments_are_the_formula_of_the_webui(network, size):
    array = picture(*size)
    hint = segments_uniformer(as_image(array), network, RESOLUTION)
    wanted = of_the_webui(network, array)
    assert (levels(hint)[0] == wanted).all(axis=-1).mean() > 0.9999
    assert len(np.unique(wanted.reshape(-1, 3), axis=0)) > 4


def test_a_batch_of_three_is_three_pictures(network):
    arrays = [picture(83, 151, seed) for seed in range(3)]
    together = segments_uniformer(as_image(*arrays), network, RESOLUTION)
    alone = torch.cat([segments_uniformer(as_image(array), network, RESOLUTION) for array in arrays])
    assert (together == alone).all(dim=-1).float().mean() > 0.9999


def test_every_pixel_has_the_colour_of_a_class(network):
    hint = levels(segments_uniformer(as_image(picture(83, 151)), network, RESOLUTION))
    assert {tuple(colour) for colour in hint.reshape(-1, 3)} <= {tuple(one) for one in ADE.colours}


def test_red_and_blue_change_places_and_the_network_takes_their_means_off():
    seen = []

    def network(batch: torch.Tensor) -> torch.Tensor:
        seen.append(batch)
        return torch.zeros(1, 150, 128, 128)

    array = np.full((64, 64, 3), (10, 20, 30), np.uint8)
    segments_uniformer(as_image(array), network, 0)
    assert seen[0].shape == (1, 3, 512, 512)
    assert seen[0][0, :, 5, 5].tolist() == [30, 20, 10]
    one = UniFormer(UniFormerSizes((64, 64, 64, 64), (0, 0, 0, 0), 8, 2)).eval()
    given = []
    one.backbone.patch_embed1.register_forward_pre_hook(lambda _, arguments: given.append(arguments[0]))
    with torch.inference_mode():
        one(
            torch.tensor(MEAN)[None, :, None, None].expand(1, 3, 32, 32)
            + torch.tensor(DEVIATION).view(3, 1, 1)
        )
    assert torch.allclose(given[0], torch.ones(1, 3, 32, 32), atol=1e-5)


@pytest.mark.parametrize(
    ("size", "inner"),
    [
        ((64, 64), (512, 512)),
        ((512, 704), (512, 704)),
        ((576, 704), (512, 626)),
        ((1024, 512), (1024, 512)),
        ((64, 512), (256, 2048)),
        ((64, 8192), (32, 2048)),
    ],
)
def test_the_network_sees_what_fits_into_512_by_2048_and_never_less_than_32(size, inner):
    assert uniformer_size(size) == inner


def test_classes_are_looked_at_in_parts_to_the_same_end(network, monkeypatch):
    image = as_image(picture(83, 151))
    whole = segments_uniformer(image, network, 0)
    monkeypatch.setattr("tiller.preprocessors.segmentation.VALUES_AT_ONCE", 1 << 21)
    assert torch.equal(segments_uniformer(image, network, 0), whole)


@pytest.mark.parametrize("size", [(1, 1), (65, 64), (40, 301), (1, 200)])
def test_any_size_comes_back(network, size):
    image = as_image(picture(*size), picture(*size, 1))
    assert segments_uniformer(image, network, 0).shape == (2, *size, 3)


def test_alpha_is_laid_over_white_and_gray_repeated(network):
    colours = as_image(picture(64, 64))
    clear = torch.cat([colours, torch.zeros(1, 64, 64, 1)], dim=3)
    white, gray = torch.ones(1, 64, 64, 3), colours[..., :1]
    assert torch.equal(segments_uniformer(clear, network, 0), segments_uniformer(white, network, 0))
    repeated = gray.repeat(1, 1, 1, 3)
    assert torch.equal(segments_uniformer(gray, network, 0), segments_uniformer(repeated, network, 0))


def test_no_picture_is_said():
    with pytest.raises(ValueError, match="Segmentation needs an image of shape"):
        segments_uniformer(torch.zeros(3, 3), lambda batch: batch)
