"""Revision's vector by hand: weights, noise, seeds."""

import pytest
import torch
from tiller.adapters.control.revision.embedding import WeightedImage, noised, parse_weights, pooled_vector


def embedding(seed: int, rows: int = 1) -> torch.Tensor:
    return torch.randn(rows, 1280, generator=torch.Generator().manual_seed(seed))


def alphas() -> torch.Tensor:
    """The webui's schedule, computed the long way: variances whose roots rise evenly."""
    product, kept = 1.0, []
    for step in range(1000):
        root = 1e-4**0.5 + (2e-2**0.5 - 1e-4**0.5) * step / 999
        product *= 1.0 - root**2
        kept.append(product)
    return torch.tensor(kept, dtype=torch.float64)


def test_without_noise_it_is_the_weighted_sum_of_all_pictures():
    one, two = embedding(1), embedding(2, rows=2)
    made = pooled_vector([WeightedImage(one, 1.0), WeightedImage(two, -0.5)], 0.0, 7)
    assert torch.allclose(made, one - 0.5 * (two[:1] + two[1:]), atol=1e-6)
    assert torch.equal(pooled_vector([WeightedImage(one, 1.0)], 0.0, 1), one)


@pytest.mark.parametrize(("amount", "time"), [(0.001, 1), (0.3, 300), (0.999, 999), (1.0, 999)])
def test_noise_is_a_step_of_diffusion(amount, time):
    start = embedding(3)
    noise = torch.randn(1, 1280, generator=torch.Generator().manual_seed(11))
    kept = alphas()[time]
    expected = kept.sqrt().float() * start + (1 - kept).sqrt().float() * noise
    assert torch.allclose(noised(start, amount, torch.Generator().manual_seed(11)), expected, atol=1e-6)
    made = pooled_vector([WeightedImage(start, 0.5)], amount, 11)
    assert torch.allclose(made, 0.5 * expected, atol=1e-6)


def test_the_seed_decides_and_each_picture_has_its_own_noise():
    one, two = WeightedImage(embedding(4), 1.0), WeightedImage(embedding(5), 1.0)
    assert torch.equal(pooled_vector([one, two], 0.5, 9), pooled_vector([one, two], 0.5, 9))
    assert not torch.equal(pooled_vector([one], 0.5, 9), pooled_vector([one], 0.5, 10))
    second_alone = pooled_vector([two], 0.5, 10)
    both = pooled_vector([one, two], 0.5, 9)
    assert torch.allclose(both, pooled_vector([one], 0.5, 9) + second_alone, atol=1e-6)
    same = pooled_vector([one, one], 0.5, 9)
    assert not torch.allclose(same, 2 * pooled_vector([one], 0.5, 9), atol=1e-2)
    state = torch.random.get_rng_state()
    pooled_vector([one], 0.5, 2**64 - 1)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_weights_are_one_for_all_or_one_each():
    assert parse_weights("1", 3) == [1.0, 1.0, 1.0]
    assert parse_weights(" 1, .5;-2 ", 3) == [1.0, 0.5, -2.0]
    with pytest.raises(ValueError, match=r"numbers, separated by commas, got 'b' in '1, b'"):
        parse_weights("1, b", 2)
    with pytest.raises(ValueError, match=r"got '' in ''"):
        parse_weights("", 1)
    with pytest.raises(ValueError, match=r"got 'inf'"):
        parse_weights("inf", 1)
    with pytest.raises(ValueError, match=r"one for each of the 3 images, got 2: '1, 2'\. Add"):
        parse_weights("1, 2", 3)


def test_what_cannot_be_done_is_said():
    with pytest.raises(
        ValueError, match=r"CLIP-ViT-bigG, 1280 wide, got shape \(1, 1024\)\. Load clip_vision_g"
    ):
        pooled_vector([WeightedImage(torch.zeros(1, 1024), 1.0)], 0.0, 0)
    with pytest.raises(ValueError, match=r"1280 wide, got None"):
        pooled_vector([WeightedImage(None, 1.0)], 0.0, 0)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"at least one image, got none\. Connect"):
        pooled_vector([], 0.0, 0)
    with pytest.raises(ValueError, match=r"noise_augmentation from 0 to 1, got 1\.5"):
        pooled_vector([WeightedImage(embedding(1), 1.0)], 1.5, 0)
