"""The control check reads real chains: ours, the host's, joint ones, references, and odd things."""

import importlib

import pytest
import torch
from tiller.tests.host import inprocess as real
from tiller.tests.host.small_unets import SmallVAE
from tiller.tests.host.test_reference import referenced


def check(*arguments, **more):
    return real.pack_nodes("check_control").TillerCheckControl.execute(*arguments, **more).args


def prepared(name="sd15"):
    of = real.family(name)
    return of, real.conditioning(of, 1), real.conditioning(of, 2), {"samples": torch.zeros(1, 4, 16, 24)}


def grey_noise(height=128, width=192):
    return 0.3 + 0.4 * real.picture(height, width)


def test_units_of_both_kinds_in_order_and_no_problem():
    of, positive, negative, latent = prepared()
    ours = real.tiller_apply(positive, negative, of.control, grey_noise(), strength=0.5)
    ours = real.core_apply(*ours, of.control, grey_noise(), 0.75, 0.0, 0.8)
    ours = referenced(*ours, grey_noise())
    text, count = check(of.model, *ours, latent)
    assert count == 0
    assert text.startswith("No problem found: 3 units for SD1.5. Unit 1 (ControlNet")
    assert "192 x 128 pixels, strength 0.5, 0 to 1; Unit 2" in text
    assert "strength 0.75, 0 to 0.8; Unit 3 (Reference), 192 x 128 pixels" in text


def test_nothing_is_stopped_and_every_finding_is_a_line():
    of, positive, negative, latent = prepared()
    mask = torch.zeros(1, 128, 192)
    options = importlib.import_module("tiller.adapters.control.options").ControlOptions(mask=mask)
    ours = real.tiller_apply(
        positive, negative, of.control, 1 - (grey_noise(40, 60) > 0.6).float(), strength=3.0, options=options
    )
    text, count = check(real.family("sdxl").model, ours[0], negative, latent)
    lines = text.split("\n")
    assert len(lines) == count
    for expected in (
        "for SD1.5, but the model is SDXL",
        "much less than the 192 x 128",
        "black all over",
        "strength 3",
        "on the positive conditioning alone",
    ):
        assert sum(expected in line for line in lines) == 1, expected


def test_the_same_control_by_two_nodes_is_not_the_same_object():
    of, positive, negative, latent = prepared()
    one = real.tiller_apply(positive, [], of.control, grey_noise())[0]
    other = real.tiller_apply([], negative, of.control, grey_noise())[1]
    text, count = check(of.model, one, other, latent)
    assert "Unit 1" in text.split("\n")[0]
    assert text.count("is not the same object on the other") == 2
    assert check(of.model, one, latent=latent)[1] == 0
    assert count == 2


def test_a_chain_that_entries_share_is_read_once():
    of, positive, negative, latent = prepared()
    ours = real.tiller_apply(positive * 2, negative, of.control, grey_noise())
    ours = real.tiller_apply(*ours, of.control, grey_noise())
    assert "2 units" in check(of.model, *ours, latent)[0]


def test_a_union_net_without_a_type_and_several_in_one_pass():
    nets = importlib.import_module("tiller.tests.host.union_nets")
    of = real.family("sdxl")
    options = importlib.import_module("tiller.adapters.control.options").ControlOptions
    union = nets.union_for_sampling(6)
    positive, negative = real.conditioning(of, 1), real.conditioning(of, 2)
    ours = real.tiller_apply(positive, negative, union, grey_noise())
    assert "was not told what its hint shows" in check(of.model, *ours)[0]
    units = [
        real.tiller_unit(union, grey_noise(), options=options(union_type=kind), strength=strength)
        for kind, strength in (("depth", 0.5), ("openpose", 0.25))
    ]
    ours = real.tiller_apply_units(positive, negative, units)
    text, count = check(of.model, *ours)
    assert count == 2
    assert text.startswith("Unit 1")
    assert "a depth map is grey" in text
    assert "Unit 2" in text.split("\n")[1]
    assert "not a pose drawn" in text


@pytest.mark.parametrize(
    "odd", [None, [], 3, "text", [None], [[None]], [[None, {"control": "net"}]], [[1, 2]]]
)
def test_odd_inputs_are_answered_not_refused(odd):
    of = real.family("sd15")
    for model in (of.model, None, object()):
        for latent in (None, {}, {"samples": None}, {"samples": torch.zeros(0)}, 5):
            text, count = check(model, odd, odd, latent)
            assert (text.count("\n"), count) == (0, 1)
            assert text.startswith("There is no control on the positive conditioning")


def test_a_control_net_without_a_hint_is_said():
    of, positive, _, latent = prepared()
    bare = [[text, {**options, "control": of.control.copy()}] for text, options in positive]
    assert "shows no hint that can be looked at" in check(of.model, bare, None, latent)[0]


def test_sizes_follow_the_models_own_latents():
    of, positive, negative, _ = prepared()
    ours = referenced(positive, negative, grey_noise(), vae=SmallVAE())
    text, count = check(of.model, *ours, {"samples": torch.zeros(2, 4, 64, 96)})
    assert count == 1
    assert "much less than the 768 x 512" in text
