"""The rules of the control check, one by one, without the host."""

from dataclasses import replace

import pytest
import torch
from tiller.adapters.control.check.hints import look_at, type_of_hint, unfit_look
from tiller.adapters.control.check.rules import summary, warnings
from tiller.adapters.control.check.seen import Seen, SeenUnit, Target
from tiller.adapters.identify import Identified

BOTH = frozenset({"positive", "negative"})
CANNY = Identified("control", "ControlNet", "SD1.5", file="control_v11p_sd15_canny.safetensors")
UNION = Identified("control", "ControlNet-Union", "SDXL", control_types=6, file="union.safetensors")
TARGET = Target(512, 768, 2)


def lines_image(height=512, width=768, inverted=False):
    image = torch.zeros(1, height, width, 3)
    image[:, ::16] = 1.0
    return 1.0 - image if inverted else image


def photo(height=512, width=768):
    generator = torch.Generator().manual_seed(1)
    return 0.2 + 0.6 * torch.rand(1, height, width, 3, generator=generator)


GOOD = SeenUnit(1, "ControlNet", CANNY, lines_image(), sides=BOTH)


def said(*units, **more):
    """Warnings for units at 512 x 768 on SD1.5; units are numbered in order."""
    numbered = tuple(replace(unit, number=index + 1) for index, unit in enumerate(units))
    return warnings(Seen(numbered, **{"family": "SD1.5", "target": TARGET, "has_negative": True, **more}))


def one(unit, **more):
    lines = said(unit, **more)
    assert len(lines) == 1, lines
    return lines[0]


def test_a_sound_unit_gives_no_warning_and_a_summary():
    assert said(GOOD) == []
    text = summary(Seen((GOOD,), "SD1.5", TARGET, True))
    assert text == (
        "No problem found: 1 unit for SD1.5. Unit 1 (ControlNet, control_v11p_sd15_canny.safetensors), "
        "768 x 512 pixels, strength 1, 0 to 1."
    )


def test_no_control_at_all_is_said():
    assert said() == [
        "There is no control on the positive conditioning. Connect the output of Apply Control or of another "
        "control node."
    ]


@pytest.mark.parametrize(
    ("changes", "more", "text"),
    [
        ({}, {"family": "SDXL"}, "is for SD1.5, but the model is SDXL, so sampling will stop"),
        ({"image": lines_image(inverted=True)}, {}, "dark on white, but nets for lines want white lines"),
        ({"image": photo()}, {}, "looks like a photograph, but this net wants lines"),
        ({"image": torch.full((1, 512, 768, 3), 0.5)}, {}, "of one colour all over, so it shows nothing"),
        ({"image": lines_image() * float("nan")}, {}, "holds NaN or infinite values"),
        ({"image": None}, {}, "shows no hint that can be looked at"),
        ({"image": lines_image(200, 300)}, {}, "has 300 x 200 pixels, much less than the 768 x 512"),
        ({"image": lines_image(768, 512)}, {}, "only the middle 44 % is used; top and bottom are cut off"),
        ({"image": lines_image(512, 1536)}, {}, "only the middle 50 % is used; left and right are cut off"),
        (
            {"image": lines_image(768, 512), "resize_mode": "stretch"},
            {},
            "will be distorted. Set resize_mode",
        ),
        ({"mask": torch.zeros(1, 512, 768)}, {}, "its mask is black all over, so it acts nowhere"),
        ({"mask": torch.ones(1, 512, 512)}, {}, "mask of 512 x 512 pixels will be distorted"),
        ({"mask": torch.ones(1, 32, 48)}, {}, "mask of 48 x 32 pixels is very coarse"),
        ({"mask": torch.ones(3, 512, 768)}, {}, "it has 3 masks for 2 pictures; they are taken in turn"),
        ({"start": 0.7, "end": 0.3}, {}, "never acts: it starts at 0.7 and ends at 0.3. Swap the two."),
        ({"start": 0.5, "end": 0.52}, {}, "acts from 0.5 to 0.52 only, which may cover no step at all"),
        ({"strength": 0.0}, {}, "has strength 0 and does nothing"),
        ({"strength": -0.5}, {}, "has the negative strength -0.5"),
        ({"strength": 2.5}, {}, "has strength 2.5; above 2 pictures usually break"),
        ({"lacks_vae": True}, {}, "reads its hint through a VAE, but has none"),
        ({"sides": frozenset({"positive"})}, {}, "is on the positive conditioning alone"),
        ({"sides": frozenset({"negative"})}, {}, "is on the negative conditioning alone"),
        ({"mode": "control"}, {}, "has mode control, under which cfg multiplies the control"),
        ({"mode": "unbalanced"}, {}, "has mode unbalanced, under which cfg multiplies the control"),
    ],
)
def test_each_finding_is_one_sentence_about_the_unit(changes, more, text):
    line = one(replace(GOOD, **changes), **more)
    assert line.startswith("Unit 1 (ControlNet, control_v11p_sd15_canny.safetensors)")
    assert text in line
    assert line.endswith(".")
    assert "\n" not in line


@pytest.mark.parametrize(
    "changes",
    [
        {"image": lines_image(256, 384)},
        {"image": lines_image(520, 768)},
        {"image": lines_image(768, 512), "resize_mode": "fill"},
        {"mask": torch.ones(2, 64, 96)},
        {"mask": torch.ones(256, 384)[None]},
        {"strength": 2.0},
        {"start": 0.0, "end": 0.05},
        {"mode": "prompt"},
        {"image": torch.rand(1, 512, 768, 3) * 0.02 + lines_image() * 0.9},
    ],
)
def test_what_is_within_bounds_is_not_warned_of(changes):
    assert said(replace(GOOD, **changes)) == []


def test_what_is_not_known_is_not_judged():
    unit = replace(GOOD, identified=None, image=photo(100, 100), sides=frozenset({"positive"}))
    assert said(unit, family=None, target=None, has_negative=False) == []
    assert said(replace(GOOD, image=photo(), identified=replace(CANNY, file="net.safetensors"))) == []
    dark = replace(GOOD, image=lines_image(inverted=True), identified=replace(CANNY, file=""))
    assert "If this net is one for lines" in one(dark)


def test_union_nets_want_a_type_that_the_file_has():
    union = replace(GOOD, identified=UNION, union_types=())
    assert "was not told what its hint shows. Set union_type" in one(union, family="SDXL")
    assert said(replace(union, union_types=(3,)), family="SDXL") == []
    tile = one(replace(union, union_types=(6,)), family="SDXL")
    assert "was told the hint type tile, but its file knows only the first 6" in tile
    assert "dark on white, but nets" in one(
        replace(union, union_types=(3,), image=lines_image(inverted=True)), family="SDXL"
    )
    assert "was told the hint type 9" in one(replace(union, union_types=(9,)), family="SDXL")


@pytest.mark.parametrize(
    ("file", "picture", "text"),
    [
        ("sd15_openpose", photo(), "not a pose drawn in colours on black"),
        ("sd15_depth", photo(), "a depth map is grey"),
        ("sd15_normalbae", photo().mean(-1, keepdim=True).expand(-1, -1, -1, 3), "the hint is grey"),
        ("sd15_lineart", lines_image(inverted=True), "dark on white, but nets for lines"),
    ],
)
def test_a_hint_of_another_kind_than_the_files_name_says(file, picture, text):
    assert text in one(replace(GOOD, image=picture, identified=replace(CANNY, file=file)))


def test_kinds_of_hints_that_fit():
    grey = torch.linspace(0, 1, 96).expand(1, 64, 96)[..., None]
    pose = torch.zeros(1, 64, 96, 3)
    pose[:, 20:24, :, 0] = 1.0
    for picture, wanted in (
        (grey, "depth"),
        (pose, "openpose"),
        (photo(), "normal"),
        (lines_image(), "hed/pidi/scribble/ted"),
        (photo(), ""),
    ):
        assert unfit_look(look_at(picture), wanted) is None


def test_the_type_comes_from_the_setting_and_else_from_the_name():
    assert type_of_hint((1,), "union_canny") == "depth"
    assert type_of_hint((), "union_canny") == ""
    assert type_of_hint((1, 3), "") == ""
    assert type_of_hint((99,), "") == ""
    assert type_of_hint(None, "Control_Depth.pth") == "depth"
    assert type_of_hint(None, "") == ""


def test_strengths_that_add_up_in_one_place_at_one_time():
    strong = replace(GOOD, strength=1.2)
    (line,) = said(strong, strong)
    assert line.startswith("Units 1 and 2 act on one region at the same time, with strengths that sum to 2.4")
    left, right = torch.zeros(1, 512, 768), torch.zeros(1, 512, 768)
    left[..., :384], right[..., 384:] = 1, 1
    assert said(replace(strong, mask=left), replace(strong, mask=right)) == []
    assert said(replace(strong, end=0.4), replace(strong, start=0.5)) == []
    assert said(replace(GOOD, strength=1.0), GOOD) == []
    third = replace(GOOD, strength=0.9, mask=left)
    assert "Units 1 and 3" in said(strong, replace(strong, mask=right, strength=0.5), third)[0]


def test_a_reference_is_not_judged_as_a_hint():
    reference = replace(GOOD, kind="Reference", image=photo(), is_reference=True, mode="control")
    assert said(reference, replace(GOOD, strength=1.9)) == []
    cut = one(replace(reference, image=photo(768, 512)))
    assert cut.endswith("Crop it yourself.")
