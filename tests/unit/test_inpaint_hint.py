"""The hint of inpaint nets: hard marks, and every other pixel as it was."""

import pytest
import torch
from tiller.preprocessors.fit import Size, fit_image, fit_mask
from tiller.preprocessors.inpaint_hint import inpaint_hint

MODES = pytest.mark.parametrize("mode", ["crop", "stretch", "fill"])


def noise(height: int = 24, width: int = 32, batch: int = 1, channels: int = 3) -> torch.Tensor:
    return torch.rand(batch, height, width, channels, generator=torch.Generator().manual_seed(3))


def square(height: int = 24, width: int = 32) -> torch.Tensor:
    mask = torch.zeros(1, height, width)
    mask[:, 6:15, 9:20] = 1.0
    return mask


@pytest.mark.parametrize(("masked", "value"), [("-1", -1.0), ("0", 0.0)])
def test_masked_pixels_are_marked_and_the_others_untouched(masked, value):
    image, mask = noise(), square()
    made = inpaint_hint(image, mask, masked)
    hole = mask[0] > 0.5
    assert (made[0][hole] == value).all()
    assert torch.equal(made[0][~hole], image[0][~hole])
    formula = image * (1 - mask.unsqueeze(-1)) + (value * mask.unsqueeze(-1))
    assert torch.equal(made, formula)


def test_the_mask_is_cut_above_a_half_and_stretched_to_the_picture():
    image = noise()
    soft = torch.full((1, 24, 32), 0.5)
    assert torch.equal(inpaint_hint(image, soft), image)
    assert (inpaint_hint(image, soft + 0.01) == -1.0).all()
    small = torch.zeros(1, 12, 16)
    small[:, :, 8:] = 1.0
    assert torch.equal(
        inpaint_hint(image, small), inpaint_hint(image, small.repeat_interleave(2, 1).repeat_interleave(2, 2))
    )


def test_batches_gray_and_transparent_pictures():
    images, mask = noise(batch=2), square()
    both = inpaint_hint(images, mask)
    assert torch.equal(both, torch.cat([inpaint_hint(images[:1], mask), inpaint_hint(images[1:], mask)]))
    gray = noise(channels=1)
    assert torch.equal(inpaint_hint(gray, mask), inpaint_hint(gray.expand(-1, -1, -1, 3), mask))
    clear = torch.cat([noise(), torch.zeros(1, 24, 32, 1)], dim=-1)
    assert torch.equal(inpaint_hint(clear, mask), inpaint_hint(torch.ones(1, 24, 32, 3), mask))
    image = noise()
    inpaint_hint(image, torch.zeros(1, 24, 32)).zero_()
    assert torch.equal(image, noise())


@MODES
@pytest.mark.parametrize("size", [(24, 32), (16, 16), (48, 40), (9, 70)])
def test_fitting_keeps_the_mask_hard_and_lets_nothing_of_it_run_out(mode, size):
    flat = torch.full((1, 24, 32, 3), 0.75)
    fitted = fit_image(inpaint_hint(flat, square()), Size(*size), mode)
    assert fitted.shape == (1, *size, 3)
    hole = (fitted < 0).any(dim=-1)
    assert (fitted[hole] == -1.0).all()
    assert torch.allclose(fitted[~hole], torch.tensor(0.75), atol=1e-5)
    expected = fit_mask(square(), Size(*size), mode, Size(24, 32)) > 0.5
    assert torch.equal(hole, expected)
    assert hole.any()


@MODES
def test_fitting_judges_each_picture_of_a_batch_alone(mode):
    first, second = inpaint_hint(noise(), square()), inpaint_hint(1 - noise(), square().flip(1))
    both = fit_image(torch.cat([first, second]), Size(20, 20), mode)
    alone = [fit_image(one, Size(20, 20), mode) for one in (first, second)]
    assert torch.equal(both, torch.cat(alone))


def test_the_padding_of_fill_is_to_be_repainted():
    fitted = fit_image(inpaint_hint(noise(), square()), Size(64, 32), "fill")
    assert (fitted[:, :20] == -1.0).all()
    assert (fitted[:, 44:] == -1.0).all()
    assert torch.equal(fitted[:, 20:44], inpaint_hint(noise(), square()))


def test_what_cannot_be_done_is_said():
    with pytest.raises(ValueError, match=r"masked to be one of -1, 0, got '-2'\. Choose"):
        inpaint_hint(noise(), square(), "-2")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"one for each of the 3 pictures, got 2\. Connect the mask"):
        inpaint_hint(noise(batch=3), square().expand(2, -1, -1))
    with pytest.raises(ValueError, match=r"^Inpaint hint needs a mask of shape"):
        inpaint_hint(noise(), noise())
