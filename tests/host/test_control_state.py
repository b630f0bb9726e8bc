"""What a unit keeps: nothing between runs, nothing for other graphs, nothing after a stop."""

import pytest
import torch
from tiller.tests.host import inprocess as real
from tiller.tests.host.inprocess import Run

RUN = Run(batch=2, steps=3)


def prepared(name="sd15"):
    of = real.family(name)
    return of, real.conditioning(of, 1), real.conditioning(of, 2), real.picture(64, 64)


def rich(seed=3):
    """Settings that use everything a unit has."""
    mask = torch.rand(2, 30, 20, generator=torch.Generator().manual_seed(seed))
    return {
        "mode": "control",
        "strength": 0.7,
        "window": "steps",
        "end_percent": 0.9,
        "resize_mode": "fill",
        "options": real.options(layers="0:.2 1:1", steps="0:1 1:.3 ease-in", mask=mask),
    }


@pytest.mark.parametrize("name", ["sd15", "sdxl", "flux"])
def test_the_same_graph_twice_with_another_in_between_gives_the_same_bits(name):
    of, positive, negative, image = prepared(name)
    settings = rich()
    ours = real.tiller_apply(positive, negative, of.control, image, **settings)
    first = real.sample(of, *ours, RUN)
    other = real.tiller_apply(positive, negative, of.control, real.picture(40, 72, 8), mode="prompt")
    between = real.sample(of, *other, Run(size=(10, 12), steps=2))
    assert torch.isfinite(between).all()
    assert real.difference(real.sample(of, *ours, RUN), first) == 0.0
    again = real.tiller_apply(positive, negative, of.control, image, **settings)
    assert real.difference(real.sample(of, *again, RUN), first) == 0.0


def test_net_model_image_and_mask_stay_as_they_were():
    of, positive, negative, image = prepared()
    settings = rich()
    mask = settings["options"].mask
    kept = [tensor.clone() for tensor in (image, mask, positive[0][0], negative[0][0])]
    weights = of.control.control_model.state_dict() | of.model.model.state_dict()
    before = {key: tensor.clone() for key, tensor in weights.items()}
    plain = real.sample(of, positive, negative, RUN)
    public = dict(vars(of.control))
    real.sample(of, *real.tiller_apply(positive, negative, of.control, image, **settings), RUN)
    assert all(torch.equal(before[key], tensor) for key, tensor in weights.items())
    assert all(
        torch.equal(one, other)
        for one, other in zip(kept, (image, mask, positive[0][0], negative[0][0]), strict=True)
    )
    assert vars(of.control) == public
    assert of.model.model_options["transformer_options"] == {}
    assert real.difference(real.sample(of, positive, negative, RUN), plain) == 0.0


def test_two_branches_with_units_on_one_net_do_not_meet():
    of, positive, negative, image = prepared()
    alone = {}
    branches = {
        "rich": real.tiller_apply(positive, negative, of.control, image, **rich()),
        "soft": real.tiller_apply(positive, negative, of.control, real.picture(64, 64, 9), mode="prompt"),
    }
    for name, branch in branches.items():
        alone[name] = real.sample(of, *branch, RUN)
    for name in ("soft", "rich", "soft"):
        assert real.difference(real.sample(of, *branches[name], RUN), alone[name]) == 0.0
    one, other = (branch[0][0][1]["control"] for branch in branches.values())
    assert one.inner is not other.inner
    assert one.inner.control_model is other.inner.control_model


def test_one_run_with_different_units_on_two_positives_is_their_sum_of_calls():
    """Both branches in one sampling: each conditioning keeps its own unit of the same net."""
    of, positive, negative, image = prepared()
    second = real.conditioning(of, 4)
    one = real.tiller_apply(positive, [], of.control, image, mode="prompt")[0]
    other = real.tiller_apply(second, [], of.control, real.picture(64, 64, 9), strength=0.3)[0]
    together = real.sample(of, one + other, negative, RUN)
    swapped = real.sample(of, other + one, negative, RUN)
    assert real.difference(together, swapped) <= 1e-5 * float(together.abs().max())
    assert real.difference(together, real.sample(of, one, negative, RUN)) > 1e-3


def stop_at(of, call):
    """The model with a stop, as the user's cancel makes one, in the given call."""
    import comfy.model_management

    model, seen = of.model.clone(), []

    def stop(apply_model, arguments):
        seen.append(1)
        if len(seen) == call:
            raise comfy.model_management.InterruptProcessingException()
        return apply_model(arguments["input"], arguments["timestep"], **arguments["c"])

    model.set_model_unet_function_wrapper(stop)
    return of._replace(model=model)


@pytest.mark.parametrize("call", [1, 2])
def test_a_stop_in_the_middle_leaves_nothing_and_the_next_run_is_right(call):
    of, positive, negative, image = prepared()
    import comfy.model_management

    ours = real.tiller_apply(positive, negative, of.control, image, **rich())
    plain, wanted = real.sample(of, positive, negative, RUN), real.sample(of, *ours, RUN)
    larger = Run(size=(10, 14), batch=1, steps=4)
    with pytest.raises(comfy.model_management.InterruptProcessingException):
        real.sample(stop_at(of, call), *ours, larger)
    assert real.difference(real.sample(of, positive, negative, RUN), plain) == 0.0
    assert of.model.model_options["transformer_options"] == {}
    assert real.difference(real.sample(of, *ours, RUN), wanted) == 0.0
    check_clean(ours[0][0][1]["control"])


def check_clean(control):
    assert control._sigmas_seen is None
    assert control._fitted == {}
    assert control._region._fitted == {}
    assert control._noise_at is None
    assert control.inner.cond_hint is None
    assert control.inner.timestep_range is None
    assert control.inner.model_sampling_current is None


def test_a_run_that_was_stopped_is_forgotten_when_the_next_begins():
    """The host does not clean up after a stop, so the object keeps that run's hint until it is used again."""
    of, positive, negative, image = prepared()
    import comfy.model_management

    ours = real.tiller_apply(positive, negative, of.control, image, **rich())
    control = ours[0][0][1]["control"]
    with pytest.raises(comfy.model_management.InterruptProcessingException):
        real.sample(stop_at(of, 2), *ours, RUN)
    assert control._sigmas_seen is not None
    assert control._region._fitted != {}
    control.pre_run(of.model.model, of.model.model.model_sampling.percent_to_sigma)
    assert control._sigmas_seen is None
    assert control._fitted == control._region._fitted == {}
    control.cleanup()
    check_clean(control)


def test_outside_the_window_the_net_is_neither_run_nor_fed():
    from tiller.tests.host.test_control_masks import Calls

    of, positive, negative, image = prepared()
    plain = real.sample(of, positive, negative, RUN)
    for window in ("noise", "steps"):
        calls = Calls(of.control)
        settings = {"window": window, "start_percent": 0.02, "end_percent": 0.03, "resize_mode": "fill"}
        ours = real.tiller_apply(positive, negative, calls.net, image, mode="control", **settings)
        control = ours[0][0][1]["control"]
        control.cleanup = lambda: None
        assert real.difference(real.sample(of, *ours, RUN), plain) == 0.0
        assert calls.count == 0
        assert control._fitted == {}
