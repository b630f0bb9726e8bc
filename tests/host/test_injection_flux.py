"""Image tokens in the host's Flux: equal to diffusers and to the formula, and nothing left behind."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest
import torch
from tiller.tests.host import flux_adapters as fake
from tiller.tests.host import inprocess as real
from tiller.tests.host.flux_adapters import INSTANTX, XLABS, make, modules
from tiller.tests.host.small_flux import small_flux
from tiller.tests.host.small_unets import small

VARIANTS = pytest.mark.parametrize("variant", [XLABS, INSTANTX])
TOLERANCE = 1e-5


def picture(model: Any, hooks: Any = None, of: Any = None, reference: Any = None, **run: Any) -> torch.Tensor:
    """The host's KSampler with this model; `hooks` on the positive conditioning alone."""
    of = (of or small_flux())._replace(model=model)
    positive, negative = real.conditioning(of, 1), real.conditioning(of, 2)
    if hooks is not None:
        positive[0][1]["hooks"] = hooks
    if reference is not None:
        positive[0][1]["reference_latents"] = negative[0][1]["reference_latents"] = [reference]
    return real.sample(of, positive, negative, real.Run(**{"size": (9, 14), "steps": 2, **run}))


def injected(variant: str, model: Any = None, **settings: Any) -> Any:
    return modules().apply.inject(model or small_flux().model, make(variant, **settings))


def watch(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """(site, queries) of every term that is computed from here on."""
    made, seen = modules().flux._Made, []
    attended = made._attended

    def watched(self: Any, q: torch.Tensor, site: Any) -> torch.Tensor:
        seen.append((site, q.clone()))
        return attended(self, q, site)

    monkeypatch.setattr(made, "_attended", watched)
    return seen


def test_xlabs_equals_diffusers() -> None:
    of = small_flux()
    wanted = picture(fake.reference(XLABS, of, fake.weights(XLABS, of), fake.tokens(), 0.8))
    effect = real.difference(wanted, picture(of.model))
    assert effect > 0.5
    assert real.difference(picture(injected(XLABS)), wanted) / effect < TOLERANCE


def test_instantx_equals_the_blocks_written_out() -> None:
    of, hits = small_flux(), []
    wanted = picture(fake.instantx_by_hand(of, fake.weights(INSTANTX, of), fake.tokens(), 0.8, hits))
    effect = real.difference(wanted, picture(of.model))
    assert effect > 0.5
    assert real.difference(picture(injected(INSTANTX)), wanted) / effect < TOLERANCE
    assert set(hits) == set(range(7))


@VARIANTS
def test_a_prompt_goes_through_the_projector_of_a_published_file(variant: str) -> None:
    ours, of, held = modules(), small_flux(), fake.published(variant, small_flux())
    prompt = fake.prompt_for(held.spec)
    clone = ours.prompts.apply_ip_adapter(of.model, held, prompt, ours.terms.InjectionSettings((0.7,)))
    wanted = fake.reference(variant, of, held.ip_adapter, ours.projectors.tokens_of(held, prompt), 0.7)
    expected = picture(wanted)
    effect = real.difference(expected, picture(of.model))
    assert effect > 0.5
    assert real.difference(picture(clone), expected) / effect < TOLERANCE


def test_without_a_negative_picture_instantx_leaves_the_negative_as_it_is() -> None:
    ours, of, held = modules(), small_flux(), fake.published(INSTANTX, small_flux())
    given = (held, fake.prompt_for(held.spec, has_negative=False), ours.terms.InjectionSettings())
    whole = picture(ours.prompts.apply_ip_adapter(of.model, *given))
    hooked = picture(of.model, hooks=ours.prompts.ip_adapter_hooks(of.model, *given))
    effect = real.difference(whole, picture(of.model))
    assert effect > 0.5
    assert real.difference(whole, hooked) / effect < TOLERANCE


def test_an_adapter_for_flux_on_a_unet_is_refused() -> None:
    ours, held = modules(), fake.adapter(XLABS, small_flux())
    with pytest.raises(ValueError, match=r"3 double blocks of width 32\. The model is no Flux model"):
        ours.prompts.apply_tokens(small("sd15").model, held, fake.tokens(), ours.terms.InjectionSettings())


@pytest.mark.parametrize(("variant", "reached"), [(XLABS, 19), (INSTANTX, 57)])
def test_every_block_of_the_published_number_is_reached(
    variant: str, reached: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    of, flux, seen = small_flux(19, 38), modules().flux, []
    plus = flux._Made.plus

    def counted(self: Any, sequence: torch.Tensor, site: Any) -> torch.Tensor:
        out = plus(self, sequence, site)
        seen.extend([] if out is sequence else [site])
        return out

    monkeypatch.setattr(flux._Made, "plus", counted)
    picture(injected(variant, of.model, of=of), of=of, steps=1)
    assert len(seen) == len(set(seen)) == reached


@VARIANTS
def test_the_source_model_and_what_it_makes_stay_the_same(variant: str) -> None:
    model = small_flux().model
    before = {name: value.clone() for name, value in model.model.state_dict().items()}
    options, plain = repr(model.model_options), picture(model)
    clone = injected(variant)
    first, second = picture(clone), picture(clone)
    assert torch.equal(first, second)
    assert not torch.equal(first, plain)
    assert torch.equal(picture(model), plain)
    assert repr(model.model_options) == options
    assert all(torch.equal(value, before[name]) for name, value in model.model.state_dict().items())


@VARIANTS
def test_outside_its_window_and_at_weight_zero_it_is_not_there(variant: str) -> None:
    plain = picture(small_flux().model, steps=4)
    assert torch.equal(picture(injected(variant, weight=(0.0,)), steps=4), plain)
    assert torch.equal(picture(injected(variant, start=1.0), steps=4), plain)
    part = picture(injected(variant, end=0.4), steps=4)
    assert not torch.equal(part, plain)
    assert not torch.equal(part, picture(injected(variant), steps=4))


@VARIANTS
def test_two_in_a_chain_add_up_and_a_branch_does_not_see_the_other(variant: str) -> None:
    one = injected(variant, seed=1)
    alone = picture(one)
    together = picture(injected(variant, one, seed=2))
    assert torch.equal(picture(one), alone)
    swapped = picture(injected(variant, injected(variant, seed=2), seed=1))
    effect = real.difference(together, alone)
    assert effect > 0.5
    assert real.difference(together, swapped) / effect < TOLERANCE


@VARIANTS
def test_a_block_replaced_by_others_is_chained_whatever_the_order(variant: str) -> None:
    model = small_flux().model

    def foreign(args: Any, extra: Any) -> Any:
        out = extra["original_block"](args)
        return {**out, "img": out["img"] * 0.5}

    before, after = model.clone(), injected(variant)
    before.set_model_patch_replace(foreign, "dit", "double_block", 1)
    after.set_model_patch_replace(foreign, "dit", "double_block", 1)
    wanted = picture(injected(variant, before))
    assert torch.equal(picture(after), wanted)
    assert not torch.equal(wanted, picture(before))
    assert not torch.equal(wanted, picture(injected(variant)))


def test_a_block_that_others_skip_gets_nothing() -> None:
    def skip(args: Any, extra: Any) -> Any:
        return {"img": args["img"], "txt": args["txt"]}

    skipped, ours = small_flux().model.clone(), injected(XLABS)
    without = make(XLABS)
    del without.terms[("double", 1)]
    for model in (skipped, ours):
        model.set_model_patch_replace(skip, "dit", "double_block", 1)
    assert torch.equal(picture(ours), picture(modules().apply.inject(skipped, without)))


@VARIANTS
def test_queries_are_read_before_patches_of_others_change_them(
    variant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, seen = small_flux().model.clone(), watch(monkeypatch)
    picture(injected(variant, model), steps=1)
    model.set_model_attn1_patch(lambda q, k, v, **more: {"q": q * 0.0})
    picture(injected(variant, model), steps=1)
    first = [q for site, q in seen if site == ("double", 0)]
    assert len(first) == 2
    assert torch.equal(*first)


@VARIANTS
def test_a_batch_of_two_is_two_of_one_and_pictures_may_have_their_own_tokens(variant: str) -> None:
    two = fake.tokens(count=2)
    batch = picture(injected(variant, held=two), batch=2, steps=1)
    for i in range(2):
        one = modules().tokens.Tokens(two.cond[i : i + 1], two.uncond[i : i + 1])
        own = picture(injected(variant, held=one), batch=2, steps=1)
        assert real.difference(batch[i], own[i]) < TOLERANCE * 10
        assert real.difference(batch[i], own[1 - i]) > 0.5


@VARIANTS
def test_a_mask_of_ones_is_no_mask_and_a_mask_confines(variant: str) -> None:
    usable, model = modules().mask.usable, small_flux().model
    plain, free = picture(model), picture(injected(variant))

    def masked(mask: torch.Tensor) -> torch.Tensor:
        return picture(injected(variant, mask=usable(mask)))

    assert torch.equal(masked(torch.ones(513, 771)), free)
    assert torch.equal(masked(torch.zeros(513, 771)), plain)
    half = torch.zeros(513, 771)
    half[:, :385] = 1
    assert not torch.equal(masked(half), free)
    assert not torch.equal(masked(half), plain)


@VARIANTS
def test_a_conditioning_of_a_part_gets_that_part_of_the_mask(variant: str) -> None:
    of, right = small_flux(), torch.zeros(1, 1, 64, 128)
    right[..., 64:] = 1

    def part(left: int, model: Any) -> torch.Tensor:
        positive = real.conditioning(of, 1)
        positive[0][1] |= {"area": (8, 8, 0, left), "set_area_to_bounds": False}
        run = real.Run(size=(8, 16), steps=1, cfg=1.0)
        whole = real.sample(of._replace(model=model), positive, positive, run)
        return whole[..., left : left + 8]

    assert torch.equal(part(0, injected(variant, mask=right)), part(0, of.model))
    most = torch.ones_like(right)
    most[..., :32] = 0
    assert torch.equal(part(8, injected(variant, mask=right)), part(8, injected(variant, mask=most)))
    assert not torch.equal(part(8, injected(variant, mask=right)), part(8, of.model))


@VARIANTS
@pytest.mark.parametrize("cfg", [1.0, 4.0])
def test_hooks_bring_it_to_one_conditioning_only(variant: str, cfg: float) -> None:
    model, apply, injection = small_flux().model, modules().apply, make(variant)
    hooked = picture(model, hooks=apply.injection_hooks(injection), cfg=cfg)
    whole = picture(apply.inject(model, injection), cfg=cfg)
    assert not torch.equal(hooked, picture(model, cfg=cfg))
    assert torch.equal(hooked, whole) == (cfg == 1.0)


@VARIANTS
def test_reference_latents_lie_behind_the_picture_and_get_nothing(
    variant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    reference = torch.randn(1, 16, 6, 6, generator=torch.Generator().manual_seed(3))
    seen = watch(monkeypatch)
    out = picture(injected(variant), reference=reference, steps=1)
    lengths = {(site[0], q.shape[2]) for site, q in seen}
    assert lengths == {("double", 35), *([("single", 16 + 35)] if variant == INSTANTX else [])}
    seen.clear()
    half = torch.zeros(1, 1, 513, 771)
    half[..., :385] = 1
    masked = picture(injected(variant, mask=half), reference=reference, steps=1)
    assert {q.shape[2] for _, q in seen} == {35}
    assert not torch.equal(out, masked)
    assert not torch.equal(out, picture(small_flux().model, reference=reference, steps=1))


@VARIANTS
def test_keys_and_values_are_projected_once_per_run_and_go_with_it(
    variant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    apply, kv, injection = modules().apply, modules().kv, make(variant, end=0.9)
    made, tables, original = [], [], kv.keys_values
    monkeypatch.setattr(kv, "keys_values", lambda *given: made.append(given[0]) or original(*given))
    lay = kv.Table.rows
    monkeypatch.setattr(
        kv.Table, "rows", lambda self, *given: tables.append(weakref.ref(self)) or lay(self, *given)
    )
    gc.collect()
    gc.disable()
    try:
        picture(apply.inject(small_flux().model, injection), steps=4)
        assert tables
        assert all(table() is None for table in tables), "a circle keeps what a run held"
    finally:
        gc.enable()
    assert len(made) == len(injection.terms)
    assert len(injection._runs) == 0
