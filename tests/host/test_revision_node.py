"""Revision on SDXL through the host: the model's vector, the text, and how the host's own node differs."""

from types import SimpleNamespace

import pytest
import torch
from tiller.tests.host import inprocess as real
from tiller.tests.host.inprocess import Run

RUN = Run(steps=2)
DEFAULTS = {"weights": "1", "noise_augmentation": 0.0, "ignore_prompt": False, "seed": 5}


def vision(seed, rows=1, width=1280):
    embeds = torch.randn(rows, width, generator=torch.Generator().manual_seed(seed))
    return SimpleNamespace(image_embeds=embeds)


def revise(positive, negative, *images, **settings):
    node = real.pack_nodes("revision").TillerRevision
    given = {f"image{i}": image for i, image in enumerate(images)}
    return node.execute(positive, negative, given, **{**DEFAULTS, **settings}).args


def prepared():
    of = real.family("sdxl")
    return of, real.conditioning(of, 1), real.conditioning(of, 2)


def calls(of, positive, negative):
    """What the model is called with: its vector and its text, by row, and which rows are negative."""
    seen = []

    def wrapper(apply_model, arguments):
        seen.append((arguments["c"]["y"], arguments["c"]["c_crossattn"], arguments["cond_or_uncond"]))
        return apply_model(arguments["input"], arguments["timestep"], **arguments["c"])

    model = of.model.clone()
    model.set_model_unet_function_wrapper(wrapper)
    real.sample(of._replace(model=model), positive, negative, RUN)
    return seen


@pytest.mark.parametrize("ignore", [False, True])
def test_the_models_vector_is_the_sum_on_positive_and_zero_on_negative(ignore):
    of, positive, negative = prepared()
    one, two = vision(3), vision(4)
    ours = revise(positive, negative, one, two, weights="1, -0.5", ignore_prompt=ignore)
    plain, revised = calls(of, positive, negative), calls(of, *ours)
    expected = one.image_embeds - 0.5 * two.image_embeds
    assert len(revised) == len(plain) == 2
    for (y, text, marks), (y_before, text_before, _) in zip(revised, plain, strict=True):
        assert sorted(marks) == [0, 1]
        for row, mark in enumerate(marks):
            assert torch.allclose(y[row, :1280], torch.zeros(1280) if mark else expected[0], atol=1e-6)
        assert torch.equal(y[:, 1280:], y_before[:, 1280:]), "sizes stay"
        assert torch.equal(text, torch.zeros_like(text) if ignore else text_before)


def test_without_noise_one_picture_is_the_hosts_unclip_but_for_its_own_first_step_of_noise():
    of, positive, negative = prepared()
    image = vision(3)
    ours = calls(of, *revise(positive, negative, image))[0]
    core = real.host().unCLIPConditioning().apply_adm(positive, image, 1.0, 0.0)[0]
    theirs = calls(of, core, negative)[0]
    row = ours[2].index(0)
    augmentor = of.model.model.noise_augmentor
    seed_noise = torch.randn(1, 1280, generator=torch.manual_seed(11 - 10))
    kept = float(augmentor.sqrt_alphas_cumprod[0])
    noise = float(augmentor.sqrt_one_minus_alphas_cumprod[0])
    assert 0 < noise < 0.01
    restated = kept * ours[0][row, :1280] + noise * seed_noise[0]
    assert torch.allclose(theirs[0][row, :1280], restated, atol=1e-5)
    assert torch.allclose(theirs[0][row, :1280], ours[0][row, :1280], atol=0.05)
    other = ours[2].index(1)
    assert torch.equal(theirs[0][other, :1280], negative[0][1]["pooled_output"][0])
    assert not ours[0][other, :1280].any()


def test_noise_changes_the_picture_by_its_seed_alone():
    of, positive, negative = prepared()
    image = vision(3)
    first = real.sample(of, *revise(positive, negative, image, noise_augmentation=0.5), RUN)
    again = real.sample(of, *revise(positive, negative, image, noise_augmentation=0.5), RUN)
    other = real.sample(of, *revise(positive, negative, image, noise_augmentation=0.5, seed=6), RUN)
    assert torch.equal(first, again)
    assert real.difference(first, other) > 1e-3
    state = torch.random.get_rng_state()
    assert torch.equal(
        revise(positive, negative, image, seed=1)[0][0][1]["pooled_output"],
        revise(positive, negative, image, seed=2)[0][0][1]["pooled_output"],
    )
    assert torch.equal(torch.random.get_rng_state(), state)


def test_what_comes_in_stays_as_it_was_and_other_settings_are_kept():
    _, positive, negative = prepared()
    positive[0][1]["area"] = (4, 4, 0, 0)
    kept = positive[0][0].clone(), positive[0][1]["pooled_output"].clone()
    image = vision(3)
    before = image.image_embeds.clone()
    ours = revise(positive, negative, image, ignore_prompt=True, weights="0.5")
    assert torch.equal(positive[0][0], kept[0])
    assert torch.equal(positive[0][1]["pooled_output"], kept[1])
    assert torch.equal(image.image_embeds, before)
    assert ours[0][0][1]["area"] == (4, 4, 0, 0)
    assert len(ours[0]) == len(positive)


def test_what_cannot_be_done_is_said():
    _, positive, negative = prepared()
    sd15 = real.conditioning(real.family("sd15"), 1)
    with pytest.raises(
        ValueError, match=r"positive conditioning of SDXL, with a pooled vector of 1280, got one of 768"
    ):
        revise(sd15, negative, vision(1))
    bare = [[negative[0][0], {}]]
    with pytest.raises(ValueError, match=r"negative conditioning of SDXL, .* got none\. Encode"):
        revise(positive, bare, vision(1))
    with pytest.raises(ValueError, match=r"CLIP-ViT-bigG, 1280 wide, got shape \(1, 1024\)"):
        revise(positive, negative, vision(1, width=1024))
    core = real.host().unCLIPConditioning().apply_adm(positive, vision(1), 1.0, 0.0)[0]
    with pytest.raises(ValueError, match=r"positive conditioning without images, got one from unCLIP"):
        revise(core, negative, vision(1))
