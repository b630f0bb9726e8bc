"""The LoRA half of a FaceID file on the host's models, against the formula of the official attention."""

import pytest
import torch
from tiller.tests.host import inprocess as real
from tiller.tests.host.small_unets import small

RANK = 4
TENSORS = {"sd15": (16, 256, 128), "sdxl": (17, 272, 136)}
"""Transformer blocks of the small model, and what a full file holds for it: 8 tensors per attention layer."""


def layers(name):
    """(path, attention) in the order of diffusers' processors, by the host's modules alone."""
    unet = small(name).model.model.diffusion_model
    found = []
    for blocks in (unet.input_blocks, unet.output_blocks, unet.middle_block):
        for path, module in blocks.named_modules():
            if type(module).__name__ == "BasicTransformerBlock":
                found += [(path, module.attn1), (path, module.attn2)]
    return found


def faceid(name, seed=5):
    generator = torch.Generator().manual_seed(seed)
    weights = {}
    for n, (_, attention) in enumerate(layers(name)):
        for projection in ("q", "k", "v", "out"):
            linear = attention.to_out[0] if projection == "out" else getattr(attention, f"to_{projection}")
            out, width = linear.weight.shape
            weights[f"{n}.to_{projection}_lora.down.weight"] = 0.1 * torch.randn(
                RANK, width, generator=generator
            )
            weights[f"{n}.to_{projection}_lora.up.weight"] = 0.1 * torch.randn(out, RANK, generator=generator)
        if n % 2:
            weights[f"{n}.to_k_ip.weight"] = torch.zeros(1)
    return weights


def merged(model):
    """Name -> weight of the model with its patches in it."""
    import comfy.lora

    return {
        key: comfy.lora.calculate_weight(patches, model.model.state_dict()[key].clone(), key)
        for key, patches in model.patches.items()
    }


def merged_beside_formula(name, strength):
    """Greatest difference of the merged weights from W + strength * up @ down, and the greatest change."""
    real.host()
    from tiller.adapters.lora._host import add_faceid_lora

    model, weights = small(name).model, faceid(name)
    got = merged(add_faceid_lora(model, weights, strength))
    assert len(got) == TENSORS[name][2]
    worst, most = 0.0, 0.0
    keys = {id(parameter): key for key, parameter in model.model.named_parameters()}
    for n, (_, attention) in enumerate(layers(name)):
        for projection in ("q", "k", "v", "out"):
            linear = attention.to_out[0] if projection == "out" else getattr(attention, f"to_{projection}")
            up = weights[f"{n}.to_{projection}_lora.up.weight"]
            down = weights[f"{n}.to_{projection}_lora.down.weight"]
            change = strength * up @ down
            worst = max(worst, real.difference(got[keys[id(linear.weight)]], linear.weight + change))
            most = max(most, float(change.abs().max()))
    return worst, most


@pytest.mark.parametrize("name", ["sd15", "sdxl"])
def test_the_half_is_merged_by_the_formula(name):
    real.host()
    from tiller.adapters.lora._host import faceid_layer_paths
    from tiller.adapters.lora.faceid import lora_of_faceid

    model = small(name).model
    blocks, tensors, _ = TENSORS[name]
    assert len(layers(name)) == 2 * blocks == len(faceid_layer_paths(model))
    assert len(lora_of_faceid(faceid(name), faceid_layer_paths(model))) == tensors
    assert merged_beside_formula(name, 0.7)[0] <= 1e-6
    assert model.patches == {}


def test_no_strength_or_no_half_is_the_model_itself():
    real.host()
    from tiller.adapters.lora._host import add_faceid_lora

    model = small("sd15").model
    assert add_faceid_lora(model, faceid("sd15"), 0.0) is model
    assert add_faceid_lora(model, {"1.to_k_ip.weight": torch.zeros(1)}) is model


def test_the_half_for_another_family_is_refused():
    real.host()
    from tiller.adapters.lora._host import add_faceid_lora

    with pytest.raises(ValueError, match="0 to 31, but it has 34 from 0 to 33"):
        add_faceid_lora(small("sd15").model, faceid("sdxl"))


def test_the_paths_are_those_of_diffusers():
    """The full SD1.5 and SDXL: 32 and 140 layers, in the order of diffusers' own `attn_processors`."""
    diffusers = pytest.importorskip("diffusers")
    real.host()
    import comfy.supported_models
    import comfy.utils
    from tiller.adapters.lora.faceid import layer_paths_of

    depths = {
        "sd15": ([1, 1, 1, 1, 1, 1, 0, 0], [1] * 9 + [0] * 3, 1, 32),
        "sdxl": ([0, 0, 2, 2, 10, 10], [0, 0, 0, 2, 2, 2, 10, 10, 10], 10, 140),
    }
    for name, (down, up, middle, count) in depths.items():
        config = {
            **small(name).model.model.model_config.unet_config,
            "transformer_depth": down,
            "transformer_depth_output": up,
            "transformer_depth_middle": middle,
        }
        ours = layer_paths_of(list(comfy.utils.unet_to_diffusers(config)))
        with torch.device("meta"):
            unet = diffusers.UNet2DConditionModel(**THEIRS[name])
        theirs = [key.removesuffix(".processor") for key in unet.attn_processors]
        assert len(ours) == count
        assert ours == theirs


THEIRS = {
    "sd15": {"cross_attention_dim": 768, "block_out_channels": (32, 64, 128, 128)},
    "sdxl": {
        "cross_attention_dim": 2048,
        "block_out_channels": (32, 64, 128),
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        "transformer_layers_per_block": (1, 2, 10),
    },
}


def test_a_half_of_which_the_model_takes_only_a_part_is_refused(monkeypatch):
    real.host()
    import comfy.lora
    from tiller.adapters.lora._host import add_faceid_lora

    every = comfy.lora.model_lora_keys_unet

    def fewer(model, keys):
        return {name: key for name, key in every(model, keys).items() if "mid_block" not in name}

    monkeypatch.setattr(comfy.lora, "model_lora_keys_unet", fewer)
    model = small("sd15").model
    with pytest.raises(ValueError, match=r"has 128 parts, but this model takes only 120 of them\. Take the"):
        add_faceid_lora(model, faceid("sd15"))
    assert model.patches == {}
