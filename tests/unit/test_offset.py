"""Files of weight changes are brought to a model's keys, whole or not at all, and their form is told."""

import pytest
import torch
from tiller.adapters.offset.offset import Placed, bare, likeness, place, told_form, video_aliases

MODEL = {
    "diffusion_model.input_blocks.0.0.weight": (320, 4, 3, 3),
    "diffusion_model.input_blocks.1.1.proj_in.weight": (320, 320),
    "diffusion_model.out.2.bias": (4,),
}
FORWARD = "transformer_blocks.0.ff.net.2.bias"
ALIASES = {"conv_in.weight": "input_blocks.0.0.weight", "conv_out.bias": "out.2.bias"}


@pytest.mark.parametrize(
    "key",
    [
        "conv_in.weight",
        "unet.conv_in.weight",
        "module.conv_in.weight",
        "input_blocks.0.0.weight",
        "diffusion_model.input_blocks.0.0.weight",
        "model.diffusion_model.input_blocks.0.0.weight",
    ],
)
def test_a_weight_is_found_under_every_name(key):
    (placed,) = place({key: (320, 4, 3, 3)}, MODEL, ALIASES)
    assert placed == Placed(key, "diffusion_model.input_blocks.0.0.weight", (320, 4, 3, 3))


def test_prefixes_are_taken_off_at_the_front_alone():
    assert bare("model.diffusion_model.a.unet.b") == "a.unet.b"
    assert bare("unet.module.a") == "a"


def test_a_1_by_1_convolution_is_a_linear_layer_and_more_channels_are_kept():
    shapes = {"input_blocks.1.1.proj_in.weight": (320, 320, 1, 1), "conv_in.weight": (320, 8, 3, 3)}
    assert [placed.shape for placed in place(shapes, MODEL, ALIASES)] == [(320, 320), (320, 8, 3, 3)]


def test_a_single_tensor_without_a_place_stops_it_all():
    shapes = {"conv_in.weight": (320, 4, 3, 3), **{f"mid.{i}.weight": (1,) for i in range(4)}}
    with pytest.raises(
        ValueError, match=r"4 of 5 match none: mid\.0\.weight, mid\.1\.weight, mid\.2\.weight and 1 more"
    ):
        place(shapes, MODEL, ALIASES)


def test_tensors_that_do_not_fit_or_come_twice_are_refused():
    with pytest.raises(ValueError, match=r"1 of 1 do not: conv_in\.weight \(\[320, 3, 3, 3\] instead of"):
        place({"conv_in.weight": (320, 3, 3, 3)}, MODEL, ALIASES)
    with pytest.raises(ValueError, match=r"do not: out\.2\.bias"):
        place({"out.2.bias": (4, 4)}, MODEL, ALIASES)
    with pytest.raises(ValueError, match=r"input_blocks\.0\.0\.weight are there under two names"):
        place({"conv_in.weight": (320, 4, 3, 3), "input_blocks.0.0.weight": (320, 4, 3, 3)}, MODEL, ALIASES)


def test_a_lora_and_an_empty_file_are_told_apart():
    with pytest.raises(ValueError, match="holds a LoRA"):
        place({"lora_unet_mid.lora_down.weight": (4, 320)}, MODEL, ALIASES)
    with pytest.raises(ValueError, match="holds no tensors"):
        place({}, MODEL, ALIASES)


def test_likeness_is_about_1_for_replacements_and_0_for_increments():
    generator = torch.Generator().manual_seed(0)
    base, change = (torch.randn(64, 64, generator=generator) for _ in range(2))
    assert likeness(base + 0.3 * change, base) == pytest.approx(1.0, abs=0.05)
    assert likeness(0.3 * change, base) == pytest.approx(0.0, abs=0.05)
    assert likeness(-0.02 * base, base) == pytest.approx(-0.02, abs=1e-6)
    assert likeness(change, torch.zeros(64, 64)) is None
    assert likeness(torch.randn(64, 72, generator=generator), base) is None


def test_the_form_is_told_where_nine_tenths_agree():
    assert told_form([0.99] * 9 + [0.1]) == "replacement"
    assert told_form([0.01] * 9 + [0.9]) == "increment"
    assert told_form([0.99] * 8 + [0.1] * 2) is None
    assert told_form([None, 0.98, None]) == "replacement"
    assert told_form([None, None]) is None


def test_every_block_of_a_video_model_has_one_over_time_beside_it():
    named = video_aliases(
        {
            "down_blocks.0.resnets.1.conv1.weight": "input_blocks.2.0.in_layers.2.weight",
            f"mid_block.attentions.0.{FORWARD}": f"middle_block.1.{FORWARD}",
            "conv_in.bias": "input_blocks.0.0.bias",
        }
    )
    assert named["conv_in.bias"] == "input_blocks.0.0.bias"
    assert (
        named["down_blocks.0.resnets.1.spatial_res_block.conv1.weight"]
        == "input_blocks.2.0.in_layers.2.weight"
    )
    assert (
        named["down_blocks.0.resnets.1.temporal_res_block.conv1.weight"]
        == "input_blocks.2.0.time_stack.in_layers.2.weight"
    )
    assert named["mid_block.attentions.0.time_mixer.mix_factor"] == "middle_block.1.time_mixer.mix_factor"
    assert (
        named["mid_block.attentions.0.temporal_transformer_blocks.0.ff_in.net.2.bias"]
        == "middle_block.1.time_stack.0.ff_in.net.2.bias"
    )
