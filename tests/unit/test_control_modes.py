"""What a control mode asks of a net: factors of its layers, and the rows it sees."""

import pytest
import torch
from tiller.adapters.control.call import Call
from tiller.adapters.control.curve import Constant, Listed, Soft
from tiller.adapters.control.modes import CONTROL_MODES, call_of_rows, layers_of, pick_rows, steered_rows

POWERS_13 = tuple(0.825 ** float(12 - index) for index in range(13))


def call_of(numbers, images=2, **cond):
    rows = len(numbers) * images
    x = torch.arange(rows * 4.0).reshape(rows, 1, 2, 2)
    options = {"cond_or_uncond": list(numbers), "uuids": [f"id{i}" for i in range(len(numbers))], "other": 1}
    cond = {"c_crossattn": torch.arange(rows * 3.0).reshape(rows, 3), "transformer_options": options, **cond}
    return Call(x, torch.arange(float(rows)), cond, len(numbers), options)


@pytest.mark.parametrize(
    ("mode", "soft", "spares"),
    [
        ("balanced", False, False),
        ("prompt", True, False),
        ("control", True, True),
        ("unbalanced", False, True),
    ],
)
def test_each_mode_is_soft_or_spares_the_negative_as_in_the_web_ui(mode, soft, spares):
    layers = layers_of(mode, None, adapter=False)
    if soft:
        assert layers is not None
        assert tuple(layers(13)) == POWERS_13
        assert tuple(layers(10)) == tuple(0.825 ** float(9 - index) for index in range(10))
    else:
        assert layers is None
    rows = steered_rows(mode, call_of([1, 0]))
    assert (rows is not None) is spares
    if spares:
        assert rows.tolist() == [False, False, True, True]


def test_every_mode_is_known():
    assert CONTROL_MODES == ("balanced", "prompt", "control", "unbalanced")


def test_an_explicit_curve_replaces_that_of_the_mode():
    for mode in CONTROL_MODES:
        assert tuple(layers_of(mode, Constant(0.5), adapter=False)(3)) == (0.5, 0.5, 0.5)
    assert tuple(layers_of("control", Listed((1.0, 0.2)), adapter=True)(2)) == (1.0, 0.2)


def test_an_adapters_four_features_have_soft_factors_of_their_own():
    for mode in ("prompt", "control"):
        assert tuple(layers_of(mode, None, adapter=True)(4)) == (0.25, 0.62, 0.825, 1.0)
    assert tuple(layers_of("balanced", Soft(0.825, webui=True), adapter=True)(4)) == (0.25, 0.62, 0.825, 1.0)
    assert tuple(layers_of("balanced", Soft(0.5, webui=True), adapter=True)(4)) == (0.125, 0.25, 0.5, 1.0)
    assert tuple(layers_of("prompt", None, adapter=True)(8)) == Soft().layers(8)


def test_without_a_negative_all_rows_are_steered():
    assert steered_rows("control", call_of([0])) is None
    assert steered_rows("unbalanced", call_of([0, 0])) is None
    assert not steered_rows("control", call_of([1, 1])).any()


def test_a_sampler_that_does_not_tell_its_rows_is_refused():
    call = Call(torch.zeros(2, 4, 8, 8), torch.ones(2), {}, 2, {})
    assert steered_rows("prompt", call) is None
    with pytest.raises(
        ValueError, match=r"mode control needs to know .*\(cond_or_uncond\).* Set mode to balanced"
    ):
        steered_rows("control", call)


@pytest.mark.parametrize("numbers", [[1, 0], [0, 1], [1, 0, 0], [0, 1, 0]])
def test_the_call_of_the_steered_rows_is_whole(numbers):
    rows = len(numbers) * 2
    call = call_of(
        numbers,
        y=torch.arange(rows * 5.0).reshape(rows, 5),
        lists=[torch.arange(float(rows)), "word"],
        frames=7,
        single=torch.ones(1, 3),
    )
    steered = steered_rows("control", call)
    part = call_of_rows(call, steered)
    kept = [index for index, number in enumerate(numbers) if number == 0]
    wanted = [2 * index + image for index in kept for image in (0, 1)]
    assert torch.equal(part.x, call.x[wanted])
    assert part.t.tolist() == wanted
    assert part.chunks == len(kept)
    for key in ("c_crossattn", "y"):
        assert torch.equal(part.cond[key], call.cond[key][wanted])
    assert part.cond["lists"][0].tolist() == wanted
    assert part.cond["lists"][1] == "word"
    assert part.cond["frames"] == 7
    assert part.cond["single"] is call.cond["single"]
    assert part.options["cond_or_uncond"] == [0] * len(kept)
    assert part.options["uuids"] == [f"id{index}" for index in kept]
    assert part.options["other"] == 1
    assert part.cond["transformer_options"] is part.options
    assert call.options["cond_or_uncond"] == numbers
    assert call.cond["transformer_options"] is call.options


def test_rows_are_picked_from_what_has_them():
    rows = torch.tensor([True, False, True])
    value = torch.arange(6.0).reshape(3, 2)
    assert pick_rows(value, rows).tolist() == [[0.0, 1.0], [4.0, 5.0]]
    other, number = torch.zeros(2, 3), torch.tensor(3.0)
    assert pick_rows(other, rows) is other
    assert pick_rows(number, rows) is number
    assert pick_rows("text", rows) == "text"
