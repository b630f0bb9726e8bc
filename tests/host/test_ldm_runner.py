"""The host's UNet control nets run by us: its residuals to the bit, each hint encoded once."""

import copy
import uuid

import pytest
import torch
from tiller.tests.host import inprocess as real
from tiller.tests.host import union_nets as union

FAMILIES = pytest.mark.parametrize("name", ["sd15", "sdxl", "union"])
SIZES = pytest.mark.parametrize("size", [(8, 8), (9, 14)], ids=["8 x 8", "9 x 14"])


@pytest.fixture(autouse=True)
def _without_gradients():
    with torch.no_grad():
        yield


def parts():
    real.host()
    from tiller.adapters.control.call import Call
    from tiller.adapters.control.ldm import apply

    return Call, apply


def runner_of(net):
    """A runner for the hint that the net has."""
    _, apply = parts()
    return apply.runner_for(
        net, [apply.Hint(lambda size: net.cond_hint_original, len(net.cond_hint_original))]
    )


def ready(name, image, strength=1.0, window=(0.0, 1.0)):
    """A copy of a net with its hint, between the start and the end of a run."""
    of = real.family("sdxl" if name == "union" else name)
    net = (union.union_for_sampling(8) if name == "union" else of.control).copy()
    if name == "union":
        net.set_extra_arg("control_type", [3])
    net.set_cond_hint(image.movedim(-1, 1), strength, window)
    net.pre_run(of.model.model, of.model.model.model_sampling.percent_to_sigma)
    return of, net


def call_of(of, rows=2, chunks=2, size=(8, 8), level=5.0, seed=9):
    call, _ = parts()
    generator = torch.Generator().manual_seed(seed)
    cond = {"c_crossattn": torch.randn(rows, 7, of.text_width, generator=generator)}
    if of.name == "sdxl":
        cond["y"] = torch.randn(rows, 2816, generator=generator)
    x = torch.randn(rows, 4, *size, generator=generator)
    return call(x, torch.full((rows,), level), cond, chunks, {})


def gap(one, other):
    return max(
        real.difference(a, b) for place in other for a, b in zip(one[place], other[place], strict=True)
    )


def counted(monkeypatch):
    """Rows of every run of a hint encoder from here on."""
    from tiller.adapters.control.ldm import forward

    seen, encode = [], forward.encode_hint
    monkeypatch.setattr(forward, "encode_hint", lambda net, hint: seen.append(len(hint)) or encode(net, hint))
    return seen


@FAMILIES
@SIZES
@pytest.mark.parametrize(
    ("rows", "chunks", "images"), [(2, 2, 1), (4, 2, 2), (3, 1, 2), (4, 2, 5), (2, 2, 2)]
)
def test_its_residuals_are_the_hosts(name, size, rows, chunks, images):
    image = real.picture(80, 100, batch=images)
    (of, theirs), (_, net) = ready(name, image, 0.7), ready(name, image, 0.7)
    call = call_of(of, rows, chunks, size)
    core, mine = theirs.get_control(*call), runner_of(net)(call)
    assert float(core["middle"][0].abs().max()) > 0.01
    assert mine.keys() == core.keys()
    assert gap(mine, core) == 0.0
    assert gap(runner_of(ready(name, 1 - image, 0.7)[1])(call), core) > 1e-3


@FAMILIES
def test_calls_of_other_rows_in_one_run_get_the_images_that_the_host_gives_them(name):
    image = real.picture(64, 64, batch=2)
    of, net = ready(name, image)
    runner = runner_of(net)
    for rows, chunks in ((1, 1), (2, 2), (2, 1), (4, 2)):
        call = call_of(of, rows, chunks)
        _, theirs = ready(name, image)
        assert gap(runner(call), theirs.get_control(*call)) == 0.0


@FAMILIES
def test_pooling_own_text_and_window_are_the_hosts(name):
    image = real.picture(64, 64)
    (of, theirs), (_, net) = ready(name, image, 0.5, (0.2, 0.8)), ready(name, image, 0.5, (0.2, 0.8))
    theirs.global_average_pooling = net.global_average_pooling = True
    call = call_of(of)
    call.cond["crossattn_controlnet"] = torch.randn(2, 9, of.text_width)
    runner = runner_of(net)
    core = theirs.get_control(*call)
    assert gap(runner(call), core) == 0.0
    assert float(core["middle"][0].std(dim=(2, 3)).max()) < 1e-6
    for level in (*net.timestep_range, 14.0, 0.1):
        at_level = call._replace(t=torch.full((2,), level))
        core, mine = theirs.get_control(*at_level), runner(at_level)
        assert (core is None) == (mine is None) == (level in (14.0, 0.1))


@FAMILIES
def test_each_hint_is_encoded_once_for_all_steps_rows_and_runs(name, monkeypatch):
    seen = counted(monkeypatch)
    of, net = ready(name, real.picture(64, 64))
    runner = runner_of(net)
    first = runner(call_of(of))
    for level in (4.0, 3.0):
        runner(call_of(of, level=level))
    runner(call_of(of, rows=1, chunks=1))
    runner.rest()
    assert gap(runner(call_of(of)), first) == 0.0
    assert seen == [1]
    runner(call_of(of, size=(8, 10)))
    assert seen == [1, 1]
    of, net = ready(name, real.picture(64, 64, batch=3))
    runner = runner_of(net)
    for _ in range(2):
        runner(call_of(of, rows=4, chunks=2))
    assert seen == [1, 1, 2]


def test_what_is_kept_is_bounded(monkeypatch):
    seen = counted(monkeypatch)
    of, net = ready("sd15", real.picture(64, 64))
    _, apply = parts()
    runner = runner_of(net)
    sizes = [(8, 8 + more) for more in range(apply.KEPT_SIZES + 1)]
    for size in sizes:
        runner(call_of(of, size=size))
    for size in reversed(sizes):
        runner(call_of(of, size=size))
    assert len(seen) == len(sizes) + 1
    monkeypatch.setattr(apply, "KEPT_BYTES", 320 * 8 * 8 * 4)
    runner.rest()
    runner(call_of(of, size=sizes[0]))
    assert len(seen) == len(sizes) + 1
    runner(call_of(of, size=sizes[1]))
    assert len(seen) == len(sizes) + 2


def test_changed_weights_are_seen(monkeypatch):
    seen = counted(monkeypatch)
    of, net = ready("sd15", real.picture(64, 64))
    runner = runner_of(net)
    runner(call_of(of))
    monkeypatch.setattr(net.control_model_wrapped, "patches_uuid", uuid.uuid4())
    runner(call_of(of))
    assert seen == [1, 1]


def test_another_precision_is_the_hosts():
    image = real.picture(64, 64)
    (of, theirs), (_, net) = ready("sd15", image), ready("sd15", image)
    theirs.manual_cast_dtype = net.manual_cast_dtype = torch.float64
    theirs.control_model = net.control_model = copy.deepcopy(net.control_model).double()
    call = call_of(of)
    assert gap(runner_of(net)(call), theirs.get_control(*call)) == 0.0


def test_two_types_with_one_hint_are_refused():
    of, net = ready("union", real.picture(64, 64))
    net.set_extra_arg("control_type", [3, 1])
    with pytest.raises(ValueError, match=r"one hint for each of its types, got 2 types and 1 hints"):
        runner_of(net)(call_of(of))


def test_several_hints_go_through_the_net_in_one_pass():
    of, net = ready("union", real.picture(64, 64))
    _, apply = parts()
    pictures = {kind: union.hint(kind) for kind in (3, 1, 0)}
    hints = [apply.Hint(lambda size, kind=kind: pictures[kind], 1, kind, 0.5 + kind) for kind in pictures]
    mine = apply.runner_for(net, hints)(call_of(of))
    assert gap(apply.runner_for(net, hints[:2])(call_of(of)), mine) > 1e-3
    call, module = call_of(of), net.control_model
    encodings = [union.forward().encode_hint(module, picture) for picture in pictures.values()]
    guided = union.forward().fuse_hints(module, encodings, list(pictures), [3.5, 1.5, 0.5])
    by_hand = union.forward().residuals(
        module,
        net.model_sampling_current.calculate_input(call.t, call.x),
        guided,
        net.model_sampling_current.timestep(call.t).float(),
        call.cond["c_crossattn"],
        call.cond["y"],
        list(pictures),
    )
    assert gap(mine, by_hand) == 0.0


@pytest.mark.parametrize(
    "change",
    ["another class", "another module", "hook", "forward of its own", "mask", "vae", "latent format"],
)
def test_a_net_that_was_changed_runs_itself(change, monkeypatch):
    net = ready("sd15", real.picture(64, 64))[1]
    assert runner_of(net) is not None
    if change == "another class":
        from comfy.controlnet import ControlLora

        can_run = parts()[1].can_run
        assert not can_run(ControlLora({}))
        assert not can_run(real.family("flux").control)
        return
    if change == "another module":
        net.control_model = torch.nn.Identity()
    elif change == "hook":
        handle = net.control_model.register_forward_hook(lambda *arguments: None)
    elif change == "forward of its own":
        monkeypatch.setitem(vars(net.control_model), "forward", lambda *arguments: None)
    elif change == "mask":
        net.extra_concat_orig = [torch.ones(1, 1, 8, 8)]
    elif change == "vae":
        net.vae = object()
    else:
        net.latent_format = object()
    assert runner_of(net) is None
    if change == "hook":
        handle.remove()
