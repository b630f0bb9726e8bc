"""One slider gives strength, start and end by the table, and the help pages print that table."""

from itertools import pairwise

import pytest
from tiller.adapters.control.presets import BASES, KINDS, PRESETS, Setting, preset, table_rows

from devtools.environment import ROOT

ROWS = [(kind, base) for kind in KINDS for base in PRESETS[kind]]


@pytest.mark.parametrize(("kind", "base"), ROWS)
def test_the_slider_only_ever_strengthens(kind, base):
    settings = [preset(kind, base, percent) for percent in range(101)]
    for weaker, stronger in pairwise(settings):
        assert weaker.strength <= stronger.strength
        assert weaker.start_percent >= stronger.start_percent
        assert weaker.end_percent <= stronger.end_percent
    assert all(0 <= s.start_percent < s.end_percent <= 1 and 0 <= s.strength <= 2 for s in settings)
    assert all(one.strength < other.strength for one, other in pairwise(settings[:50]))


@pytest.mark.parametrize(("kind", "base"), ROWS)
def test_0_is_off_and_the_anchors_are_the_tables(kind, base):
    assert preset(kind, base, 0).strength == 0
    assert [preset(kind, base, percent) for percent in (25, 50, 100)] == list(PRESETS[kind][base])
    assert all(isinstance(value, float) for value in preset(kind, base, 50))


def test_between_the_anchors_it_is_a_straight_line():
    assert preset("stencil", "SD1.5", 75) == Setting(1.1, 0.25, 0.75)
    assert preset("depth", "SD1.5", 10) == Setting(0.2, 0.0, 0.5)


def test_customary_values_stand_at_50():
    for percent, low, high in ((25, 0.0, 0.0), (50, 0.9, 1.15), (100, 0.9, 1.15)):
        setting = preset("stencil", "SD1.5", percent)
        assert low <= setting.strength
        assert high == 0.0 or setting.strength <= high
        assert 0.2 <= setting.start_percent <= 0.4
        assert 0.6 <= setting.end_percent <= 0.8
    for percent in (25, 50, 100):
        setting = preset("light", "SD1.5", percent)
        assert 0.4 <= setting.strength <= 0.65
        assert 0.6 <= setting.end_percent <= 0.75
    assert preset("hands", "SD1.5", 50).strength == 1.5


def test_what_is_missing_is_named():
    with pytest.raises(
        ValueError, match=r"for hands is there for SD1\.5, but not for Flux.*For Flux there are line art"
    ):
        preset("hands", "Flux", 50)
    with pytest.raises(
        ValueError, match=r"but not for SD3: no control net of that kind is in common use there\.$"
    ):
        preset("hands", "SD3", 50)
    with pytest.raises(ValueError, match="needs a kind of line art, soft edge"):
        preset("lines", "SDXL", 50)
    with pytest.raises(ValueError, match="from 0 to 100 %, got 101"):
        preset("pose", "SDXL", 101)


def test_every_kind_is_there_for_sd15_and_no_family_is_unknown():
    assert all("SD1.5" in rows and set(rows) <= set(BASES) for rows in PRESETS.values())


@pytest.mark.parametrize("page", ["TillerControlPreset.md", "TillerControlPreset/zh.md"])
def test_the_help_pages_print_the_table(page):
    text = (ROOT / "web" / "docs" / page).read_text(encoding="utf-8")
    printed = [
        line for line in text.splitlines() if line.startswith("| ") and line.split("|")[1].strip() in KINDS
    ]
    assert printed == table_rows()
