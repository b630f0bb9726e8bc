"""Residuals of control nets: sums, factors, masks, rows."""

import pytest
import torch
from tiller.adapters.control.residuals import (
    add_residuals,
    layer_slots,
    mask_residuals,
    pad_rows,
    scale_layers,
    token_grid,
)


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


def named(value, *shape):
    return torch.full(shape or (2, 4, 3, 3), float(value))


def test_layers_count_from_the_shallowest_to_the_middle():
    unet = {"middle": [named(1)], "output": [named(2), named(3)]}
    assert layer_slots(unet) == [("output", 0), ("output", 1), ("middle", 0)]
    adapter = {"input": [named(4), None, None, named(3), None], "middle": [named(5)]}
    assert layer_slots(adapter) == [("input", 3), ("input", 0), ("middle", 0)]
    transformer = {"input": [named(1, 2, 6, 4), None, named(2, 2, 6, 4)], "output": [named(3, 2, 6, 4)]}
    assert layer_slots(transformer) == [("input", 0), ("input", 2), ("output", 0)]


def test_factors_of_layer_and_step_multiply():
    own = {"middle": [named(1)], "output": [named(10), None, named(100)]}
    scaled = scale_layers(own, lambda count: [0.5, 2.0, 3.0][:count], 0.5)
    assert torch.equal(scaled["output"][0], named(2.5))
    assert scaled["output"][1] is None
    assert scaled["output"][2] is own["output"][2]
    assert torch.equal(scaled["middle"][0], named(1.5))
    assert torch.equal(own["output"][0], named(10))
    steps = scale_layers(own, None, 0.1)
    assert torch.equal(steps["output"][2], named(100) * 0.1)


def test_a_tensor_that_layers_share_gets_each_layers_factor_once():
    shared = named(1, 2, 6, 4)
    scaled = scale_layers({"input": [shared, shared, shared]}, lambda _: [0.5, 1.0, 0.25], 1.0)
    assert [float(value.max()) for value in scaled["input"]] == [0.5, 1.0, 0.25]
    assert float(shared.max()) == 1.0


def test_masks_multiply_at_each_layers_size():
    seen = []

    def fit(height, width):
        seen.append((height, width))
        return torch.full((1, 1, height, width), 0.5)

    own = {"middle": [named(1, 2, 4, 3, 5)], "output": [named(2, 2, 4, 6, 10), None]}
    masked = mask_residuals(own, fit, (2, 4, 12, 20))
    assert seen == [(3, 5), (6, 10)]
    assert torch.equal(masked["middle"][0], named(0.5, 2, 4, 3, 5))
    assert torch.equal(masked["output"][0], named(1, 2, 4, 6, 10))
    assert masked["output"][1] is None


def test_a_mask_on_tokens_follows_their_grid():
    mask = torch.arange(6.0).reshape(1, 1, 2, 3)
    own = {"input": [named(1, 2, 6, 4)]}
    masked = mask_residuals(own, lambda height, width: mask, (2, 16, 3, 6))
    assert torch.equal(masked["input"][0][0, :, 0], torch.arange(6.0))
    video = mask_residuals({"input": [named(1, 2, 12, 4)]}, lambda height, width: mask, (2, 16, 2, 3, 6))
    assert torch.equal(video["input"][0][1, :, 3], torch.arange(6.0).repeat(2))


@pytest.mark.parametrize(
    ("tokens", "latent", "grid"),
    [
        (16, (1, 16, 8, 8), (1, 4, 4)),
        (35, (1, 16, 9, 14), (1, 5, 7)),
        (64, (1, 4, 8, 8), (1, 8, 8)),
        (105, (1, 16, 3, 9, 14), (3, 5, 7)),
    ],
)
def test_grids_of_tokens(tokens, latent, grid):
    assert token_grid(tokens, latent) == grid


def test_tokens_that_are_no_patches_are_refused():
    with pytest.raises(
        ValueError, match=r"whose 17 tokens are the picture's patches.*8 x 8\. Take the mask off"
    ):
        token_grid(17, (1, 16, 8, 8))


def test_the_other_rows_are_padded_with_zeros():
    rows = torch.tensor([False, True, False, True])
    shared = torch.arange(1.0, 7.0).reshape(2, 3, 1, 1)
    padded = pad_rows({"middle": [shared], "output": [shared, None, shared[:1]]}, rows)
    assert torch.equal(padded["middle"][0][rows], shared)
    assert not padded["middle"][0][~rows].any()
    assert padded["output"][0] is padded["middle"][0]
    assert padded["output"][1] is None
    assert torch.equal(padded["output"][2][rows], shared[:1].repeat(2, 1, 1, 1))
