"""ControlNet-LLLite and ControlNet-XS follow a unit's modes and options as other control nets do."""

import pytest
import torch
from tiller.tests.host import inprocess as real
from tiller.tests.host import lllite_files, xs_files
from tiller.tests.host.inprocess import Run
from tiller.tests.host.test_reference import referenced

FILES = {"ControlNet-LLLite": lllite_files, "ControlNet-XS": xs_files}
KINDS = pytest.mark.parametrize("kind", FILES)
RUN = Run(steps=2)
CLOSE = 1e-5


def prepared(kind, name="sdxl"):
    of, image = real.family(name), real.picture(64, 64)
    from tiller.adapters.control.load._host import LOADERS
    from tiller.adapters.identify import identify

    weights = FILES[kind].file(name)
    found = identify({key: tuple(tensor.shape) for key, tensor in weights.items()})
    assert found.kind == kind
    net = LOADERS[kind](weights, found)
    return of, real.conditioning(of, 1), real.conditioning(of, 2), net, image


def relative(one, other):
    return real.difference(one, other) / float(other.abs().max())


@KINDS
def test_the_modes_that_spare_the_negative_are_control_on_the_positive_alone(kind):
    of, positive, negative, net, image = prepared(kind)
    apart = real.core_apply(positive, [], net, image)[0]
    core = real.sample(of, apart, negative, RUN)
    both = real.sample(of, *real.tiller_apply(positive, negative, net, image), RUN)
    ours = real.sample(of, *real.tiller_apply(positive, negative, net, image, mode="unbalanced"), RUN)
    assert relative(both, core) > 0.01
    assert relative(ours, core) < CLOSE
    soft = real.sample(of, *real.tiller_apply(positive, negative, net, image, mode="control"), RUN)
    assert relative(soft, core) > 1e-3
    layers = ", ".join(str(0.825**power) for power in range(9, -1, -1))
    listed = {"mode": "unbalanced", "options": real.options(layers=layers)}
    listed = real.sample(of, *real.tiller_apply(positive, negative, net, image, **listed), RUN)
    assert relative(soft, listed) < CLOSE


@KINDS
def test_ones_change_nothing_and_zeros_are_no_control(kind):
    of, positive, negative, net, image = prepared(kind)

    def sampled(**options):
        given = {"options": real.options(**options)} if options else {}
        return real.sample(of, *real.tiller_apply(positive, negative, net, image, **given), RUN)

    plain, whole = real.sample(of, positive, negative, RUN), sampled()
    for ones in ({"mask": torch.ones(1, 70, 50)}, {"layers": "1"}, {"steps": "1"}):
        assert real.difference(sampled(**ones), whole) == 0.0
    for zeros in ({"mask": torch.zeros(1, 64, 64)}, {"layers": "0"}, {"steps": "0"}):
        assert real.difference(sampled(**zeros), plain) == 0.0
    halves = real.tiller_apply(positive, negative, net, image, strength=0.5)
    assert real.difference(sampled(steps="0.5"), real.sample(of, *halves, RUN)) == 0.0
    mask = torch.ones(1, 64, 64)
    mask[..., 32:] = 0.0
    assert relative(sampled(mask=mask), plain) > 1e-3
    assert relative(sampled(mask=mask), whole) > 1e-3


@KINDS
def test_the_two_kinds_chain_and_units_of_one_net_stay_apart(kind):
    of, positive, negative, net, image = prepared(kind)
    other = next(name for name in FILES if name != kind)
    _, _, _, second, _ = prepared(other)
    units = [real.tiller_unit(net, image), real.tiller_unit(second, image, strength=0.5)]
    chained = real.sample(of, *real.tiller_apply_units(positive, negative, units), RUN)
    core = real.core_apply(positive, negative, net, image)
    core = real.sample(of, *real.core_apply(*core, second, image, 0.5, 0.0, 1.0), RUN)
    assert real.difference(chained, core) == 0.0
    one = real.tiller_apply(positive, negative, net, image)
    before = real.sample(of, *one, RUN)
    real.sample(of, *real.tiller_apply(positive, negative, net, real.picture(64, 64, seed=9)), RUN)
    assert real.difference(real.sample(of, *one, RUN), before) == 0.0
    assert relative(chained, before) > 1e-3


@KINDS
def test_a_batch_of_two_is_two_of_one(kind):
    of, positive, negative, net, _ = prepared(kind)
    images = real.picture(64, 64, batch=2)
    batch = real.sample(of, *real.tiller_apply(positive, negative, net, images), Run(steps=1, batch=2))
    one = real.tiller_apply(positive, negative, net, images[:1])
    first = real.sample(of, *one, Run(steps=1))
    assert relative(batch[:1], first) < CLOSE


@KINDS
def test_a_run_that_was_stopped_leaves_nothing_for_the_next(kind):
    of, positive, negative, net, image = prepared(kind)
    ours = real.tiller_apply(positive, negative, net, image)
    inner = ours[0][0][1]["control"].inner
    kept = "_conditions" if kind == "ControlNet-LLLite" else "_guidance"
    before = real.sample(of, *ours, RUN)

    def stop(*given):
        raise InterruptedError

    model = of.model.clone()
    model.set_model_sampler_post_cfg_function(stop)
    with pytest.raises(InterruptedError):
        real.sample(of._replace(model=model), *ours, RUN)
    assert len(getattr(inner, kept)) > 0
    inner.pre_run(of.model.model, lambda percent: 1.0 - percent)
    assert getattr(inner, kept) in ({}, None)
    assert real.difference(real.sample(of, *ours, RUN), before) == 0.0
    assert of.model.model_options["transformer_options"] == {}


@KINDS
@pytest.mark.parametrize("mode", ["balanced", "control"])
def test_a_reference_beside_it_is_looked_at_without_it(kind, mode):
    of, positive, negative, net, image = prepared(kind)
    results, passes = [], []
    watched = next(iter(net.networks[0].children()))
    watched.register_forward_hook(lambda *_: passes.append(1))
    for first in (True, False):
        pair = referenced(positive, negative, image, mode=mode) if first else (positive, negative)
        pair = real.tiller_apply(*pair, net, image)
        pair = pair if first else referenced(*pair, image, mode=mode)
        results.append(real.sample(of, *pair, RUN))
    assert real.difference(*results) == 0.0
    if kind == "ControlNet-LLLite":
        assert len(passes) == 2 * RUN.steps
    alone = real.sample(of, *real.tiller_apply(positive, negative, net, image), RUN)
    assert relative(alone, results[0]) > 1e-3
