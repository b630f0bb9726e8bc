"""Models are known by their keys, whatever they are called; recipes are patched for them."""

import json
import struct
from pathlib import Path

import pytest

from devtools import models
from devtools.messages import Trouble


def write(path, shapes):
    """A safetensors file of the shapes given, without its numbers: only the header is looked at."""
    path.parent.mkdir(parents=True, exist_ok=True)
    table = {key: {"dtype": "F16", "shape": shape, "data_offsets": [0, 0]} for key, shape in shapes.items()}
    header = json.dumps(table).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header)
    return path


def checkpoint(width):
    prefix = "model.diffusion_model."
    return {
        prefix + "time_embed.0.weight": [1280, 320],
        prefix + "input_blocks.0.0.weight": [320, 4, 3, 3],
        prefix + "middle_block.0.in_layers.0.weight": [1280],
        prefix + "input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight": [320, width],
        "first_stage_model.decoder.conv_in.weight": [512, 4, 3, 3],
        "cond_stage_model.transformer.text_model.embeddings.position_ids": [1, 77],
    }


def control(width):
    prefix = "control_model."
    return {
        prefix + "time_embed.0.weight": [1280, 320],
        prefix + "input_blocks.0.0.weight": [320, 4, 3, 3],
        prefix + "input_hint_block.0.weight": [16, 3, 3, 3],
        prefix + "zero_convs.0.0.weight": [320, 320, 1, 1],
        prefix + "input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight": [320, width],
    }


def test_a_checkpoint_and_a_control_net_of_one_family_are_chosen(tmp_path):
    write(tmp_path / "a" / "depth-thing.safetensors", control(768))
    write(tmp_path / "a" / "my-canny.safetensors", control(768))
    write(tmp_path / "b" / "deep" / "whatever.safetensors", checkpoint(768))
    write(tmp_path / "xl-control.safetensors", control(2048))
    chosen = models.choose(tmp_path)
    assert chosen.checkpoint.path.name == "whatever.safetensors"
    assert chosen.control.path.name == "my-canny.safetensors"
    assert "SD1.5" in chosen.note
    assert "should be" not in chosen.note


def test_sdxl_gets_its_own_size(tmp_path):
    write(tmp_path / "one.safetensors", checkpoint(2048))
    write(tmp_path / "two.safetensors", control(2048))
    write(tmp_path / "three.safetensors", checkpoint(768))
    chosen = models.choose(tmp_path)
    assert "should be a canny one" in chosen.note
    patched = models.with_models(RECIPE, chosen)
    assert patched["1"]["inputs"]["ckpt_name"] == "one.safetensors"
    assert patched["2"]["inputs"]["control_net_name"] == "two.safetensors"
    assert patched["3"]["inputs"] == {"width": 1024, "height": 1024, "batch_size": 1}
    assert patched["4"]["inputs"]["steps"] == models.STEPS
    assert patched["5"]["inputs"] == {"width": 1024, "height": 1024}
    assert RECIPE["4"]["inputs"]["steps"] == 7


def test_what_was_seen_is_told_when_nothing_fits(tmp_path):
    write(tmp_path / "base.safetensors", checkpoint(768))
    write(tmp_path / "xl.safetensors", control(2048))
    write(tmp_path / "strange.safetensors", {"a": [1]})
    (tmp_path / "old.ckpt").write_bytes(b"x")
    (tmp_path / "broken.safetensors").write_bytes(b"x")
    with pytest.raises(Trouble) as trouble:
        models.choose(tmp_path)
    said = str(trouble.value)
    for part in (
        "base.safetensors",
        "SD1.5",
        "xl.safetensors",
        "SDXL",
        "strange.safetensors",
        "old.ckpt: a .ckpt file",
    ):
        assert part in said
    assert "broken.safetensors" in said
    assert "leave --models out" in said


def test_an_empty_or_missing_folder_is_told(tmp_path):
    with pytest.raises(Trouble, match="has: no model files"):
        models.choose(tmp_path)
    with pytest.raises(Trouble, match="must name a folder"):
        models.choose(tmp_path / "gone")


RECIPE = {
    "1": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "v1-5.safetensors"}},
    "2": {"class_type": "ControlNetLoader", "inputs": {"control_net_name": "control_canny.safetensors"}},
    "3": {"class_type": "EmptyLatentImage", "inputs": {"width": 512, "height": 512, "batch_size": 1}},
    "4": {"class_type": "KSampler", "inputs": {"steps": 7, "model": ["1", 0]}},
    "5": {"class_type": "TillerPixelPerfect", "inputs": {"width": 512, "height": 512}},
}


def test_stand_ins_sample_small_but_the_hints_keep_their_size():
    small = models.made_small(RECIPE, size=128, steps=2)
    assert small["3"]["inputs"]["width"] == small["3"]["inputs"]["height"] == 128
    assert small["4"]["inputs"]["steps"] == 2
    assert small["5"] == RECIPE["5"]


def test_every_name_in_the_recipes_gets_a_model_of_its_family():
    xl = {"9": {"class_type": "ControlNetLoader", "inputs": {"control_net_name": "canny_SDXL.safetensors"}}}
    depth = {
        "9": {"class_type": "ControlNetLoader", "inputs": {"control_net_name": "sd15_depth.safetensors"}}
    }
    name = "diffusion_pytorch_model_promax.safetensors"
    union = {"9": {"class_type": "TillerLoadControl", "inputs": {"control_name": name}}}
    face = "face_lora_sdxl.safetensors"
    lora = {"9": {"class_type": "TillerLoadLoRA", "inputs": {"lora_name": face}}}
    encoders = {
        str(number): {"class_type": "TillerLoadImageEncoder", "inputs": {"encoder_name": encoder}}
        for number, encoder in enumerate(("auto", "clip-vit-large-patch14.safetensors"))
    }
    wanted = models.wanted_files([RECIPE, xl, depth, union, lora, encoders])
    assert {(kind, name, models.substitute(kind, name)) for kind, name in wanted} == {
        ("checkpoints", "v1-5.safetensors", "checkpoints/tiller_toy_sd15.safetensors"),
        ("controlnet", "control_canny.safetensors", "controlnet/tiller_toy_sd15_lines.safetensors"),
        ("controlnet", "canny_SDXL.safetensors", "controlnet/tiller_standin_control_sdxl.safetensors"),
        ("controlnet", "sd15_depth.safetensors", "controlnet/tiller_standin_control_sd15.safetensors"),
        ("controlnet", name, "controlnet/tiller_standin_union_sdxl.safetensors"),
        ("loras", face, "loras/tiller_standin_lora_sdxl.safetensors"),
        ("clip_vision", "auto", "clip_vision/tiller_standin_encoder_h.safetensors"),
        (
            "clip_vision",
            "clip-vit-large-patch14.safetensors",
            "clip_vision/tiller_standin_encoder_l.safetensors",
        ),
    }


@pytest.mark.parametrize(
    ("name", "standin"),
    [
        ("ipadapter/ip-adapter-plus_sd15.safetensors", "ip_adapter_toy"),
        ("ipadapter/ip-adapter-plus_sdxl_vit-h.safetensors", "ip_adapter_sdxl"),
        ("ipadapter/flux-ip-adapter.safetensors", "ip_adapter_flux"),
        ("ipadapter/ip-adapter-faceid_sd15.safetensors", "faceid_toy"),
        ("checkpoints/sd_xl_base_1.0.safetensors", "layers_sdxl"),
        ("loras/a_style_for_sd15.safetensors", "lora_toy"),
        ("clip_vision/CLIP-ViT-H-14-laion2B-s32B-b79K.safetensors", "encoder_h"),
        ("clip_vision/clip-vit-large-patch14.safetensors", "encoder_l"),
    ],
)
def test_adapters_and_encoders_have_stand_ins_that_fit_the_model(name, standin):
    folder, _, file = name.partition("/")
    assert models.substitute(folder, file) == f"{folder}/tiller_standin_{standin}.safetensors"
    assert models.standins.STANDINS[f"tiller_standin_{standin}"].folder == folder


def test_a_pickled_adapter_has_a_pickled_stand_in():
    name = models.substitute("ipadapter", "ip-adapter-faceid_sd15.bin")
    assert name == "ipadapter/tiller_standin_faceid_toy.bin"
    assert models.standins.STANDINS["tiller_standin_faceid_toy"].pickled


def test_the_list_of_folders_is_what_the_host_reads(tmp_path):
    option, path = models.extra_paths(
        {"checkpoints": [tmp_path / "a b", tmp_path / "c"]}, tmp_path / "x" / "list.yaml"
    )
    yaml = pytest.importorskip("yaml")
    table = yaml.safe_load(Path(path).read_text(encoding="utf-8"))["tiller_dev"]
    assert option == "--extra-model-paths-config"
    assert table["checkpoints"].split("\n") == [str(tmp_path / "a b"), str(tmp_path / "c")]
