"""Where a unit acts: masks of any size and number."""

import pytest
import torch
from tiller.adapters.control.curve import Soft
from tiller.adapters.control.options import UNION_TYPES, ControlOptions, check_union_type
from tiller.adapters.control.region import Region
from torch.nn.functional import interpolate


def noise(*shape):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(3))


def test_a_mask_is_resized_bilinearly():
    mask = noise(1, 30, 50)
    fitted = Region(mask).fit(2, 2, 9, 14)
    assert torch.equal(fitted, interpolate(mask[:, None], (9, 14), mode="bilinear", align_corners=False))
    assert torch.equal(Region(mask[0]).fit(2, 2, 9, 14), fitted)


def test_masks_go_to_the_images_in_turn_and_repeat_per_chunk():
    masks = noise(2, 4, 4)
    rows = Region(masks).rows(3, 2)
    assert rows.shape == (6, 1, 4, 4)
    assert torch.equal(rows[:, 0], masks[[0, 1, 0, 0, 1, 0]])
    assert torch.equal(Region(masks).rows(1, 2)[:, 0], masks[:1])
    assert torch.equal(Region(masks[:1]).rows(3, 2)[:, 0], masks[:1])
    assert torch.equal(Region(masks).fit(3, 2, 4, 4), rows)


@pytest.mark.parametrize("size", [(1, 1), (7, 5), (63, 65), (100, 3)])
def test_ones_stay_ones_and_zeros_zeros_at_any_size(size):
    masks = torch.stack([torch.ones(13, 17), torch.zeros(13, 17), noise(13, 17)])
    fitted = Region(masks).fit(3, 1, *size)
    assert bool((fitted[0] == 1).all())
    assert bool((fitted[1] == 0).all())
    assert bool((fitted[2] < 1).all())


def test_empty_and_whole_look_at_the_images_of_the_batch():
    region = Region(torch.stack([torch.zeros(4, 4), torch.ones(4, 4)]))
    assert region.is_empty(1)
    assert not region.is_empty(2)
    assert not region.is_whole(2)
    assert Region(torch.ones(2, 4, 4)).is_whole(5)
    assert not Region(torch.full((1, 4, 4), 0.999)).is_whole(1)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"mask": torch.zeros(1, 3, 4, 4)}, r"needs the shape \(M,H,W\), got \(1, 3, 4, 4\)"),
        ({"mask": torch.zeros(1, 0, 4)}, "at least one mask of 1 x 1 pixel, got 1 of 4 x 0"),
        ({"mask": torch.zeros(0, 5, 4)}, "at least one mask of 1 x 1 pixel, got 0 of 4 x 5"),
        ({"mask": torch.full((1, 4, 4), float("nan"))}, "needs finite values, got NaN"),
        ({"steps": Soft()}, "A soft curve is for layers, but it was given for steps"),
        ({"union_type": "lines"}, "need a union_type of auto, openpose, .* got 'lines'"),
    ],
)
def test_options_that_cannot_act_are_refused(options, text):
    with pytest.raises(ValueError, match=text):
        ControlOptions(**options)


def test_a_union_type_needs_a_net_that_has_it():
    check_union_type("auto", 0, "Apply Control")
    check_union_type("segment", 6, "Apply Control")
    with pytest.raises(
        ValueError, match=r"the union_type depth, which needs a ControlNet-Union.*Set union_type"
    ):
        check_union_type("depth", 0, "Apply Control")
    with pytest.raises(ValueError, match=r"knows 6 types: openpose, .*segment\. Choose one .* ProMax"):
        check_union_type("tile", 6, "Apply Control")
    assert list(UNION_TYPES.values()) == list(range(8))
