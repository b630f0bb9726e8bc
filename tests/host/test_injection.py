"""Token injection in the host's own sampler: equal to the formula written out, and nothing left behind."""

from __future__ import annotations

import importlib
from typing import Any

import pytest
import torch
import torch.nn.functional as functional
from tiller.tests.host import inprocess as real
from tiller.tests.host.small_unets import small

BASES = pytest.mark.parametrize("base", ["sd15", "sdxl"])
TOLERANCE = 1e-5


def modules() -> Any:
    """apply.py, and the records that go with it."""
    real.host()
    return importlib.import_module("tiller.adapters.injection.apply")


def make(base: str, seed: int = 0, tokens: int = 4, count: int = 1, **settings: Any) -> Any:
    """A UNetInjection with random weights at every cross-attention of a small model."""
    apply = modules()
    kv = importlib.import_module("tiller.adapters.injection.keys_values")
    unet = importlib.import_module("tiller.adapters.injection.unet")
    held = importlib.import_module("tiller.adapters.injection.tokens")
    generator = torch.Generator().manual_seed(seed)
    sites = apply.unet_sites(small(base).model)
    width = small(base).text_width

    def drawn(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator) / shape[-1] ** 0.5

    each = held.Tokens(drawn(count, tokens, width) * 30, drawn(count, tokens, width) * 30)
    weight = settings.pop("weight", (0.8,))
    scaling = settings.pop("scaling", "V only")
    terms = {
        site: kv.Term(kv.Projection(drawn(c, x), drawn(c, x)), each, weight, scaling)
        for site, (c, x) in sites.items()
    }
    return unet.UNetInjection(terms, **settings)


def by_hand(model: Any, injection: Any, hits: list[Any]) -> Any:
    """A clone that projects the tokens in every layer at every step, as the papers' code does."""
    clone = model.clone()
    for site, term in injection.terms.items():

        def layer(q: Any, k: Any, v: Any, options: Any, site: Any = site, term: Any = term) -> torch.Tensor:
            hits.append(site)
            chunks, heads = options["cond_or_uncond"], options["n_heads"]
            each = q.shape[0] // len(chunks)
            sides = [term.tokens.uncond if chunk == 1 else term.tokens.cond for chunk in chunks]
            tokens = torch.cat([side.expand(each, -1, -1) for side in sides])
            own_k, own_v = (functional.linear(tokens, w) for w in term.projection[:2])

            def attend(k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
                split = [t.unflatten(-1, (heads, -1)).transpose(1, 2) for t in (q, k, v)]
                return functional.scaled_dot_product_attention(*split).transpose(1, 2).flatten(2)

            return attend(k, v) + term.weight[0] * attend(own_k, own_v)

        clone.set_model_attn2_replace(layer, *site)
    return clone


def picture(base: str, model: Any, hooks: Any = None, **run: Any) -> torch.Tensor:
    """The host's KSampler with this model; `hooks` on the positive conditioning alone."""
    of = small(base)._replace(model=model)
    positive, negative = real.conditioning(of, 1), real.conditioning(of, 2)
    if hooks is not None:
        positive[0][1]["hooks"] = hooks
    return real.sample(of, positive, negative, real.Run(**{"size": (9, 14), **run}))


def weights_of(model: Any) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.model.state_dict().items()}


@BASES
def test_sampling_equals_the_formula_and_reaches_every_layer(base: str) -> None:
    model, injection, hits = small(base).model, make(base), []
    plain = picture(base, model)
    wanted = picture(base, by_hand(model, injection, hits))
    got = picture(base, modules().inject(model, injection))
    effect = real.difference(wanted, plain)
    assert effect > 0.05
    assert real.difference(got, wanted) / effect < TOLERANCE
    assert len(set(hits)) == len(injection.terms) == {"sd15": 16, "sdxl": 17}[base]
    assert ("middle", 0, 0) in hits


@BASES
def test_the_source_model_and_what_it_makes_stay_the_same(base: str) -> None:
    model = small(base).model
    weights, options = weights_of(model), repr(model.model_options)
    plain = picture(base, model)
    clone = modules().inject(model, make(base))
    first, second = picture(base, clone), picture(base, clone)
    assert torch.equal(first, second)
    assert not torch.equal(first, plain)
    assert torch.equal(picture(base, model), plain)
    assert repr(model.model_options) == options
    assert all(torch.equal(value, weights[name]) for name, value in weights_of(model).items())


@BASES
def test_outside_its_window_and_at_weight_zero_it_is_not_there(base: str) -> None:
    model, inject = small(base).model, modules().inject
    plain = picture(base, model)
    assert torch.equal(picture(base, inject(model, make(base, weight=(0.0,)))), plain)
    assert torch.equal(picture(base, inject(model, make(base, start=1.0, end=1.0))), plain)
    part = picture(base, inject(model, make(base, start=0.0, end=0.3)))
    assert not torch.equal(part, plain)
    assert not torch.equal(part, picture(base, inject(model, make(base))))


def test_two_in_a_chain_add_up_and_a_branch_does_not_see_the_other() -> None:
    model, inject = small("sd15").model, modules().inject
    first, second = make("sd15", seed=1), make("sd15", seed=2)
    one = inject(model, first)
    alone = picture("sd15", one)
    both = inject(one, second)
    together = picture("sd15", both)
    assert torch.equal(picture("sd15", one), alone)
    swapped = picture("sd15", inject(inject(model, second), first))
    effect = real.difference(together, alone)
    assert effect > 0.05
    assert real.difference(together, swapped) / effect < TOLERANCE


def test_a_patch_of_others_on_the_same_layer_is_chained_whatever_the_order() -> None:
    model, inject, injection = small("sd15").model, modules().inject, make("sd15")

    def foreign(q: Any, k: Any, v: Any, options: Any) -> torch.Tensor:
        return q * 0.5

    before, after = model.clone(), inject(model, injection)
    before.set_model_attn2_replace(foreign, "middle", 0)
    after.set_model_attn2_replace(foreign, "middle", 0)
    wanted = picture("sd15", inject(before, injection))
    assert torch.equal(picture("sd15", after), wanted)
    assert not torch.equal(wanted, picture("sd15", before))
    assert not torch.equal(wanted, picture("sd15", inject(model, injection)))


def test_a_batch_of_two_is_two_of_one_and_pictures_may_have_their_own_tokens() -> None:
    model, inject = small("sd15").model, modules().inject
    kv = importlib.import_module("tiller.adapters.injection.keys_values")
    two = make("sd15", count=2)
    batch = picture("sd15", inject(model, two), batch=2, steps=1)
    for i in range(2):
        held = importlib.import_module("tiller.adapters.injection.tokens")
        terms = {
            site: kv.Term(
                term.projection,
                held.Tokens(term.tokens.cond[i : i + 1], term.tokens.uncond[i : i + 1]),
                term.weight,
            )
            for site, term in two.terms.items()
        }
        own = picture("sd15", inject(model, type(two)(terms)), batch=2, steps=1)
        assert real.difference(batch[i], own[i]) < TOLERANCE
        assert real.difference(batch[i], own[1 - i]) > 0.05


def test_a_mask_of_ones_is_no_mask_and_a_mask_confines() -> None:
    model, inject = small("sd15").model, modules().inject
    usable = importlib.import_module("tiller.adapters.injection.mask").usable
    plain, free = picture("sd15", model), picture("sd15", inject(model, make("sd15")))

    def masked(mask: torch.Tensor) -> torch.Tensor:
        return picture("sd15", inject(model, make("sd15", mask=usable(mask))))

    assert torch.equal(masked(torch.ones(513, 771)), free)
    assert torch.equal(masked(torch.zeros(513, 771)), plain)
    half = torch.zeros(513, 771)
    half[:, :385] = 1
    assert not torch.equal(masked(half), free)
    assert not torch.equal(masked(half), plain)


@pytest.mark.parametrize("cfg", [1.0, 4.0])
def test_hooks_bring_it_to_one_conditioning_only(cfg: float) -> None:
    model, apply, injection = small("sd15").model, modules(), make("sd15")
    hooked = picture("sd15", model, hooks=apply.injection_hooks(injection), cfg=cfg)
    whole = picture("sd15", apply.inject(model, injection), cfg=cfg)
    assert torch.equal(picture("sd15", model, cfg=cfg), picture("sd15", model, cfg=cfg))
    assert not torch.equal(hooked, picture("sd15", model, cfg=cfg))
    assert torch.equal(hooked, whole) == (cfg == 1.0)


def test_keys_and_values_are_projected_once_per_run(monkeypatch: pytest.MonkeyPatch) -> None:
    model, apply, injection = small("sd15").model, modules(), make("sd15", end=0.9)
    kv = importlib.import_module("tiller.adapters.injection.keys_values")
    made, levels, original = [], [], kv.keys_values
    monkeypatch.setattr(kv, "keys_values", lambda *given: made.append(given) or original(*given))
    noise = type(model.model.model_sampling).percent_to_sigma
    monkeypatch.setattr(
        type(model.model.model_sampling),
        "percent_to_sigma",
        lambda self, percent: levels.append(percent) or noise(self, percent),
    )
    clone = apply.inject(model, injection)
    picture("sd15", clone, steps=4)
    assert len(made) == 16
    assert levels.count(0.9) == 1
    assert len(injection._runs) == 0, "what a run kept goes with it"
