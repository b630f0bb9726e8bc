"""Weight types: the published tables layer by layer, texts of layer weights, and what is refused."""

from __future__ import annotations

import pytest
from tiller.adapters.image_prompt.weight_types import (
    LAYOUT,
    PRECISE,
    TABLES,
    WEIGHT_TYPES,
    Weights,
    read_layers,
    site_weights,
)
from tiller.adapters.injection.sites import Site, transformer_indices

SD15 = [
    *(Site("input", i, 0) for i in (1, 2, 4, 5, 7, 8)),
    *(Site("output", i, 0) for i in range(3, 12)),
    Site("middle", 0, 0),
]
SDXL = [
    *(Site("input", i, n) for i in (4, 5) for n in range(2)),
    *(Site("input", i, n) for i in (7, 8) for n in range(10)),
    *(Site("output", i, n) for i in range(3) for n in range(10)),
    *(Site("output", i, n) for i in range(3, 6) for n in range(2)),
    *(Site("middle", 0, n) for n in range(10)),
]
MODELS = {"SD1.5": SD15, "SDXL": SDXL}


def dealt(model: str, weight_type: str, weights: Weights, layers=None):
    """Transformer -> weight, for one weight."""
    sites = MODELS[model]
    indices = transformer_indices(sites)
    given = site_weights(weight_type, weights, sites, layers)
    by_transformer = {indices[site]: one.weight for site, one in given.items()}
    assert all(given[site].weight == by_transformer[indices[site]] for site in given), "one per transformer"
    return {t: weight[0] for t, weight in sorted(by_transformer.items())}


def swapped(model: str, weight_type: str):
    sites = MODELS[model]
    indices = transformer_indices(sites)
    given = site_weights(weight_type, Weights((1.0,)), sites)
    return sorted({indices[site] for site, one in given.items() if one.swapped})


@pytest.mark.parametrize(
    ("weight_type", "sdxl", "sd15"),
    [
        ("style transfer", {6: 2.0}, dict.fromkeys([0, 1, 2, 3, 9, 10, 11, 12, 13, 14, 15], 2.0)),
        ("composition", {3: 2.0}, {4: 0.5, 5: 2.0}),
        (
            "strong style transfer",
            dict.fromkeys([0, 1, 2, 4, 5, 6, 7, 8, 9, 10], 2.0),
            dict.fromkeys([0, 1, 2, 3, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15], 2.0),
        ),
        (
            "style and composition",
            {3: 0.8, 6: 2.0},
            {**dict.fromkeys([0, 1, 2, 3, *range(9, 16)], 2.0), 4: 0.2, 5: 0.8},
        ),
        (
            "strong style and composition",
            {**dict.fromkeys(range(11), 2.0), 3: 0.8},
            {**dict.fromkeys(range(16), 2.0), 4: 0.8, 5: 0.8},
        ),
        (
            "style transfer precise",
            {3: 0.6, 6: 2.0},
            {**dict.fromkeys([0, 1, 2, 3, *range(9, 16)], 2.0), 4: 0.15, 5: 0.6},
        ),
        (
            "composition precise",
            {**dict.fromkeys(range(11), 0.06), 3: 2.0, 6: 0.6},
            {**dict.fromkeys(range(16), 0.6), 4: 0.5, 5: 2.0, **dict.fromkeys([6, 7, 8], 0.06)},
        ),
    ],
)
def test_each_table_is_the_published_one(weight_type, sdxl, sd15):
    weights = Weights((2.0,), composition=0.8, boost=0.6)
    assert dealt("SDXL", weight_type, weights) == pytest.approx(sdxl)
    assert dealt("SD1.5", weight_type, weights) == pytest.approx(sd15)


@pytest.mark.parametrize("weight_type", [name for name in TABLES if "and" in name or name in PRECISE])
def test_a_second_weight_that_is_not_given_is_the_weight(weight_type):
    for model in MODELS:
        alike = Weights((2.0,), composition=2.0, boost=2.0)
        assert dealt(model, weight_type, Weights((2.0,))) == dealt(model, weight_type, alike)


@pytest.mark.parametrize(("model", "count"), [("SD1.5", 16), ("SDXL", 11)])
def test_eases_go_from_a_twentieth_to_the_whole(model, count):
    rising = {t: 2 * (0.05 + 0.95 * t / count) for t in range(count)}
    assert dealt(model, "ease out", Weights((2.0,))) == pytest.approx(rising)
    falling = {t: 2 * (0.05 + 0.95 * (1 - t / count)) for t in range(count)}
    assert dealt(model, "ease in", Weights((2.0,))) == pytest.approx(falling)
    half = count / 2
    hill = {t: 2 * (0.05 + 0.95 * (1 - abs(t - half) / half)) for t in range(count)}
    assert dealt(model, "ease in-out", Weights((2.0,))) == pytest.approx(hill)
    valley = {t: 2 * (0.05 + 0.95 * abs(t - half) / half) for t in range(count)}
    assert dealt(model, "reverse in-out", Weights((2.0,))) == pytest.approx(valley)


@pytest.mark.parametrize(
    ("weight_type", "weak"),
    [
        ("linear", ()),
        ("weak input", ("input",)),
        ("weak output", ("output",)),
        ("weak middle", ("middle",)),
        ("strong middle", ("input", "output")),
    ],
)
def test_weak_blocks_get_a_fifth(weight_type, weak):
    for sites in MODELS.values():
        given = site_weights(weight_type, Weights((2.0, 1.0)), sites)
        assert list(given) == list(sites) or set(given) == set(sites)
        for site, one in given.items():
            assert one.weight == pytest.approx((0.4, 0.2) if site.block in weak else (2.0, 1.0))
            assert not one.swapped


def test_the_precise_types_swap_where_the_other_trait_is():
    assert swapped("SDXL", "style transfer precise") == [3]
    assert swapped("SD1.5", "style transfer precise") == [4, 5]
    assert swapped("SDXL", "composition precise") == [0, 1, 2, 4, 5, 6, 7, 8, 9, 10]
    assert swapped("SD1.5", "composition precise") == [t for t in range(16) if t not in (4, 5)]
    for weight_type in set(WEIGHT_TYPES) - set(PRECISE):
        assert not swapped("SDXL", weight_type) + swapped("SD1.5", weight_type)


def test_layers_by_number_take_the_place_of_the_table_and_keep_the_swap():
    assert dealt("SDXL", "ease in", Weights((2.0,)), {3: 1.0, 6: 0.5}) == {3: 2.0, 6: 1.0}
    given = site_weights("style transfer precise", Weights((1.0,)), SDXL, {3: 1.0, 6: 1.0})
    assert {(site.block, site.id) for site, one in given.items() if one.swapped} == {("input", 8)}
    assert {(site.block, site.id) for site in given} == {("input", 8), ("output", 1)}


def test_the_layers_of_the_layout_are_marked():
    for sites in MODELS.values():
        indices = transformer_indices(sites)
        given = site_weights("linear", Weights((1.0,)), sites)
        marked = {indices[site] for site, one in given.items() if one.layout}
        assert marked == LAYOUT[len(set(indices.values()))]


def test_texts_of_layer_weights():
    assert read_layers("3:1, 6:0.5") == {3: 1.0, 6: 0.5}
    assert read_layers(" 0:-1.5,\n10: .25 ,") == {0: -1.5, 10: 0.25}
    assert read_layers("") is None
    assert read_layers("IN04-IN08:0.5, MID:0") is None
    with pytest.raises(ValueError, match=r"got 'OUT01:1' among them. Write transformer:factor"):
        read_layers("3:1, OUT01:1")
    with pytest.raises(ValueError, match="the transformer 3 twice"):
        read_layers("3:1, 3:0.5")


def test_what_is_not_known_is_refused():
    with pytest.raises(ValueError, match=r"A weight_type of linear, .* is needed, got 'soft'"):
        site_weights("soft", Weights((1.0,)), SD15)
    with pytest.raises(ValueError, match=r"transformers 0 to 10 of this model, got 11, 15. Name those"):
        site_weights("linear", Weights((1.0,)), SDXL, {3: 1.0, 15: 1.0, 11: 0.0})
    few = [site for site in SD15 if site.block != "middle"]
    with pytest.raises(ValueError, match=r'"composition" is known for SD1.5 \(16 .*; this model has 15'):
        site_weights("composition", Weights((1.0,)), few)
    assert len(site_weights("ease in", Weights((1.0,)), few)) == 15
