"""Flux adapters are put at the blocks of a Flux model, and refused where they do not belong."""

import re

import pytest
import torch
from tiller.adapters.image_prompt.flux_layers import (
    block_factors,
    flux_injection,
    flux_terms,
    flux_tokens,
)
from tiller.adapters.image_prompt.records import AdapterSpec, EmbedState, ImagePrompt, IPAdapter, PromptPart
from tiller.adapters.image_prompt.terms import InjectionSettings
from tiller.adapters.injection.flux import FluxBlocks, HeadNorm, InstantXInjection, XLabsInjection
from tiller.adapters.injection.injection import Call, Run
from tiller.adapters.injection.keys_values import Pair, Table
from tiller.adapters.injection.tokens import Tokens

XLABS, INSTANTX = "Flux IP-Adapter (XLabs)", "Flux IP-Adapter (InstantX)"
VARIANTS = pytest.mark.parametrize("variant", [XLABS, INSTANTX])
BLOCKS = FluxBlocks(2, 3, 8, 2)
TEXT = 6
GENERATOR = torch.Generator().manual_seed(0)


def drawn(*shape):
    return torch.randn(shape, generator=GENERATOR)


def adapter(variant, double=2, single=3, hidden=8):
    part = "double_blocks.{}.processor.ip_adapter_double_stream_{}_proj."
    if variant == XLABS:
        names = [part.format(number, side) for number in range(double) for side in "kv"]
        weights = {name + "weight": drawn(hidden, TEXT) for name in names}
        weights |= {name + "bias": drawn(hidden) for name in names}
    else:
        names = [f"{number}.to_{side}_ip.weight" for number in range(double + single) for side in "kv"]
        weights = {name: drawn(hidden, TEXT) for name in names}
    layers = tuple(range(len(names) // 2))
    spec = AdapterSpec(variant, "Flux", None, None, 4, TEXT, layers)
    return IPAdapter(spec, {}, weights, "mine.safetensors")


def tokens(uncond=None):
    cond = drawn(1, 4, TEXT)
    return Tokens(cond, drawn(1, 4, TEXT) if uncond is None else uncond)


def placed(variant, size=(5, 5), mask=None, weight=(1.0,), options=None):
    """Options of one call with an adapter in them, and the queries' length for a latent of this size."""
    injection = flux_injection(
        BLOCKS, adapter(variant), tokens(), InjectionSettings(weight=weight, mask=mask)
    )
    call = Call((0,), None, lambda: None, torch.device("cpu"), torch.float32, size)
    options = {} if options is None else options
    injection.place(call, Run(Table(injection.terms, call.device, call.dtype), None), options)
    return options


@VARIANTS
def test_weights_lie_at_their_blocks_in_order(variant):
    mine = adapter(variant)
    terms = flux_terms(BLOCKS, mine, tokens(), InjectionSettings(weight=(0.5,)))
    names = [site.name for site in terms]
    assert names == ["D00", "D01", "S00", "S01", "S02"][: 2 if variant == XLABS else 5]
    last = terms["double", 1] if variant == XLABS else terms["single", 2]
    assert last.projection.to_v is list(mine.ip_adapter.values())[3 if variant == XLABS else -1]
    assert (last.projection.bias_k is None) == (variant == INSTANTX)
    assert last.finish == (None if variant == XLABS else HeadNorm(2))
    assert {term.weight for term in terms.values()} == {(0.5,)}


@VARIANTS
@pytest.mark.parametrize(
    ("other", "has"),
    [
        (FluxBlocks(3, 3, 8, 2), "has 3 double and 3 single blocks of width 8"),
        (FluxBlocks(1, 3, 8, 2), "has 1 double and 3 single blocks of width 8"),
        (FluxBlocks(2, 3, 16, 2), "has 2 double and 3 single blocks of width 16"),
        (None, "is no Flux model"),
    ],
)
def test_an_adapter_of_another_model_is_refused_with_both_named(variant, other, has):
    count = "2 double blocks" if variant == XLABS else "5 blocks"
    text = f"mine.safetensors is {variant}, made for {count} of width 8. The model {has}. Choose"
    with pytest.raises(ValueError, match=re.escape(text)):
        flux_terms(other, adapter(variant), tokens(), InjectionSettings())


def test_instantx_needs_the_single_blocks_too_and_xlabs_does_not_ask():
    other = FluxBlocks(2, 9, 8, 2)
    assert len(flux_terms(other, adapter(XLABS), tokens(), InjectionSettings())) == 2
    with pytest.raises(ValueError, match="9 single"):
        flux_terms(other, adapter(INSTANTX), tokens(), InjectionSettings())


def test_keys_and_values_are_normed_per_head():
    k, v = HeadNorm(2)(Pair(drawn(1, 4, 8) * 9, drawn(1, 4, 8) * 9))
    for side in (k, v):
        assert torch.allclose(side.unflatten(-1, (2, 4)).square().mean(-1), torch.ones(1, 4, 2), atol=1e-3)
    assert not HeadNorm(2)(Pair(torch.zeros(1, 4, 8), torch.zeros(1, 4, 8))).v.any()


def test_factors_by_block_name():
    settings = InjectionSettings(weight=(0.5, 1.0), layers="ALL:0, D01:2, s2:0.5")
    terms = flux_terms(BLOCKS, adapter(INSTANTX), tokens(), settings)
    assert {site.name: term.weight for site, term in terms.items() if term.acts} == {
        "D01": (1.0, 2.0),
        "S02": (0.25, 0.5),
    }
    assert set(block_factors(BLOCKS.sites, "").values()) == {1.0}
    with pytest.raises(ValueError, match="no block D02; its blocks are CLIP, T5, IN, D00-D01, S00-S02, OUT"):
        block_factors(BLOCKS.sites, "D02:1")


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"weight_type": "style transfer"}, '"style transfer" deals the weight out to layers of a UNet.*'
         "Choose linear, or give factors by block name in the Advanced node: D00-D09"),
        ({"scaling": "K+V w/ C penalty"}, '"K.V w/ C penalty" goes by the widths.*Choose V only or K.V'),
    ],
)  # fmt: skip
def test_what_means_something_for_unets_alone_is_refused(settings, text):
    with pytest.raises(ValueError, match=text):
        flux_terms(BLOCKS, adapter(XLABS), tokens(), InjectionSettings(**settings))


def test_scaling_and_mask_are_those_of_the_settings():
    settings = InjectionSettings(scaling="K+V", mask=torch.zeros(5, 7))
    injection = flux_injection(BLOCKS, adapter(XLABS), tokens(), settings)
    assert {term.scaling for term in injection.terms.values()} == {"K+V"}
    assert injection.mask.shape == (1, 1, 5, 7)
    whole = InjectionSettings(mask=torch.ones(5, 7))
    assert flux_injection(BLOCKS, adapter(XLABS), tokens(), whole).mask is None


def test_a_composition_is_refused():
    with pytest.raises(ValueError, match="not known which blocks carry the layout"):
        flux_terms(BLOCKS, adapter(XLABS), tokens(), InjectionSettings(), tokens())


def test_without_a_negative_picture_instantx_gives_the_negative_side_nothing():
    held, state = tokens(), EmbedState("SigLIP-so400m-384", "pooled", 1, 3)
    none = PromptPart(drawn(1, 1, 3), torch.zeros(1, 1, 3))
    some = PromptPart(drawn(1, 1, 3), drawn(1, 1, 3))
    silent = flux_tokens(adapter(INSTANTX), held, ImagePrompt(state, (none, none)))
    assert silent.cond is held.cond
    assert not silent.uncond.any()
    assert flux_tokens(adapter(INSTANTX), held, ImagePrompt(state, (none, some))) is held
    assert flux_tokens(adapter(XLABS), held, ImagePrompt(state, (none, none))) is held


@VARIANTS
def test_at_weight_zero_nothing_is_placed(variant):
    assert placed(variant, weight=(0.0,)) == {}


@VARIANTS
def test_lists_that_are_there_stay_as_they_are(variant):
    def other(*given, **more):
        return given[0]

    listed = {"attn1_patch": [other], "attn1_output_patch": [other]}
    replaced = {"dit": {("double_block", 0): other}, "attn2": {}}
    options = placed(variant, options={"patches": listed, "patches_replace": replaced})
    assert listed == {"attn1_patch": [other], "attn1_output_patch": [other]}
    assert replaced == {"dit": {("double_block", 0): other}, "attn2": {}}
    assert options["patches"]["attn1_patch"][1:] == [other]
    assert options["patches"]["attn1_output_patch"][-1] is other


def at(stream, index, text, length):
    return {"extra_options": {"block_type": stream, "block_index": index, "img_slice": [text, length]}}


def test_the_term_lies_on_the_picture_alone_in_double_blocks_and_on_text_in_single_ones():
    """A latent of 5 x 5 has 3 x 3 tokens; 4 of text lie before, 2 of a reference behind."""
    q = drawn(1, 2, 4 + 9 + 2, 4)
    whole = torch.zeros(1, 4 + 9 + 2, 8)

    def moved(options, stream, index):
        (seen,), (added,) = options["patches"]["attn1_patch"], options["patches"]["attn1_output_patch"]
        assert seen(q, q, q, pe=None, attn_mask=None, **at(stream, index, 4, 15)) == {}
        out = added(whole, at(stream, index, 4, 15)["extra_options"])
        again = added(whole, at(stream, index, 4, 15)["extra_options"])
        assert again is whole, "a term is added once"
        return out.abs().amax(-1)[0] > 0

    options = placed(INSTANTX)
    assert moved(options, "double", 1).tolist() == [False] * 4 + [True] * 9 + [False] * 2
    assert moved(options, "single", 2).tolist() == [True] * 13 + [False] * 2
    left = torch.tensor([1.0, 0.0, 0.0]).expand(1, 1, 3, 3)
    confined = [False] * 4 + [True, False, False] * 3 + [False] * 2
    options = placed(INSTANTX, mask=left)
    assert moved(options, "double", 1).tolist() == confined
    assert moved(options, "single", 2).tolist() == confined
    assert not whole.any()


def test_behind_a_block_the_term_lies_on_the_picture_of_its_output():
    options = placed(XLABS, mask=torch.ones(1, 1, 3, 3) * 0.5)
    q, image = drawn(1, 2, 4 + 9 + 2, 4), torch.zeros(1, 9 + 2, 8)
    options["patches"]["attn1_patch"][0](q, q, q, **at("double", 1, 4, 15))
    block = options["patches_replace"]["dit"]["double_block", 1]
    out = block({"img": image, "txt": "text"}, {"original_block": dict})
    assert out["txt"] == "text"
    assert (out["img"].abs().amax(-1)[0] > 0).tolist() == [True] * 9 + [False] * 2
    assert not image.any()


@VARIANTS
def test_a_mask_needs_all_tokens_of_the_picture(variant):
    options = placed(variant, mask=torch.zeros(1, 1, 3, 3))
    q = drawn(1, 2, 4 + 7, 4)
    with pytest.raises(ValueError, match=r"A mask needs the 3 x 3 tokens.*got 7: another patch"):
        options["patches"]["attn1_patch"][0](q, q, q, **at("double", 0, 4, 11))
    free = placed(variant)
    assert free["patches"]["attn1_patch"][0](q, q, q, **at("double", 0, 4, 11)) == {}


def test_each_variant_has_its_way_in():
    for variant, kind in ((XLABS, XLabsInjection), (INSTANTX, InstantXInjection)):
        settings = InjectionSettings(start=0.25, end=0.75)
        injection = flux_injection(BLOCKS, adapter(variant), tokens(), settings)
        assert type(injection) is kind
        assert (injection.start, injection.end) == (0.25, 0.75)
