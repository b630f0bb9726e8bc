"""Fitting hints and masks: geometry, the choice of resampling, masks, errors."""

import cv2
import numpy as np
import pytest
import torch
from tiller.preprocessors.fit import (
    RESIZE_MODES,
    Size,
    checked_mask,
    count_colours,
    fit_image,
    fit_mask,
    pixel_perfect_resolution,
)
from tiller.preprocessors.thin import ridges, thin


def as_image(*pictures: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.stack(pictures).astype(np.float32) / 255.0)


def levels(image: torch.Tensor) -> np.ndarray:
    return np.round(image.numpy() * 255.0).astype(np.uint8)


def photo(height: int, width: int, channels: int = 3, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels)).astype(np.uint8)


def circle(height: int, width: int, thickness: int) -> np.ndarray:
    canvas = np.zeros((height, width), dtype=np.uint8)
    cv2.circle(canvas, (width // 2, height // 2), min(height, width) // 3, 255, thickness)
    return np.repeat(canvas[..., None], 3, axis=2)


class TestGeometry:
    @pytest.mark.parametrize("mode", RESIZE_MODES)
    @pytest.mark.parametrize("source", [(1, 1), (1, 9), (37, 64), (65, 31)])
    @pytest.mark.parametrize("target", [(1, 1), (64, 64), (33, 57), (5, 90)])
    @pytest.mark.parametrize("channels", [1, 3, 4])
    def test_every_size_gives_the_target_size(self, source, target, mode, channels):
        result = fit_image(as_image(photo(*source, channels)), Size(*target), mode)
        assert result.shape == (1, *target, channels)
        assert result.dtype == torch.float32
        assert 0.0 <= float(result.min()) <= float(result.max()) <= 1.0

    @pytest.mark.parametrize("mode", RESIZE_MODES)
    def test_the_same_size_keeps_every_bit(self, mode):
        image = torch.rand(2, 17, 23, 3)
        assert torch.equal(fit_image(image, Size(17, 23), mode), image)
        assert torch.equal(fit_mask(image[..., 0], Size(17, 23), mode), image[..., 0])

    def test_a_crop_without_scaling_keeps_every_bit_of_the_middle(self):
        image = torch.rand(1, 20, 31, 3)
        assert torch.equal(fit_image(image, Size(20, 20), "crop"), image[:, :, 5:25])
        assert torch.equal(fit_mask(image[..., 0], Size(20, 20), "crop"), image[:, :, 5:25, 0])

    def test_a_crop_owns_its_memory(self):
        image = torch.rand(1, 30, 20, 3)
        before = image.clone()
        fit_image(image, Size(20, 20), "crop").zero_()
        assert torch.equal(image, before)

    def test_crop_resizes_by_the_larger_ratio_and_cuts_the_middle(self):
        picture = photo(40, 60)
        whole = cv2.resize(picture, (150, 100), interpolation=cv2.INTER_CUBIC)
        result = levels(fit_image(as_image(picture), Size(100, 101), "crop"))[0]
        assert (result == whole[:, 24:125]).all()

    def test_fill_resizes_by_the_smaller_ratio_and_centres_it(self):
        picture = photo(40, 60)
        whole = cv2.resize(picture, (30, 20), interpolation=cv2.INTER_AREA)
        result = levels(fit_image(as_image(picture), Size(41, 30), "fill"))[0]
        assert (result[10:30] == whole).all()

    def test_stretch_takes_the_whole_picture(self):
        picture = photo(40, 60)
        result = levels(fit_image(as_image(picture), Size(80, 30), "stretch"))[0]
        assert (result == cv2.resize(picture, (30, 80), interpolation=cv2.INTER_CUBIC)).all()

    def test_fill_pads_with_the_median_of_the_border_pixels(self):
        picture = photo(9, 12)
        border = np.concatenate([picture[0], picture[-1], picture[:, 0], picture[:, -1]])
        result = levels(fit_image(as_image(picture), Size(40, 12), "fill"))[0]
        assert (result[:15] == np.floor(np.median(border, axis=0))).all()
        assert (result[15:24] == picture).all()

    def test_a_very_flat_picture_is_filled_without_vanishing(self):
        assert fit_image(as_image(photo(2, 600)), Size(8, 8), "fill").shape == (1, 8, 8, 3)

    @pytest.mark.parametrize("mode", RESIZE_MODES)
    def test_a_batch_of_two_is_two_of_one(self, mode):
        pictures = [photo(33, 47), circle(33, 47, 1)]
        both = fit_image(as_image(*pictures), Size(64, 64), mode)
        alone = [fit_image(as_image(one), Size(64, 64), mode) for one in pictures]
        assert torch.equal(both, torch.cat(alone))


class TestResampling:
    def test_few_colours_gain_no_new_ones(self):
        colours = photo(1, 20)[0]
        index = np.random.default_rng(3).integers(0, 20, (31, 45))
        segmentation = colours[index]
        for size in (Size(64, 90), Size(15, 15)):
            result = levels(fit_image(as_image(segmentation), size, "stretch"))[0]
            known = {tuple(colour) for colour in colours}
            assert {tuple(pixel) for pixel in result.reshape(-1, 3)} <= known

    @pytest.mark.parametrize(
        ("count", "mixed"), [(2, True), (3, False), (199, False), (200, True), (201, True)]
    )
    def test_nearest_is_for_3_to_199_colours(self, count, mixed):
        colours = np.stack([np.arange(count), 255 - np.arange(count), np.arange(count) * 99 % 256], axis=1)
        picture = colours[np.arange(60 * 60) % count].reshape(60, 60, 3).astype(np.uint8)
        assert count_colours(picture, 1000) == count
        result = levels(fit_image(as_image(picture), Size(91, 91), "stretch"))[0]
        known = {tuple(colour) for colour in colours}
        assert ({tuple(pixel) for pixel in result.reshape(-1, 3)} <= known) is not mixed

    def test_colours_that_a_sample_misses_are_counted(self):
        picture = np.zeros((200, 200, 3), dtype=np.uint8)
        picture[101, 101], picture[33, 77] = (1, 2, 3), (3, 2, 1)
        assert count_colours(picture, 200) == 3

    @pytest.mark.parametrize(("size", "method"), [((50, 50), cv2.INTER_AREA), ((140, 140), cv2.INTER_CUBIC)])
    def test_many_colours_are_averaged_down_and_cubic_up(self, size, method):
        picture = photo(101, 99)
        result = levels(fit_image(as_image(picture), Size(*size), "stretch"))[0]
        assert (result == cv2.resize(picture, size[::-1], interpolation=method)).all()

    @pytest.mark.parametrize("size", [Size(256, 300), Size(50, 61)])
    def test_black_and_white_stays_black_and_white(self, size):
        picture = circle(120, 140, -1)
        result = levels(fit_image(as_image(picture), size, "stretch"))[0]
        assert set(np.unique(result)) == {0, 255}
        smooth = cv2.INTER_CUBIC if size.width > 140 else cv2.INTER_AREA
        whole = cv2.resize(picture, (size.width, size.height), interpolation=smooth)[..., 0]
        _, expected = cv2.threshold(whole, 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
        assert (result[..., 0] == expected).all()

    @pytest.mark.parametrize(("low", "high", "cut"), [(15, 241, True), (16, 255, False), (0, 240, False)])
    def test_two_colours_are_cut_only_when_nearly_black_and_white(self, low, high, cut):
        picture = np.where(circle(60, 60, -1) > 0, high, low).astype(np.uint8)
        result = levels(fit_image(as_image(picture), Size(90, 90), "stretch"))[0]
        assert (set(np.unique(result)) == {0, 255}) is cut

    @pytest.mark.parametrize("size", [Size(300, 300), Size(100, 100)])
    def test_one_pixel_lines_stay_one_pixel_wide(self, size):
        picture = circle(150, 150, 1)
        result = levels(fit_image(as_image(picture), size, "stretch"))[0][..., 0]
        solid = cv2.morphologyEx(result, cv2.MORPH_OPEN, np.ones((2, 2), np.uint8))
        assert (result > 0).sum() > size.height
        assert (solid > 0).sum() <= 0.05 * (result > 0).sum()

    @pytest.mark.parametrize("size", [Size(301, 290), Size(100, 90)])
    def test_lines_are_ridges_cut_by_otsu_thinned_and_pruned_only_when_enlarged(self, size):
        picture = np.repeat(cv2.Canny(cv2.GaussianBlur(photo(150, 150, 1), (0, 0), 3), 4, 8)[..., None], 3, 2)
        enlarging = size.height > 150
        method = cv2.INTER_CUBIC if enlarging else cv2.INTER_AREA
        whole = ridges(cv2.resize(picture, (size.width, size.height), interpolation=method)[..., 0])
        _, cut = cv2.threshold(whole, 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
        result = fit_image(as_image(picture), size, "stretch")[0, ..., 0].numpy() > 0
        assert (result == thin(cut > 0, prune=enlarging)).all()
        assert not (result == thin(cut > 0, prune=not enlarging)).all()

    def test_solid_shapes_are_not_thinned(self):
        result = fit_image(as_image(circle(150, 150, 9)), Size(300, 300), "stretch")
        assert float(result.mean()) > 0.05

    def test_values_between_two_levels_are_rounded(self):
        image = torch.full((1, 4, 4, 3), 0.4999 / 255.0 + 100 / 255.0)
        assert (levels(fit_image(image, Size(8, 8), "stretch")) == 100).all()
        assert (levels(fit_image(image + 0.0002 / 255.0, Size(8, 8), "stretch")) == 101).all()


class TestMasks:
    @pytest.mark.parametrize("mode", RESIZE_MODES)
    @pytest.mark.parametrize("size", [Size(70, 90), Size(13, 11)])
    def test_a_binary_mask_stays_binary(self, mode, size):
        mask = (torch.rand(2, 31, 29, generator=torch.Generator().manual_seed(0)) > 0.5).float()
        result = fit_mask(mask, size, mode)
        assert result.shape == (2, *size)
        assert set(result.unique().tolist()) == {0.0, 1.0}

    @pytest.mark.parametrize("mode", RESIZE_MODES)
    def test_a_mask_of_ones_stays_ones(self, mode):
        assert bool((fit_mask(torch.ones(1, 9, 30), Size(40, 40), mode) == 1.0).all())

    def test_a_mask_of_zeros_stays_zeros_where_the_picture_is(self):
        assert not fit_mask(torch.zeros(1, 9, 30), Size(40, 40), "crop").any()
        filled = fit_mask(torch.zeros(1, 10, 40), Size(40, 40), "fill")[0]
        assert not filled[15:25].any()
        assert bool((filled[:15] == 1.0).all())
        assert bool((filled[25:] == 1.0).all())

    def test_a_soft_mask_stays_soft_and_in_range(self):
        ramp = torch.linspace(0.0, 1.0, 50).repeat(1, 20, 1)
        result = fit_mask(ramp, Size(40, 100), "stretch")[0]
        assert len(result.unique()) > 90
        assert float(result.min()) >= 0.0
        assert float(result.max()) <= 1.0
        assert bool((result[0].diff() >= -1e-6).all())

    def test_the_cut_of_a_binary_mask_counts_half_as_affected(self):
        mask = torch.tensor([[[1.0, 0.0, 0.0, 0.0], [1.0, 0.0, 0.0, 1.0]]])
        assert fit_mask(mask, Size(1, 2), "stretch").tolist() == [[[1.0, 0.0]]]

    def test_a_mask_stored_smaller_follows_its_picture(self):
        picture, mask = torch.zeros(1, 40, 80, 3), torch.zeros(1, 20, 20)
        picture[:, :, 24:], mask[:, :, 6:] = 1.0, 1.0
        result = fit_mask(mask, Size(40, 40), "crop", source=Size(40, 80))
        assert torch.equal(result, fit_image(picture, Size(40, 40), "crop")[..., 0])

    def test_a_single_mask_without_batch_is_taken(self):
        assert fit_mask(torch.ones(6, 6), Size(3, 3)).shape == (1, 3, 3)

    def test_the_fourth_channel_is_cut_and_padded_as_affected(self):
        picture = photo(20, 40, 4)
        picture[..., 3] = np.where(np.arange(40) < 20, 0, 255)
        result = levels(fit_image(as_image(picture), Size(60, 60), "fill"))[0]
        assert set(np.unique(result[..., 3])) == {0, 255}
        assert (result[:15, :, 3] == 255).all()
        assert (result[45:, :, 3] == 255).all()
        assert (result[15:45, :29, 3] == 0).all()
        assert (result[15:45, 31:, 3] == 255).all()

    def test_the_fourth_channel_leaves_the_colours_alone(self):
        picture = photo(20, 40, 4)
        colours = fit_image(as_image(picture[..., :3]), Size(33, 60), "crop")
        assert torch.equal(fit_image(as_image(picture), Size(33, 60), "crop")[..., :3], colours)


class TestPixelPerfect:
    @pytest.mark.parametrize(
        ("source", "target", "mode", "expected"),
        [
            ((512, 768), (768, 768), "crop", 768),
            ((512, 768), (768, 768), "stretch", 768),
            ((512, 768), (768, 768), "fill", 512),
            ((1000, 333), (512, 512), "crop", 512),
            ((1000, 333), (512, 512), "fill", 170),
            ((333, 1000), (1024, 512), "crop", 1024),
            ((2, 2), (3, 5), "fill", 3),
            ((4, 4), (1, 2), "fill", 1),
            ((1000, 1), (10, 10), "fill", 1),
        ],
    )
    def test_it_is_the_shorter_side_times_the_scale(self, source, target, mode, expected):
        assert pixel_perfect_resolution(Size(*source), Size(*target), mode) == expected

    def test_halves_round_to_even(self):
        assert pixel_perfect_resolution(Size(2, 4), Size(5, 10), "crop") == 5
        assert pixel_perfect_resolution(Size(4, 8), Size(2, 5), "crop") == 2
        assert pixel_perfect_resolution(Size(4, 8), Size(3, 7), "crop") == 4


class TestErrors:
    def test_an_unknown_mode_is_named(self):
        with pytest.raises(ValueError, match='must be "crop", "stretch" or "fill", got "zoom"'):
            fit_image(torch.zeros(1, 4, 4, 3), Size(8, 8), "zoom")  # pyright: ignore
        with pytest.raises(ValueError, match='got "zoom"'):
            pixel_perfect_resolution(Size(4, 4), Size(8, 8), "zoom")  # pyright: ignore

    def test_a_size_under_one_is_refused(self):
        with pytest.raises(ValueError, match="target size of at least 1 x 1 pixel, got 8 x 0"):
            fit_image(torch.zeros(1, 4, 4, 3), Size(0, 8))
        with pytest.raises(ValueError, match="source size of at least 1 x 1"):
            pixel_perfect_resolution(Size(4, 0), Size(8, 8), "crop")

    def test_nan_pixels_are_refused(self):
        image = torch.zeros(1, 4, 4, 3)
        image[0, 1, 1, 1] = float("nan")
        with pytest.raises(ValueError, match="Fit hint needs finite pixel values"):
            fit_image(image, Size(8, 8))
        with pytest.raises(ValueError, match="The mask of Fit hint needs finite"):
            fit_mask(image[..., 1], Size(8, 8))

    def test_an_empty_picture_is_refused(self):
        with pytest.raises(ValueError, match="at least one picture of 1 x 1"):
            fit_image(torch.zeros(1, 0, 0, 3), Size(8, 8))

    def test_an_image_in_place_of_a_mask_is_refused(self):
        with pytest.raises(ValueError, match=r"needs a mask of shape .* got shape \(1, 4, 4, 3\)"):
            checked_mask(torch.zeros(1, 4, 4, 3), "Fit hint")
        with pytest.raises(ValueError, match="got NoneType"):
            checked_mask(None, "Fit hint")

    def test_a_strip_that_would_be_enlarged_beyond_reason_is_refused(self):
        with pytest.raises(ValueError, match=r"got 1 x 4000: .* first enlarge it to 1024 x 4096000"):
            fit_image(torch.zeros(1, 4000, 1, 3), Size(1024, 1024), "crop")
