"""What Load Control says of a file, in words."""

import json

import pytest
from tiller.adapters.control.load.about import APPLICATION, About, describe
from tiller.adapters.control.load.pooling import Pooling
from tiller.adapters.identify import SIGNATURES, Identified, identify
from tiller.tests.unit.annotators import SHAPES

LISTINGS = {
    "alimama_flux_inpaint": ("Flux ControlNet (InstantX)", "Flux"),
    "alimama_sd3_inpaint": ("SD3 ControlNet", "SD3"),
    "diffusers_sd15": ("ControlNet (diffusers layout)", "SD1.5"),
    "diffusers_sdxl": ("ControlNet (diffusers layout)", "SDXL"),
    "diffusers_sdxl_mid": ("ControlNet (diffusers layout)", "SDXL"),
    "diffusers_sdxl_small": ("ControlNet (diffusers layout)", "SDXL"),
    "instantx_flux": ("Flux ControlNet (InstantX)", "Flux"),
    "instantx_flux_union": ("Flux ControlNet (InstantX)", "Flux"),
    "instantx_qwen": ("Qwen-Image ControlNet (InstantX)", "Qwen-Image"),
    "instantx_qwen_inpaint": ("Qwen-Image ControlNet (InstantX)", "Qwen-Image"),
    "instantx_sd3": ("SD3 ControlNet", "SD3"),
    "t2i_full_diffusers_sd15": ("T2I-Adapter (diffusers layout)", "SD1.5"),
    "t2i_full_diffusers_sdxl": ("T2I-Adapter (diffusers layout)", "SDXL"),
    "t2i_light_diffusers_sd15": ("T2I-Adapter (light, diffusers layout)", "SD1.5"),
    "union_promax_sdxl": ("ControlNet-Union (diffusers layout)", "SDXL"),
    "union_sdxl": ("ControlNet-Union (diffusers layout)", "SDXL"),
}
OFF = Pooling(False, "nothing that speaks for it")


@pytest.mark.parametrize("name", LISTINGS)
def test_true_size_listings_are_themselves_and_nothing_else(name):
    """Without the row that knows a listing, no other row takes it."""
    from tiller.adapters import identify as module

    shapes = {
        key: tuple(shape) for key, shape in json.loads((SHAPES / f"control_{name}.json").read_text()).items()
    }
    found = identify(shapes)
    assert (found.kind, found.family) == LISTINGS[name]
    others = [row for row in SIGNATURES if row.kind not in (found.kind, WIDER.get(found.kind))]
    assert module._match(shapes, others, "") is None


WIDER = {
    "ControlNet-Union (diffusers layout)": "ControlNet (diffusers layout)",
    "Qwen-Image ControlNet (InstantX)": "Flux ControlNet (InstantX)",
}
"""Kind -> the kind that it is a special case of, whose row comes later."""


def test_the_text_names_file_kind_family_and_pooling():
    found = Identified("control", "ControlNet (LDM layout)", "SD1.5", file="canny.safetensors")
    assert describe(About(found, Pooling(True, "your choice"))).splitlines() == [
        "File: canny.safetensors",
        "Kind: ControlNet (LDM layout)",
        "Base model: SD1.5",
        "Acts by: residuals, added to the model's layers at every step",
        "VAE: not needed",
        "Global average pooling: on, by your choice",
    ]


def test_the_text_names_the_types_of_a_union_net():
    found = Identified("control", "ControlNet-Union (diffusers layout)", "SDXL", control_types=6)
    text = describe(About(found, OFF))
    assert "Union: 6 hint types (0 openpose, 1 depth, 2 hed/pidi/scribble/ted, 3 canny" in text
    assert "5 segment); set the type" in text
    assert "7 repaint, 8 unnamed" in describe(
        About(Identified("control", "ControlNet-Union (LDM layout)", "SDXL", control_types=9), OFF)
    )


def test_the_text_names_what_else_is_needed():
    found = Identified("control", "ControlNeXt", "SDXL", needs_vae=True, also_for=("SVD",))
    text = describe(About(found, OFF, takes_mask=True, modes=10, colours=1))
    for words in (
        "Base model: SDXL or SVD",
        "inside the model at one place",
        "VAE: needed",
        "reads a mask besides the hint",
        "10 hint types",
        "Hint: 1 channel\n",
    ):
        assert words in text


def test_kinds_with_words_of_their_own_exist():
    assert set(APPLICATION) <= {row.kind for row in SIGNATURES}
