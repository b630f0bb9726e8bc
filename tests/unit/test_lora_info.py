"""What a LoRA file says of itself: form, rank, base, blocks, trigger words, by its tensors and metadata."""

import json

import pytest
import torch
from tiller.adapters.lora.info import facts_in_words, facts_of, form_of, is_text_key, summary
from tiller.adapters.lora.sizes import numbers_of


def pair(name, out=8, width=8, rank=4, naming=("lora_up.weight", "lora_down.weight")):
    up, down = naming
    return {f"{name}.{up}": torch.zeros(out, rank), f"{name}.{down}": torch.zeros(rank, width)}


KEYS = [
    ("lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q", "IN01"),
    ("lora_unet_down_blocks_0_attentions_1_proj_in", "IN02"),
    ("lora_unet_down_blocks_0_downsamplers_0_conv", "IN03"),
    ("lora_unet_down_blocks_2_resnets_1_conv1", "IN08"),
    ("lora_unet_mid_block_attentions_0_proj_in", "MID"),
    ("lora_unet_up_blocks_0_resnets_2_conv1", "OUT02"),
    ("lora_unet_up_blocks_0_upsamplers_0_conv", "OUT02"),
    ("lora_unet_up_blocks_3_attentions_2_proj_in", "OUT11"),
    ("lora_unet_input_blocks_4_1_transformer_blocks_1_attn1_to_q", "IN04"),
    ("lora_unet_middle_block_1_proj_in", "MID"),
    ("lora_unet_output_blocks_5_1_proj_in", "OUT05"),
    ("lora_unet_time_embedding_linear_1", "BASE"),
    ("lora_te_text_model_encoder_layers_0_mlp_fc1", "BASE"),
    ("lora_te2_text_model_encoder_layers_0_mlp_fc1", "BASE"),
    ("unet.down_blocks.1.attentions.0.transformer_blocks.0.attn1.processor.to_q", "IN04"),
    ("diffusion_model.output_blocks.3.1.proj_in", "OUT03"),
    ("text_encoder.text_model.encoder.layers.0.mlp.fc1", "BASE"),
]
FLUX_KEYS = [
    ("lora_unet_double_blocks_3_img_attn_qkv", "D03"),
    ("lora_unet_single_blocks_37_linear1", "S37"),
    ("transformer.transformer_blocks.18.attn.to_q", "D18"),
    ("transformer.single_transformer_blocks.9.attn.to_q", "S09"),
    ("lora_transformer_transformer_blocks_2_attn_to_q", "D02"),
    ("diffusion_model.double_blocks.4.img_mlp.0", "D04"),
    ("lora_unet_img_in", "IN"),
    ("lora_unet_final_layer_linear", "OUT"),
    ("lora_te1_text_model_encoder_layers_0_mlp_fc1", "CLIP"),
    ("lora_te2_encoder_block_0_layer_0_SelfAttention_q", "T5"),
]


@pytest.mark.parametrize(("name", "block"), KEYS)
def test_every_trainers_names_lead_to_blocks(name, block):
    assert facts_of(pair(name), {}).blocks == {block: 1}


@pytest.mark.parametrize(("name", "block"), FLUX_KEYS)
def test_flux_names_lead_to_blocks(name, block):
    weights = {**pair("lora_unet_double_blocks_0_img_mlp_0"), **pair(name)}
    assert facts_of(weights, {}).blocks.get(block) == 1


def test_blocks_come_in_order_and_are_counted_by_layer():
    weights = {}
    for name in ("output_blocks_3_1_a", "output_blocks_3_1_b", "middle_block_1_a", "input_blocks_4_1_a"):
        weights |= {**pair(f"lora_unet_{name}"), f"lora_unet_{name}.alpha": torch.tensor(2.0)}
    weights |= pair("lora_te_text_model_encoder_layers_0_mlp_fc1")
    assert list(facts_of(weights, {}).blocks.items()) == [("BASE", 1), ("IN04", 1), ("MID", 1), ("OUT03", 2)]


@pytest.mark.parametrize(
    ("keys", "form"),
    [
        (["a.lora_up.weight", "a.alpha"], "LoRA"),
        (["a.lora_A.weight"], "LoRA"),
        (["a.processor.to_q_lora.up.weight"], "LoRA"),
        (["a.lora.up.weight"], "LoRA"),
        (["a.hada_w1_a"], "LoHa"),
        (["a.lokr_w1"], "LoKr"),
        (["a.oft_blocks"], "OFT"),
        (["a.a1.weight", "a.b1.weight"], "GLoRA"),
        (["a.diff", "a.diff_b"], "full difference"),
        (["a.lora_up.weight", "a.dora_scale"], "LoRA and DoRA magnitudes"),
        (["a.lora_up.weight", "b.w_norm"], "LoRA and norms"),
        (["a.weight"], ""),
    ],
)
def test_the_form_is_in_the_names(keys, form):
    assert form_of(keys) == form


@pytest.mark.parametrize(
    ("name", "width", "base"),
    [
        ("lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k", 768, "SD1.5"),
        ("unet.down_blocks.0.attentions.0.transformer_blocks.0.attn2.processor.to_k", 1024, "SD2"),
        ("lora_unet_input_blocks_4_1_transformer_blocks_0_attn2_to_k", 2048, "SDXL"),
        ("lora_unet_input_blocks_4_1_transformer_blocks_0_attn2_to_k", 99, ""),
        ("lora_unet_input_blocks_4_1_transformer_blocks_0_attn1_to_k", 768, ""),
        ("lora_unet_double_blocks_0_img_attn_qkv", 3072, "Flux"),
        ("transformer.single_transformer_blocks.0.attn.to_q", 3072, "Flux"),
    ],
)
def test_the_base_is_told_by_the_text_width_or_the_blocks(name, width, base):
    assert facts_of(pair(name, width=width), {}).base == base


def test_ranks_and_alphas_are_read():
    weights = {
        **pair("a", rank=4),
        **pair("b", rank=16, naming=("lora_B.weight", "lora_A.weight")),
        "a.alpha": torch.tensor(2.0),
        "c.hada_w1_b": torch.zeros(8, 32),
    }
    facts = facts_of(weights, {})
    assert facts.ranks == (4, 8, 16)
    assert facts.alphas == (2.0,)
    assert summary(facts) == "LoHa and LoRA, rank 4, 8, 16, alpha 2"


METADATA = {
    "ss_tag_frequency": json.dumps(
        {"10_sks dog": {"sks dog": 10, " park": 4}, "2_sks dog": {"park": 3}, "reg": {"dog": 1}}
    ),
    "ss_base_model_version": "sd_v1",
    "ss_sd_model_name": "v1-5-pruned.safetensors",
    "ss_clip_skip": "None",
    "modelspec.title": "A dog  of\nmine",
    "modelspec.trigger_phrase": "x" * 300,
}


def test_the_text_names_trigger_words_and_training():
    weights = pair("lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k", width=768)
    lines = facts_in_words(facts_of(weights, METADATA), "dog.safetensors", 1_234_567).split("\n")
    assert lines == [
        "dog.safetensors: LoRA, 1.2 MB",
        "Rank: 4. Alpha: none. Without alpha the strength is that of alpha = rank.",
        "Base model: SD1.5 (metadata: sd_v1)",
        "Blocks: IN01 (1)",
        "Trigger words by the training folders: sks dog, reg",
        "Most frequent tags: sks dog (10), park (7), dog (1)",
        "Title: A dog of mine",
        f"Trigger phrase: {'x' * 200}...",
        "Trained on: v1-5-pruned.safetensors",
    ]


@pytest.mark.parametrize("text", ["{", "[]", '{"a": 3}', '"x"', '{"a": {"b": "c"}}'])
def test_metadata_that_is_broken_does_no_harm(text):
    words = facts_in_words(facts_of(pair("a"), {"ss_tag_frequency": text}), "a", 1)
    assert "Most frequent tags" not in words


def test_a_file_without_metadata_says_where_to_look():
    words = facts_in_words(facts_of({"x": torch.zeros(1)}, {}), "a.safetensors", 4)
    assert "a.safetensors: no LoRA that is known, 0.0 MB" in words
    assert "Rank: none. Alpha: none." in words
    assert "Base model: not known from the tensors" in words
    assert words.endswith("Look at the page that the file comes from.")


def test_text_keys_are_known():
    for key in (
        "lora_te_text_model",
        "lora_te2_x",
        "text_encoder.a",
        "text_encoders.a",
        "clip_l.a",
        "t5xxl.a",
    ):
        assert is_text_key(key)
    for key in ("lora_unet_te", "unet.a", "diffusion_model.clip_in"):
        assert not is_text_key(key)


class Adapter:
    """A patch as the host's parser makes them."""

    def __init__(self, name, *weights):
        self.name, self.weights = name, weights


def z(*shape):
    return torch.zeros(shape)


@pytest.mark.parametrize(
    ("patch", "numbers"),
    [
        (Adapter("lora", z(8, 4), z(4, 6), None, None, None, None), 48),
        (Adapter("lora", z(8, 4, 1, 1), z(4, 6, 3, 3), 1.0, None, None, None), 8 * 6 * 9),
        (Adapter("lora", z(8, 4, 1, 1), z(4, 6, 1, 1), 1.0, z(4, 4, 3, 3), None, None), 8 * 6 * 9),
        (Adapter("lora", z(8, 4), z(4, 6), None, None, None, [9, 9]), None),
        (Adapter("loha", z(8, 4), z(4, 54), 1.0, z(8, 4), z(4, 54), None, None, None), 8 * 54),
        (Adapter("loha", z(4, 8), z(4, 6), 1.0, z(4, 8), z(4, 6), z(4, 4, 3, 3), z(1), None), None),
        (Adapter("lokr", z(2, 2), z(4, 3), 1.0, None, None, None, None, None, None), 48),
        (Adapter("lokr", None, None, 1.0, z(2, 1), z(1, 2), z(4, 1), z(1, 3), None, None), 48),
        (Adapter("lokr", z(2, 2), None, 1.0, None, None, z(1), z(1, 3), z(1), None), None),
        (Adapter("boft", z(2)), None),
        (("diff", (z(3, 4),)), 12),
        (("set", (z(5),)), 5),
        (("diff", (z(3, 4), {"pad_weight": True})), None),
    ],
)
def test_the_size_of_a_patch(patch, numbers):
    assert numbers_of(patch) == numbers
