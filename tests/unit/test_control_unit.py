"""The control unit record refuses settings that cannot act."""

import dataclasses

import pytest
import torch
from tiller.adapters.control.unit import ControlUnit

IMAGE = torch.zeros(1, 8, 8, 3)


def test_defaults_are_the_hosts():
    unit = ControlUnit(object(), IMAGE)
    assert (unit.strength, unit.start_percent, unit.end_percent) == (1.0, 0.0, 1.0)
    assert (unit.window, unit.resize_mode, unit.vae) == ("noise", "core", None)
    assert (unit.mode, unit.options) == ("balanced", None)


def test_a_unit_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        ControlUnit(object(), IMAGE).strength = 2.0


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"start_percent": 0.8, "end_percent": 0.2}, "got start_percent 0.8 and end_percent 0.2: .* Swap"),
        ({"start_percent": -0.1}, "needs start_percent from 0 to 1, got -0.1"),
        ({"end_percent": 1.5}, "needs end_percent from 0 to 1, got 1.5"),
        ({"end_percent": float("nan")}, "needs end_percent from 0 to 1, got nan"),
        ({"strength": float("inf")}, "needs a finite strength, got inf"),
        ({"window": "percent"}, "needs a window of noise or steps, got 'percent'"),
        ({"resize_mode": "zoom"}, "needs a resize_mode of core, stretch, crop, fill, got 'zoom'"),
        ({"mode": "soft"}, "needs a mode of balanced, prompt, control, unbalanced, got 'soft'"),
        ({"options": "soft"}, "needs options from Control Options, got str"),
    ],
)
def test_settings_that_cannot_act_are_refused(settings, text):
    with pytest.raises(ValueError, match=text):
        ControlUnit(object(), IMAGE, **settings)


def test_a_window_of_one_point_is_allowed():
    assert ControlUnit(object(), IMAGE, start_percent=0.5, end_percent=0.5).end_percent == 0.5
