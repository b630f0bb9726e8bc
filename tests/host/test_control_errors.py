"""What cannot work is said in a sentence and stops the run; nothing is left out in silence."""

import pytest
import torch
from tiller.adapters.control.unit import ControlUnit
from tiller.tests.host import inprocess as real
from tiller.tests.host.test_control_kinds import adapter, latent_net, lora


def prepared(name):
    of = real.family(name)
    return of, real.conditioning(of, 1), real.conditioning(of, 2), real.picture(64, 64)


@pytest.mark.parametrize(
    ("net", "model"),
    [("sd15", "sdxl"), ("sd15", "flux"), ("sdxl", "sd15"), ("sdxl", "flux"), ("flux", "sd15")],
)
def test_a_net_of_another_family_is_refused_when_sampling_starts(net, model):
    names = {"sd15": "SD1.5", "sdxl": "SDXL", "flux": "Flux"}
    of, positive, negative, image = prepared(model)
    ours = real.tiller_apply(positive, negative, real.family(net).control, image)
    with pytest.raises(ValueError) as caught:
        real.sample(of, *ours)
    assert str(caught.value) == (
        f"This control net is for {names[net]}, but the model is {names[model]}. "
        f"Load a control net made for {names[model]}, or sample with a model of the {names[net]} family."
    )


@pytest.mark.parametrize(("net", "model"), [(lora, "sdxl"), (adapter, "sd15")])
def test_loras_and_adapters_of_another_family_are_refused(net, model):
    of, positive, negative, image = prepared(model)
    with pytest.raises(ValueError, match="This control net is for"):
        real.sample(of, *real.tiller_apply(positive, negative, net(), image))


def test_a_wrong_net_deeper_in_the_chain_is_refused():
    of, positive, negative, image = prepared("sdxl")
    wrong = real.tiller_apply(positive, negative, real.family("sd15").control, image)
    with pytest.raises(ValueError, match=r"for SD1\.5, but the model is SDXL"):
        real.sample(of, *real.core_apply(*wrong, of.control, image))


def test_after_a_refusal_the_next_run_works():
    of, positive, negative, image = prepared("sd15")
    wrong = real.tiller_apply(positive, negative, adapter(), image)
    with pytest.raises(ValueError, match="This control net is for SDXL"):
        real.sample(of, *wrong)
    core = real.sample(of, *real.core_apply(positive, negative, of.control, image))
    ours = real.sample(of, *real.tiller_apply(positive, negative, of.control, image))
    assert real.difference(core, ours) == 0.0


def test_a_window_that_ends_before_it_starts_is_refused():
    of, positive, negative, image = prepared("sd15")
    with pytest.raises(ValueError, match=r"start_percent 0\.8 and end_percent 0\.2.*Swap the two values"):
        real.tiller_apply(positive, negative, of.control, image, start_percent=0.8, end_percent=0.2)


def test_a_net_that_reads_through_a_vae_needs_one_when_it_is_applied():
    _, positive, negative, image = prepared("flux")
    net, _ = latent_net()
    with pytest.raises(ValueError, match=r"reads the hint through a VAE, but no VAE\. Connect the VAE"):
        real.tiller_apply(positive, negative, net, image)
    with pytest.raises(ValueError, match="Control Unit got a control net that reads"):
        real.tiller_unit(net, image)
    with pytest.raises(ValueError, match="Apply Control Units got a control net that reads"):
        real.tiller_apply_units(positive, negative, [ControlUnit(net, image)])


@pytest.mark.parametrize("thing", [None, "control.safetensors", torch.zeros(1)])
def test_something_that_is_no_control_net_is_refused(thing):
    _, positive, negative, image = prepared("sd15")
    with pytest.raises(ValueError, match=rf"needs a control net, got {type(thing).__name__}\. Connect"):
        real.tiller_apply(positive, negative, thing, image)


@pytest.mark.parametrize(
    ("image", "text"),
    [
        (torch.zeros(1, 0, 8, 3), "at least one picture of 1 x 1 pixel, got 1 of 8 x 0"),
        (torch.full((1, 8, 8, 3), float("nan")), "finite pixel values"),
        (torch.zeros(1, 8, 8, 4), r"a hint of 1 or 3 channels, got 4 \(RGBA\)"),
        (torch.zeros(8, 8, 3), "an image of shape"),
    ],
)
def test_an_unfit_hint_is_refused(image, text):
    of, positive, negative, _ = prepared("sd15")
    with pytest.raises(ValueError, match=text):
        real.tiller_apply(positive, negative, of.control, image)


def test_counting_steps_needs_the_samplers_noise_levels():
    of, positive, negative, image = prepared("sd15")
    ours = real.tiller_apply(positive, negative, of.control, image, window="steps")
    control = ours[0][0][1]["control"]
    with pytest.raises(ValueError, match=r"\(sample_sigmas\), but this sampler does not pass them on"):
        control.get_control(torch.zeros(1, 4, 8, 8), torch.tensor([1.0]), {}, 1, {})
