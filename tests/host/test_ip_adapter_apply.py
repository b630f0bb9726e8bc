"""Image prompts in the host's own sampler: each weight type by the usual pack's formula, and nothing else."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tiller.tests.host import inprocess as real
from tiller.tests.host.ip_adapter_by_hand import Given, adapter_of, by_hand, module, prompt_of
from tiller.tests.host.small_unets import small

TOLERANCE = 1e-5
ONE = real.Run(size=(8, 8), steps=1)
SCALINGS = ("V only", "K+V", "K+V w/ C penalty", "K+mean(V) w/ C penalty")


def settings(**given: Any) -> Any:
    return module("adapters.image_prompt.terms").InjectionSettings(**given)


def applied(base: str, prompt: Any = None, composition: Any = None, model: Any = None, **given: Any) -> Any:
    """A clone of the small model with the random adapter."""
    apply = module("adapters.image_prompt.apply").apply_ip_adapter
    of = small(base)
    return apply(model or of.model, adapter_of(base), prompt or prompt_of(), settings(**given), composition)


def picture(base: str, model: Any, run: real.Run = ONE, positive: Any = None, negative: Any = None) -> Any:
    of = small(base)._replace(model=model)
    sides = (positive or real.conditioning(of, 1), negative or real.conditioning(of, 2))
    return real.sample(of, *sides, run)


@cache
def plain(base: str, run: real.Run = ONE) -> torch.Tensor:
    return picture(base, small(base).model, run)


def tokens(base: str, seed: int = 4) -> Any:
    return module("adapters.image_prompt.projectors").tokens_of(adapter_of(base), prompt_of(seed))


def weight_types() -> list[tuple[str, str]]:
    """Those by a rule on SD1.5, those by a table on both bases."""
    from tiller.adapters.image_prompt.weight_types import TABLES, WEIGHT_TYPES

    return [("sd15", name) for name in WEIGHT_TYPES] + [("sdxl", name) for name in ("ease out", *TABLES)]


@pytest.mark.parametrize(("base", "weight_type"), weight_types())
def test_each_weight_type_is_the_formula_of_the_usual_pack(base: str, weight_type: str) -> None:
    if weight_type == "linear":
        given = Given(0.8, weight_type)
    else:
        given = Given(0.8, weight_type, composition=1.3, boost=0.6)
    wanted = picture(base, by_hand(small(base), adapter_of(base), tokens(base), given))
    weights = {"composition_weight": given.composition, "boost": given.boost}
    got = picture(base, applied(base, weight=(0.8,), weight_type=weight_type, **weights))
    effect = real.difference(wanted, plain(base))
    assert effect > 0.01
    assert real.difference(got, wanted) / effect < TOLERANCE


@pytest.mark.parametrize("scaling", SCALINGS[1:])
def test_each_embeds_scaling_is_the_formula_of_the_usual_pack(scaling: str) -> None:
    weight = 8.0 if "penalty" in scaling else 0.8  # the small model's layers are narrow
    given = Given(weight, "ease out", scaling=scaling)
    wanted = picture("sd15", by_hand(small("sd15"), adapter_of("sd15"), tokens("sd15"), given))
    got = picture("sd15", applied("sd15", weight=(weight,), weight_type="ease out", scaling=scaling))
    effect = real.difference(wanted, plain("sd15"))
    assert effect > 0.01
    assert real.difference(got, wanted) / effect < TOLERANCE


def masked(**given: Any) -> torch.Tensor:
    return picture("sd15", applied("sd15", **given))


@pytest.mark.parametrize("size", [(8, 8), (9, 13)], ids=["even", "odd"])
def test_masks_of_any_size_confine_it(size: tuple[int, int]) -> None:
    run = real.Run(size=size, steps=1)
    free = picture("sd15", applied("sd15"), run)
    for shape in ((513, 771), (1, 3, 4)):
        assert torch.equal(picture("sd15", applied("sd15", mask=torch.ones(shape)), run), free)
        assert torch.equal(picture("sd15", applied("sd15", mask=torch.zeros(shape)), run), plain("sd15", run))
        half = torch.full(shape, 0.5)
        got = picture("sd15", applied("sd15", mask=half), run)
        wanted = picture("sd15", applied("sd15", weight=(0.5,)), run)
        assert real.difference(got, wanted) / real.difference(free, plain("sd15", run)) < TOLERANCE


def test_each_picture_of_a_batch_may_have_its_own_mask_and_weight() -> None:
    run = real.Run(size=(8, 8), steps=1, batch=2)
    none, free = plain("sd15", run), picture("sd15", applied("sd15"), run)
    for given in (
        {"mask": torch.stack([torch.zeros(513, 771), torch.ones(513, 771)])},
        {"weight": (0.0, 1.0)},
    ):
        got = picture("sd15", applied("sd15", **given), run)
        assert real.difference(got[0], none[0]) / real.difference(free, none) < TOLERANCE
        assert real.difference(got[1], free[1]) / real.difference(free, none) < TOLERANCE


@pytest.mark.parametrize("extra_frame", [True, False], ids=["with the host's extra frame", "without"])
def test_in_context_windows_each_picture_keeps_what_is_its_own(extra_frame: bool) -> None:
    """Without motion each picture stands by itself, so windows must change nothing."""
    node = module("tests.host.test_sparse_windows")
    mask = torch.zeros(6, 16, 16)
    for i in range(6):
        mask[i, :, : 3 * i] = 1
    applied_to = applied("sd15", prompt_of(count=6), weight=(1.0, 0.0, 0.5, 1.0, 0.0, 0.7), mask=mask)
    run = real.Run(size=(8, 8), steps=1, batch=6)
    of = small("sd15")._replace(model=applied_to)
    whole = picture("sd15", applied_to, run)
    got = picture("sd15", node.windowed(of, causal_window_fix=extra_frame).model, run)
    assert real.difference(got, whole) / real.difference(whole, plain("sd15", run)) < TOLERANCE


def area(left: int, width: int, seed: int = 1) -> Any:
    """Positive conditioning for some columns of a latent of 8 x 16."""
    [[text, options]] = real.conditioning(small("sd15"), seed)
    return [[text, {**options, "area": (8, width, 0, left), "set_area_to_bounds": False}]]


@pytest.mark.parametrize("by_hook", [False, True])
def test_where_the_conditioning_has_an_area_the_mask_is_cut_to_it(by_hook: bool) -> None:
    run, model = real.Run(size=(8, 16), steps=1, cfg=1.0), small("sd15").model
    apply = module("adapters.image_prompt.apply")

    def made(**given: Any) -> torch.Tensor:
        positive = area(8, 8)
        if by_hook:
            hooks = apply.ip_adapter_hooks(model, adapter_of("sd15"), prompt_of(), settings(**given))
            positive[0][1]["hooks"] = hooks
            return picture("sd15", model, run, positive)
        return picture("sd15", applied("sd15", **given), run, positive)

    right = torch.zeros(64, 128)
    right[:, 64:] = 1
    free, none = made(), made(weight=(0.0,))
    assert not torch.equal(free, none)
    assert real.difference(made(mask=right), free) / real.difference(free, none) < TOLERANCE
    assert torch.equal(made(mask=1 - right), none)


def test_areas_of_one_size_in_one_batch_get_their_own_parts_of_the_mask() -> None:
    run = real.Run(size=(8, 16), steps=1, cfg=1.0)
    both = [*area(0, 8), *area(8, 8, seed=6)]
    right = torch.zeros(64, 128)
    right[:, 64:] = 1
    none = picture("sd15", small("sd15").model, run, both)
    free = picture("sd15", applied("sd15"), run, both)
    got = picture("sd15", applied("sd15", mask=right), run, both)
    effect = real.difference(free, none)
    assert real.difference(got[..., :8], none[..., :8]) / effect < TOLERANCE
    assert real.difference(got[..., 8:], free[..., 8:]) / effect < TOLERANCE


def test_rows_are_told_apart_however_the_host_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    of, model = small("sd15"), applied("sd15")
    several = [*real.conditioning(of, 1), *real.conditioning(of, 7)]
    long = [[torch.cat([text, text], dim=1), options] for text, options in real.conditioning(of, 2)]
    together = picture("sd15", model, ONE, several)
    effect = real.difference(together, picture("sd15", of.model, ONE, several))
    apart = picture("sd15", model, ONE, several, long)
    assert torch.isfinite(apart).all()
    monkeypatch.setattr(type(model), "get_free_memory", lambda *_: 0.0)
    assert real.difference(picture("sd15", model, ONE, several), together) / effect < TOLERANCE
    assert real.difference(picture("sd15", model, ONE, several, long), apart) / effect < TOLERANCE


def test_a_hook_and_the_model_may_both_have_one() -> None:
    apply, model = module("adapters.image_prompt.apply"), small("sd15").model
    run = real.Run(size=(8, 8), steps=1, cfg=1.0)
    other = prompt_of(8)
    hooks = apply.ip_adapter_hooks(model, adapter_of("sd15"), other, settings(weight=(0.7,)))
    positive = real.conditioning(small("sd15"), 1)
    positive[0][1]["hooks"] = hooks
    got = picture("sd15", applied("sd15"), run, positive)
    wanted = picture("sd15", applied("sd15", other, weight=(0.7,), model=applied("sd15")), run)
    effect = real.difference(wanted, picture("sd15", applied("sd15"), run))
    assert effect > 0.01
    assert real.difference(got, wanted) / effect < TOLERANCE
    assert torch.equal(picture("sd15", model, run), plain("sd15", run)), "hooks left something on the model"


def test_hooks_come_after_those_that_were_there() -> None:
    apply, model = module("adapters.image_prompt.apply"), small("sd15").model
    run = real.Run(size=(8, 8), steps=1, cfg=1.0)
    first = apply.ip_adapter_hooks(model, adapter_of("sd15"), prompt_of(), settings())
    both = apply.ip_adapter_hooks(model, adapter_of("sd15"), prompt_of(8), settings(), first)
    made = []
    for hooks in (first, both):
        positive = real.conditioning(small("sd15"), 1)
        positive[0][1]["hooks"] = hooks
        made.append(picture("sd15", model, run, positive))
    wanted = picture("sd15", applied("sd15", prompt_of(8), model=applied("sd15")), run)
    effect = real.difference(wanted, made[0])
    assert effect > 0.01
    assert real.difference(made[1], wanted) / effect < TOLERANCE


def test_blocks_by_name_are_factors_on_top_of_the_weight_type() -> None:
    named = masked(layers="ALL:0, OUT09-OUT11:1, MID:0.5", weight_type="ease out")
    index = {t: 0.05 + 0.95 * t / 16 for t in (13, 14, 15)} | {6: 0.5 * (0.05 + 0.95 * 6 / 16)}
    numbered = masked(layers=", ".join(f"{t}:{factor:.9f}" for t, factor in index.items()))
    effect = real.difference(named, plain("sd15"))
    assert effect > 0.01
    assert real.difference(named, numbered) / effect < TOLERANCE
    assert torch.equal(masked(layers="NONE"), plain("sd15"))
    assert torch.equal(masked(layers="IN03-IN05:1"), masked())


def test_a_composition_prompt_takes_the_layers_of_the_layout() -> None:
    other = prompt_of(8, parts=2)
    for kind in ("linear", "style and composition", "style transfer precise"):
        both = picture("sdxl", applied("sdxl", composition=other, weight_type=kind))
        assert not torch.equal(both, picture("sdxl", applied("sdxl", weight_type=kind))), kind
    # the layout from one, the rest from the other, is the two injected side by side
    apart = applied("sdxl", layers="6:1", model=applied("sdxl", other, layers="3:1"))
    wanted = picture("sdxl", apart)
    got = picture("sdxl", applied("sdxl", composition=other, layers="3:1, 6:1"))
    effect = real.difference(wanted, plain("sdxl"))
    assert effect > 0.01
    assert real.difference(got, wanted) / effect < TOLERANCE


def test_what_does_not_go_together_is_refused_in_words() -> None:
    for base, model, words in (
        ("sdxl", "sd15", "for SDXL: 17 layers, text width 2048. The model has 16 cross-attention layers"),
        ("sd15", "sdxl", "for SD1.5: 16 layers, text width 768. The model has 17 cross-attention layers"),
    ):
        with pytest.raises(ValueError, match=words):
            applied(base, model=small(model).model)
    with pytest.raises(ValueError, match=r"needs CLIP-ViT-H image_embeds .* has CLIP-ViT-bigG"):
        applied("sd15", prompt_of(encoder="CLIP-ViT-bigG"))
    with pytest.raises(ValueError, match=r"as many as the image prompt has pictures \(3\), got 2"):
        applied("sd15", prompt_of(count=3), weight=(1.0, 0.5))
    with pytest.raises(ValueError, match="This model has no block OUT12; its blocks are BASE, IN00-IN11"):
        applied("sd15", layers="OUT12:1")
    with pytest.raises(
        ValueError, match=r"IN03 has no attention .* are IN01-IN02, IN04-IN05, IN07-IN08, MID"
    ):
        applied("sd15", layers="IN03:0.5")
    with pytest.raises(ValueError, match=r"transformers 0 to 15 of this model, got 16"):
        applied("sd15", layers="16:1")
    with pytest.raises(ValueError, match='with "style transfer" this model has none that act'):
        applied("sd15", composition=prompt_of(8), weight_type="style transfer")
    with pytest.raises(ValueError, match="A mask of finite values is needed, got NaN"):
        applied("sd15", mask=torch.full((4, 4), torch.nan))


def test_an_adapter_of_another_kind_of_model_is_refused_in_words() -> None:
    flux = replace(adapter_of("sd15"), spec=replace(adapter_of("sd15").spec, base="Flux"))
    apply = module("adapters.image_prompt.apply").apply_ip_adapter
    with pytest.raises(ValueError, match="Flux"):
        apply(small("sd15").model, flux, prompt_of(), settings())


@pytest.mark.parametrize("base", ["sd15", "sdxl"])
def test_weight_zero_and_outside_the_window_nothing_changes_and_the_source_never_does(base: str) -> None:
    model = small(base).model
    options, weights = repr(model.model_options), model.model.state_dict()
    before = {name: value.clone() for name, value in weights.items()}
    for given in ({"weight": (0.0,)}, {"start": 1.0}, {"end": 0.0}, {"layers": "MID:0, ALL:0"}):
        assert torch.equal(picture(base, applied(base, **given)), plain(base)), given
    assert not torch.equal(picture(base, applied(base)), plain(base))
    assert repr(model.model_options) == options
    assert all(torch.equal(value, before[name]) for name, value in model.model.state_dict().items())


def test_a_batch_of_two_is_two_of_one_and_pictures_have_their_own_prompts() -> None:
    run = real.Run(size=(8, 8), steps=1, batch=2)
    both = picture("sd15", applied("sd15", prompt_of(count=2)), run)
    parts = prompt_of(count=2).parts[0]
    for i in range(2):
        own = replace(
            prompt_of(), parts=(replace(parts, embeds=parts.embeds[[i]], negative=parts.negative[[i]]),)
        )
        single = picture("sd15", applied("sd15", own), run)
        effect = real.difference(single, plain("sd15", run))
        assert real.difference(both[i], single[i]) / effect < TOLERANCE
        assert real.difference(both[i], single[1 - i]) / effect > 0.05


def test_hooks_on_the_positive_leave_the_negative_as_it_is() -> None:
    """One step makes negative + cfg * (positive - negative), and a cfg of 1 each of the two alone."""
    apply, of, run = module("adapters.image_prompt.apply"), small("sd15"), real.Run(steps=1, cfg=1.0)
    positive, negative = real.conditioning(of, 1), real.conditioning(of, 2)
    with_it = picture("sd15", applied("sd15"), run, positive)
    without = picture("sd15", of.model, run, negative)
    wanted = without + 4.0 * (with_it - without)
    positive[0][1]["hooks"] = apply.ip_adapter_hooks(of.model, adapter_of("sd15"), prompt_of(), settings())
    got = picture("sd15", of.model, ONE, positive, negative)
    assert real.difference(got, wanted) / real.difference(wanted, plain("sd15")) < TOLERANCE
    both = picture("sd15", applied("sd15"))
    assert real.difference(got, both) / real.difference(wanted, plain("sd15")) > 0.01


def test_steps_at_the_very_edge_of_the_window_are_inside() -> None:
    apply, unet = module("adapters.injection.apply"), module("adapters.injection.unet")
    injection = unet.UNetInjection({}, start=0.2, end=0.7)
    level = torch.tensor(10 * (1 - 0.2)).item(), torch.tensor(10 * (1 - 0.7)).item()
    noise = SimpleNamespace(percent_to_sigma=lambda percent: 10 * (1 - percent))
    model = SimpleNamespace(model_sampling=noise, get_dtype_inference=lambda: torch.float32)

    def acts(sigma: float) -> bool:
        options: dict[str, Any] = {}
        apply._place([injection], model, torch.zeros(1, 4, 8, 8), torch.tensor([sigma]), options)
        return bool(options)

    assert [acts(sigma) for sigma in (level[0], 5.0, level[1])] == [True] * 3
    assert [acts(sigma) for sigma in (level[0] + 1e-4, level[1] - 1e-4, 0.0)] == [False] * 3
