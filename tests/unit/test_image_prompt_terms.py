"""Terms of an image prompt: which tokens and weights each site gets, texts of weights, regions."""

from __future__ import annotations

import pytest
import torch
from tiller.adapters.image_prompt.regions import regions_of, share
from tiller.adapters.image_prompt.terms import InjectionSettings, read_weights, terms_of, weights_of
from tiller.adapters.injection.keys_values import Projection
from tiller.adapters.injection.sites import Site
from tiller.adapters.injection.tokens import Tokens
from tiller.adapters.lora.blocks import Layout, numbered

SDXL = [Site("input", i, 0) for i in (4, 5, 7, 8)] + [Site("output", i, 0) for i in range(6)]
SITES = [*SDXL, Site("middle", 0, 0)]
PLACED = {site: Projection(torch.zeros(1, 4), torch.zeros(1, 4)) for site in SITES}
LAYOUT = Layout("UNet", ("BASE", *numbered("IN", 9), "MID", *numbered("OUT", 9)))
LAYOUT_SITE, STYLE_SITE = Site("input", 8, 0), Site("output", 1, 0)


def tokens(seed, count=2, sets=1):
    generator = torch.Generator().manual_seed(seed)
    return Tokens(*(torch.randn(sets, count, 4, generator=generator) for _ in range(2)))


def terms(settings=None, composition=None, own=None, **given):
    return terms_of(PLACED, own or tokens(0), settings or InjectionSettings(**given), composition, LAYOUT)


def test_each_site_gets_its_projection_and_the_tokens():
    own = tokens(0)
    made = terms(own=own, weight=(0.5,), scaling="K+V")
    assert list(made) == SITES or set(made) == set(SITES)
    for site, term in made.items():
        assert term.projection is PLACED[site]
        assert term.tokens.cond is own.cond
        assert term.tokens.uncond is own.uncond
        assert term.weight == (0.5,)
        assert term.scaling == "K+V"


def test_where_the_sides_are_swapped_the_negative_gets_the_picture():
    own = tokens(0)
    made = terms(own=own, weight_type="style transfer precise")
    assert set(made) == {LAYOUT_SITE, STYLE_SITE}
    assert not made[LAYOUT_SITE].tokens.cond.any()
    assert torch.equal(made[LAYOUT_SITE].tokens.uncond, own.cond)
    assert made[STYLE_SITE].tokens.cond is own.cond


def test_a_composition_stands_in_the_layers_of_the_layout_alone():
    own, other = tokens(0), tokens(1)
    made = terms(own=own, composition=other, weight_type="style and composition", composition_weight=0.3)
    assert torch.equal(made[LAYOUT_SITE].tokens.cond, other.cond)
    assert torch.equal(made[LAYOUT_SITE].tokens.uncond, other.uncond)
    assert made[LAYOUT_SITE].weight == (0.3,)
    assert made[STYLE_SITE].tokens.cond is own.cond
    assert made[STYLE_SITE].weight == (1.0,)


def test_a_composition_beside_a_swap_pushes_the_first_picture_away():
    own, other = tokens(0, count=2), tokens(1, count=3)
    made = terms(own=own, composition=other, weight_type="style transfer precise")[LAYOUT_SITE].tokens
    assert made.cond.shape == made.uncond.shape == (1, 6, 4), "repeated to one number"
    assert torch.equal(made.cond, other.cond.repeat(1, 2, 1))
    assert torch.equal(made.uncond, own.cond.repeat(1, 3, 1))
    one_of_many = terms(own=tokens(0, sets=2), composition=other, weight_type="style transfer precise")
    assert one_of_many[LAYOUT_SITE].tokens.cond.shape == (2, 6, 4)


@pytest.mark.parametrize(
    "given",
    [{"weight_type": "style transfer"}, {"layers": "6:1"}, {"layers": "IN08:0"}, {"layers": "3:0, 6:1"}],
)
def test_a_composition_that_nothing_would_get_is_refused(given):
    with pytest.raises(ValueError, match=r"this model has none that act\. Choose \"style and composition\""):
        terms(composition=tokens(1), **given)


def test_a_weight_of_zero_leaves_a_composition_without_a_complaint():
    assert all(not term.acts for term in terms(composition=tokens(1), weight=(0.0,)).values())


def test_blocks_by_name_multiply_and_numbers_replace():
    made = terms(weight=(2.0,), weight_type="style transfer", layers="OUT01:0.5")
    assert {site: term.weight for site, term in made.items()} == {STYLE_SITE: (1.0,)}
    made = terms(weight=(2.0, 1.0), layers="ALL:0, MID:0.5", own=tokens(0, sets=2))
    assert {site for site, term in made.items() if term.acts} == {Site("middle", 0, 0)}
    assert made[Site("middle", 0, 0)].weight == (1.0, 0.5)
    made = terms(weight=(2.0,), weight_type="ease in", layers="4:0.5")
    assert {site: term.weight for site, term in made.items()} == {Site("middle", 0, 0): (1.0,)}


def test_a_block_without_attention_is_refused_alone_and_passed_over_in_a_range():
    with pytest.raises(
        ValueError, match=r"IN06 has no attention to the prompt in this model.*IN04-IN05, IN07-"
    ):
        terms(layers="IN06:0.5")
    assert all(term.acts for term in terms(layers="IN03-IN06:0.5, OUT:1").values())
    with pytest.raises(ValueError, match="This model has no block OUT09"):
        terms(layers="OUT09:1")


def test_weights_per_picture_are_read_and_multiplied():
    assert read_weights(" 0.2, .5,\n-1; ") == (0.2, 0.5, -1.0)
    assert read_weights("  ") == ()
    assert weights_of(0.5) == (0.5,)
    assert weights_of([0.5, 1]) == (0.5, 1.0)
    assert weights_of(0.5, "1, 2") == (0.5, 1.0)
    assert weights_of([0.5, 1.0], "1, 2") == (0.5, 2.0)
    assert weights_of([0.5, 1.0], "2") == (1.0, 2.0)
    with pytest.raises(ValueError, match=r"got 'much' among them. Write numbers"):
        read_weights("1, much")
    with pytest.raises(ValueError, match=r"need the same length, got 2 and 3"):
        weights_of([1.0, 2.0], "1, 2, 3")
    with pytest.raises(ValueError, match=r"as many as the image prompt has pictures \(3\), got 2"):
        terms(weight=(1.0, 2.0), own=tokens(0, sets=3))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"weight": ()}, "at least one"),
        ({"weight": (float("nan"),)}, "must be finite numbers"),
        ({"boost": float("inf")}, "must be finite numbers"),
        ({"weight_type": "soft"}, "got 'soft'"),
        ({"scaling": "K"}, "Embeds scaling must be one of V only, .* got 'K'"),
        ({"start": 0.7, "end": 0.2}, "start first, got 0.7 and 0.2"),
    ],
)
def test_settings_that_are_none_are_refused(given, words):
    with pytest.raises(ValueError, match=words):
        InjectionSettings(**given)


def test_masks_that_overlap_share_and_others_stay():
    left, right = torch.zeros(4, 8), torch.zeros(4, 8)
    left[:, :5], right[:, 3:] = 1, 1
    first, second = share([left, right])
    assert torch.equal(first[0, 0], torch.tensor([1.0, 1, 1, 0.5, 0.5, 0, 0, 0]))
    assert torch.equal(first[0] + second[0], torch.ones(4, 8))
    faint = share([left * 0.25, right * 0.5])
    assert torch.equal(faint[0][0], left * 0.25), "less than one in sum stays"
    assert share([left]) == [left]
    everywhere, own = share([None, left])
    assert torch.equal(everywhere[0], 1 - left / 2)
    assert torch.equal(own[0], left / 2)


def test_shared_masks_may_differ_in_size_and_number():
    small, clip = torch.ones(1, 1), torch.stack([torch.zeros(6, 4), torch.ones(6, 4)])
    first, second = share([small, clip])
    assert first.shape == second.shape == (2, 6, 4)
    assert torch.equal(first[0], torch.ones(6, 4))
    assert torch.equal(first[1], torch.full((6, 4), 0.5))
    longer, shorter = share([torch.ones(3, 2, 2), torch.stack([torch.zeros(2, 2), torch.ones(2, 2)])])
    assert torch.equal(longer[:, 0, 0], torch.tensor([1.0, 0.5, 0.5])), "the last serves those after it"
    assert torch.equal(shorter[:, 0, 0], torch.tensor([0.0, 0.5, 0.5]))
    with pytest.raises(ValueError, match="A mask of finite values is needed"):
        share([small, torch.full((2, 2), torch.nan)])


def test_regions_go_by_number():
    settings = InjectionSettings((1.0, 0.5))
    masks = {"mask0": torch.ones(2, 2), "mask2": torch.zeros(2, 2)}
    prompts = {"image_prompt0": "a", "image_prompt1": "b", "image_prompt2": "c", "image_prompt3": None}
    made = regions_of(prompts, masks, settings, "add")
    assert [region.prompt for region in made] == ["a", "b", "c"]
    assert [region.settings.weight for region in made] == [(1.0,), (0.5,), (0.5,)]
    assert made[1].settings.mask is None
    assert made[2].settings.mask is masks["mask2"]
    shared = regions_of(
        {"image_prompt10": "a", "image_prompt2": "b"}, {"mask10": masks["mask0"]}, settings, "share"
    )
    assert [region.prompt for region in shared] == ["b", "a"]
    assert [float(region.settings.mask.mean()) for region in shared] == [0.5, 0.5]


def test_regions_that_do_not_go_together_are_refused():
    one = InjectionSettings()
    with pytest.raises(ValueError, match="at least one image prompt, got none"):
        regions_of({}, {}, one, "add")
    masks = {name: torch.ones(1, 1) for name in ("mask0", "mask1", "mask3")}
    with pytest.raises(ValueError, match=r"got none for mask 1, 3. Connect image_prompt1"):
        regions_of({"image_prompt0": "a"}, masks, one, "add")
    with pytest.raises(ValueError, match=r"at most one weight per image prompt \(1\), got 2"):
        regions_of({"image_prompt0": "a"}, {}, InjectionSettings((1.0, 2.0)), "add")
