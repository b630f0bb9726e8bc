"""What an injection is made of: sites of the true models, keys and values, rows, masks, tokens."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from tiller.adapters.injection.injection import AREAS, Call, Injection, few_tokens_attention
from tiller.adapters.injection.keys_values import Projection, Rows, Table, Term, keys_values
from tiller.adapters.injection.mask import Area, fit, usable
from tiller.adapters.injection.sites import Site, cross_attention_sites, number_order, transformer_indices
from tiller.adapters.injection.tokens import Tokens, concatenate
from tiller.adapters.injection.unet import UNetInjection

CPU = torch.device("cpu")


def names(input_blocks, output_blocks, middle_depth):
    """Module names of a UNet with cross-attention, in the order in which the host lists them."""
    places = [(f"input_blocks.{i}.1", deep) for i, deep in input_blocks.items()]
    places += [("middle_block.1", middle_depth)]
    places += [(f"output_blocks.{i}.1", deep) for i, deep in output_blocks.items()]
    for place, deep in places:
        for n in range(deep):
            for layer in ("attn1.to_k", "attn1.to_v", "attn2.to_q", "attn2.to_k", "attn2.to_v", "norm1"):
                yield f"{place}.transformer_blocks.{n}.{layer}"
        yield f"{place}.proj_in"


SD15 = list(names(dict.fromkeys((1, 2, 4, 5, 7, 8), 1), dict.fromkeys(range(3, 12), 1), 1))
SDXL = list(names({4: 2, 5: 2, 7: 10, 8: 10}, {0: 10, 1: 10, 2: 10, 3: 2, 4: 2, 5: 2}, 10))


def numbered(listed):
    return {2 * i + 1: site for i, site in enumerate(cross_attention_sites(listed))}


def test_sd15_has_its_layers_where_the_papers_number_them():
    found = numbered(SD15)
    assert len(found) == 16
    wanted = {1: ("input", 1), 5: ("input", 4), 11: ("input", 8), 13: ("output", 3), 29: ("output", 11)}
    assert {n: found[n][:2] for n in wanted} == wanted
    assert found[31] == Site("middle", 0, 0)
    indices = transformer_indices(found.values())
    assert [indices[found[n]] for n in (1, 3, 5, 11, 31, 13, 29)] == [0, 1, 2, 5, 6, 7, 15]
    assert sorted(indices.values()) == list(range(16))


def test_sdxl_has_its_layers_where_the_papers_number_them():
    found = numbered(SDXL)
    assert len(found) == 70
    wanted = {
        1: ("input", 4, 0),
        3: ("input", 4, 1),
        7: ("input", 5, 1),
        9: ("input", 7, 0),
        27: ("input", 7, 9),
        47: ("input", 8, 9),
        49: ("output", 0, 0),
        87: ("output", 1, 9),
        107: ("output", 2, 9),
        111: ("output", 3, 1),
        119: ("output", 5, 1),
        121: ("middle", 0, 0),
        139: ("middle", 0, 9),
    }
    assert {n: tuple(found[n]) for n in wanted} == wanted
    indices = transformer_indices(found.values())
    ranges = {
        0: (1, 3),
        1: (5, 7),
        2: (9, 27),
        3: (29, 47),
        4: (121, 139),
        5: (49, 67),
        6: (69, 87),
        7: (89, 107),
    }
    ranges |= {8: (109, 111), 9: (113, 115), 10: (117, 119)}
    for t, (first, last) in ranges.items():
        assert {indices[found[n]] for n in range(first, last + 1, 2)} == {t}


def test_order_does_not_depend_on_how_the_names_come_and_other_names_are_none():
    assert cross_attention_sites(reversed(SDXL)) == cross_attention_sites(SDXL)
    assert sorted(reversed(cross_attention_sites(SD15)), key=number_order) == cross_attention_sites(SD15)
    assert cross_attention_sites(["double_blocks.0.img_attn.qkv", "input_blocks.1.1.proj_in", ""]) == []
    blocks = [Site("input", 4, 1).name, Site("middle", 0, 0).name, Site("output", 11, 0).name]
    assert blocks == ["IN04", "MID", "OUT11"]


def drawn(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def term(weight=(1.0,), sets=1, **more):
    tokens = Tokens(drawn(sets, 3, 5, seed=1), drawn(sets, 3, 5, seed=2))
    return Term(Projection(drawn(4, 5, seed=3), drawn(4, 5, seed=4)), tokens, weight, **more)


def test_keys_and_values_are_the_projections_of_both_sides():
    one = term()
    cond, uncond = keys_values(one, CPU, torch.float32)
    to_k, to_v = one.projection[:2]
    for side, tokens in ((cond, one.tokens.cond), (uncond, one.tokens.uncond)):
        torch.testing.assert_close(side.k, tokens @ to_k.T)
        torch.testing.assert_close(side.v, tokens @ to_v.T)


def test_biases_and_what_finishes_come_before_the_weight():
    plain = term(weight=(0.5,))
    bias_k, bias_v = drawn(4, seed=5), drawn(4, seed=6)
    biased = Term(Projection(*plain.projection[:2], bias_k, bias_v), plain.tokens, (0.5,))
    (was, _), (now, _) = keys_values(plain, CPU, torch.float32), keys_values(biased, CPU, torch.float32)
    torch.testing.assert_close(now.k, was.k + bias_k)
    torch.testing.assert_close(now.v, was.v + 0.5 * bias_v)
    finished = term(weight=(0.5,), finish=lambda pair: type(pair)(pair.k + 1, pair.v + 1))
    end, _ = keys_values(finished, CPU, torch.float32)
    torch.testing.assert_close(end.k, was.k + 1)
    torch.testing.assert_close(end.v, was.v + 0.5)


@pytest.mark.parametrize(
    ("scaling", "k", "v"),
    [
        ("V only", 1.0, 0.5),
        ("K+V", 0.5, 0.5),
        ("K+V w/ C penalty", 0.5 * 4 / 1280, 0.5 * 4 / 1280),
    ],
)
def test_each_scaling_weighs_what_it_says(scaling, k, v):
    (free, _), (own, _) = (
        keys_values(one, CPU, torch.float32) for one in (term(), term((0.5,), scaling=scaling))
    )
    torch.testing.assert_close(own.k, free.k * k)
    torch.testing.assert_close(own.v, free.v * v)


def test_the_mean_scaling_weighs_the_mean_of_the_values_alone():
    (free, _), (own, _) = (
        keys_values(one, CPU, torch.float32)
        for one in (term(), term((0.5,), scaling="K+mean(V) w/ C penalty"))
    )
    weight = 0.5 * 4 / 1280
    mean = free.v.mean(dim=1, keepdim=True)
    torch.testing.assert_close(own.k, free.k * weight)
    torch.testing.assert_close(own.v, free.v - mean + mean * weight)


def test_weights_and_token_sets_per_picture_go_together():
    each, _ = keys_values(term((1.0, 0.5, 0.0)), CPU, torch.float32)
    assert each.v.shape == (3, 3, 4)
    torch.testing.assert_close(each.v[1], each.v[0] * 0.5)
    assert not each.v[2].any()
    assert keys_values(term((0.5,), sets=2), CPU, torch.float32)[0].k.shape == (2, 3, 4)
    with pytest.raises(ValueError, match=r"as many as there are image prompts in the batch \(2\); got 3"):
        keys_values(term((1.0, 0.5, 0.0), sets=2), CPU, torch.float32)


def test_only_terms_with_a_weight_act():
    assert not term((0.0, 0.0)).acts
    assert term((0.0, -0.1)).acts
    assert Table({"a": term((0.0,)), "b": term()}, CPU, torch.float32).sites == ("b",)


def test_rows_are_laid_out_by_conditioning_and_picture():
    table = Table({"site": term(sets=2)}, CPU, torch.float32)
    (cond, uncond) = keys_values(term(sets=2), CPU, torch.float32)
    laid = table.rows("site", Rows.of([1, 0, 0], 6))
    for i, side in enumerate((uncond, uncond, cond, cond, cond, cond)):
        assert torch.equal(laid.k[i], side.k[i % 2])
        assert torch.equal(laid.v[i], side.v[i % 2])
    assert table.rows("site", Rows.of([1, 0, 0], 6)) is laid, "laid out once"
    third = table.rows("site", Rows.of([2, 1], 4))
    assert torch.equal(third.k, torch.cat([cond.k, uncond.k])), "1 alone is the negative"
    few = table.rows("site", Rows.of([0], 3))
    assert torch.equal(few.k, cond.k[[0, 1, 1]]), "the last one serves those that come after it"
    window = table.rows("site", Rows.of([0, 1], 4, window=[5, 0]))
    assert torch.equal(window.v, torch.cat([cond.v[[1, 0]], uncond.v[[1, 0]]]))
    assert Rows.of([0], 3, window=[4, 5]).frames == (0, 1, 2), "a window over something else"


def test_rows_that_do_not_divide_are_refused():
    with pytest.raises(ValueError, match=r"got 5 rows for 2 conditionings, which does not divide"):
        Rows.of([0, 1], 5)


def test_what_a_table_keeps_is_counted_once():
    table = Table({"site": term()}, CPU, torch.float32)
    before = table.nbytes
    assert before == 2 * 2 * 3 * 4 * 4
    table.rows("site", Rows.of([0, 1], 2))
    assert table.nbytes == 2 * before


def test_tokens_side_by_side_serve_every_picture():
    one, many = Tokens(drawn(1, 2, 4), drawn(1, 2, 4, seed=1)), Tokens(drawn(3, 1, 4), drawn(3, 1, 4))
    both = concatenate([one, many])
    assert both.cond.shape == (3, 3, 4)
    assert torch.equal(both.uncond[2, :2], one.uncond[0])
    assert torch.equal(both.cond[2, 2], many.cond[2, 0])
    with pytest.raises(ValueError, match="at least one picture are needed, got none"):
        concatenate([])
    with pytest.raises(ValueError, match=r"numbers of pictures \[2, 3\]"):
        concatenate([many, Tokens(drawn(2, 1, 4), drawn(2, 1, 4))])
    with pytest.raises(ValueError, match=r"widths \[4, 5\]"):
        concatenate([one, Tokens(drawn(1, 1, 5), drawn(1, 1, 5))])
    with pytest.raises(ValueError, match="same shape"):
        Tokens(drawn(1, 2, 4), drawn(1, 3, 4))


def test_a_mask_of_ones_is_none_and_others_are_kept_in_range():
    assert usable(None) is None
    assert usable(torch.ones(3, 513, 771)) is None
    kept = usable(torch.tensor([[-1.0, 2.0], [0.5, 1.0]]))
    assert torch.equal(kept, torch.tensor([[[[0.0, 1.0], [0.5, 1.0]]]]))
    assert usable(torch.zeros(2, 4, 5)).shape == usable(torch.zeros(2, 1, 4, 5)).shape == (2, 1, 4, 5)


@pytest.mark.parametrize(
    ("mask", "words"),
    [
        (torch.zeros(4), r"\(height, width\) or \(batch, height, width\) is needed, got \(4,\)"),
        (torch.zeros(1, 3, 4, 4), r"got \(1, 3, 4, 4\). Connect a MASK output"),
        (torch.zeros(2, 0, 4), "got 2 of 4 x 0. Look at the node that made it"),
        (torch.full((2, 2), torch.inf), "got NaN or infinite ones"),
    ],
)
def test_what_is_no_mask_is_refused(mask, words):
    with pytest.raises(ValueError, match=words):
        usable(mask)


def test_each_place_of_a_layer_gets_the_mean_of_what_it_stands_for():
    mask = torch.rand(2, 1, 12, 20, generator=torch.Generator().manual_seed(0))
    wanted = mask.unflatten(3, (5, 4)).unflatten(2, (3, 4)).mean(dim=(3, 5))[:, 0].flatten(1)
    torch.testing.assert_close(fit(mask, 3, 5)[..., 0], wanted)
    odd = fit(mask, 5, 7)
    assert odd.shape == (2, 35, 1)
    torch.testing.assert_close(odd.mean(dim=1), mask.mean(dim=(-1, -2)), msg="no part counts twice")
    half = torch.zeros(1, 1, 3, 2)
    half[..., 0] = 1
    torch.testing.assert_close(fit(half, 1, 1), torch.full((1, 1, 1), 0.5))
    assert torch.equal(fit(torch.full((1, 1, 1, 1), 0.25), 4, 4), torch.full((1, 16, 1), 0.25))
    smooth = fit(torch.tensor([[[[0.0, 1.0]]]]), 1, 4)[0, :, 0]
    torch.testing.assert_close(smooth, torch.tensor([0.0, 0.25, 0.75, 1.0]))


def test_rows_run_over_the_width_first():
    mask = torch.zeros(1, 1, 4, 8)
    mask[..., :2, 4:] = 1
    assert torch.equal(fit(mask, 2, 4)[0, :, 0], torch.tensor([0.0, 0, 1, 1, 0, 0, 0, 0]))


def test_a_part_of_the_picture_gets_its_part_of_the_mask():
    mask = torch.arange(8.0).expand(8, 8)[None, None] / 8
    right = Area.of((8, 4, 0, 4), 8, 8)
    torch.testing.assert_close(fit(mask, 8, 4, right)[0, :, 0], mask[0, 0, :, 4:].flatten())
    torch.testing.assert_close(
        fit(mask.mT, 2, 8, Area.of((2, 8, 6, 0), 8, 8))[0, ::8, 0], torch.tensor([0.75, 0.875])
    )
    assert Area.of((6, 9, 4, 2), 8, 8) == Area(4, 2, 4, 6, (8, 8)), "cut at the edge, as the host does"
    tiny = torch.tensor([[0.0, 1.0]])[None, None]
    assert fit(tiny, 2, 8, right).shape == (1, 16, 1)


def test_a_call_knows_the_parts_of_the_picture_by_conditioning():
    part = Area(0, 0, 4, 4, (8, 8))
    options = {"cond_or_uncond": [1, 0], "uuids": ["a", "b"], AREAS: {"b": part}}
    x = torch.zeros(2, 4, 8, 8)
    assert Call.of(options, few_tokens_attention, x, torch.float32).areas == (None, part)
    del options[AREAS]
    assert Call.of(options, few_tokens_attention, x, torch.float32).areas == ()
    assert Call.of({}, few_tokens_attention, x, torch.float32).chunks == (0,)


def test_a_call_knows_the_pictures_of_a_context_window():
    x = torch.zeros(2, 4, 8, 8)

    def shown(**window):
        options = {"context_window": SimpleNamespace(**{"dim": 0, "index_list": [4, 5], **window})}
        return Call.of(options, few_tokens_attention, x, torch.float32).window

    assert shown() == (4, 5)
    assert shown(causal_anchor_index=3) == (3, 4, 5), "the picture that the host puts before them"
    assert shown(causal_anchor_index=-1) == shown(causal_anchor_index=None) == (4, 5)
    assert shown(dim=2) is None, "a window over something else"
    assert Call.of({}, few_tokens_attention, x, torch.float32).window is None


def test_few_tokens_attention_is_attention():
    q, k, v = drawn(2, 6, 8), drawn(2, 3, 8, seed=1), drawn(2, 3, 8, seed=2)
    own = few_tokens_attention(q, k, v, 2)
    for head in range(2):
        part = slice(4 * head, 4 * head + 4)
        weights = (q[..., part] @ k[..., part].mT / 2).softmax(dim=-1)
        torch.testing.assert_close(own[..., part], weights @ v[..., part])


def base_attention(q, k, v, heads, **_):
    """Stands in for the host's choice of attention, which also takes its options."""
    return few_tokens_attention(q, k, v, heads)


def call(device=CPU, dtype=torch.float32):
    return Call((1, 0), None, base_attention, device, dtype, (8, 8))


def test_one_run_has_one_state_and_other_runs_have_their_own():
    injection = Injection({"site": term()}, start=0.2, end=0.8)
    sigmas = torch.tensor([3.0, 2.0, 0.0])

    def falling(percent):
        return 10 * (1 - percent)

    def rising(percent):
        return 5 * (1 - percent)

    first = injection.run(call(), sigmas, falling)
    assert injection.run(call(), sigmas, falling) is first
    assert first.window == pytest.approx((8.0, 2.0))
    other = injection.run(call(), sigmas, rising)
    assert other.window == pytest.approx((4.0, 1.0)), "a model that measures noise differently"
    assert injection.run(call(dtype=torch.float64), sigmas, falling) is not first
    assert injection.run(call(), sigmas, falling) is first
    assert injection.run(call(), sigmas.clone(), falling) is not first
    assert injection.run(call(), None, falling) is not injection.run(call(), None, falling)
    del first, other, sigmas
    assert len(injection._runs) == 0


def test_a_whole_window_asks_for_no_noise_level():
    assert Injection({}).run(call(), None, lambda percent: 1 / 0).window is None
    assert Injection({}, end=0.5).run(call(), None, float).window == (0.0, 0.5)
    assert Injection({}, start=0.5).run(call(), None, float).window == (0.5, 1.0)
    level = Injection({}, start=0.1).run(call(), None, float).window[0]
    assert level == torch.tensor(0.1).item() != 0.1, "in the precision in which the host hands levels"
    for given in ({"start": 0.6, "end": 0.5}, {"start": -0.1}, {"end": 1.1}):
        with pytest.raises(ValueError, match=r"must be in 0..1 with start first"):
            Injection({}, **given)


def test_masks_are_fitted_once_for_each_kind_of_layer_and_batch():
    mask = torch.zeros(2, 1, 8, 8)
    mask[1, ..., 4:] = 1
    injection = Injection({"site": term()}, mask=mask)
    run = injection.run(call(), None, float)
    own = torch.ones(4, 16, 3)
    masked = injection.masked(own, call(), run, (4, 4))
    assert not masked[0].any()
    assert torch.equal(masked[1], masked[3])
    assert torch.equal(masked[1].unflatten(0, (4, 4))[0, :, 0], torch.tensor([0.0, 0, 1, 1]))
    [kept] = run.masks.values()
    injection.masked(own, call(), run, (4, 4))
    assert [id(mask) for mask in run.masks.values()] == [id(kept)]
    injection.masked(torch.ones(4, 4, 3), call(), run, (2, 2))
    assert len(run.masks) == 2
    assert Injection({}).masked(own, call(), run, (4, 4)) is own
    with pytest.raises(ValueError, match=r"needs the 4 x 3 tokens of a layer, but the layer got 16: another"):
        injection.masked(own, call(), run, (4, 3))


def test_each_conditioning_gets_its_part_of_the_mask():
    mask = torch.zeros(1, 1, 8, 8)
    mask[..., 4:] = 1
    injection = Injection({"site": term()}, mask=mask)
    run = injection.run(call(), None, float)
    left, right = Area(0, 0, 8, 4, (8, 8)), Area(0, 4, 8, 4, (8, 8))
    own = torch.ones(4, 8, 3)

    def masked(*areas):
        return injection.masked(own, replace(call(), areas=areas), run, (4, 2))

    first = masked(left, right)
    assert not first[:2].any()
    assert torch.equal(first[2:], own[2:])
    second = masked(right, left)
    assert torch.equal(second[:2], own[:2])
    assert not second[2:].any()
    whole = masked(right, None)
    assert torch.equal(whole[2].unflatten(0, (4, 2))[0, :, 0], torch.tensor([0.0, 1.0]))
    fewer = injection.masked(own[:2], replace(call(), areas=(left, right)), run, (4, 2))
    assert fewer.shape == (2, 8, 3), "another number of pictures"


def test_placing_leaves_what_is_there_as_it_is_and_calls_it():
    site, other = Site("middle", 0, 0), Site("input", 1, 0)

    def foreign(q, k, v, options):
        return q * 0.5

    there = {site[:2]: foreign, other: foreign}
    replaced = {"attn2": there, "attn1": {}}
    options = {"patches_replace": replaced}
    injection = UNetInjection({site: term()})
    run = injection.run(call(), None, float)
    injection.place(call(), run, options)
    assert there == {site[:2]: foreign, other: foreign}
    assert replaced == {"attn2": there, "attn1": {}}
    placed = options["patches_replace"]
    assert placed["attn1"] is replaced["attn1"]
    assert placed["attn2"][other] is foreign
    q, k = drawn(2, 6, 4), drawn(2, 5, 4, seed=1)
    more = {"n_heads": 2, "activations_shape": [2, 4, 2, 3]}
    own = placed["attn2"][site](q, k, k, more) - foreign(q, k, k, more)
    pair = run.table.rows(site, Rows.of((1, 0), 2))
    torch.testing.assert_close(own, few_tokens_attention(q, pair.k, pair.v, 2))
    alone = {}
    injection.place(call(), run, alone)
    base = alone["patches_replace"]["attn2"][site](q, k, k, more)
    torch.testing.assert_close(base - own, few_tokens_attention(q, k, k, 2))
    injection.place(call(), run, alone)
    torch.testing.assert_close(alone["patches_replace"]["attn2"][site](q, k, k, more), base + own)
