"""The LoRA half of a FaceID file gets the host's names, layer by layer."""

import pytest
import torch
from tiller.adapters.lora.faceid import layer_paths_of, lora_of_faceid

NAMES = [
    "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q.weight",
    "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_q.weight",
    "mid_block.attentions.0.transformer_blocks.0.attn1.to_q.weight",
    "mid_block.attentions.0.transformer_blocks.0.attn2.to_q.weight",
    "up_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q.weight",
    "up_blocks.1.attentions.0.transformer_blocks.0.attn2.to_q.weight",
    "up_blocks.1.resnets.0.conv1.weight",
]
PATHS = layer_paths_of(NAMES)


def half(layers: int) -> dict[str, torch.Tensor]:
    return {
        f"{n}.to_{projection}_lora.{part}.weight": torch.full((1,), float(n))
        for n in range(layers)
        for projection in ("q", "k", "v", "out")
        for part in ("down", "up")
    }


def test_the_middle_comes_last_and_self_attention_is_even():
    assert [path.split(".")[0] for path in PATHS] == ["down_blocks"] * 2 + ["up_blocks"] * 2 + [
        "mid_block"
    ] * 2
    assert [path.rsplit(".", 1)[1] for path in PATHS] == ["attn1", "attn2"] * 3


def test_every_tensor_gets_the_name_of_its_layer():
    weights = {**half(6), "1.to_k_ip.weight": torch.zeros(1)}
    lora = lora_of_faceid(weights, PATHS)
    assert len(lora) == 6 * 8
    for n, path in enumerate(PATHS):
        for rest in ("to_q_lora.down", "to_k_lora.up", "to_v_lora.down", "to_out_lora.up"):
            assert lora[f"unet.{path}.processor.{rest}.weight"] == n


def test_a_file_without_the_half_gives_nothing():
    assert lora_of_faceid({"1.to_k_ip.weight": torch.zeros(1)}, PATHS) == {}


def test_the_half_of_another_family_is_refused():
    with pytest.raises(ValueError, match=r"0 to 5, but it has 4 from 0 to 3.*SD1\.5: 32 layers, SDXL: 140"):
        lora_of_faceid(half(4), PATHS)


def test_a_half_with_holes_is_refused():
    weights = half(6)
    for key in ("0.to_q_lora.up.weight", "5.to_out_lora.down.weight"):
        del weights[key]
    with pytest.raises(ValueError, match=r"lacks 0\.to_q_lora\.up\.weight, 5\.to_out_lora\.down\.weight\."):
        lora_of_faceid(weights, PATHS)
