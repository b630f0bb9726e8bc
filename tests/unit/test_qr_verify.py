"""Verifying QR codes: clean ones pass everywhere, flipped modules are counted, pictures pass alone."""

import dataclasses

import numpy as np
import pytest
import segno
import torch
from tiller.preprocessors.fit import Size
from tiller.preprocessors.qr import QRCode, QRSettings, draw_qr, place_qr
from tiller.preprocessors.qr_verify import (
    NOT_MEASURED,
    decode_qr,
    module_error_rate,
    perturbed_copies,
    verify_qr,
)

LINK = "https://example.com/tiller"


def pixels(image: torch.Tensor) -> np.ndarray:
    return np.round(image[0].numpy() * 255.0).astype(np.uint8)


def flipped(code: QRCode, count: int, seed: int = 0) -> QRCode:
    matrix = code.matrix.copy()
    chosen = np.random.default_rng(seed).choice(matrix.size, count, replace=False)
    matrix.flat[chosen] ^= True
    return dataclasses.replace(code, matrix=matrix)


class TestDecoding:
    @pytest.mark.parametrize(
        ("text", "settings", "background"),
        [
            (LINK, QRSettings(), "white"),
            (LINK, QRSettings(), "grey"),
            ("7", QRSettings("L"), "grey"),
            ("https://example.com/" + "path/" * 16, QRSettings("M", 12), "white"),
            ("你好 QR", QRSettings("Q"), "white"),
        ],
    )
    def test_a_clean_code_decodes_in_every_copy(self, text, settings, background):
        code = place_qr(text, Size(768, 768), settings)
        (result,) = verify_qr(draw_qr(code, background), code=code)
        assert result.text == text
        assert result.failed == ()
        assert result.share == 1.0
        assert result.error_rate == 0.0
        assert result.report == f'Reads "{text}".\n15 of 15 copies decode.\n0.0% of the modules are wrong.'

    def test_the_copies_are_scaled_blurred_packed_lit_and_turned(self):
        picture = np.random.default_rng(0).integers(0, 256, (101, 80, 3)).astype(np.uint8)
        copies = dict(perturbed_copies(picture))
        assert list(copies) == [
            "as it is",
            *("scaled 0.75", "scaled 0.5", "scaled 0.35", "scaled 0.25", "blurred 1", "blurred 2"),
            *(
                "JPEG 75",
                "JPEG 40",
                "brighter",
                "darker",
                "turned -10",
                "turned -5",
                "turned +5",
                "turned +10",
            ),
        ]
        assert copies["as it is"] is picture
        assert copies["scaled 0.25"].shape == (25, 20, 3)
        assert copies["blurred 2"].std() < copies["blurred 1"].std() < picture.std()
        assert copies["darker"].mean() < picture.mean() < copies["brighter"].mean()
        assert len({copy.tobytes() for copy in copies.values()}) == 15

    def test_jpeg_copies_keep_red_red(self):
        red = np.zeros((64, 64, 3), dtype=np.uint8)
        red[..., 0] = 255
        assert dict(perturbed_copies(red))["JPEG 75"][32, 32, 0] > 240

    def test_a_picture_without_a_code_fails_in_every_copy(self):
        (result,) = verify_qr(torch.rand(1, 96, 130, 3, generator=torch.Generator().manual_seed(0)))
        assert (result.text, result.share, result.error_rate) == ("", 0.0, NOT_MEASURED)
        assert len(result.failed) == 15
        assert result.report.startswith(
            "No QR code was read.\n0 of 15 copies decode.\nFailed: as it is, scaled"
        )

    def test_another_text_than_the_wanted_one_fails(self):
        image = draw_qr(place_qr("other", Size(512, 512)))
        (result,) = verify_qr(image, text=LINK)
        assert (result.text, result.share) == ("other", 0.0)
        assert result.report.startswith(f'Reads "other", wanted "{LINK}".')
        (wanted,) = verify_qr(image, text=LINK, code=place_qr("other", Size(512, 512)))
        assert wanted.share == 1.0

    def test_no_wanted_text_takes_any(self):
        (result,) = verify_qr(draw_qr(place_qr("anything", Size(528, 528))))
        assert (result.text, result.share) == ("anything", 1.0)

    def test_a_damaged_code_passes_some_copies_and_names_the_others(self):
        code = place_qr(LINK, Size(512, 512), QRSettings("L", 4))
        (result,) = verify_qr(draw_qr(code), code=code)
        assert 0.0 < result.share < 1.0
        assert "scaled 0.25" in result.failed
        assert result.share == pytest.approx(1 - len(result.failed) / 15)
        assert f"{15 - len(result.failed)} of 15 copies decode.\nFailed: " in result.report

    @pytest.mark.parametrize("size", [(1, 1), (2, 3), (7, 130)])
    @pytest.mark.parametrize("channels", [1, 3, 4])
    def test_tiny_pictures_read_as_nothing(self, size, channels):
        (result,) = verify_qr(torch.zeros(1, *size, channels))
        assert result.text == ""

    def test_modules_of_one_pixel_are_read(self):
        code = place_qr("hello", Size(400, 400), QRSettings("H", 1))
        assert decode_qr(pixels(draw_qr(code))) == "hello"

    def test_a_code_without_any_margin_is_read(self):
        code = place_qr(LINK, Size(768, 768), QRSettings("H", 8, 0))
        side = code.modules * 8
        picture = pixels(draw_qr(code))[code.top : code.top + side, code.left : code.left + side]
        assert decode_qr(np.ascontiguousarray(picture)) == LINK

    def test_bytes_that_are_no_text_read_as_nothing(self):
        matrix = segno.make("点茗", mode="kanji", error="H", micro=False).matrix
        light = 1 - np.array([list(row) for row in matrix], dtype=np.uint8)
        picture = np.pad(np.kron(light, np.ones((8, 8), dtype=np.uint8)) * 255, 64, constant_values=255)
        assert decode_qr(np.repeat(picture[..., None], 3, axis=2)) == ""

    def test_a_batch_of_two_is_two_of_one(self):
        code = place_qr(LINK, Size(464, 464), QRSettings("M", 8))
        first, second = draw_qr(code), draw_qr(flipped(code, 20))
        both = verify_qr(torch.cat([first, second]), code=code)
        assert both == [*verify_qr(first, code=code), *verify_qr(second, code=code)]
        assert both[0].error_rate != both[1].error_rate

    def test_every_picture_is_reported_and_a_stop_stops(self):
        seen = []
        verify_qr(torch.zeros(2, 8, 8, 3), on_image=lambda *step: seen.append(step))
        assert seen == [(1, 2), (2, 2)]


class TestModuleErrors:
    @pytest.mark.parametrize("level", ["L", "H"])
    @pytest.mark.parametrize("length", [5, 40, 110])
    @pytest.mark.parametrize("background", ["white", "grey"])
    def test_k_flipped_modules_are_k_of_all(self, level, length, background):
        code = place_qr("a" * length, Size(776, 769), QRSettings(level, 8))
        for count in (0, 1, 7, code.matrix.size // 5, code.matrix.size // 2, code.matrix.size):
            picture = pixels(draw_qr(flipped(code, count, seed=count), background))
            assert module_error_rate(picture, code) == count / code.matrix.size

    @pytest.mark.parametrize("module_size", [1, 2, 3, 5, 16])
    def test_every_module_size_is_counted_exactly(self, module_size):
        code = place_qr("hello", Size(601, 600), QRSettings("H", module_size))
        picture = pixels(draw_qr(flipped(code, 31)))
        assert module_error_rate(picture, code) == 31 / code.matrix.size

    @pytest.mark.parametrize("scale", [(1.5, 1.5), (2, 2), (0.5, 0.5), (1.25, 0.75)])
    def test_a_scaled_picture_is_counted_all_the_same(self, scale):
        code = place_qr(LINK, Size(768, 768))
        image = draw_qr(flipped(code, 50)).movedim(-1, 1)
        scaled = torch.nn.functional.interpolate(image, scale_factor=scale, mode="area").movedim(1, -1)
        assert module_error_rate(pixels(scaled), code) == 50 / code.matrix.size

    def test_shading_across_the_picture_makes_no_errors(self):
        code = place_qr(LINK, Size(768, 768))
        shade = torch.linspace(0.15, 1.0, 768)[None, None, :, None]
        picture = pixels(draw_qr(flipped(code, 40)) * shade * 0.5 + 0.4 * shade)
        assert module_error_rate(picture, code) == 40 / code.matrix.size

    def test_a_white_picture_misses_every_dark_module(self):
        code = place_qr(LINK, Size(768, 768))
        white, black = np.full((768, 768, 3), 255, np.uint8), np.zeros((768, 768, 3), np.uint8)
        assert module_error_rate(white, code) == code.matrix.mean()
        assert module_error_rate(black, code) == (~code.matrix).mean()

    def test_green_counts_more_than_blue(self):
        code = place_qr("hello", Size(480, 480))
        picture = pixels(draw_qr(code))
        coloured = np.where(picture > 0, np.array([0, 255, 0]), np.array([0, 0, 255])).astype(np.uint8)
        assert module_error_rate(coloured, code) == 0.0
        assert module_error_rate(255 - coloured, code) == 1.0

    def test_red_counts_more_than_blue(self):
        code = place_qr("hello", Size(480, 480))
        coloured = np.where(pixels(draw_qr(code)) > 0, np.array([255, 0, 0]), np.array([0, 0, 255]))
        assert module_error_rate(coloured.astype(np.uint8), code) == 0.0

    def test_only_the_middle_of_a_module_counts(self):
        code = place_qr("hello", Size(480, 480))
        picture = pixels(draw_qr(code))
        along = (np.arange(480) - code.left) % 16
        edge = (along < 4) | (along >= 12)
        around = edge[:, None] | edge[None, :]
        picture[around] = 255 - picture[around]
        assert module_error_rate(picture, code) == 0.0


class TestErrors:
    def test_nan_and_empty_pictures_are_refused(self):
        with pytest.raises(ValueError, match="Verify QR code needs finite pixel values"):
            verify_qr(torch.full((1, 8, 8, 3), float("nan")))
        with pytest.raises(ValueError, match="Verify QR code needs at least one picture of 1 x 1"):
            verify_qr(torch.zeros(1, 0, 0, 3))
