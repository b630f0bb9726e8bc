"""Drawing QR codes: the matrix, the pixel grid, the background, the limits and the error texts."""

import cv2
import numpy as np
import pytest
import segno
import torch
from tiller.preprocessors.fit import Size
from tiller.preprocessors.qr import CAPACITY, ERROR_CORRECTIONS, QRSettings, draw_qr, place_qr

LINK = "https://example.com/tiller"


def read(image: torch.Tensor) -> str:
    picture = np.round(image[0].numpy() * 255.0).astype(np.uint8)
    return cv2.QRCodeDetectorAruco().detectAndDecode(picture)[0]


class TestPlacement:
    def test_the_default_code_is_level_h_with_16_pixel_modules_in_the_middle(self):
        code = place_qr(LINK, Size(768, 768))
        side = code.modules * 16
        assert code.settings == QRSettings("H", 16, 4)
        assert code.modules == 17 + 4 * code.version
        assert (code.left, code.top) == ((768 - side) // 2, (768 - side) // 2)
        assert code.left % 8 == 0

    @pytest.mark.parametrize("level", ERROR_CORRECTIONS)
    def test_the_level_is_kept_even_when_a_higher_one_would_fit(self, level):
        wanted = segno.make("hello", error=level, micro=False, boost_error=False)
        code = place_qr("hello", Size(768, 768), QRSettings(level))
        assert (code.matrix == np.array([list(row) for row in wanted.matrix]).astype(bool)).all()

    @pytest.mark.parametrize("size", [Size(768, 768), Size(512, 776), Size(1000, 633), Size(465, 464)])
    @pytest.mark.parametrize("module_size", [1, 3, 7, 8, 11])
    def test_module_edges_lie_on_whole_pixels_and_show_the_matrix(self, size, module_size):
        code = place_qr(LINK, size, QRSettings("M", module_size, 4))
        picture = draw_qr(code)[0, :, :, 0].numpy()
        assert set(np.unique(picture)) == {0.0, 1.0}
        side = code.modules * module_size
        inside = picture[code.top : code.top + side, code.left : code.left + side]
        assert (inside == np.kron(~code.matrix, np.ones((module_size, module_size)))).all()
        assert picture.sum() == inside.sum() + picture.size - inside.size

    @pytest.mark.parametrize("width", range(456, 504, 8))
    def test_modules_of_8_pixels_line_up_with_the_latent(self, width):
        code = place_qr(LINK, Size(512, width), QRSettings("H", 8, 4))
        assert code.left % 8 == 0
        assert code.top % 8 == 0
        assert abs(code.left - (width - code.modules * 8) / 2) <= 4

    def test_the_quiet_zone_goes_before_lining_up(self):
        need = (place_qr("hello", Size(768, 768)).modules + 2 * 3) * 8
        code = place_qr("hello", Size(need, need + 6), QRSettings("H", 8, 3))
        assert code.top == 24
        assert code.left == 24
        tight = place_qr("hello", Size(61, 61), QRSettings("H", 2, 4))
        assert tight.left == (61 - 42) // 2

    def test_where_lining_up_does_not_fit_the_code_stays_in_the_middle(self):
        modules = place_qr("hello", Size(768, 768)).modules
        code = place_qr("hello", Size(modules * 24 + 50, modules * 24 + 50), QRSettings("H", 24, 1))
        assert code.left == 24
        code = place_qr("hello", Size(modules * 12 + 26, modules * 12 + 26), QRSettings("H", 12, 1))
        assert code.left == 13

    def test_a_code_may_fill_the_target_exactly(self):
        modules = place_qr("hello", Size(768, 768)).modules
        code = place_qr("hello", Size(modules * 5, modules * 5), QRSettings("H", 5, 0))
        assert (code.left, code.top) == (0, 0)

    def test_other_letters_are_written_as_utf_8(self):
        for text in ("你好,世界", "déjà vu", "🙂"):
            assert read(draw_qr(place_qr(text, Size(768, 768)))) == text


class TestPicture:
    def test_the_picture_is_one_rgb_image(self):
        image = draw_qr(place_qr("hello", Size(512, 640)))
        assert image.shape == (1, 512, 640, 3)
        assert image.dtype == torch.float32
        assert torch.equal(image[..., 0], image[..., 2])

    def test_grey_lies_outside_a_white_quiet_zone(self):
        code = place_qr("hello", Size(768, 640), QRSettings("H", 16, 3))
        white, grey = draw_qr(code)[0, :, :, 0], draw_qr(code, "grey")[0, :, :, 0]
        outside = torch.ones(768, 640, dtype=torch.bool)
        side = code.modules * 16
        outside[code.top - 48 : code.top + side + 48, code.left - 48 : code.left + side + 48] = False
        assert torch.equal(grey[~outside], white[~outside])
        assert bool((white[outside] == 1.0).all())
        assert torch.equal((grey[outside] * 255.0).round().unique(), torch.tensor([128.0]))

    @pytest.mark.parametrize("background", ["white", "grey"])
    @pytest.mark.parametrize("quiet_zone", [0, 1, 4])
    def test_the_picture_reads(self, background, quiet_zone):
        code = place_qr(LINK, Size(768, 768), QRSettings("H", 12, quiet_zone))
        assert read(draw_qr(code, background)) == LINK


class TestLimits:
    @pytest.mark.parametrize("level", ERROR_CORRECTIONS)
    @pytest.mark.parametrize(("kind", "letter"), [("digits", "7"), ("capitals", "A"), ("bytes", "a")])
    def test_the_table_of_capacities_is_where_version_40_ends(self, level, kind, letter):
        limit = getattr(CAPACITY[level], kind)
        settings = QRSettings(level, 1, 0)
        assert place_qr(letter * limit, Size(256, 256), settings).version == 40
        with pytest.raises(ValueError, match=f"at error correction {level} holds at most {limit} "):
            place_qr(letter * (limit + 1), Size(256, 256), settings)

    def test_a_text_too_long_names_the_length_the_limit_and_the_way_out(self):
        with pytest.raises(ValueError) as raised:
            place_qr("a" * 2000, Size(768, 768))
        assert str(raised.value) == (
            "A QR code at error correction H holds at most 1273 bytes of text, got 2000. Shorten the text "
            "(for art, a link of under 40 characters works best), or lower error_correction (L holds 2953, "
            "M holds 2331)."
        )

    def test_a_text_too_long_for_every_level_offers_none(self):
        with pytest.raises(ValueError, match=r"2953 bytes of text, got 3000\. Shorten .* works best\)\.$"):
            place_qr("é" * 1500, Size(768, 768), QRSettings("L"))

    @pytest.mark.parametrize("text", ["", "  \n"])
    def test_an_empty_text_is_refused(self, text):
        with pytest.raises(ValueError, match=r"needs a text, got an empty one\. Type the link"):
            place_qr(text, Size(768, 768))

    def test_a_code_too_large_names_the_size_and_the_module_size_that_fit(self):
        with pytest.raises(ValueError) as raised:
            place_qr(LINK, Size(512, 768))
        assert str(raised.value) == (
            "The QR code needs 656 x 656 pixels (version 4: 33 modules and a quiet zone of 4 on each side, "
            "16 pixels each), got 768 x 512. Raise width and height to 656 or more, or lower module_size "
            "to 12 or less, or lower error_correction."
        )
        assert place_qr(LINK, Size(512, 768), QRSettings("H", 12)).settings.module_size == 12
        assert place_qr(LINK, Size(656, 656)).left == 64

    def test_a_target_below_one_pixel_a_module_says_shorten_the_text(self):
        with pytest.raises(ValueError, match=r"to 184 or more, or shorten the text, or"):
            place_qr("a" * 1270, Size(64, 64), QRSettings("H", 1, 3))

    def test_settings_out_of_range_are_refused(self):
        with pytest.raises(ValueError, match='must be "L", "M", "Q" or "H", got "X"'):
            place_qr("hello", Size(768, 768), QRSettings("X"))  # pyright: ignore
        with pytest.raises(ValueError, match="at least 0 modules, got 0 and 4"):
            place_qr("hello", Size(768, 768), QRSettings("H", 0))
        with pytest.raises(ValueError, match='must be "white" or "grey", got "pink"'):
            draw_qr(place_qr("hello", Size(768, 768)), "pink")  # pyright: ignore
