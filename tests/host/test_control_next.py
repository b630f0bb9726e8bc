"""ControlNeXt through the host's sampler: what forward hooks on the layers give, and nothing beside it."""

import json

import pytest
import torch
from tiller.tests.host import inprocess as real
from tiller.tests.host.control_next_case import ALSO_FOR, FAMILIES, FILES, Case, net_for, relative
from tiller.tests.host.inprocess import Run
from tiller.tests.unit import control_next_reference as reference


@pytest.mark.parametrize("family", ["SD1.5", "SDXL"])
@pytest.mark.parametrize("size", [(8, 8), (9, 14)])
def test_it_is_what_hooks_on_the_layers_give(family, size):
    case = Case(family, size, batch=2)
    ours, hooked = case.controlled(net_for(family), strength=0.8), case.hooked(0.8)
    assert real.difference(ours, case.plain()) > 1e-3
    assert relative(ours, hooked) < 1e-5


def test_video_frames_have_hints_of_their_own_and_the_negative_none():
    case = Case("SVD", batch=3, hints=3)
    case.run = Run(case.size, batch=3, steps=2, denoise=0.4)  # from sigma 700 on, rounding alone is 1e-4
    ours, hooked = case.controlled(net_for("SVD"), strength=1.5), case.hooked(1.5, [0.0, 1.0])
    assert real.difference(ours, case.plain()) > 1e-3
    assert relative(ours, hooked) < 1e-5
    assert relative(ours, case.hooked(1.5)) > 1e-4


@pytest.mark.parametrize("family", FAMILIES)
def test_the_hosts_own_node_gives_the_same(family):
    case = Case(family)
    core = real.core_apply(case.positive, case.negative, net_for(family), case.image, 0.5, 0.0, 1.0)
    by_core = real.sample(case.of, *core, case.run)
    assert real.difference(by_core, case.controlled(net_for(family), strength=0.5)) == 0.0


@pytest.mark.parametrize("family", FAMILIES)
def test_strength_0_and_a_window_that_is_over_are_no_control(family):
    case, net = Case(family), net_for(family)
    plain = case.plain()
    assert real.difference(case.controlled(net, strength=0.0), plain) == 0.0
    once = case.controlled(net, end_percent=0.4, window="steps")
    late = case.controlled(net, start_percent=1.0)
    assert real.difference(once, plain) > 1e-3
    assert real.difference(late, plain) == 0.0


@pytest.mark.parametrize("family", ["SD1.5", "SDXL"])
def test_masks_and_layers_of_ones_change_no_bit_and_zeros_are_no_control(family):
    from dataclasses import replace

    case = Case(family)
    full, plain = case.controlled(net_for(family)), case.plain()

    def steered(**settings):
        return case.controlled(net_for(family, lambda call, steering: replace(steering, **settings)))

    assert real.difference(steered(mask=torch.ones(1, 1, 20, 30)), full) == 0.0
    assert real.difference(steered(layers=lambda count: [1.0] * count), full) == 0.0
    assert real.difference(steered(rows=torch.tensor([True, True])), full) == 0.0
    assert real.difference(steered(mask=torch.zeros(1, 1, 64, 64)), plain) == 0.0
    assert real.difference(steered(rows=torch.tensor([False, False])), plain) == 0.0
    assert (
        real.difference(steered(layers=lambda count: [0.5]), case.controlled(net_for(family), strength=0.5))
        == 0
    )
    half = torch.zeros(1, 1, 8, 8)
    half[..., :4] = 1.0
    assert real.difference(steered(mask=half), full) > 0.0


@pytest.mark.parametrize("family", ["SD1.5", "SDXL"])
def test_rows_that_are_not_steered_get_what_they_get_without_control(family):
    from dataclasses import replace

    case = Case(family)
    positive_only = net_for(
        family, lambda call, steering: replace(steering, rows=torch.tensor([False, True]))
    )
    assert relative(case.controlled(positive_only), case.hooked(1.0, [0.0, 1.0])) < 1e-5


def test_a_list_of_layers_is_refused():
    from dataclasses import replace

    net = net_for("SD1.5", lambda call, steering: replace(steering, layers=lambda count: [1.0, 0.5]))
    with pytest.raises(ValueError, match="takes one layer factor, got 2"):
        Case("SD1.5").controlled(net)


@pytest.mark.parametrize("family", ["SD1.5", "SDXL"])
def test_a_batch_of_two_is_two_of_one(family):
    both = Case(family, batch=2, hints=2)
    pictures = []
    for index in range(2):
        one = Case(family, batch=2)
        one.image = both.image[index : index + 1]
        pictures.append(one.controlled(net_for(family))[index])
    assert relative(both.controlled(net_for(family)), torch.stack(pictures)) < 1e-5


@pytest.mark.parametrize("family", FAMILIES)
def test_runs_repeat_and_leave_net_and_model_alone(family):
    case, net = Case(family), net_for(family)
    weights = {key: value.clone() for key, value in net.networks[0].state_dict().items()}
    plain, first = case.plain(), case.controlled(net)
    other = case.controlled(net, strength=0.3)
    assert real.difference(case.plain(), plain) == 0.0
    assert real.difference(case.controlled(net), first) == 0.0
    assert real.difference(case.controlled(net, strength=0.3), other) == 0.0
    assert all(bool((weights[key] == value).all()) for key, value in net.networks[0].state_dict().items())


def test_it_chains_with_another_net():
    case, net = Case("SD1.5"), net_for("SD1.5")
    before = real.core_apply(case.positive, case.negative, case.of.control, case.image)
    one = real.sample(case.of, *real.tiller_apply(*before, net, case.image), case.run)
    after = real.tiller_apply(case.positive, case.negative, net, case.image)
    other = real.sample(case.of, *real.core_apply(*after, case.of.control, case.image), case.run)
    assert real.difference(one, other) == 0.0
    assert real.difference(one, case.controlled(net)) > 1e-3


def test_the_stem_runs_once_a_run_and_the_rest_once_a_step():
    case, net = Case("SDXL", batch=2), net_for("SDXL")
    stems, rests = [], []
    stem = net.networks[0].embedding[0].register_forward_hook(lambda *given: stems.append(given[2].shape[0]))
    last = net.networks[0].mid_convs[1].register_forward_hook(lambda *given: rests.append(given[2].shape[0]))
    case.controlled(net)
    stem.remove()
    last.remove()
    assert stems == [1]
    assert rests == [1, 1]


def test_a_run_leaves_nothing_cached():
    case, net = Case("SDXL"), net_for("SDXL")
    conditioning = real.tiller_apply(case.positive, case.negative, net, case.image)
    inner = conditioning[0][0][1]["control"].inner
    real.sample(case.of, *conditioning, case.run)
    assert (inner.variant, inner._sampling, inner._prepared, inner._features) == (None, None, None, None)


@pytest.mark.parametrize("family", FAMILIES)
def test_load_control_knows_the_file_as_published(family, tmp_path):
    from safetensors.torch import save_file
    from tiller.adapters.control.load._host import load_control

    listing = json.loads(
        (real.ROOT / "tests" / "shapes" / f"{FILES[family]}.json").read_text(encoding="utf-8")
    )
    weights = reference.random_weights(listing)
    save_file(weights, tmp_path / "any_name.safetensors")
    net = load_control(tmp_path / "any_name.safetensors")
    own = "SD1.5" if family == "SD1.5" else "SDXL"
    assert (net.identified.kind, net.identified.family) == ("ControlNeXt", own)
    assert net.identified.also_for == ALSO_FOR[family]
    assert all(bool((net.network.state_dict()[key] == value).all()) for key, value in weights.items())


def test_a_model_of_another_family_is_refused_by_name():
    case = Case("SD1.5")
    with pytest.raises(ValueError, match=r"is for SDXL or SVD, but the model is SD1\.5"):
        case.controlled(net_for("SDXL"))
    core = real.core_apply(case.positive, case.negative, net_for("SDXL"), case.image)
    with pytest.raises(ValueError, match=r"is for SDXL or SVD, but the model is SD1\.5"):
        real.sample(case.of, *core, case.run)


def test_a_run_that_was_stopped_leaves_nothing_for_the_next():
    case, net = Case("SDXL"), net_for("SDXL")
    ours = real.tiller_apply(case.positive, case.negative, net, case.image)
    inner, before = ours[0][0][1]["control"].inner, real.sample(case.of, *ours, case.run)

    def stop(*given):
        raise InterruptedError

    model = case.of.model.clone()
    model.set_model_sampler_post_cfg_function(stop)
    with pytest.raises(InterruptedError):
        real.sample(case.of._replace(model=model), *ours, case.run)
    assert inner._prepared is not None
    inner.pre_run(case.of.model.model, lambda percent: 1.0 - percent)
    assert (inner._prepared, inner._features) == (None, None)
    assert real.difference(real.sample(case.of, *ours, case.run), before) == 0.0


@pytest.mark.parametrize("family", ["SD1.5", "SDXL"])
def test_a_units_modes_and_options_act_as_with_other_nets(family):
    case, net = Case(family), net_for(family)
    full, plain = case.controlled(net), case.plain()
    apart = real.core_apply(case.positive, [], net, case.image)[0]
    positive_only = real.sample(case.of, apart, case.negative, case.run)
    assert relative(case.controlled(net, mode="unbalanced"), positive_only) < 1e-5
    assert relative(full, positive_only) > 1e-4
    assert real.difference(case.controlled(net, mode="prompt"), full) == 0.0
    for ones in ({"mask": torch.ones(1, 70, 50)}, {"layers": "1"}, {"steps": "1"}):
        assert real.difference(case.controlled(net, options=real.options(**ones)), full) == 0.0
    for zeros in ({"mask": torch.zeros(1, 64, 64)}, {"layers": "0"}, {"steps": "0"}):
        assert real.difference(case.controlled(net, options=real.options(**zeros)), plain) == 0.0
    with pytest.raises(ValueError, match="1"):
        case.controlled(net, options=real.options(layers="1, 0.5"))


def test_rows_at_steps_of_their_own_get_the_features_of_their_steps():
    case, net = Case("SDXL"), net_for("SDXL")
    from tiller.adapters.control.call import Call

    net.set_cond_hint(case.image.movedim(-1, 1))
    net.pre_run(case.of.model.model, lambda percent: 1.0 - percent)
    times = torch.tensor([9.0, 0.5])
    call = Call(torch.zeros(2, 4, 8, 8), times, {}, 2, {})
    both = net._features_of(call)
    for row, time in enumerate(times):
        alone = net._features_of(call._replace(t=time.repeat(2)))
        assert relative(both[row : row + 1], alone) < 1e-5
    assert relative(both[:1], both[1:]) > 1e-3
