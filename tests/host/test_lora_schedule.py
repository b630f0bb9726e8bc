"""LoRAs as hooks in the real sampler: on one conditioning, in some of the steps, with block weights."""

import pytest
import torch
from tiller.tests.host import inprocess as real
from tiller.tests.host.inprocess import Run
from tiller.tests.host.lora_files import load, lora, loras, merged, text_encoders, text_lora, unscaled
from tiller.tests.host.small_unets import small

__all__ = ["loras"]
FAMILIES = ["sd15", "sdxl"]
STEPS = 4
RUN = Run(steps=STEPS)


def schedule(model, name, clip=None, **settings):
    """Our Schedule LoRA, at the defaults of its widgets but for what is given."""
    given = {
        "strength_model": 1.0,
        "strength_clip": 1.0,
        "preset": "ALL",
        "blocks": "",
        "start_percent": 0.0,
        "end_percent": 1.0,
        "curve": "",
        **settings,
    }
    node = real.pack_nodes("schedule_lora").TillerScheduleLoRA
    return node.execute(model, lora_name=name, clip=clip, **given).args


def hooked(cond, hooks):
    import comfy.hooks

    return comfy.hooks.set_hooks_for_conditioning(cond, hooks)


def pair(family):
    return real.conditioning(family, 1), real.conditioning(family, 2)


def sampled(family, model, hooks=None, run=RUN):
    """The picture with the hooks on both conditionings, so that they are one batch as without hooks."""
    positive, negative = (hooked(cond, hooks) for cond in pair(family))
    return real.sample(family._replace(model=model), positive, negative, run)


def halfway(family, step):
    """The percent half-way between the noise of a step and of the one before, and what the noise is there."""
    import comfy.samplers
    from tiller.adapters.control.window import percent_of_noise

    sampling = family.model.get_model_object("model_sampling")
    sigmas = comfy.samplers.calculate_sigmas(sampling, RUN.scheduler, STEPS).tolist()
    places = [percent_of_noise(sigma, sampling.percent_to_sigma) for sigma in sigmas[step - 1 : step + 1]]
    return sum(places) / 2


@pytest.mark.parametrize("name", FAMILIES)
def test_hooks_all_along_are_the_lora_and_the_hosts_own_hooks_to_the_bit(loras, name):
    from comfy_extras.nodes_hooks import CreateHookLora

    family = small(name)
    file = loras("a.safetensors", lora(family.model))
    plain = sampled(family, family.model)
    hooks, info = schedule(family.model, file, strength_model=0.7)
    got = sampled(family, family.model, hooks)
    assert torch.equal(got, sampled(family, load(family.model, None, file, strength_model=0.7)[0]))
    theirs = CreateHookLora().create_hook(file, 0.7, 0.0)[0]
    assert torch.equal(got, sampled(family, family.model, theirs))
    assert real.difference(got, plain) > 0.01
    assert torch.equal(sampled(family, family.model), plain), "the hooks left something behind"
    assert info.endswith("  schedule: from 0: 1")


def test_block_weights_act_in_hooks_too(loras):
    family = small("sd15")
    file = loras("a.safetensors", lora(family.model))
    blocks = "OUTALL, MID:0.5, OUT03-OUT05:-1"
    hooks, _ = schedule(family.model, file, blocks=blocks, strength_model=0.5)
    wanted = load(family.model, None, file, blocks=blocks, strength_model=0.5)[0]
    assert torch.equal(sampled(family, family.model, hooks), sampled(family, wanted))


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("is_first", [True, False])
def test_a_window_is_the_lora_in_its_steps_and_the_plain_model_in_the_others_to_the_bit(
    loras, name, is_first
):
    family = small(name)
    file = loras("a.safetensors", lora(family.model))
    place = halfway(family, 2)
    window = {"end_percent": place} if is_first else {"start_percent": place}
    hooks, _ = schedule(family.model, file, **window)
    changed = load(family.model, None, file)[0]
    order = [changed, family.model] if is_first else [family.model, changed]
    with unscaled(family):
        got = sampled(family, family.model, hooks)
        assert torch.equal(got, in_two_halves(family, order))
        for whole in order:
            assert real.difference(got, sampled(family, whole)) > 0.01


def in_two_halves(family, models):
    """The run of STEPS steps, the first half with one model, the second with another."""
    positive, negative = pair(family)
    latent = {"samples": torch.zeros(1, family.latent_channels, *RUN.size)}
    for index, model in enumerate(models):
        latent = real.host().common_ksampler(
            model,
            11,
            STEPS,
            RUN.cfg,
            RUN.sampler,
            RUN.scheduler,
            positive,
            negative,
            latent,
            disable_noise=index == 1,
            start_step=2 * index,
            last_step=2 * index + 2,
            force_full_denoise=index == 1,
        )[0]
    return latent["samples"]


def test_outside_of_the_window_is_the_plain_model_to_the_bit(loras):
    family = small("sd15")
    file = loras("a.safetensors", lora(family.model))
    plain = sampled(family, family.model)
    between = halfway(family, 2)
    for window in (
        {"start_percent": 1.0},
        {"end_percent": 0.0},
        {"start_percent": between - 0.001, "end_percent": between + 0.001},
    ):
        assert torch.equal(sampled(family, family.model, schedule(family.model, file, **window)[0]), plain)
    for off in ({"strength_model": 0.0, "strength_clip": 0.0}, {"preset": "NONE"}, {"curve": "0"}):
        assert torch.equal(sampled(family, family.model, schedule(family.model, file, **off)[0]), plain)


def test_a_curve_multiplies_the_strength(loras):
    family = small("sd15")
    file = loras("a.safetensors", lora(family.model))
    half = sampled(family, family.model, schedule(family.model, file, curve="0.5")[0])
    assert torch.equal(half, sampled(family, load(family.model, None, file, strength_model=0.5)[0]))
    hooks, info = schedule(family.model, file, curve="0:1 1:0")
    fading = sampled(family, family.model, hooks)
    assert "from 0: 0.975, from 0.05: 0.925" in info
    for other in (half, sampled(family, family.model)):
        assert real.difference(fading, other) > 0.001


def test_two_loras_on_two_conditionings_do_not_meet(loras):
    """One step at CFG 4 is n + 4 (p - n), p by the model with one LoRA, n by that with the other."""
    family = small("sd15")
    names = [loras(f"{seed}.safetensors", lora(family.model, seed=seed)) for seed in (1, 2)]
    one = Run(steps=1, cfg=4.0)
    conds = pair(family)
    alone = [
        real.sample(
            family._replace(model=load(family.model, None, name)[0]), cond, cond, Run(steps=1, cfg=1.0)
        )
        for name, cond in zip(names, conds, strict=True)
    ]
    hooks = [schedule(family.model, name)[0] for name in names]
    got = real.sample(family, *map(hooked, conds, hooks), one)
    wanted = alone[1] + 4.0 * (alone[0] - alone[1])
    assert real.difference(got, wanted) <= 1e-5 * float(wanted.abs().max())
    together = schedule(family.model, names[1], prev_hooks=hooks[0])[0]
    assert len(together) == 2
    assert len(hooks[0]) == 1
    both = load(load(family.model, None, names[0])[0], None, names[1])[0]
    assert torch.equal(sampled(family, family.model, together), sampled(family, both))
    assert real.difference(got, real.sample(family, *(hooked(cond, together) for cond in conds), one)) > 0.01


def test_a_region_has_its_own_lora(loras):
    """Left and right half by masks: each half of a step is that of its own model alone."""
    family = small("sd15")
    names = [loras(f"{seed}.safetensors", lora(family.model, seed=seed)) for seed in (1, 2)]
    cond, negative = pair(family)
    run = Run(steps=1, cfg=1.0)
    left = torch.zeros(1, 64, 64)
    left[..., :32] = 1.0
    regions = []
    for name, mask in zip(names, (left, 1.0 - left), strict=True):
        region = hooked(cond, schedule(family.model, name)[0])
        regions += real.host().ConditioningSetMask().append(region, mask, "default", 1.0)[0]
    got = real.sample(family, regions, negative, run)
    alone = [
        real.sample(family._replace(model=load(family.model, None, name)[0]), cond, negative, run)
        for name in names
    ]
    assert real.difference(got[..., :4], alone[0][..., :4]) <= 2e-6
    assert real.difference(got[..., 4:], alone[1][..., 4:]) <= 2e-6
    assert real.difference(got[..., 4:], alone[0][..., 4:]) > 0.01


def state_of(model):
    """A copy of the model's own weights, with no patch of any clone in them."""
    import comfy.model_management

    comfy.model_management.unload_all_models()
    return {key: tensor.clone() for key, tensor in model.model.state_dict().items()}


@pytest.mark.parametrize("run", [RUN, Run(steps=1, denoise=0.5)])
def test_the_same_hooks_twice_give_the_same_picture(loras, run):
    """A run of one step ends at the noise that it began with: the host's own keyframes would then sleep."""
    family = small("sd15")
    file = loras("a.safetensors", lora(family.model))
    hooks, _ = schedule(family.model, file, start_percent=0.2)
    state = state_of(family.model)
    first = sampled(family, family.model, hooks, run)
    assert torch.equal(first, sampled(family, family.model, hooks, run))
    assert real.difference(first, sampled(family, family.model, None, run)) > 0.01
    assert all(torch.equal(state[key], tensor) for key, tensor in state_of(family.model).items())
    assert family.model.hook_patches == {}


def test_the_text_half_acts_through_set_clip_hooks(loras):
    import comfy.hooks

    family, clip = small("sd15"), text_encoders("clip_l")
    file = loras("a.safetensors", {**lora(family.model), **text_lora("te")})
    settings = {"strength_clip": 0.6, "blocks": "BASE:0.5"}
    hooks, _ = schedule(family.model, file, clip, **settings)
    target = comfy.hooks.create_target_dict(comfy.hooks.EnumWeightTarget.Clip)
    before = {key: tensor.clone() for key, tensor in clip.cond_stage_model.state_dict().items()}
    clip.patcher.register_all_hook_patches(hooks, target)
    clip.patcher.patch_hooks(hooks)
    got = {key: tensor.clone() for key, tensor in clip.cond_stage_model.state_dict().items()}
    clip.patcher.patch_hooks(None)
    wanted = merged(load(family.model, clip, file, **settings)[1].patcher)
    assert wanted.keys() == got.keys()
    assert all(torch.equal(got[key], wanted[key]) for key in wanted)
    assert all(torch.equal(before[key], clip.cond_stage_model.state_dict()[key]) for key in before)
    silent, _ = schedule(family.model, file, clip, strength_clip=0.0)
    clip.patcher.register_all_hook_patches(silent, target)
    clip.patcher.patch_hooks(silent)
    assert all(torch.equal(before[key], clip.cond_stage_model.state_dict()[key]) for key in before)


def test_a_wrong_window_or_file_is_refused_before_sampling(loras):
    model = small("sd15").model
    file = loras("a.safetensors", lora(model))
    with pytest.raises(
        ValueError, match=r"the start first, got 0\.6 to 0\.4\. 0 is the first step, 1 the last\."
    ):
        schedule(model, file, start_percent=0.6, end_percent=0.4)
    with pytest.raises(ValueError, match="A curve needs"):
        schedule(model, file, curve="0:1 1:x")
    with pytest.raises(ValueError, match=r"Schedule LoRA needs a LoRA for this model \(SD1\.5\)"):
        schedule(model, loras("b.safetensors", lora(small("sdxl").model)))
