"""Sums of the residuals of chained control nets."""

import torch
from tiller.adapters.control.residuals import add_residuals


def block(value):
    return torch.full((2, 4, 3, 3), float(value))


def lists(**places):
    return {"input": [], "middle": [], "output": [], **places}


def test_blocks_of_one_place_add_up():
    total = add_residuals(lists(output=[block(1), block(2)]), lists(output=[block(10), block(20)]))
    assert torch.equal(total["output"][0], block(11))
    assert torch.equal(total["output"][1], block(22))
    assert total["input"] == total["middle"] == []


def test_nothing_for_a_block_leaves_the_others():
    total = add_residuals(
        lists(input=[None, block(1), None], middle=[block(5)]), lists(input=[block(2), None, None])
    )
    assert torch.equal(total["input"][0], block(2))
    assert torch.equal(total["input"][1], block(1))
    assert total["input"][2] is None
    assert torch.equal(total["middle"][0], block(5))


def test_the_longer_list_wins_on_either_side():
    for one, other in (([block(1)], [block(2), block(3)]), ([block(2), block(3)], [block(1)])):
        total = add_residuals(lists(output=one), lists(output=other))
        assert torch.equal(total["output"][0], block(3))
        assert torch.equal(total["output"][1], block(3))


def test_a_net_without_residuals_changes_nothing():
    own = lists(output=[block(1)])
    assert torch.equal(add_residuals(own, None)["output"][0], block(1))
    assert torch.equal(add_residuals(None, own)["output"][0], block(1))
    assert add_residuals(None, None) is None


def test_places_that_a_net_leaves_out_count_as_empty():
    total = add_residuals({"input": [block(1)]}, {"output": [block(2)]})
    assert torch.equal(total["input"][0], block(1))
    assert torch.equal(total["output"][0], block(2))


def test_given_lists_and_shared_tensors_stay_untouched():
    shared, before = block(1), block(1)
    own, previous = lists(input=[shared, shared]), lists(input=[block(10), block(20)])
    total = add_residuals(own, previous)
    total["input"].pop()
    assert torch.equal(shared, before)
    assert len(own["input"]) == len(previous["input"]) == 2
    assert torch.equal(total["input"][0], block(11))
