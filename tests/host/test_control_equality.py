"""Our nodes give what the host's own control nodes give, to the last bit, wherever both can do it."""

import pytest
import torch
from tiller.tests.host import inprocess as real
from tiller.tests.host.inprocess import Run

FAMILIES = pytest.mark.parametrize("name", ["sd15", "sdxl", "flux"])


def prepared(name):
    of = real.family(name)
    return of, real.conditioning(of, 1), real.conditioning(of, 2), real.picture(64, 64)


@FAMILIES
def test_at_the_defaults_it_is_the_hosts_apply(name):
    of, positive, negative, image = prepared(name)
    core = real.sample(of, *real.core_apply(positive, negative, of.control, image))
    ours = real.sample(of, *real.tiller_apply(positive, negative, of.control, image))
    plain = real.sample(of, positive, negative)
    assert real.difference(core, plain) > 0.1
    assert real.difference(core, ours) == 0.0


@FAMILIES
def test_strength_and_noise_window_are_the_hosts(name):
    of, positive, negative, image = prepared(name)
    run = Run(steps=6)
    settings = {"strength": 0.7, "start_percent": 0.2, "end_percent": 0.8}
    core = real.sample(of, *real.core_apply(positive, negative, of.control, image, 0.7, 0.2, 0.8), run)
    ours = real.sample(of, *real.tiller_apply(positive, negative, of.control, image, **settings), run)
    full = real.sample(of, *real.core_apply(positive, negative, of.control, image), run)
    assert real.difference(core, full) > 0.01
    assert real.difference(core, ours) == 0.0


@FAMILIES
def test_two_units_are_a_chain_of_two_core_nodes(name):
    of, positive, negative, image = prepared(name)
    other = real.picture(40, 72, seed=8)
    core = real.core_apply(positive, negative, of.control, image, 0.9, 0.0, 1.0)
    core = real.core_apply(*core, of.control, other, 0.5, 0.0, 0.6)
    units = [
        real.tiller_unit(of.control, image, strength=0.9),
        real.tiller_unit(of.control, other, strength=0.5, end_percent=0.6),
    ]
    ours = real.tiller_apply_units(positive, negative, units)
    assert real.difference(real.sample(of, *core), real.sample(of, *ours)) == 0.0


def test_strength_zero_returns_the_conditioning_itself():
    of, positive, negative, image = prepared("sd15")
    ours = real.tiller_apply(positive, negative, of.control, image, strength=0.0)
    assert ours[0] is positive
    assert ours[1] is negative
    units = real.tiller_apply_units(positive, negative, [real.tiller_unit(of.control, image, strength=0.0)])
    assert units[0] is positive


@pytest.mark.parametrize("order", ["core before", "core after"])
def test_it_chains_with_the_hosts_node(order):
    of, positive, negative, image = prepared("sd15")
    other = real.picture(64, 64, seed=8)
    core = real.core_apply(positive, negative, of.control, image, 0.9, 0.0, 1.0)
    core = real.core_apply(*core, of.control, other, 0.5, 0.0, 1.0)
    if order == "core before":
        mixed = real.core_apply(positive, negative, of.control, image, 0.9, 0.0, 1.0)
        mixed = real.tiller_apply(*mixed, of.control, other, strength=0.5)
    else:
        mixed = real.tiller_apply(positive, negative, of.control, image, strength=0.9)
        mixed = real.core_apply(*mixed, of.control, other, 0.5, 0.0, 1.0)
    assert real.difference(real.sample(of, *core), real.sample(of, *mixed)) == 0.0


def test_outside_its_window_a_unit_leaves_the_others_acting():
    of, positive, negative, image = prepared("sd15")
    core = real.core_apply(positive, negative, of.control, image, 0.9, 0.0, 1.0)
    core = real.core_apply(*core, of.control, image, 1.0, 0.0, 0.3)
    for window in ("noise", "steps"):
        mixed = real.core_apply(positive, negative, of.control, image, 0.9, 0.0, 1.0)
        mixed = real.tiller_apply(*mixed, of.control, image, end_percent=0.3, window=window)
        assert real.difference(real.sample(of, *core), real.sample(of, *mixed)) == 0.0


def test_positive_and_negative_share_one_control_object():
    of, positive, negative, image = prepared("sd15")
    ours = real.tiller_apply(positive, negative, of.control, image)
    assert ours[0][0][1]["control"] is ours[1][0][1]["control"]
    assert ours[0][0][1]["control_apply_to_uncond"] is False
    apart = real.core_apply(positive, [], of.control, image)[0]
    chained = real.tiller_apply(apart, negative, of.control, image)
    assert chained[0][0][1]["control"] is not chained[1][0][1]["control"]
    assert chained[0][0][1]["control"].previous_controlnet is apart[0][1]["control"]
    assert chained[1][0][1]["control"].previous_controlnet is None


def test_the_same_graph_gives_the_same_twice():
    of, positive, negative, image = prepared("sd15")
    ours = real.tiller_apply(positive, negative, of.control, image, window="steps", resize_mode="fill")
    assert real.difference(real.sample(of, *ours), real.sample(of, *ours)) == 0.0


def test_control_net_and_model_stay_as_they_were():
    of, positive, negative, image = prepared("sd15")
    weights = of.control.control_model.state_dict()
    before = {key: tensor.clone() for key, tensor in weights.items()}
    model_before = {key: tensor.clone() for key, tensor in of.model.model.state_dict().items()}
    kept = image.clone()
    public = {
        key: value.copy() if isinstance(value, list | dict) else value
        for key, value in vars(of.control).items()
    }
    for resize_mode in ("core", "crop"):
        settings = {"strength": 0.4, "start_percent": 0.1, "resize_mode": resize_mode}
        real.sample(of, *real.tiller_apply(positive, negative, of.control, image, **settings))
    assert all(torch.equal(before[key], tensor) for key, tensor in weights.items())
    assert all(torch.equal(model_before[key], t) for key, t in of.model.model.state_dict().items())
    assert torch.equal(image, kept)
    assert of.model.patches == {}
    after = vars(of.control)
    assert after.keys() == public.keys()
    changed = [key for key, value in public.items() if after[key] is not value and after[key] != value]
    assert changed == []
    assert after["cond_hint_original"] is None
    assert "control" not in positive[0][1]


@FAMILIES
@pytest.mark.parametrize("size", [(8, 8), (9, 14)], ids=["batch of 2", "9 x 14 latent"])
def test_batches_and_odd_sizes_are_the_hosts(name, size):
    of, positive, negative, _ = prepared(name)
    if name == "flux":
        size = (10, 14) if size == (9, 14) else size  # its patches are 2 x 2: the host refuses an odd latent
    run = Run(size=size, batch=2 if size == (8, 8) else 1, steps=2)
    image = real.picture(75, 120, batch=2)
    core = real.sample(of, *real.core_apply(positive, negative, of.control, image), run)
    ours = real.sample(of, *real.tiller_apply(positive, negative, of.control, image), run)
    assert real.difference(core, ours) == 0.0


def test_a_gray_hint_is_the_same_as_its_three_channels():
    of, positive, negative, image = prepared("sd15")
    gray = image[..., :1]
    three = real.tiller_apply(positive, negative, of.control, gray.repeat(1, 1, 1, 3))
    one = real.tiller_apply(positive, negative, of.control, gray)
    assert real.difference(real.sample(of, *three), real.sample(of, *one)) == 0.0


@pytest.mark.parametrize("mode", ["stretch", "crop", "fill"])
def test_a_resize_mode_hands_the_host_a_hint_of_the_final_size(mode):
    from tiller.preprocessors.fit import Size, fit_image

    of, positive, negative, _ = prepared("sd15")
    run, image = Run(size=(8, 12), steps=2), real.picture(50, 50)
    fitted = fit_image(image, Size(64, 96), mode)
    core = real.sample(of, *real.core_apply(positive, negative, of.control, fitted), run)
    ours = real.tiller_apply(positive, negative, of.control, image, resize_mode=mode)
    plain = real.sample(of, *real.core_apply(positive, negative, of.control, image), run)
    assert real.difference(core, plain) > 0.01
    assert real.difference(real.sample(of, *ours, run), core) == 0.0
    larger = Run(size=(12, 8), steps=2)
    other = fit_image(image, Size(96, 64), mode)
    core = real.sample(of, *real.core_apply(positive, negative, of.control, other), larger)
    assert real.difference(real.sample(of, *ours, larger), core) == 0.0


@pytest.mark.parametrize("resize_mode", ["core", "stretch"])
def test_regions_of_the_conditioning_get_hints_of_their_size(resize_mode):
    """An area makes the host call the net with a smaller latent between calls with the whole one."""
    from tiller.preprocessors.fit import Size, fit_image

    of, positive, negative, _ = prepared("sd15")
    image, run = real.picture(64, 64), Run(size=(8, 12), steps=2)
    region = [[real.conditioning(of, 3)[0][0], {**positive[0][1], "area": (8, 8, 0, 4)}]]
    positive = positive + region
    ours = real.tiller_apply(positive, negative, of.control, image, resize_mode=resize_mode)
    if resize_mode == "core":
        core = real.core_apply(positive, negative, of.control, image)
    else:
        whole = real.core_apply(positive[:1], negative, of.control, fit_image(image, Size(64, 96), "stretch"))
        core = whole[0] + real.core_apply(region, [], of.control, image)[0], whole[1]
    assert real.difference(real.sample(of, *core, run), real.sample(of, *ours, run)) == 0.0
