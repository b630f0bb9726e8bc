"""Weights are known by their keys and shapes, whatever the file is called."""

import json

import pytest
from tiller.adapters.identify import (
    LIGHT_ADAPTER_DIFFUSERS,
    PREFIXES,
    SIGNATURES,
    TILLER_KINDS,
    TILLER_SIGNATURES,
    UnknownWeightsError,
    identify,
    read_header,
    read_shapes,
)

DIFFUSION = "model.diffusion_model."
QUERY = "1.transformer_blocks.0.attn2.to_k.weight"


def unet(width, prefix=DIFFUSION):
    return {
        f"{prefix}time_embed.0.weight": (1280, 320),
        f"{prefix}input_blocks.0.0.weight": (320, 4, 3, 3),
        f"{prefix}input_blocks.1.{QUERY}": (320, width),
        f"{prefix}middle_block.0.in_layers.0.weight": (320,),
    }


def flux(prefix=DIFFUSION, norm="scale"):
    return {
        f"{prefix}img_in.weight": (3072, 64),
        f"{prefix}txt_in.weight": (3072, 4096),
        f"{prefix}vector_in.in_layer.weight": (3072, 768),
        f"{prefix}double_blocks.0.img_attn.norm.key_norm.{norm}": (128,),
    }


def ldm_control(width, prefix="control_model."):
    return {**unet(width, prefix), f"{prefix}zero_convs.0.0.weight": (320, 320, 1, 1)}


def diffusers_control(width):
    return {
        "conv_in.weight": (320, 4, 3, 3),
        "controlnet_cond_embedding.conv_in.weight": (16, 3, 3, 3),
        "down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k.weight": (640, width),
    }


MOTION = {"down_blocks.0.motion_modules.0.temporal_transformer.proj_in.weight": (320, 320)}
UNION = {"control_add_embedding.linear_1.bias": (1280,)}
BLOCKS = {"controlnet_blocks.0.weight": (3072, 3072), "controlnet_blocks.0.bias": (3072,)}
PATCHES = {"pos_embed_input.proj.weight": (1536, 16, 2, 2)}

CHECKPOINTS = [
    (unet(768), "SD1.5", "checkpoint"),
    (unet(1024), "SD2", "checkpoint"),
    (unet(2048), "SDXL", "checkpoint"),
    (unet(1280), "SDXL refiner", "checkpoint"),
    (flux(), "Flux", "checkpoint"),
    (flux(norm="weight"), "Flux", "checkpoint"),
    (unet(768, ""), "SD1.5", "diffusion_model"),
    (flux(""), "Flux", "diffusion_model"),
]

STEM = {"embedding.0.weight": (64, 3, 3, 3)}
LLLITE = "lllite_unet_{}_transformer_blocks_{}_{}.down.0.weight"


def controlnext(width):
    return {
        "down_res.0.conv1.weight": (128, 128, 3, 3),
        "mid_convs.0.0.weight": (256, 256, 3, 3),
        "mid_convs.1.weight": (width, 256, 1, 1),
    }


def xs(width):
    return {
        "enc_zero_convs_in.0.0.weight": (320, 320, 1, 1),
        f"control_model.input_blocks.4.{QUERY}": (64, width),
    }


TILLER_CONTROLS = [
    ({LLLITE.format("input_blocks_7_1", 9, "attn1_to_q"): (64, 1280)}, "ControlNet-LLLite", "SDXL"),
    ({LLLITE.format("input_blocks_4_1", 0, "attn2_to_k"): (64, 2048)}, "ControlNet-LLLite", "SDXL"),
    ({LLLITE.format("input_blocks_4_1", 0, "attn2_to_k"): (64, 768)}, "ControlNet-LLLite", "SD1.5"),
    ({LLLITE.format("input_blocks_1_1", 0, "attn1_to_q"): (64, 320)}, "ControlNet-LLLite", "SD1.5"),
    ({LLLITE.format("output_blocks_11_1", 0, "attn1_to_q"): (64, 320)}, "ControlNet-LLLite", "SD1.5"),
    ({LLLITE.format("output_blocks_1_1", 0, "attn1_to_q"): (64, 1280)}, "ControlNet-LLLite", "SDXL"),
    (xs(768), "ControlNet-XS", "SD1.5"),
    (xs(1024), "ControlNet-XS", "SD2"),
    (xs(2048), "ControlNet-XS", "SDXL"),
    (controlnext(1280), "ControlNeXt", "SD1.5"),
    ({**controlnext(320), **STEM}, "ControlNeXt", "SDXL"),
    ({**diffusers_control(768), **MOTION}, "SparseCtrl", "SD1.5"),
    (
        {
            "controlnet_cond_embedding.weight": (320, 5, 3, 3),
            "down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k.weight": (640, 768),
            **MOTION,
        },
        "SparseCtrl",
        "SD1.5",
    ),
]

TILLER_CONTROLS.append(
    (
        {
            "adapter.body.0.in_conv.weight": (80, 192, 1, 1),
            "adapter.body.0.resnets.0.block1.weight": (80, 80, 3, 3),
        },
        LIGHT_ADAPTER_DIFFUSERS,
        "SD1.5",
    )
)

OTHERS = [
    (
        {"style_embedding": (1, 8, 1024), "proj": (1024, 768), "ln_pre.weight": (1024,)},
        "T2I style adapter",
        "Load Style Model",
    ),
    (
        {**ldm_control(768), "control_model.input_blocks.1.1.proj_in.lora_layer.up.weight": (320, 128)},
        "CtrLoRA",
        "base ControlNet",
    ),
    (
        {
            **diffusers_control(1024),
            "controlnet_down_blocks.0.weight": (320, 320, 1, 1),
            "down_blocks.0.resnets.0.temporal_res_block.conv1.weight": (320, 320, 3, 1, 1),
        },
        "ControlNet for Stable Video Diffusion",
        "Neither ComfyUI nor Tiller",
    ),
    ({"brushnet_down_blocks.0.weight": (320, 320, 1, 1)}, "BrushNet or PowerPaint", "inpainting branch"),
    (
        {"lllite_conditioning1.conv1.weight": (32, 3, 4, 4)},
        "control net as a model patch (Anima LLLite, Qwen-Image, Z-Image, Wan)",
        "Load Model Patch",
    ),
    ({"pulid_ca.0.to_q.weight": (2048, 3072)}, "PuLID for Flux", "identity"),
    ({"id_adapter_attn_layers.1.id_to_k.weight": (640, 2048)}, "PuLID", "identity"),
    (
        {"image_proj.body.0.weight": (1024, 1792), "ip_adapter.1.to_k_ip.weight": (640, 2048)},
        "PuLID",
        "faces",
    ),
    ({"id_encoder.visual_projection.weight": (768, 1024)}, "PhotoMaker", "PhotoMakerLoader"),
    ({"ip_adapter_proj_model.proj.weight": (16384, 768)}, "IP-Adapter (Flux)", "image prompt"),
    ({"ip_adapter.0.to_k_ip.weight": (3072, 4096)}, "IP-Adapter (Flux)", "image prompt"),
    (
        {
            "image_proj.latents": (1, 16, 1280),
            "image_proj.norm_out.weight": (2048,),
            "ip_adapter.1.to_k_ip.weight": (640, 2048),
            "ip_adapter.139.to_k_ip.weight": (1280, 2048),
        },
        "IP-Adapter",
        "the other file",
    ),
    (
        {"image_proj.proj.weight": (3072, 1024), "ip_adapter.1.to_k_ip.weight": (320, 768)},
        "IP-Adapter",
        "models/ipadapter",
    ),
    (
        {
            "ip_adapter.1.to_k_ip.weight": (320, 768),
            "ip_adapter.0.to_q_lora.down.weight": (128, 320),
        },
        "IP-Adapter",
        "models/ipadapter",
    ),
    ({"lora_unet_input_blocks_1_1_proj_in.lora_down.weight": (8, 320)}, "LoRA", "Load LoRA"),
    ({"unet.down_blocks.0.attn1.processor.to_q_lora.down.weight": (8, 320)}, "LoRA", "Load LoRA"),
    ({"transformer.single_transformer_blocks.0.attn.to_q.lora_A.weight": (8, 3072)}, "LoRA", "Load LoRA"),
    (MOTION, "AnimateDiff motion module", "models/animatediff_models"),
    (
        {
            "conv_in.weight": (320, 4, 3, 3),
            "conv_out.weight": (4, 320, 3, 3),
            "time_embedding.linear_1.weight": (1280, 320),
            "up_blocks.0.resnets.0.conv1.weight": (1280, 2560, 3, 3),
            "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k.weight": (320, 768),
        },
        "UNet (diffusers layout)",
        "Load Diffusion Model",
    ),
    ({"decoder.conv_in.weight": (512, 4, 3, 3), "encoder.conv_in.weight": (128, 3, 3, 3)}, "VAE", "Load VAE"),
    (
        {"vision_model.encoder.layers.0.self_attn.q_proj.weight": (1024, 1024)},
        "CLIP vision model",
        "Load CLIP Vision",
    ),
    ({"text_model.encoder.layers.0.self_attn.q_proj.weight": (768, 768)}, "text encoder", "Load CLIP"),
]

CONTROLS = [
    (ldm_control(768), "ControlNet (LDM layout)", "SD1.5"),
    (ldm_control(1024, ""), "ControlNet (LDM layout)", "SD2"),
    (ldm_control(2048), "ControlNet (LDM layout)", "SDXL"),
    (
        {**ldm_control(768), "difference": (1,)},
        "ControlNet (LDM layout, difference from the base)",
        "SD1.5",
    ),
    ({**ldm_control(2048, ""), **UNION}, "ControlNet-Union (LDM layout)", "SDXL"),
    (diffusers_control(768), "ControlNet (diffusers layout)", "SD1.5"),
    (diffusers_control(2048), "ControlNet (diffusers layout)", "SDXL"),
    (
        {
            "controlnet_cond_embedding.conv_in.weight": (16, 3, 3, 3),
            "add_embedding.linear_1.weight": (1280, 2816),
        },
        "ControlNet (diffusers layout)",
        "SDXL",
    ),
    ({**diffusers_control(2048), **UNION}, "ControlNet-Union (diffusers layout)", "SDXL"),
    (
        {"lora_controlnet": (), "input_blocks.4.1.transformer_blocks.0.attn2.to_k.down": (128, 2048)},
        "Control-LoRA",
        "SDXL",
    ),
    ({"body.0.in_conv.weight": (320, 192, 1, 1)}, "T2I-Adapter (light)", "SD1.5"),
    ({"conv_in.weight": (320, 192, 3, 3), "body.0.block2.weight": (320, 320, 1, 1)}, "T2I-Adapter", "SD1.5"),
    ({"conv_in.weight": (320, 768, 3, 3), "body.0.block2.weight": (320, 320, 1, 1)}, "T2I-Adapter", "SDXL"),
    (
        {
            "adapter.conv_in.weight": (320, 256, 3, 3),
            "adapter.body.0.resnets.0.block1.weight": (320, 320, 3, 3),
        },
        "T2I-Adapter (diffusers layout)",
        "SDXL",
    ),
    (
        {**flux("", "scale"), **BLOCKS, "input_hint_block.0.weight": (16, 3, 3, 3)},
        "Flux ControlNet (XLabs)",
        "Flux",
    ),
    (
        {**flux("", "weight"), **BLOCKS, "pos_embed_input.weight": (3072, 64)},
        "Flux ControlNet (InstantX, as loaded)",
        "Flux",
    ),
    ({**BLOCKS, "controlnet_x_embedder.weight": (3072, 64)}, "Flux ControlNet (InstantX)", "Flux"),
    ({"controlnet_blocks.0.linear.weight": (3072, 3072)}, "Flux ControlNet (MistoLine)", "Flux"),
    ({**BLOCKS, **PATCHES}, "SD3 ControlNet", "SD3"),
    (
        {**BLOCKS, **PATCHES, "transformer_blocks.0.adaLN_modulation.1.bias": (14592,)},
        "SD3.5 ControlNet",
        "SD3",
    ),
    (
        {
            **BLOCKS,
            "controlnet_x_embedder.weight": (3072, 64),
            "transformer_blocks.0.img_mlp.net.0.proj.weight": (12288, 3072),
        },
        "Qwen-Image ControlNet (InstantX)",
        "Qwen-Image",
    ),
    (
        {"control_blocks.0.after_proj.weight": (3072, 3072), "control_img_in.weight": (3072, 132)},
        "Qwen-Image ControlNet (Fun)",
        "Qwen-Image",
    ),
    ({"after_proj_list.18.bias": (1408,)}, "HunyuanDiT ControlNet", "HunyuanDiT"),
    ({"backbone.0.0.weight": (16, 3, 3, 3)}, "Stable Cascade ControlNet", "Stable Cascade"),
    ({"backbone.10.blocks.0.weight": (16, 3, 3, 3)}, "Stable Cascade ControlNet", "Stable Cascade"),
]


@pytest.mark.parametrize(("shapes", "family", "role"), CHECKPOINTS)
def test_checkpoints_are_known_by_text_width_or_blocks(shapes, family, role):
    found = identify(shapes)
    assert (found.family, found.role) == (family, role)
    assert found.control_types == 0


@pytest.mark.parametrize(("shapes", "kind", "family"), CONTROLS)
def test_control_nets_are_known_by_layout_and_base(shapes, kind, family):
    found = identify(shapes)
    assert (found.role, found.kind, found.family) == ("control", kind, family)


@pytest.mark.parametrize(("shapes", "kind", "family"), TILLER_CONTROLS)
def test_control_nets_that_the_host_lacks_are_known_too(shapes, kind, family):
    found = identify(shapes)
    assert (found.role, found.kind, found.family) == ("control", kind, family)
    assert kind in TILLER_KINDS


def test_keys_that_two_families_share_name_both():
    shared = [(found.kind, found.family, found.also_for) for found in map(identify, listings())]
    assert {row for row in shared if row[2]} == {("ControlNeXt", "SDXL", ("SVD",))}


@pytest.mark.parametrize(("shapes", "kind", "words"), OTHERS)
def test_files_of_other_folders_are_known_by_what_they_are(shapes, kind, words):
    found = identify(shapes)
    assert (found.role, found.kind) == ("other", kind)
    assert words in found.use
    assert found.use.endswith(".")


@pytest.mark.parametrize("prefix", PREFIXES)
def test_a_prefix_before_every_key_is_seen_through(prefix):
    for shapes in (controlnext(1280), xs(2048), {**diffusers_control(768), **MOTION}):
        found = identify({prefix + key: shape for key, shape in shapes.items()})
        assert found.prefix == prefix
        assert found.kind == identify(shapes).kind
    assert identify(ldm_control(768)).prefix == ""


def listings():
    return [shapes for shapes, _, _ in CHECKPOINTS + CONTROLS + TILLER_CONTROLS + OTHERS]


def test_every_row_of_the_tables_has_a_listing():
    assert {found.kind for found in map(identify, listings())} == {row.kind for row in SIGNATURES}
    assert len({(row.keys, row.parts) for row in SIGNATURES}) == len(SIGNATURES)
    assert {row.kind for row in TILLER_SIGNATURES} | {LIGHT_ADAPTER_DIFFUSERS} == TILLER_KINDS
    assert all(bool(row.use) == (row.role != "control") for row in SIGNATURES)
    assert all(row.keys or row.parts for row in SIGNATURES)


def test_nets_that_read_through_a_vae_are_marked():
    marked = {kind for shapes, kind, _ in CONTROLS if identify(shapes).needs_vae}
    assert marked == {
        "Flux ControlNet (InstantX)",
        "Flux ControlNet (InstantX, as loaded)",
        "SD3 ControlNet",
        "SD3.5 ControlNet",
        "Qwen-Image ControlNet (InstantX)",
        "Qwen-Image ControlNet (Fun)",
        "HunyuanDiT ControlNet",
    }


@pytest.mark.parametrize("types", [6, 8])
def test_a_union_net_counts_its_types(types):
    assert (
        identify({**diffusers_control(2048), **UNION, "task_embedding": (types, 320)}).control_types == types
    )


def test_an_unknown_file_is_answered_with_the_nearest_format_and_what_it_lacks():
    shapes = unet(768)
    del shapes[f"{DIFFUSION}time_embed.0.weight"]
    with pytest.raises(UnknownWeightsError) as caught:
        identify(shapes)
    text = str(caught.value)
    assert "The nearest known format is UNet checkpoint" in text
    assert f"lacks {DIFFUSION}time_embed.0.weight; it has 3 tensors" in text
    assert isinstance(caught.value, ValueError)


def test_nothing_at_all_is_unknown():
    with pytest.raises(UnknownWeightsError, match=r"it has 0 tensors \(no tensors\)"):
        identify({})


def test_an_unknown_text_width_is_said():
    with pytest.raises(UnknownWeightsError, match=r"needs a text width of 768 \(SD1\.5\).*; got 900\."):
        identify(ldm_control(900))
    with pytest.raises(UnknownWeightsError, match="got no cross-attention at all"):
        identify({"control_model.zero_convs.0.0.weight": (320, 320, 1, 1)})
    with pytest.raises(
        UnknownWeightsError, match=r"ControlNet-LLLite, which needs a text width of 768.*got 9"
    ):
        identify({LLLITE.format("input_blocks_4_1", 0, "attn2_to_k"): (64, 9)})
    with pytest.raises(UnknownWeightsError, match="got 640 without an embedding"):
        identify(controlnext(640))


def test_an_unknown_adapter_width_is_said():
    with pytest.raises(UnknownWeightsError, match="needs 64, 192, 256, 768 input channels; got 100"):
        identify({"conv_in.weight": (320, 100, 3, 3), "body.0.block2.weight": (320, 320, 1, 1)})


def write_header(path, header):
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text)
    return path


def test_shapes_are_read_from_the_header_alone(tmp_path):
    entry = {"dtype": "F16", "shape": [320, 4, 3, 3], "data_offsets": [0, 23040]}
    header = {"__metadata__": {"format": "pt"}, "a.weight": entry, "scalar": {**entry, "shape": []}}
    path = write_header(tmp_path / "weights.safetensors", header)
    assert read_shapes(path) == {"a.weight": (320, 4, 3, 3), "scalar": ()}


@pytest.mark.parametrize(
    ("header", "metadata"),
    [({"__metadata__": {"format": "pt"}}, {"format": "pt"}), ({"__metadata__": None}, {}), ({}, {})],
    ids=["some", "null", "none"],
)
def test_the_header_gives_the_metadata_too(tmp_path, header, metadata):
    entry = {"dtype": "F16", "shape": [2], "data_offsets": [0, 4]}
    path = write_header(tmp_path / "weights.safetensors", {**header, "a": entry})
    assert read_header(path) == ({"a": (2,)}, metadata)


@pytest.mark.parametrize(
    "content",
    [b"", b"PK\x03\x04 a zip file of torch", (5).to_bytes(8, "little") + b"[1,2]", b"\xff" * 64],
    ids=["empty", "zip", "a list", "a huge length"],
)
def test_a_file_of_another_format_is_refused(tmp_path, content):
    path = tmp_path / "weights.safetensors"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"weights\.safetensors does not start with a safetensors header"):
        read_shapes(path)


def test_a_missing_file_is_missing(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_shapes(tmp_path / "nothing.safetensors")


def test_the_table_of_union_types_is_not_taken_for_the_pooled_vector():
    shapes = {
        "controlnet_cond_embedding.conv_in.weight": (16, 3, 3, 3),
        "control_add_embedding.linear_1.bias": (1280,),
        "control_add_embedding.linear_1.weight": (1280, 2048),
        "task_embedding": (8, 320),
    }
    with pytest.raises(UnknownWeightsError, match="got no cross-attention at all"):
        identify(shapes)
    found = identify({**shapes, "module.add_embedding.linear_1.weight": (1280, 2816)})
    assert (found.family, found.control_types) == ("SDXL", 8)
