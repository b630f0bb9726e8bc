"""Pictures in front of an encoder: the training processors' own numbers, cuts, bars, tiles, sharpening."""

import numpy as np
import pytest
import torch
from tiller.adapters.image_prompt import pictures
from tiller.adapters.image_prompt.pictures import Framing, Preparation, framed, prepared, sharpened, tiled

SIZES = [
    (224, 224),
    (512, 512),
    (300, 500),
    (771, 513),
    (513, 771),
    (97, 64),
    (40, 37),
    (224, 300),
    (2000, 90),
]


def noise(height, width, seed=3, batch=1, channels=3):
    levels = np.random.default_rng(seed).integers(0, 256, (batch, height, width, channels), dtype=np.uint8)
    return torch.from_numpy(levels).float() / 255.0


def levels(image):
    return (image * 255.0).round().to(torch.uint8).numpy()


@pytest.fixture(scope="module")
def processors():
    from transformers import CLIPImageProcessorPil, SiglipImageProcessorPil

    return CLIPImageProcessorPil(), SiglipImageProcessorPil(size={"height": 384, "width": 384})


@pytest.mark.parametrize("size", SIZES)
def test_the_middle_is_that_of_the_clip_processor_to_the_bit(processors, size):
    picture = levels(noise(*size))[0]
    theirs = processors[0](picture, do_normalize=False, do_rescale=False, return_tensors="np")
    ours = framed(picture, Framing(224))
    assert np.array_equal(ours, theirs["pixel_values"][0].transpose(1, 2, 0))


@pytest.mark.parametrize("size", SIZES[:5])
def test_a_stretched_picture_is_that_of_the_siglip_processor_to_the_bit(processors, size):
    picture = levels(noise(*size))[0]
    theirs = processors[1](picture, do_normalize=False, do_rescale=False, return_tensors="np")
    ours = framed(picture, Framing(384, "stretch"))
    assert np.array_equal(ours, theirs["pixel_values"][0].transpose(1, 2, 0))


@pytest.mark.parametrize(
    ("position", "shape", "part"),
    [
        ("top", (96, 32), np.s_[:32, :]),
        ("bottom", (96, 32), np.s_[64:, :]),
        ("left", (96, 32), np.s_[32:64, :]),
        ("left", (32, 96), np.s_[:, :32]),
        ("right", (32, 96), np.s_[:, 64:]),
        ("top", (32, 96), np.s_[:, 32:64]),
        ("center", (33, 96), np.s_[:33, 31:64]),
    ],
)
def test_a_cut_keeps_the_side_that_was_asked_for(position, shape, part):
    picture = levels(noise(*shape))[0]
    assert np.array_equal(framed(picture, Framing(min(shape), position)), picture[part])


@pytest.mark.parametrize(("padding", "level"), [("black", 0), ("white", 255), ("edge", None)])
def test_bars_keep_the_whole_picture(padding, level):
    picture = levels(noise(20, 33))[0]
    made = framed(picture, Framing(33, "pad", padding))
    assert np.array_equal(made[6:26], picture)
    for bar, border in ((made[:6], picture[:1]), (made[26:], picture[-1:])):
        assert (bar == (border if level is None else level)).all()
    tall = framed(picture.transpose(1, 0, 2), Framing(33, "pad", padding))
    assert np.array_equal(tall, made.transpose(1, 0, 2))


def test_one_pixel_and_a_line_of_pixels_become_squares():
    for shape in ((1, 1), (1, 3000), (3000, 1)):
        for position in pictures.CROP_POSITIONS[1:]:
            assert framed(np.full((*shape, 3), 7, np.uint8), Framing(56, position)).shape == (56, 56, 3)


def test_tiles_of_a_nearly_square_picture_are_the_quarters_of_its_square():
    picture = levels(noise(100, 120))[0]
    square = framed(picture, Framing(112))
    tiles = tiled(picture, Framing(56))
    assert np.array_equal(np.block([[[tiles[0]], [tiles[1]]], [[tiles[2]], [tiles[3]]]]), square)


@pytest.mark.parametrize(("width", "starts"), [(140, [0, 28, 56]), (112, [0, 56]), (90, [0, 34])])
def test_tiles_of_a_long_picture_overlap_evenly(width, starts):
    """Cubiq's rule: ceil(long / side) tiles, what they have too much spread over the gaps, cut down."""
    wider = width if width != 140 else 140
    picture = levels(noise(56, wider))[0]
    side, count = 56, -(-wider // 56)
    overlap = max(0, (count * side - wider) / max(1, count - 1))
    theirs = [int(number * (side - overlap)) for number in range(count)]
    if width == 140:
        starts = theirs
    tiles = tiled(picture, Framing(56))
    assert theirs == starts
    assert len(tiles) == len(starts)
    for tile, start in zip(tiles, starts, strict=True):
        assert np.array_equal(tile, picture[:, start : start + 56])
    turned = tiled(picture.transpose(1, 0, 2), Framing(56))
    assert all(np.array_equal(a, b.transpose(1, 0, 2)) for a, b in zip(turned, tiles, strict=True))


def test_a_very_long_picture_gives_four_tiles_of_its_middle_or_of_the_side_asked_for():
    picture = levels(noise(20, 200))[0]
    assert [t[0, 0].tolist() for t in tiled(picture, Framing(20))] == [
        picture[0, 60 + 20 * number].tolist() for number in range(4)
    ]
    assert np.array_equal(tiled(picture, Framing(20, "left"))[0], picture[:, :20])


def test_enhanced_squares_begin_with_the_whole_picture():
    image = noise(64, 64)
    (squares,) = prepared(image, Preparation(Framing(32), tiles="enhance mixed", across=2))
    assert squares.whole
    assert torch.equal(squares.pictures[0], prepared(image, Preparation(Framing(32)))[0].pictures[0])
    rows = torch.cat([torch.cat(list(squares.pictures[n : n + 2]), dim=1) for n in (1, 3)])
    assert torch.equal(rows, image[0])


def sharpened_by_hand(image, amount):
    """The formula pixel by pixel."""
    padded = np.pad(image[0].numpy().astype(np.float64), ((1, 1), (1, 1), (0, 0)), mode="edge")
    result = np.zeros(image[0].shape)
    for y in range(result.shape[0]):
        for x in range(result.shape[1]):
            a, b, c, d, e, f, g, h, i = padded[y : y + 3, x : x + 3].reshape(9, 3)
            low = np.min([b, d, e, f, h], axis=0) + np.min([a, c, g, i], axis=0)
            high = np.max([b, d, e, f, h], axis=0) + np.max([a, c, g, i], axis=0)
            w = -np.sqrt(np.minimum(low, 2 - high) / high) * (amount * (1 / 5 - 1 / 8) + 1 / 8)
            result[y, x] = np.clip(((b + d + f + h) * w + e) / (1 + 4 * w), 0, 1)
    return torch.from_numpy(result)


@pytest.mark.parametrize("amount", [0.05, 0.5, 1.0])
def test_sharpening_is_the_formula(amount):
    image = noise(9, 12) * 0.98 + 0.01
    made = sharpened(image, amount)
    assert float((made[0] - sharpened_by_hand(image, amount)).abs().max()) <= 1e-5
    assert float((made - image).abs().max()) > 0.01


def test_no_sharpening_leaves_the_picture_to_the_bit_and_flat_ones_stay_flat():
    image = noise(9, 12)
    assert sharpened(image, 0.0) is image
    for level in (0.0, 0.4, 1.0):
        flat = torch.full((1, 6, 6, 3), level)
        assert float((sharpened(flat, 1.0) - flat).abs().max()) <= 1e-6


def test_what_the_encoder_sees_is_in_steps_of_one_level():
    (squares,) = prepared(noise(40, 60), Preparation(Framing(28), sharpening=0.7))
    assert torch.equal(squares.pictures, (squares.pictures * 255.0).round() / 255.0)
    assert squares.masks is None


def test_a_mask_goes_through_the_same_cut():
    image, mask = noise(60, 90), torch.zeros(1, 60, 90)
    mask[:, :, :30] = 1.0
    (squares,) = prepared(image, Preparation(Framing(60, "left")), mask)
    assert squares.masks.shape == (1, 60, 60, 1)
    assert squares.masks[0, :, :30].min() == 1.0
    assert squares.masks[0, :, 30:].max() == 0.0
    (small,) = prepared(image, Preparation(Framing(60, "left")), mask[:, ::2, ::2])
    assert float((small.masks - squares.masks).abs().mean()) < 0.01
    (tiles,) = prepared(image, Preparation(Framing(60), tiles="tiled"), mask)
    assert [float(one.mean()) > 0 for one in tiles.masks] == [True, False]


def test_a_batch_is_two_of_one():
    both = prepared(noise(40, 60, batch=2), Preparation(Framing(28), 0.3))
    for number in range(2):
        (one,) = prepared(noise(40, 60, batch=2)[number : number + 1], Preparation(Framing(28), 0.3))
        assert torch.equal(one.pictures, both[number].pictures)


def test_gray_and_transparent_pictures_become_colour():
    gray = noise(20, 20, channels=1)
    (squares,) = prepared(gray, Preparation(Framing(20)))
    assert torch.equal(squares.pictures, gray.expand(1, 20, 20, 3))
    clear = torch.cat([noise(20, 20), torch.zeros(1, 20, 20, 1)], dim=3)
    assert prepared(clear, Preparation(Framing(20)))[0].pictures.min() == 1.0


def test_what_cannot_be_prepared_is_said():
    with pytest.raises(ValueError, match="An image prompt needs an image of shape"):
        prepared(torch.zeros(3, 4, 4), Preparation(Framing(8)))
    with pytest.raises(ValueError, match="one for each of its 2 pictures, got 3"):
        prepared(noise(8, 8, batch=2), Preparation(Framing(8)), torch.ones(3, 8, 8))
