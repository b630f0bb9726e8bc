"""The colours of one latent under the detail of another, against the plain sums."""

import pytest
import torch
from tiller.adapters.control.color_fix.maths import blunted, box_blur, color_fixed


def latent(seed: int, height: int = 9, width: int = 14) -> torch.Tensor:
    return torch.randn(2, 4, height, width, generator=torch.Generator().manual_seed(seed))


def slow_blur(values: torch.Tensor, radius: int) -> torch.Tensor:
    """Means over squares, with every place outside taken from the nearest place inside."""
    height, width = values.shape[-2:]
    out = torch.empty_like(values)
    for y in range(height):
        rows = torch.arange(y - radius, y + radius + 1).clamp(0, height - 1)
        for x in range(width):
            columns = torch.arange(x - radius, x + radius + 1).clamp(0, width - 1)
            out[..., y, x] = values[..., rows, :][..., columns].mean(dim=(-2, -1))
    return out


@pytest.mark.parametrize("radius", [1, 3, 8, 32])
def test_the_blur_is_a_mean_over_squares_with_the_border_continued(radius):
    values = latent(1)
    assert torch.allclose(box_blur(values, radius), slow_blur(values, radius), atol=1e-4)


def test_the_result_has_the_blur_of_the_original_and_the_detail_of_the_denoised():
    denoised, original = latent(2), latent(3)
    made = color_fixed(denoised, original, 3)
    expected = denoised - slow_blur(denoised, 3) + slow_blur(original, 3)
    assert torch.allclose(made, expected, atol=1e-5)
    assert torch.allclose(color_fixed(original, original, 3), original, atol=1e-6)


def test_blunting_mixes_with_the_blur():
    values = latent(4)
    assert torch.allclose(blunted(values, 3, 0.25), 0.25 * slow_blur(values, 3) + 0.75 * values, atol=1e-5)
    assert torch.equal(blunted(values, 3, 0.0), values)
