"""What a control object sees of a call, and what it may put into the call's options."""

import torch
from tiller.adapters.control.call import cond_rows
from tiller.adapters.control.patching import add_patch, add_wrapper


def test_rows_of_the_negative_come_chunk_by_chunk():
    assert cond_rows([1, 0], 6).tolist() == [False, False, False, True, True, True]
    assert cond_rows([0], 2).tolist() == [True, True]
    assert cond_rows([0, 1, 0], 3).tolist() == [True, False, True]
    assert cond_rows([1], 2).dtype == torch.bool


def test_patches_are_added_behind_the_others_and_shared_containers_stay():
    shared = {"attn1_patch": ["theirs"]}
    options = {"patches": shared, "sigmas": 1}
    add_patch(options, "attn1_patch", "ours")
    add_patch(options, "attn2_patch", "ours")
    assert options["patches"] == {"attn1_patch": ["theirs", "ours"], "attn2_patch": ["ours"]}
    assert shared == {"attn1_patch": ["theirs"]}
    fresh = {}
    add_patch(fresh, "attn1_patch", "ours")
    assert fresh["patches"] == {"attn1_patch": ["ours"]}


def test_wrappers_are_added_behind_the_others_and_shared_containers_stay():
    shared = {"diffusion_model": {"tiller": ["first"], "other": ["theirs"]}, "apply_model": {}}
    options = {"wrappers": shared}
    add_wrapper(options, "second")
    assert options["wrappers"]["diffusion_model"] == {"tiller": ["first", "second"], "other": ["theirs"]}
    assert options["wrappers"]["apply_model"] == {}
    assert shared["diffusion_model"]["tiller"] == ["first"]
