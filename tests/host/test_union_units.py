"""Several units over one Union net: one pass with the published rule where it can be, else a stack."""

import logging

import pytest
import torch
from tiller.tests.host import inprocess as real
from tiller.tests.host import union_nets as union
from tiller.tests.host.inprocess import Run

TYPES = {3: "canny/lineart/anime_lineart/mlsd", 1: "depth", 0: "openpose", 7: "repaint"}


def options(**settings):
    real.host()
    from tiller.adapters.control.options import ControlOptions

    return ControlOptions(**settings)


def unit(net, kind, seed=None, **settings):
    told = {"union_type": TYPES[kind], **settings.pop("told", {})}
    image = real.picture(64, 64, seed=kind if seed is None else seed)
    return real.tiller_unit(net, image, options=options(**told), **settings)


def prepared():
    of = real.family("sdxl")
    return of, union.union_for_sampling(8), real.conditioning(of, 1), real.conditioning(of, 2)


def passes(conditioning):
    """How many of our control objects are chained on the first entry."""
    control, count = conditioning[0][1].get("control"), 0
    while control is not None:
        control, count = control.previous_controlnet, count + 1
    return count


@pytest.fixture
def runs(monkeypatch):
    """Number of hints of every pass of a Union net from here on."""
    from tiller.adapters.control.ldm import forward

    seen, residuals = [], forward.residuals
    monkeypatch.setattr(
        forward, "residuals", lambda *arguments: seen.append(len(arguments[6])) or residuals(*arguments)
    )
    return seen


def test_one_unit_is_the_hosts_for_both_ways_to_set_its_type():
    of, net, positive, negative = prepared()
    image, core_net = real.picture(64, 64), net.copy()
    core_net.set_extra_arg("control_type", [3])
    core = real.sample(of, *real.core_apply(positive, negative, core_net, image))
    auto = real.sample(of, *real.core_apply(positive, negative, net, image))
    told = options(union_type=TYPES[3])
    assert real.difference(core, auto) > 0.01
    for ours in (
        real.tiller_apply(positive, negative, core_net, image),
        real.tiller_apply(positive, negative, net, image, options=told),
        real.tiller_apply_units(positive, negative, [real.tiller_unit(net, image, options=told)]),
    ):
        assert real.difference(real.sample(of, *ours), core) == 0.0
    ours = real.tiller_apply(positive, negative, net, image)
    assert real.difference(real.sample(of, *ours), auto) == 0.0
    assert "control_type" not in net.extra_args


def test_three_units_go_through_the_net_in_one_pass(runs):
    of, net, positive, negative = prepared()
    core_net = net.copy()
    core_net.set_extra_arg("control_type", [0])
    units = [
        unit(net, 3, strength=0.5),
        unit(net, 1),
        real.tiller_unit(core_net, real.picture(64, 64, seed=0)),
    ]
    joint = real.tiller_apply_units(positive, negative, units)
    assert passes(joint[0]) == passes(joint[1]) == 1
    picture = real.sample(of, *joint)
    assert runs == [3, 3, 3]
    runs.clear()
    assert real.difference(real.sample(of, *joint), picture) == 0.0
    order = real.tiller_apply_units(positive, negative, [units[2], units[0], units[1]])
    assert real.difference(real.sample(of, *order), picture) < 1e-3 * float(picture.abs().max())
    stronger = [unit(net, 3), *units[1:]]
    other = real.sample(of, *real.tiller_apply_units(positive, negative, stronger))
    assert real.difference(other, picture) > 0.01
    runs.clear()
    stacked = real.tiller_apply_units(positive, negative, units, union="stacked")
    assert passes(stacked[0]) == 3
    summed = real.sample(of, *stacked)
    assert runs == [1] * 9
    assert real.difference(summed, picture) > 0.01
    chain = positive, negative
    for one in units:
        chain = real.tiller_apply_units(*chain, [one])
    assert real.difference(real.sample(of, *chain), summed) == 0.0


def test_the_joint_pass_is_the_rule_on_the_fitted_hints(monkeypatch):
    """Strengths become factors, each hint is fitted by its own unit, and all types are told."""
    from tiller.adapters.control.ldm import forward

    of, net, positive, negative = prepared()
    seen = []
    fuse = forward.fuse_hints
    monkeypatch.setattr(forward, "fuse_hints", lambda *arguments: seen.append(arguments) or fuse(*arguments))
    image, told = real.picture(40, 72, seed=4), options(union_type=TYPES[3])
    crooked = real.tiller_unit(net, image, strength=0.4, resize_mode="fill", options=told)
    real.sample(
        of, *real.tiller_apply_units(positive, negative, [crooked, unit(net, 1, strength=1.5)]), Run(steps=1)
    )
    from tiller.preprocessors.fit import Size, fit_image

    ((module, encodings, types, factors),) = seen
    assert module is net.control_model
    assert (types, factors) == ([3, 1], [0.4, 1.5])
    fitted = [fit_image(image, Size(64, 64), "fill"), real.picture(64, 64, seed=1)]
    with torch.no_grad():
        for encoding, hint in zip(encodings, fitted, strict=True):
            expected = forward.encode_hint(module, hint.movedim(-1, 1))
            assert real.difference(encoding, expected) == 0.0


@pytest.mark.parametrize(
    ("change", "count"),
    [
        ({}, 1),
        ({"resize_mode": "crop"}, 1),
        ({"strength": 2.0}, 1),
        ({"kind": 3}, 2),
        ({"end_percent": 0.5}, 2),
        ({"start_percent": 0.1}, 2),
        ({"window": "steps"}, 2),
        ({"mode": "control"}, 2),
        ({"told": {"mask": torch.ones(1, 8, 8)}}, 2),
        ({"told": {"steps": "0.5"}}, 2),
        ({"told": {"layers": "soft .825"}}, 2),
        ({"told": {"union_type": "auto"}}, 2),
    ],
    ids=str,
)
def test_units_that_differ_are_stacked(change, count):
    _, net, positive, negative = prepared()
    from tiller.adapters.control.curve import parse_curve

    change = {**change, "told": dict(change.get("told", {}))}
    for name in ("steps", "layers"):
        if name in change["told"]:
            change["told"][name] = parse_curve(change["told"][name])
    kind = change.pop("kind", 1)
    units = [unit(net, 3), unit(net, kind, **change)]
    assert passes(real.tiller_apply_units(positive, negative, units)[0]) == count


def test_equal_masks_and_curves_go_together_and_others_not():
    _, net, positive, negative = prepared()
    from tiller.adapters.control.curve import parse_curve

    def told(value, curve):
        mask = torch.zeros(1, 8, 8)
        mask[:, :4] = value
        return {"mask": mask, "steps": parse_curve(curve)}

    for second, count in ((told(1.0, "0:1 1:0"), 1), (told(0.5, "0:1 1:0"), 2), (told(1.0, "0:1 1:.5"), 2)):
        units = [unit(net, 3, told=told(1.0, "0:1 1:0")), unit(net, 1, told=second)]
        assert passes(real.tiller_apply_units(positive, negative, units)[0]) == count


def test_what_cannot_join_keeps_its_place_and_the_rest_joins():
    of, net, positive, negative = prepared()
    again = unit(net, 3, seed=12)
    other_net = union.union_for_sampling(6)
    units = [unit(net, 3), again, unit(net, 1), real.tiller_unit(of.control, real.picture(64, 64))]
    units += [unit(other_net, 0), unit(net, 0, strength=0.0), unit(net, 7)]
    joint = real.tiller_apply_units(positive, negative, units)
    chain, control = [], joint[0][0][1]["control"]
    while control is not None:
        chain.append([one.image[0, 0, 0, 0].item() for one in control.unit.together] or control.unit)
        control = control.previous_controlnet
    chain.reverse()
    assert chain[0] == [units[place].image[0, 0, 0, 0].item() for place in (0, 2, 6)]
    assert chain[1:] == [again, units[3], units[4]]


def test_a_net_that_must_run_itself_is_stacked():
    _, net, positive, negative = prepared()
    handle = net.control_model.register_forward_hook(lambda *arguments: None)
    try:
        units = [unit(net, 3), unit(net, 1)]
        assert passes(real.tiller_apply_units(positive, negative, units)[0]) == 2
    finally:
        handle.remove()


def test_the_log_says_which_happened(caplog):
    _, net, positive, negative = prepared()
    units = [unit(net, 3), unit(net, 1)]
    with caplog.at_level(logging.INFO, logger="tiller"):
        real.tiller_apply_units(positive, negative, units)
        assert "takes 2 hints in 1 pass(es) a step" in caplog.text
        caplog.clear()
        real.tiller_apply_units(positive, negative, units, union="stacked")
        assert "takes 2 hints in 2 pass(es) a step. One pass takes hints of different" in caplog.text
        caplog.clear()
        real.tiller_apply_units(positive, negative, units[:1])
        assert caplog.text == ""


@pytest.mark.parametrize("mode", ["control", "unbalanced"])
def test_a_joint_unit_of_a_cond_only_mode_leaves_the_negative_alone(mode, runs):
    of, net, positive, negative = prepared()
    units = [unit(net, kind, mode=mode) for kind in (3, 1)]
    joint = real.tiller_apply_units(positive, negative, units)
    by_hand = real.tiller_apply_units(positive, [], units)[0]
    one = real.sample(of, *joint)
    other = real.sample(of, by_hand, negative)
    assert real.difference(one, other) <= 1e-4 * float(other.abs().max())
    assert set(runs) == {2}


def test_a_hint_is_encoded_once_over_samplings(monkeypatch):
    from tiller.adapters.control.ldm import forward

    of, net, positive, negative = prepared()
    seen, encode = [], forward.encode_hint
    monkeypatch.setattr(forward, "encode_hint", lambda *arguments: seen.append(1) or encode(*arguments))
    ours = real.tiller_apply_units(positive, negative, [unit(net, 3), unit(net, 1)])
    first = real.sample(of, *ours)
    assert real.difference(real.sample(of, *ours), first) == 0.0
    assert len(seen) == 2
    control = ours[0][0][1]["control"]
    assert all(kept.device.type == "cpu" for kept in control.runner._kept.values())
    assert control.inner.cond_hint is None
    assert control.copy().runner._kept == {}


def test_strengths_are_in_the_fusion_alone_and_nothing_large_outlives_a_run(monkeypatch):
    from tiller.adapters.control.ldm import apply, forward

    of, net, positive, negative = prepared()
    seen, encode = [], forward.encode_hint
    monkeypatch.setattr(forward, "encode_hint", lambda *arguments: seen.append(1) or encode(*arguments))
    monkeypatch.setattr(apply, "KEPT_BYTES", 0)
    units = [unit(net, 3, strength=0.5), unit(net, 1, strength=0.5)]
    ours = real.tiller_apply_units(positive, negative, units)
    control = ours[0][0][1]["control"]
    assert control.inner.strength == 1.0
    for count in (2, 4):
        real.sample(of, *ours, Run(steps=2))
        assert len(seen) == count
        assert control.runner._kept == {}
    control.runner._kept["of a stopped run"] = torch.zeros(1)
    control.pre_run(of.model.model, of.model.model.model_sampling.percent_to_sigma)
    assert control.runner._kept == {}
