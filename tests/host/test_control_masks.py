"""A unit's mask: zeros are no control, ones are no mask, the rest multiplies the residuals."""

import pytest
import torch
from tiller.tests.host import inprocess as real
from tiller.tests.host.inprocess import Run
from tiller.tests.host.test_control_kinds import adapter
from tiller.tests.host.test_control_modes import first_call
from torch.nn.functional import interpolate

FAMILIES = pytest.mark.parametrize("name", ["sd15", "sdxl", "flux"])


def prepared(name):
    of = real.family(name)
    return of, real.conditioning(of, 1), real.conditioning(of, 2), real.picture(64, 64)


def noise(*shape):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(3))


def masked(mask):
    return {"options": real.options(mask=mask)}


def half(height, width):
    """Ones on the left half."""
    mask = torch.zeros(1, height, width)
    mask[..., : width // 2] = 1.0
    return mask


class Calls:
    """Counts the calls of a copy of a net."""

    def __init__(self, control):
        self.count, outer = 0, self

        class Counting(type(control)):
            def copy(self):
                net = super().copy()
                net.__class__ = Counting
                return net

            def get_control(self, *args):
                outer.count += 1
                return super().get_control(*args)

        self.net = control.copy()
        self.net.__class__ = Counting


@FAMILIES
@pytest.mark.parametrize("size", [(8, 8), (10, 14)], ids=["8x8", "10x14"])
def test_zeros_are_no_control_and_ones_are_no_mask_to_the_bit(name, size):
    of, positive, negative, image = prepared(name)
    run = Run(size=size, batch=2, steps=2)
    plain = real.sample(of, positive, negative, run)
    core = real.sample(of, *real.core_apply(positive, negative, of.control, image), run)
    calls = Calls(of.control)
    zeros = real.tiller_apply(positive, negative, calls.net, image, **masked(torch.zeros(3, 37, 21)))
    assert real.difference(real.sample(of, *zeros, run), plain) == 0.0
    assert calls.count == 0
    ones = real.tiller_apply(positive, negative, calls.net, image, **masked(torch.ones(1, 37, 21)))
    assert real.difference(real.sample(of, *ones, run), core) == 0.0
    assert calls.count == 2


@FAMILIES
def test_a_mask_multiplies_each_residual_at_its_own_size(name):
    of, residuals = first_call(name)
    _, positive, _, image = prepared(name)
    plain = residuals(real.core_apply(positive, [], of.control, image)[0][0][1]["control"])
    mask = noise(1, 64, 48)
    found = residuals(real.tiller_apply(positive, [], of.control, image, **masked(mask))[0][0][1]["control"])
    for value, base in zip(found, plain, strict=True):
        if base.ndim == 4:
            fitted = interpolate(mask[:, None], base.shape[-2:], mode="bilinear")
        else:
            fitted = interpolate(mask[:, None], (4, 4), mode="bilinear").flatten(1)[..., None]
        assert torch.equal(value, base * fitted)


@pytest.mark.parametrize("mode", ["balanced", "control"])
def test_each_image_of_a_batch_has_its_mask(mode):
    """Image by image, so with the same rows in the model: masks (left, none, left) on a batch of three."""
    of, positive, negative, image = prepared("sd15")
    run = Run(batch=3, steps=1)
    masks = torch.cat([half(64, 64), torch.zeros(1, 64, 64)])
    settings = {"mode": mode}
    results = {
        name: real.sample(
            of, *real.tiller_apply(positive, negative, of.control, image, **masked(mask), **settings), run
        )
        for name, mask in (("both", masks), ("left", masks[:1]))
    }
    plain = real.sample(of, positive, negative, run)
    assert real.difference(results["both"][0], results["left"][0]) == 0.0
    assert real.difference(results["both"][1], plain[1]) == 0.0
    assert real.difference(results["both"][2], results["left"][2]) == 0.0
    assert real.difference(results["left"][1], plain[1]) > 1e-3


def test_only_the_masks_of_the_batch_count():
    of, positive, negative, image = prepared("sd15")
    masks = torch.cat([torch.zeros(2, 8, 8), torch.ones(1, 8, 8)])
    calls = Calls(of.control)
    ours = real.tiller_apply(positive, negative, calls.net, image, **masked(masks))
    plain = real.sample(of, positive, negative, Run(batch=2, steps=2))
    assert real.difference(real.sample(of, *ours, Run(batch=2, steps=2)), plain) == 0.0
    assert calls.count == 0
    real.sample(of, *ours, Run(batch=3, steps=2))
    assert calls.count == 2


def test_mode_curve_step_and_mask_multiply():
    of, residuals = first_call("sd15")
    _, positive, _, image = prepared("sd15")
    plain = residuals(real.core_apply(positive, [], of.control, image, 0.5, 0.0, 1.0)[0][0][1]["control"])
    mask = noise(1, 20, 20)
    factors = [0.1, 0.2, 0.4, 0.8, 1.0]
    options = real.options(layers=", ".join(map(str, factors)), steps=".5", mask=mask)
    ours = real.tiller_apply(positive, [], of.control, image, options=options, strength=0.5, mode="control")
    found = residuals(ours[0][0][1]["control"])
    for value, base, factor in zip(found, plain, factors, strict=True):
        fitted = interpolate(mask[:, None], base.shape[-2:], mode="bilinear")
        assert not value[0].any()
        assert torch.allclose(value[1:], base[1:] * factor * 0.5 * fitted, rtol=1e-4, atol=1e-5)


def test_a_pooled_net_keeps_its_region():
    """The mean is taken first, as ComfyUI-Advanced-ControlNet does: a region stays a region."""
    of, residuals = first_call("sd15")
    _, positive, _, image = prepared("sd15")
    pooled = of.control.copy()
    pooled.global_average_pooling = True
    pooled.set_cond_hint = of.control.copy().set_cond_hint.__func__.__get__(pooled)
    plain = residuals(real.core_apply(positive, [], of.control, image)[0][0][1]["control"])
    found = residuals(
        real.tiller_apply(positive, [], pooled, image, **masked(half(8, 8)))[0][0][1]["control"]
    )
    for value, base in zip(found, plain, strict=True):
        middle = value.shape[-1] // 2
        mean = base.mean(dim=(2, 3), keepdim=True)
        assert torch.allclose(value[..., : middle - 1], mean.expand_as(base)[..., : middle - 1], atol=1e-6)
        assert not value[..., middle + 1 :].any()


def test_in_an_area_the_mask_is_resized_to_the_area_as_the_hint_is():
    of, positive, negative, image = prepared("sd15")
    run = Run(size=(8, 12), steps=1)
    area = {"area": (8, 8, 0, 4)}
    positive = [[positive[0][0], {**positive[0][1], **area}]]
    negative = [[negative[0][0], {**negative[0][1], **area}]]
    ours = real.tiller_apply(positive, negative, of.control, image, **masked(half(64, 64)))
    seen = []
    model = of.model.clone()

    def note(apply_model, arguments):
        seen.append({key: list(value) for key, value in arguments["c"]["control"].items()})
        return apply_model(arguments["input"], arguments["timestep"], **arguments["c"])

    model.set_model_unet_function_wrapper(note)
    real.sample(of._replace(model=model), *ours, run)
    first = seen[0]["output"][0]
    assert first.shape[-2:] == (8, 8)
    assert first[..., :4].abs().amin() > 0
    assert not first[..., 4:].any()


@pytest.mark.parametrize("mode", ["balanced", "control"])
def test_a_t2i_adapter_has_modes_and_masks_too(mode):
    of = real.family("sdxl")
    positive, negative = real.conditioning(of, 1), real.conditioning(of, 2)
    run, images = Run(size=(12, 12), batch=2, steps=2), real.picture(96, 96, batch=2)
    net = adapter()
    plain = real.sample(of, positive, negative, run)
    zeros = real.tiller_apply(positive, negative, net, images, mode=mode, **masked(torch.zeros(1, 8, 8)))
    assert real.difference(real.sample(of, *zeros, run), plain) == 0.0
    for batch in (images, images[:1]):
        ours = real.sample(of, *real.tiller_apply(positive, negative, net, batch, mode=mode), run)
        if mode == "balanced":
            core = real.sample(of, *real.core_apply(positive, negative, net, batch), run)
        else:
            layered = {"options": real.options(layers=".25, .62, .825, 1"), "mode": "balanced"}
            core = real.sample(of, real.tiller_apply(positive, [], net, batch, **layered)[0], negative, run)
        assert real.difference(core, plain) > 1e-3
        assert real.difference(core, ours) <= 1e-5 * float(core.abs().max())


def test_an_adapter_reads_its_hint_again_for_another_number_of_rows():
    """Positives of two lengths make calls of two and of one conditioning; the host's keeps the first."""
    of = real.family("sdxl")
    images, run = real.picture(96, 96, batch=2), Run(size=(12, 12), batch=2, steps=1)
    long = [[real.conditioning(of, 3)[0][0].repeat(1, 9, 1), real.conditioning(of, 3)[0][1]]]
    positive, negative = real.conditioning(of, 1) + long, real.conditioning(of, 2)
    seen = []
    model = of.model.clone()

    def note(apply_model, arguments):
        rows = {value.shape[0] for value in arguments["c"]["control"]["input"] if value is not None}
        seen.append((arguments["input"].shape[0], rows))
        return apply_model(arguments["input"], arguments["timestep"], **arguments["c"])

    model.set_model_unet_function_wrapper(note)
    real.sample(of._replace(model=model), *real.tiller_apply(positive, negative, adapter(), images), run)
    assert sorted(seen) == [(2, {2}), (4, {4})]
