"""Which step a noise level belongs to, and which steps a window counted in steps covers."""

import math

import pytest
import torch
from tiller.adapters.control.window import (
    active_steps,
    is_outside,
    is_step_active,
    percent_of_noise,
    step_index,
)

FALLING = [14.6, 8.0, 4.0, 2.0, 1.0, 0.0]
TABLE = {(0.0, 0.5): (0, 10), (0.2, 0.8): (4, 16), (0.3, 0.7): (6, 14), (0.35, 0.6): (7, 12)}
"""Active steps of 20 in sd-webui-controlnet: scripts/hook.py."""


@pytest.mark.parametrize("index", range(5))
def test_a_step_starts_at_its_own_level(index):
    assert step_index(FALLING[index], FALLING) == index


@pytest.mark.parametrize("index", range(5))
@pytest.mark.parametrize("share", [0.01, 0.5, 0.99])
def test_a_level_between_two_steps_belongs_to_the_earlier(index, share):
    level = FALLING[index] * (1 - share) + FALLING[index + 1] * share
    assert step_index(level, FALLING) == index


@pytest.mark.parametrize("factor", [1 - 5e-5, 1 - 1e-6, 1 + 1e-6, 1 + 5e-5])
def test_rounding_of_a_recomputed_level_does_not_move_it(factor):
    assert [step_index(level * factor, FALLING) for level in FALLING[:-1]] == list(range(5))


def test_neighbours_in_a_thousand_steps_stay_apart():
    levels = [14.6 * math.exp(-index / 1000 * math.log(14.6 / 0.03)) for index in range(1001)]
    assert [step_index(level, levels) for level in levels[:-1]] == list(range(1000))


def test_levels_outside_the_range_belong_to_the_nearest_step():
    assert step_index(99.0, FALLING) == 0
    assert step_index(0.0, FALLING) == 4
    assert step_index(0.5, [8.0, 4.0, 2.0]) == 1


def test_rising_levels_are_counted_too():
    rising = FALLING[::-1]
    assert [step_index(level, rising) for level in rising[:-1]] == list(range(5))
    assert step_index(3.0, rising) == 2
    assert step_index(99.0, rising) == 4


@pytest.mark.parametrize("sigmas", [[], [1.0]])
def test_fewer_than_two_levels_are_refused(sigmas):
    with pytest.raises(ValueError, match=f"at least 2 noise levels, got {len(sigmas)}"):
        step_index(1.0, sigmas)


@pytest.mark.parametrize("window", TABLE)
def test_twenty_steps_are_those_of_the_web_ui(window):
    first, last = TABLE[window]
    assert active_steps(20, *window) == list(range(first, last + 1))


@pytest.mark.parametrize("total", range(1, 151))
def test_both_ends_are_inside_for_every_number_of_steps(total):
    for index in range(total):
        typed = round(index / total, 9)
        assert is_step_active(index, total, typed, typed)
        assert active_steps(total, typed, typed) == [index]


def test_the_whole_window_is_every_step_and_a_narrow_one_may_be_none():
    assert active_steps(7, 0.0, 1.0) == list(range(7))
    assert active_steps(4, 0.3, 0.4) == []
    assert active_steps(4, 0.0, 0.0) == [0]


def test_noise_between_the_ends_is_inside_both_ends_included():
    inside = [not is_outside(torch.tensor([sigma]), (8.0, 2.0)) for sigma in FALLING]
    assert inside == [False, True, True, True, False, False]
    assert not is_outside(torch.tensor([14.6]), None)


def test_a_step_at_the_very_edge_is_inside_in_the_precision_of_the_call():
    for edge in (0.1, 0.7, 14.6):
        level = torch.tensor([edge])
        assert not is_outside(level, (edge, 0.0))
        assert not is_outside(level, (20.0, edge))
        assert is_outside(level, (math.nextafter(edge, 0.0) * 0.999, 0.0))
    assert any(float(torch.tensor([edge])) > edge for edge in (0.1, 0.7, 14.6))


def test_the_percent_of_a_noise_level_is_found():
    def noise_at(percent):
        return 1e9 if percent <= 0 else 0.0 if percent >= 1 else 14.6 * (1 - percent) ** 2

    for percent in (0.1, 0.25, 0.5, 0.9):
        assert percent_of_noise(noise_at(percent), noise_at) == pytest.approx(percent, abs=1e-6)
    assert percent_of_noise(14.6, noise_at) == pytest.approx(0.0, abs=1e-6)
    assert percent_of_noise(2e9, noise_at) == 0.0
    assert percent_of_noise(0.0, noise_at) == pytest.approx(1.0, abs=1e-6)
