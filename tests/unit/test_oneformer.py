"""OneFormer against transformers, with the same random weights under other names."""

import pytest
import torch
from tiller.preprocessors.networks import oneformer
from tiller.preprocessors.networks.oneformer import OneFormer, semantic_map
from tiller.preprocessors.networks.oneformer_queries import places_inside
from tiller.preprocessors.networks.oneformer_sizes import SwinSizes, oneformer_sizes
from tiller.tests.unit.annotators import listing, randomise, shapes_of
from tiller.tests.unit.oneformer_reference import (
    SMALL,
    in_transformers,
    pictures,
    reference_logits,
    reference_map,
    varied,
)

SIZES = [(128, 128), (100, 140)]


@pytest.fixture(scope="module")
def plain():
    """transformers' network and ours, with the same random weights."""
    ours = OneFormer(SMALL).eval()
    randomise(ours, 5)
    return torch.inference_mode()(in_transformers(ours, SMALL)), torch.inference_mode()(ours)


@pytest.fixture(scope="module")
def networks():
    """transformers' network and ours, with the same weights: many classes, masks of all kinds.

    The spread of the queries is blown up for that, and with it the rounding.
    """
    ours = varied()
    return torch.inference_mode()(in_transformers(ours, SMALL)), torch.inference_mode()(ours)


def relative(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    return float((ours - theirs).abs().max() / theirs.abs().max())


@pytest.mark.parametrize("size", SIZES)
def test_classes_and_masks_are_the_references(plain, size):
    theirs, ours = plain
    levels = pictures(3, *size)
    for mine, wanted in zip(ours(levels), reference_logits(theirs, levels), strict=True):
        assert mine.shape == wanted.shape
        assert float(wanted.std()) > 1
        assert relative(mine, wanted) < 1e-5


def test_a_batch_is_its_pictures(plain):
    _, ours = plain
    levels = pictures(3, 100, 140)
    for together, *alone in zip(ours(levels), *(ours(one[None]) for one in levels), strict=True):
        assert relative(together, torch.cat(alone)) < 1e-5


@pytest.mark.parametrize("size", [(96, 134), (40, 56), (230, 322)])
def test_the_map_is_the_references(networks, size):
    theirs, ours = networks
    levels = pictures(2, 100, 140)
    wanted = [
        reference_map(*one, (100, 140), size) for one in zip(*reference_logits(theirs, levels), strict=True)
    ]
    for scores, found in zip(wanted, zip(*ours(levels), strict=True), strict=True):
        classes = semantic_map(*found, (100, 140), size)
        best = scores.max(dim=0).values
        assert classes.shape == size
        assert len(classes.unique()) > 4
        assert float((best - scores.gather(0, classes[None])[0]).max()) < 1e-5
        assert float((classes != scores.argmax(dim=0)).float().mean()) < 1e-3


def test_a_query_looks_inside_its_mask_or_everywhere_if_that_is_empty():
    left, nothing = torch.full((8, 8), -9.0), torch.full((8, 8), -9.0)
    left[:, :4] = 9.0
    allowed = places_inside(torch.stack((left, nothing))[None], torch.zeros(1, 3, 2, 4))
    assert allowed[0, 0].tolist() == [[True, True, False, False] * 2, [True] * 8]


def test_a_map_in_bands_is_the_map(monkeypatch):
    generator = torch.Generator().manual_seed(1)
    classes, masks = torch.randn(9, 6, generator=generator), torch.randn(9, 8, 16, generator=generator) * 4
    whole = semantic_map(classes, masks, (30, 50), (45, 75))
    monkeypatch.setattr(oneformer, "BAND_VALUES", 1)
    assert torch.equal(semantic_map(classes, masks, (30, 50), (45, 75)), whole)


UNUSED = ("text_encoder.", "text_projector.", "prompt_ctx.")
"""What only training needs."""


@pytest.mark.parametrize(("key", "queries", "classes"), [("ade20k", 250, 151), ("coco", 150, 134)])
def test_a_published_file_gives_its_own_network(key, queries, classes):
    published = listing(f"oneformer_{key}")
    sizes = oneformer_sizes(published)
    assert sizes.swin == SwinSizes(192, (2, 2, 18, 2), (6, 12, 24, 48), window=12, widening=4)
    assert (sizes.queries, sizes.classes, sizes.query_layers, sizes.pixel_layers) == (queries, classes, 9, 6)
    with torch.device("meta"):
        network = OneFormer.from_shapes(published)
    needed = {
        name: shape
        for name, shape in published.items()
        if not name.startswith(UNUSED) and not name.endswith("relative_position_index")
    }
    assert shapes_of(network) == needed


def test_sizes_come_back_from_the_shapes():
    assert oneformer_sizes(shapes_of(OneFormer(SMALL))) == SMALL
