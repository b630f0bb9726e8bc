"""What each mode does to a net's residuals, by hand formula, and what it comes to in the host's sampler."""

from types import SimpleNamespace

import pytest
import torch
from tiller.tests.host import inprocess as real
from tiller.tests.host.inprocess import Run

MODES = ("balanced", "prompt", "control", "unbalanced")
SOFT, SPARING = ("prompt", "control"), ("control", "unbalanced")
LAYOUTS = pytest.mark.parametrize("outputs", [12, 9], ids=["sd15", "sdxl"])
FAMILIES = pytest.mark.parametrize("name", ["sd15", "sdxl", "flux"])
SAME_NET = 1e-5
"""Relative difference allowed between a net run on some rows and on all: the order of its sums."""


def soft(count, webui=False):
    """The factors by the web UI's formula, shallowest layer first, the middle last."""
    last = 12 if webui else count - 1
    return [0.825 ** float(last - index) for index in range(count)]


def mode_factors(mode, count):
    """A transformer has more layers than the web UI's 13, which are then spread over its depth."""
    if mode not in SOFT:
        return [1.0] * count
    return (
        soft(count)
        if count <= 13
        else [0.825 ** ((count - 1 - i) * (12 / (count - 1))) for i in range(count)]
    )


def fake_net(outputs):
    """A net whose residuals are known: normals times its strength, with the row's text as the last value."""
    real.host()
    from comfy.controlnet import ControlBase

    class FakeNet(ControlBase):
        def copy(self):
            net = FakeNet()
            self.copy_to(net)
            return net

        def get_control(self, x_noisy, t, cond, batched_number, transformer_options):
            calls.append((x_noisy.shape[0], batched_number, transformer_options["cond_or_uncond"]))
            text = cond["c_crossattn"][:, :1, :1, None]
            return {
                "middle": [self.strength * text * pattern[outputs]],
                "output": [self.strength * text * pattern[index] for index in range(outputs)],
            }

    generator = torch.Generator().manual_seed(7)
    pattern = [torch.randn(1, 6, 4, 4, generator=generator) for _ in range(outputs + 1)]
    calls = []
    return FakeNet(), pattern, calls


def control_of(net, image=None, **settings):
    image = real.picture(32, 32) if image is None else image
    return real.tiller_apply(real.conditioning(real.family("sd15"), 1), [], net, image, **settings)[0][0][1][
        "control"
    ]


def ask(control, numbers=(1, 0), images=1, sigma=5.0):
    """The control's residuals, shallowest layer first and the middle last; row r has the text r + 1."""
    rows = len(numbers) * images
    options = {"cond_or_uncond": list(numbers), "sample_sigmas": torch.tensor([10.0, 5.0, 2.0, 0.0])}
    text = torch.arange(1.0, rows + 1).reshape(rows, 1, 1).repeat(1, 2, 3)
    x = torch.zeros(rows, 4, 4, 4)
    given = control.get_control(x, torch.full((rows,), sigma), {"c_crossattn": text}, len(numbers), options)
    return None if given is None else [*given["output"], *given["middle"]]


@LAYOUTS
@pytest.mark.parametrize("mode", MODES)
def test_the_formula_of_each_mode_on_known_residuals(outputs, mode):
    net, pattern, calls = fake_net(outputs)
    found = ask(control_of(net, mode=mode, strength=0.7), (1, 0), images=2)
    factors = mode_factors(mode, outputs + 1)
    marks = torch.tensor([0.0, 0.0, 3.0, 4.0] if mode in SPARING else [1.0, 2.0, 3.0, 4.0])
    assert len(found) == outputs + 1
    for value, base, factor in zip(found, pattern, factors, strict=True):
        wanted = 0.7 * marks.view(4, 1, 1, 1) * base * factor
        assert torch.allclose(value, wanted, rtol=1e-6, atol=0)
    assert calls == [(2, 1, [0]) if mode in SPARING else (4, 2, [1, 0])]


@LAYOUTS
def test_the_web_uis_own_soft_factors_can_be_written(outputs):
    net, pattern, _ = fake_net(outputs)
    found = ask(control_of(net, mode="prompt", options=real.options(layers="soft .825 webui")))
    for value, base, factor in zip(found, pattern, soft(outputs + 1, webui=True), strict=True):
        assert torch.allclose(value[1:], 2.0 * base * factor, rtol=1e-6, atol=0)


def test_several_positives_and_a_call_without_any():
    net, pattern, calls = fake_net(12)
    control = control_of(net, mode="unbalanced")
    found = ask(control, (0, 1, 0), images=2)
    marks = torch.tensor([1.0, 2.0, 0.0, 0.0, 5.0, 6.0]).view(6, 1, 1, 1)
    assert torch.equal(found[0], marks * pattern[0])
    assert calls == [(4, 2, [0, 0])]
    assert ask(control, (1,), images=2) is None
    assert ask(control, (1, 1)) is None
    assert len(calls) == 1
    assert torch.equal(ask(control, (0,))[0], pattern[0])


def test_a_chain_before_keeps_its_rows():
    first, pattern, _ = fake_net(12)
    second, other, _ = fake_net(12)
    positive = real.conditioning(real.family("sd15"), 1)
    chained = real.tiller_apply(positive, [], first, real.picture(32, 32), strength=2.0)
    chained = real.tiller_apply(*chained, second, real.picture(32, 32), mode="unbalanced")
    control = chained[0][0][1]["control"]
    found = ask(control, (1, 0))
    assert torch.equal(found[3][:1], 2.0 * pattern[3])
    assert torch.allclose(found[3][1:], 4.0 * pattern[3] + 2.0 * other[3])
    assert torch.equal(ask(control, (1,))[3], 2.0 * pattern[3])


def test_a_list_of_the_wrong_length_is_refused_with_both_numbers():
    net, _, _ = fake_net(9)
    control = control_of(net, options=real.options(layers="1, 1, .5"))
    with pytest.raises(ValueError, match=r"net has 10 layers .* but the list has 3 factors\. Write"):
        ask(control)


@pytest.mark.parametrize(
    ("window", "factors"), [("steps", [1.0, 2 / 3, 1 / 3]), ("noise", None)], ids=["steps", "noise"]
)
def test_the_step_curve_runs_over_what_the_window_measures(window, factors):
    net, pattern, _ = fake_net(12)
    control = control_of(net, window=window, options=real.options(steps="0:1 1:0"))
    model = real.family("sd15").model.model
    control.pre_run(model, model.model_sampling.percent_to_sigma)
    sigmas = [10.0, 5.0, 2.0]
    if factors is None:  # the percent of the noise is 1 - t / 999, with t the timestep of the noise level
        factors = [float(model.model_sampling.timestep(torch.tensor(s))) / 999 for s in sigmas]
    for sigma, factor in zip(sigmas, factors, strict=True):
        found = ask(control, sigma=sigma)
        assert torch.allclose(found[0][:1], pattern[0] * factor, rtol=3e-3 if window == "noise" else 1e-6)


def test_where_the_step_curve_is_zero_the_net_is_not_run():
    net, pattern, calls = fake_net(12)
    control = control_of(net, window="steps", options=real.options(steps="1, 0, .5"))
    assert torch.equal(ask(control, sigma=10.0)[0][:1], pattern[0])
    assert ask(control, sigma=5.0) is None
    assert len(calls) == 1
    assert torch.equal(ask(control, sigma=2.0)[0][:1], pattern[0] * 0.5)


def first_call(name):
    """A real net of the family, prepared for one call with the negative first, and the call's arguments."""
    of = real.family(name)
    model = of.model.model
    generator = torch.Generator().manual_seed(9)
    x = torch.randn(2, of.latent_channels, 8, 8, generator=generator)
    cond = {"c_crossattn": torch.randn(2, 16, of.text_width, generator=generator)}
    if name == "sdxl":
        cond["y"] = torch.randn(2, 2816, generator=generator)
    if name == "flux":
        cond |= {"y": torch.randn(2, 768, generator=generator), "guidance": torch.full((2,), 3.5)}
    t = torch.full((2,), 0.8 if name == "flux" else 5.0)
    options = {"cond_or_uncond": [1, 0]}

    @torch.no_grad()
    def residuals(control):
        control.pre_run(model, model.model_sampling.percent_to_sigma)
        given = control.get_control(x.clone(), t, cond, 2, options)
        control.cleanup()
        return [
            value for place in ("input", "output", "middle") for value in given[place] if value is not None
        ]

    return of, residuals


@FAMILIES
@pytest.mark.parametrize("mode", MODES)
def test_the_formula_of_each_mode_on_a_real_nets_residuals(name, mode):
    of, residuals = first_call(name)
    image = real.picture(64, 64)
    plain = residuals(real.core_apply(real.conditioning(of, 1), [], of.control, image)[0][0][1]["control"])
    found = residuals(control_of(of.control, image, mode=mode))
    factors = mode_factors(mode, len(plain))
    for value, base, factor in zip(found, plain, factors, strict=True):
        wanted = base * factor
        if mode not in SPARING:
            assert torch.equal(value, wanted)
        else:
            assert not value[0].any()
            assert real.difference(value[1:], wanted[1:]) <= SAME_NET * float(wanted.abs().max())


@FAMILIES
def test_sparing_the_negative_is_the_host_with_control_on_the_positive_alone(name):
    of = real.family(name)
    positive, negative, image = real.conditioning(of, 1), real.conditioning(of, 2), real.picture(64, 64)
    run = Run(batch=2, steps=2)
    only = real.core_apply(positive, [], of.control, image)[0]
    core = real.sample(of, only, negative, run)
    ours = real.sample(of, *real.tiller_apply(positive, negative, of.control, image, mode="unbalanced"), run)
    both = real.sample(of, *real.core_apply(positive, negative, of.control, image), run)
    scale = float(core.abs().max())
    assert real.difference(core, both) > 1e-2 * scale
    assert real.difference(core, ours) <= 1e-5 * scale


def test_sparing_the_negative_leaves_the_models_batch_whole_and_its_negative_as_without():
    of = real.family("sd15")
    positive, negative, image = real.conditioning(of, 1), real.conditioning(of, 2), real.picture(64, 64)

    def outputs(positive, negative):
        seen = []

        def note(apply_model, arguments):
            result = apply_model(arguments["input"], arguments["timestep"], **arguments["c"])
            seen.append((arguments["cond_or_uncond"], result.clone()))
            return result

        model = of.model.clone()
        model.set_model_unet_function_wrapper(note)
        real.sample(of._replace(model=model), positive, negative, Run(steps=1))
        return seen

    ((numbers, plain),) = outputs(positive, negative)
    ((same, spared),) = outputs(*real.tiller_apply(positive, negative, of.control, image, mode="control"))
    assert numbers == same == [1, 0]
    assert torch.equal(plain[0], spared[0])
    assert real.difference(plain[1], spared[1]) > 1e-3


@pytest.mark.parametrize("mode", ["control", "unbalanced"])
def test_at_cfg_one_there_is_no_negative_to_spare(mode):
    of = real.family("sd15")
    positive, negative, image = real.conditioning(of, 1), real.conditioning(of, 2), real.picture(64, 64)
    run, partner = Run(cfg=1.0), {"control": "prompt", "unbalanced": "balanced"}[mode]
    results = [
        real.sample(of, *real.tiller_apply(positive, negative, of.control, image, mode=each), run)
        for each in (mode, partner)
    ]
    assert real.difference(*results) == 0.0


def test_an_area_and_two_positives_run_with_the_negative_spared():
    """The negative has the area too: else the host makes it one that takes the positive's control along."""
    of = real.family("sd15")
    image = real.picture(64, 64)

    def with_area(seed):
        ((text, options),) = real.conditioning(of, seed)
        return [[text, {**options, "area": (8, 8, 0, 4)}]]

    positive = real.conditioning(of, 1) + with_area(3) + real.conditioning(of, 4)
    negative = real.conditioning(of, 2) + with_area(2)
    run = Run(size=(8, 12), batch=2, steps=2)
    core = real.sample(of, real.core_apply(positive, [], of.control, image)[0], negative, run)
    ours = real.tiller_apply(positive, negative, of.control, image, mode="unbalanced")
    assert real.difference(core, real.sample(of, *ours, run)) <= 1e-5 * float(core.abs().max())


def test_control_that_the_hosts_old_node_hands_to_the_negative_is_spared_too():
    of = real.family("sd15")
    positive, negative, image = real.conditioning(of, 1), real.conditioning(of, 2), real.picture(64, 64)
    ours = real.tiller_apply(positive, negative, of.control, image, mode="unbalanced")
    handed = [[ours[0][0][0], {**ours[0][0][1], "control_apply_to_uncond": True}]]
    one, other = real.sample(of, *ours), real.sample(of, handed, negative)
    assert real.difference(one, other) == 0.0


def test_a_net_that_patches_the_model_gets_all_that_the_unit_asks():
    of = real.family("sd15")
    from tiller.adapters.control.patches.apply import ModelPatchNet
    from tiller.adapters.identify import Identified

    class Noting(ModelPatchNet):
        def patch(self, call, steering):
            seen.append(SimpleNamespace(call=call, steering=steering))

    seen = []
    net = Noting(Identified("control", "a test's net", "SD1.5"))
    masks = torch.stack([torch.zeros(16, 16), torch.ones(16, 16)])
    options = real.options(layers="0:0 1:1", steps="1, .5", mask=masks)
    positive, negative, image = real.conditioning(of, 1), real.conditioning(of, 2), real.picture(64, 64)
    settings = {"mode": "control", "options": options, "strength": 0.8, "window": "steps"}
    ours = real.tiller_apply(positive, negative, net, image, **settings)
    plain = real.sample(of, positive, negative, Run(batch=2, steps=2))
    assert real.difference(real.sample(of, *ours, Run(batch=2, steps=2)), plain) == 0.0
    assert [each.steering.strength for each in seen] == [0.8, 0.4]
    assert all(each.steering.rows.tolist() == [False, False, True, True] for each in seen)
    assert all(each.steering.layers(3) == (0.0, 0.5, 1.0) for each in seen)
    assert all(torch.equal(each.steering.mask[:, 0], masks[[0, 1, 0, 1]]) for each in seen)
    assert all(each.call.x.shape[0] == 4 and each.call.chunks == 2 for each in seen)
    seen.clear()
    real.sample(of, *real.tiller_apply(positive, negative, net, image), Run(steps=1))
    plain_steering = seen[0].steering
    assert (plain_steering.strength, plain_steering.rows) == (1.0, None)
    assert (plain_steering.layers, plain_steering.mask) == (None, None)
