"""Blocks by name, the published vectors and presets, and what a text of block weights says."""

import pytest
from tiller.adapters.lora.blocks import Layout, layout_of, numbered, spans, spans_of_factors
from tiller.adapters.lora.factors import BlockTextError, factors_of, read_blocks
from tiller.adapters.lora.vectors import PRESETS, VECTORS

from devtools.environment import ROOT


def unet(count: int) -> Layout:
    keys = [f"diffusion_model.{side}_blocks.{i}.0.x" for side in ("input", "output") for i in range(count)]
    return layout_of([*keys, "diffusion_model.middle_block.1.x", "diffusion_model.out.2.weight"])


def transformer(double: int, single: int) -> Layout:
    keys = [f"diffusion_model.double_blocks.{i}.x" for i in range(double)]
    return layout_of([*keys, *(f"diffusion_model.single_blocks.{i}.x" for i in range(single))])


SD15, SDXL, FLUX = unet(12), unet(9), transformer(19, 38)
OTHER = layout_of(["diffusion_model.transformer_blocks.0.attn.weight"])

WEB_UI = {
    12: "BASE IN04 IN05 IN07 IN08 MID OUT00 OUT01 OUT02 OUT03 OUT04 OUT05",
    17: "BASE IN01 IN02 IN04 IN05 IN07 IN08 MID OUT03 OUT04 OUT05 OUT06 OUT07 OUT08 OUT09 OUT10 OUT11",
    20: "BASE IN00 IN01 IN02 IN03 IN04 IN05 IN06 IN07 IN08 MID "
    "OUT00 OUT01 OUT02 OUT03 OUT04 OUT05 OUT06 OUT07 OUT08",
    26: "BASE IN00 IN01 IN02 IN03 IN04 IN05 IN06 IN07 IN08 IN09 IN10 IN11 MID "
    "OUT00 OUT01 OUT02 OUT03 OUT04 OUT05 OUT06 OUT07 OUT08 OUT09 OUT10 OUT11",
}
"""The order of the web UI's extension, whose M00 is MID here."""

PUBLISHED_17 = {
    "NONE": "0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0",
    "ALL": "1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1",
    "INS": "1,1,1,1,0,0,0,0,0,0,0,0,0,0,0,0,0",
    "IND": "1,0,0,0,1,1,1,0,0,0,0,0,0,0,0,0,0",
    "INALL": "1,1,1,1,1,1,1,0,0,0,0,0,0,0,0,0,0",
    "MIDD": "1,0,0,0,1,1,1,1,1,1,1,1,0,0,0,0,0",
    "MIDD0.2": "1,0,0,0,0,0,0.2,0.4,0.4,0.2,0,0,0,0,0,0,0",
    "MIDD0.8": "1,0,0,0,0,0.5,0.8,0.8,0.4,0,0,0,0,0,0,0,0",
    "MOUT": "1,0,0,0,0,0,1,1,1,1,1,1,1,1,0.5,0,0",
    "OUTD": "1,0,0,0,0,0,0,0,1,1,1,1,0,0,0,0,0",
    "OUTS": "1,0,0,0,0,0,0,0,0,0,0,0,1,1,1,1,1",
    "OUTALL": "1,0,0,0,0,0,0,0,1,1,1,1,1,1,1,1,1",
    "ALL0.5": ",".join(["0.5"] * 17),
}
PUBLISHED_12 = {
    "NONE": "0,0,0,0,0,0,0,0,0,0,0,0",
    "ALL": "1,1,1,1,1,1,1,1,1,1,1,1",
    "INALL": "1,1,1,1,1,0,0,0,0,0,0,0",
    "MIDALL": "1,0,0,0,0,1,0,0,0,0,0,0",
    "OUTALL": "1,0,0,0,0,0,1,1,1,1,1,1",
}
PUBLISHED_FLUX = {
    "DBL-FRONT7": ((1, 7), 20),
    "DBL-MID6": ((8, 13), 20),
    "DBL-TAIL6": ((14, 19), 20),
    "DBL-ALL": ((1, 19), 20),
    "SINGLE-ALL": ((20, 57), 58),
    "SINGLE-1to10": ((20, 29), 58),
    "SINGLE-11to20": ((30, 39), 58),
    "SINGLE-21to30": ((40, 49), 58),
    "SINGLE-31to37": ((50, 57), 58),
}
"""First and last one in the Inspire pack's vectors of 20 (others, D00-D18) and 58 (S00-S37 after them)."""


def test_layouts_name_every_block():
    assert SD15.names == ("BASE", *numbered("IN", 12), "MID", *numbered("OUT", 12))
    assert SDXL.names == ("BASE", *numbered("IN", 9), "MID", *numbered("OUT", 9))
    assert FLUX.names == ("CLIP", "T5", "IN", *numbered("D", 19), *numbered("S", 38), "OUT")
    assert OTHER.names == ("BASE",)
    assert str(SD15) == "BASE, IN00-IN11, MID, OUT00-OUT11"
    assert str(FLUX) == "CLIP, T5, IN, D00-D18, S00-S37, OUT"
    assert spans(["D04", "D05", "D07", "S08"]) == "D04-D05, D07, S08"
    assert spans([f"D{i}" for i in (54, 55, 56)]) == "D54-D56"


@pytest.mark.parametrize(
    ("layout", "key", "block"),
    [
        (SD15, "diffusion_model.input_blocks.4.1.transformer_blocks.0.attn1.to_q.weight", "IN04"),
        (SD15, "diffusion_model.input_blocks.11.0.in_layers.2.weight", "IN11"),
        (SD15, "diffusion_model.middle_block.1.proj_in.weight", "MID"),
        (SD15, "diffusion_model.output_blocks.10.1.proj_in.weight", "OUT10"),
        (SD15, "diffusion_model.time_embed.0.weight", "BASE"),
        (SD15, "diffusion_model.out.2.weight", "BASE"),
        (SDXL, "diffusion_model.label_emb.0.0.weight", "BASE"),
        (SDXL, "clip_g.transformer.text_model.encoder.layers.3.mlp.fc1.weight", "BASE"),
        (FLUX, "diffusion_model.double_blocks.3.img_attn.qkv.weight", "D03"),
        (FLUX, "diffusion_model.single_blocks.37.linear1.weight", "S37"),
        (FLUX, "diffusion_model.img_in.weight", "IN"),
        (FLUX, "diffusion_model.guidance_in.in_layer.weight", "IN"),
        (FLUX, "diffusion_model.final_layer.linear.weight", "OUT"),
        (FLUX, "clip_l.transformer.text_model.encoder.layers.0.mlp.fc1.weight", "CLIP"),
        (FLUX, "t5xxl.transformer.encoder.block.0.layer.0.SelfAttention.q.weight", "T5"),
        (OTHER, "diffusion_model.transformer_blocks.0.attn.weight", "BASE"),
    ],
)
def test_every_weight_has_its_block(layout, key, block):
    assert layout.block_of(key) == block


def test_vectors_have_the_web_uis_order():
    assert sorted(VECTORS) == [12, 17, 20, 26, 61]
    for length, names in WEB_UI.items():
        assert VECTORS[length].names == tuple(names.split())
    assert VECTORS[61].names == FLUX.names
    assert all(len(vector.names) == length for length, vector in VECTORS.items())


@pytest.mark.parametrize(("layout", "length"), [(SD15, 17), (SD15, 26), (SDXL, 12), (SDXL, 20), (FLUX, 61)])
def test_a_vectors_numbers_go_to_its_names(layout, length):
    values = [index / 100 for index in range(1, length + 1)]
    factors = factors_of("NONE", ", ".join(map(str, values)), layout)
    assert tuple(factors) == layout.names
    assert [factors[name] for name in VECTORS[length].names] == values
    assert {factors[name] for name in layout.names if name not in VECTORS[length].names} <= {0.0}


@pytest.mark.parametrize("value", ["1", "0", "0.5"])
def test_a_vector_of_one_number_is_that_everywhere(value):
    factors = factors_of("OUTALL", ",".join([value] * 17), SD15)
    assert set(factors.values()) == {float(value)}


@pytest.mark.parametrize(("layout", "published"), [(SD15, PUBLISHED_17), (SDXL, PUBLISHED_12)])
def test_presets_are_the_published_vectors(layout, published):
    for name, text in published.items():
        vector = VECTORS[len(text.split(","))]
        wanted = dict(zip(vector.names, map(float, text.split(",")), strict=True))
        factors = factors_of(name, "", layout)
        assert {block: factors[block] for block in vector.names} == wanted, name
        assert factors_of("ALL", name, layout) == factors
        prefix = "SD-" if layout is SD15 else "SDXL-"
        assert factors_of("ALL", prefix + name.lower(), layout) == factors


def test_flux_presets_are_the_published_vectors():
    for name, ((first, last), length) in PUBLISHED_FLUX.items():
        blocks = ("others", *numbered("D", 19), *numbered("S", 38))[:length]
        factors = factors_of(name, "", FLUX)
        ones = {block for block, factor in factors.items() if factor == 1}
        assert ones == {*blocks[first : last + 1], "CLIP", "T5", "IN", "OUT"}, name
        assert factors_of("NONE", f"FLUX-{name}", FLUX) == factors


def test_sides_include_blocks_without_attention():
    assert spans_of_factors(factors_of("INALL", "", SD15)) == "BASE 1, IN00-IN11 1, MID 0, OUT00-OUT11 0"
    assert spans_of_factors(factors_of("MIDALL", "", SD15)) == "BASE 1, IN00-IN11 0, MID 1, OUT00-OUT11 0"


def test_every_preset_is_tested_and_fits_some_model():
    assert set(PRESETS) == {*PUBLISHED_17, *PUBLISHED_12, *PUBLISHED_FLUX}
    for name, preset in PRESETS.items():
        assert [layout for layout in (SD15, SDXL, FLUX) if preset.fits(layout)], name


@pytest.mark.parametrize(
    ("text", "layout", "wanted"),
    [
        ("IN04-IN08:0.5, MID:0", SDXL, "BASE 1, IN00-IN03 1, IN04-IN08 0.5, MID 0, OUT00-OUT08 1"),
        ("OUTALL, MID:.5", SDXL, "BASE 1, IN00-IN08 0, MID 0.5, OUT00-OUT08 1"),
        ("none; out2 : 1\nin11:-0.25", SD15, "BASE 0, IN00-IN10 0, IN11 -0.25, MID 0, OUT00-OUT01 0, "
         "OUT02 1, OUT03-OUT11 0"),
        ("OUT05-IN10:0", SD15, "BASE 1, IN00-IN09 1, IN10-IN11 0, MID 0, OUT00-OUT05 0, OUT06-OUT11 1"),
        ("M00:2,", SDXL, "BASE 1, IN00-IN08 1, MID 2, OUT00-OUT08 1"),
        ("IN:0", SDXL, "BASE 1, IN00-IN08 0, MID 1, OUT00-OUT08 1"),
        ("IN:0, S:0.5, T5:0", FLUX, "CLIP 1, T5 0, IN 0, D00-D18 1, S00-S37 0.5, OUT 1"),
        ("all:0,D10-S02:1", FLUX, "CLIP 0, T5 0, IN 0, D00-D09 0, D10-D18 1, S00-S02 1, S03-S37 0, OUT 0"),
        ("", OTHER, "BASE 1"),
        ("ALL0.5", OTHER, "BASE 0.5"),
    ],
)  # fmt: skip
def test_names_set_factors_in_order(text, layout, wanted):
    assert spans_of_factors(factors_of("ALL", text, layout)) == wanted


def test_names_change_the_preset_of_the_widget_and_a_vector_takes_its_place():
    assert factors_of("OUTALL", "MID:0.5", SDXL) == factors_of("ALL", "OUTALL, MID:0.5", SDXL)
    assert factors_of("NONE", ",".join("1" * 12), SDXL) == factors_of("ALL", "", SDXL)
    assert read_blocks(" \n") == read_blocks("")


@pytest.mark.parametrize(
    ("text", "layout", "message"),
    [
        ("1,1,1", SDXL, r"needs 12, 17, 20, 26, 61 numbers, got 3\."),
        ("1,1,,1", SDXL, r"got '' in place 3\. Write"),
        ("1,0,R,0", SDXL, r"got 'R' in place 3\. Random and slider letters are not taken"),
        (",".join("1" * 17), SDXL, r"17 numbers is for SD1\.5 and SD2, .* BASE, IN00-IN08, MID, OUT00-OUT08"
         r"\. Write 12 numbers or 20 numbers or factors by name\."),
        (",".join("1" * 12), SD15, r"Write 17 numbers or 26 numbers or factors by name\."),
        (",".join("1" * 61), transformer(8, 48), r"Write factors by name\."),
        (",".join("1" * 20), unet(4), r"Write factors by name\."),
        ("OUTALL:MID:1", SDXL, r"NAME:number in every entry, got 'OUTALL:MID:1' in entry 1\."),
        ("MID:1, OUTALL", SDXL, r"got 'OUTALL' in entry 2\. A preset must come first\."),
        ("UP3:1", SDXL, r"got 'UP3:1' in entry 1\. Write .*Presets: ALL, NONE,"),
        ("MID:1,,IN01:1", SDXL, r"got '' in entry 2"),
        ("MID:half", SDXL, r"number after MID:, got 'half'"),
        (f"MID:{'9' * 400}", SDXL, r"number after MID:, got '999"),
        (",".join(["1"] * 11 + ["9" * 400]), SDXL, r"got '999\d+' in place 12"),
        ("MID:nan", SDXL, r"number after MID:, got 'nan'"),
        ("MID:1__import__", SDXL, r"number after MID:"),
        ("IN11:1", SDXL, r"no block IN11; its blocks are BASE, IN00-IN08, MID, OUT00-OUT08\."),
        ("D:1", SDXL, r"no block D;"),
        ("BASE:1", FLUX, r"no block BASE; its blocks are CLIP, T5, IN, D00-D18, S00-S37, OUT\."),
        ("IN01:1", OTHER, r"this model has other blocks: IN01 is none of them\. Leave the blocks empty"),
        ("INS", SDXL, r"preset INS is for SD1\.5 and SD2, .*Take one of ALL, NONE, ALL0\.5, INALL, MIDALL, "
         r"OUTALL, or name the blocks\."),
        ("DBL-TAIL6", transformer(8, 48), r"no block D13;"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said(text, layout, message):
    with pytest.raises(BlockTextError, match=message):
        factors_of("ALL", text, layout)


@pytest.mark.parametrize("page", ["TillerLoadLoRA.md", "TillerLoadLoRA/zh.md"])
def test_the_help_pages_name_every_preset_and_length(page):
    text = (ROOT / "web" / "docs" / page).read_text(encoding="utf-8")
    for name in PRESETS:
        assert name in text or name.split("-")[0] + "-" in text, name
    for length in VECTORS:
        assert str(length) in text
