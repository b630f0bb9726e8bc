"""ControlNet-Union by the published rule: one hint as the host, several as diffusers, rows by themselves."""

import pytest
import torch
from tiller.tests.host import union_nets as union

RELATIVE = 1e-5
EVERY_TYPE = [(6, kind) for kind in range(6)] + [(8, kind) for kind in range(8)]
BOTH = pytest.mark.parametrize("family", ["sdxl", "sd15"])


@pytest.fixture(autouse=True)
def _without_gradients():
    with torch.no_grad():
        yield


@BOTH
@pytest.mark.parametrize(("count", "kind"), EVERY_TYPE)
def test_every_type_by_itself_is_the_hosts_and_diffusers(family, count, kind):
    of, given, hints = union.pair(family, count), union.inputs(family), [union.hint(kind)]
    mine = union.ours(of, given, hints, [kind])
    assert union.gap(mine, union.cores(of, given, hints, [kind])) == 0.0
    assert union.gap(mine, union.diffusers(of, given, hints, [kind])) <= RELATIVE
    other = union.ours(of, given, hints, [(kind + 1) % count])
    assert union.gap(mine, other) > 1e-3


@BOTH
@pytest.mark.parametrize(
    ("count", "types"), [(6, [3, 1, 0]), (8, [7, 2, 6]), (8, [0, 5]), (8, [6, 5, 4, 3, 2, 1, 0, 7])]
)
@pytest.mark.parametrize("size", [(8, 8), (9, 14)], ids=["8 x 8", "9 x 14"])
def test_several_types_in_one_pass_are_diffusers(family, count, types, size):
    of, given = union.pair(family, count), union.inputs(family, rows=2, size=size)
    hints = [union.hint(kind, size=size) for kind in types]
    shared = [hint.repeat(2, 1, 1, 1) for hint in hints]
    theirs = union.diffusers(of, given, shared, types)
    assert union.gap(union.ours(of, given, hints, types), theirs) <= RELATIVE
    assert union.gap(union.ours(of, given, hints[:1], types[:1]), theirs) > 1e-2
    swapped = union.ours(of, given, hints, [*types[1:], types[0]])
    assert union.gap(swapped, theirs) > 1e-3


@BOTH
def test_a_factor_per_type_is_diffusers(family):
    of, given, types = union.pair(family, 8), union.inputs(family), [3, 1, 0]
    hints, factors = [union.hint(kind) for kind in types], [0.4, 1.0, 1.7]
    mine = union.ours(of, given, hints, types, factors)
    assert union.gap(mine, union.diffusers(of, given, hints, types, factors)) <= RELATIVE
    assert union.gap(mine, union.ours(of, given, hints, types)) > 1e-2


@BOTH
def test_a_row_does_not_depend_on_its_neighbours(family):
    """Rows with hints of their own: diffusers mixes them, since its attention runs along the batch."""
    of, given, types = union.pair(family, 8), union.inputs(family, rows=2), [3, 1]
    hints = [union.hint(kind, rows=2) for kind in types]
    both = union.ours(of, given, hints, types)
    for row in range(2):
        alone = union.ours(of, union.row_of(given, row), [hint[row : row + 1] for hint in hints], types)
        assert union.gap(alone, [residual[row : row + 1] for residual in both]) <= RELATIVE
    one_hint = union.ours(of, given, hints[:1], types[:1])
    assert union.gap(one_hint, union.cores(of, given, hints[:1], types[:1])) == 0.0
    assert union.gap(both, union.diffusers(of, given, hints, types)) > 1e-4
    assert union.gap(one_hint, union.diffusers(of, given, hints[:1], types[:1])) > 1e-4


@BOTH
def test_no_type_is_the_hosts_auto(family):
    of, given, hint = union.pair(family, 6), union.inputs(family), union.hint(1)
    mine = union.ours_of(of, given, union.forward().encode_hint(of.module, hint), [])
    assert union.gap(mine, union.cores(of, given, [hint], [])) == 0.0
    assert union.gap(mine, union.ours(of, given, [hint], [0])) > 1e-3


@pytest.mark.parametrize(("kind", "name"), [(6, "tile"), (7, "repaint")])
def test_a_type_beyond_the_file_is_refused_by_name(kind, name):
    of, given, hint = union.pair("sdxl", 6), union.inputs("sdxl"), union.hint(1)
    for attempt in (
        lambda: union.ours(of, given, [hint], [kind]),
        lambda: union.ours_of(of, given, torch.zeros(1, 320, 8, 8), [kind]),
    ):
        with pytest.raises(ValueError, match=rf"type {name} \({kind}\).*has 6 types.*ProMax"):
            attempt()
    with pytest.raises(ValueError, match=r"at least one hint to fuse, got none"):
        union.ours(of, given, [], [])


def test_an_sdxl_net_without_pooled_text_says_what_it_needs():
    of, given = union.pair("sdxl", 6), union.inputs("sdxl")
    with pytest.raises(ValueError, match=r"needs the pooled text of an SDXL model \(y\)"):
        union.forward().residuals(
            of.module, given.x, torch.zeros(1, 320, 8, 8), given.timesteps, given.context
        )


def test_our_names_of_the_types_are_the_hosts():
    union.pair("sdxl", 6)
    from comfy.cldm.control_types import UNION_CONTROLNET_TYPES
    from tiller.adapters.control.options import UNION_TYPES

    assert UNION_TYPES == UNION_CONTROLNET_TYPES
