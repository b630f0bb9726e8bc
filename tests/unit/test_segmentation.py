"""Segmentation hints: OneFormer's map at the working size, in the palette's colours."""

import numpy as np
import pytest
import torch
from PIL import Image
from tiller.preprocessors.padded import as_levels
from tiller.preprocessors.palettes import PALETTES
from tiller.preprocessors.segmentation import ONEFORMER, segments_oneformer
from tiller.preprocessors.weight_files import WEIGHT_FILES
from tiller.tests.unit.annotators import at_working_size
from tiller.tests.unit.hint_pictures import as_image, levels, picture
from tiller.tests.unit.oneformer_reference import reference_map, varied

RESOLUTION = 96
INNER = {"ade20k": {(83, 151): (640, 960), (128, 128): (640, 640)}, "coco": {(83, 151): (800, 1200)}}
"""Size at which the network sees a picture at the resolution above, after the padding to multiples of 64."""


@pytest.fixture(scope="module")
def network():
    return torch.inference_mode()(varied())


def detected(network, array: np.ndarray, dataset: str) -> np.ndarray:
    """The map of the webui's formula, flat, the pad cut off."""
    padded = at_working_size(array, RESOLUTION)
    inner = INNER[dataset][array.shape[:2]]
    seen = np.asarray(Image.fromarray(padded).resize(inner[::-1], Image.Resampling.BILINEAR))
    classes, masks = network(as_levels(seen[None]))
    scores = reference_map(classes[0], masks[0], inner, padded.shape[:2])
    k = RESOLUTION / min(array.shape[:2])
    colours = PALETTES[dataset].colours[scores.argmax(dim=0).numpy()]
    return colours[: round(array.shape[0] * k), : round(array.shape[1] * k)]


def differing(hint: torch.Tensor, *wanted: np.ndarray) -> float:
    """Share of the pixels whose colours differ: classes that tie may change places."""
    return float((levels(hint) != np.stack(wanted)).any(-1).mean())


@pytest.mark.parametrize(("dataset", "size"), [(key, size) for key, sizes in INNER.items() for size in sizes])
def test_segments_are_the_references(network, dataset, size):
    array = picture(*size)
    hint = segments_oneformer(as_image(array), network, dataset, RESOLUTION)
    assert differing(hint, detected(network, array, dataset)) < 1e-3
    assert len(np.unique(levels(hint).reshape(-1, 3), axis=0)) > 3


def test_a_batch_of_three_is_three_pictures(network):
    arrays = [picture(83, 151, seed) for seed in range(3)]
    hint = segments_oneformer(as_image(*arrays), network, "ade20k", RESOLUTION)
    assert differing(hint, *(detected(network, array, "ade20k") for array in arrays)) < 1e-3


@pytest.mark.parametrize(
    ("dataset", "size", "seen"),
    [
        ("ade20k", (512, 512), (640, 640)),
        ("ade20k", (512, 768), (640, 960)),
        ("ade20k", (64, 512), (320, 2560)),
        ("ade20k", (640, 64), (2560, 256)),
        ("ade20k", (192, 704), (640, 2347)),
        ("coco", (512, 512), (800, 800)),
        ("coco", (512, 896), (762, 1333)),
        ("coco", (1024, 448), (1333, 583)),
        ("coco", (64, 1 << 20), (1, 1333)),
    ],
)
def test_pictures_are_seen_at_the_size_of_the_reference(dataset, size, seen):
    assert ONEFORMER[dataset].size(size) == seen


@pytest.mark.parametrize("dataset", ONEFORMER)
def test_each_class_of_a_file_has_a_colour(dataset):
    ((key, (classes, _)), *_) = WEIGHT_FILES[f"oneformer_{dataset}"].signature
    assert key.endswith("class_embed.weight")
    assert classes == len(PALETTES[dataset].names) + 1


@pytest.mark.parametrize("size", [(1, 1), (7, 130), (65, 64)])
def test_any_size_is_seen_at_the_networks_own_and_comes_back(size):
    """A stand-in says class 2 (sky) to the left, class 4 (tree) to the right of the middle."""

    def network(batch: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        assert batch.dtype == torch.float32
        assert batch.is_contiguous()
        height, width = (-(-side // 32) * 8 for side in batch.shape[2:])
        left = torch.where(torch.arange(width) < width // 2, 20.0, -20.0).expand(height, width)
        classes = torch.full((2, 151), -20.0)
        classes[0, 2] = classes[1, 4] = 20.0
        return classes.expand(len(batch), 2, 151), torch.stack((left, -left)).expand(len(batch), -1, -1, -1)

    hint = segments_oneformer(as_image(picture(*size), picture(*size, 1)), network, "ade20k", 0)
    found = levels(hint)
    assert found.shape == (2, *size, 3)
    assert (found[:, :, 0] == [6, 230, 230]).all()
    if size[1] == 130:
        assert (found[:, :, -1] == [4, 200, 3]).all()


def test_alpha_is_laid_over_white_and_gray_repeated(network):
    colours = as_image(picture(64, 64))
    clear = torch.cat([colours, torch.zeros(1, 64, 64, 1)], dim=3)
    white, gray = torch.ones(1, 64, 64, 3), colours[..., :1]
    for one, other in ((clear, white), (gray, gray.repeat(1, 1, 1, 3))):
        made = (segments_oneformer(image, network, "ade20k", 0) for image in (one, other))
        assert torch.equal(*made)


def test_no_picture_is_said():
    with pytest.raises(ValueError, match="Segmentation needs an image of shape"):
        segments_oneformer(torch.zeros(3, 3), lambda batch: (batch, batch), "ade20k")
