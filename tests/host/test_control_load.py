"""One loader for every control net: what the host loads, it loads as the host does."""

import pytest
import torch
from safetensors.torch import save_file
from tiller.tests.host import inprocess as real
from tiller.tests.host.inprocess import Run

from devtools import standins


def load(path, **settings):
    real.host()
    from tiller.adapters.control.load._host import load_control

    return load_control(path, **settings)


def saved(folder, layout, name="net.safetensors"):
    """The stand-in tensors of a layout as a file."""
    path = folder / name
    save_file(standins.random_tensors(standins.Layout(layout, {})), path)
    return path


@pytest.mark.parametrize("name", ["sd15", "sdxl", "flux"])
def test_stand_in_nets_sample_as_the_hosts_own(name):
    of = real.family(name)
    stand_in = f"tiller_standin_control_{name}"
    net = load(standins.ensure_standins(real.MODELS, [stand_in])[stand_in])
    positive, negative = real.conditioning(of, 1), real.conditioning(of, 2)
    image, run = real.picture(64, 64), Run(steps=2)
    core = real.sample(of, *real.core_apply(positive, negative, of.control, image), run)
    for apply in (real.core_apply, real.tiller_apply):
        ours = real.sample(of, *apply(positive, negative, net, image), run)
        assert real.difference(core, ours) == 0.0
    assert net.identified.file == f"{stand_in}.safetensors"


def test_a_file_that_is_no_control_net_is_called_what_it_is(tmp_path):
    lora = saved(tmp_path, {"lora_unet_down_blocks_0.lora_down.weight": (8, 320)}, "style.safetensors")
    with pytest.raises(
        ValueError, match=r"needs a control net, but style\.safetensors is a LoRA .*Load LoRA"
    ):
        load(lora)
    checkpoint = standins.ensure_standins(real.MODELS, ["tiller_standin_sd15"])["tiller_standin_sd15"]
    with pytest.raises(ValueError, match=r"is a UNet checkpoint \(SD1\.5\)\. Put it into models/checkpoints"):
        load(checkpoint)


def test_an_unknown_file_is_named(tmp_path):
    path = saved(tmp_path, {"something.weight": (8, 8)}, "odd.safetensors")
    with pytest.raises(ValueError, match=r"odd\.safetensors: A checkpoint .* or a control net was needed"):
        load(path)


def test_a_pickle_is_read_with_its_inner_dictionaries(tmp_path):
    real.host()
    from tiller.adapters.control.load._host import read_weights

    path = tmp_path / "net.pth"
    torch.save({"controlnet": {"a": torch.ones(2)}, "step": 3, "b": {"c": torch.ones(1)}}, path)
    assert {key: len(value) for key, value in read_weights(path)[0].items()} == {"controlnet.a": 2, "b.c": 1}


def test_a_file_of_differences_without_a_model_is_refused(tmp_path):
    layout = standins._unet_control("control_model.", standins.SD15_UNET) | {"difference": ()}
    path = tmp_path / "diff.safetensors"
    save_file(standins.random_tensors(standins.Layout(layout, {})), path)
    with pytest.raises(ValueError, match=r"needs a model of the SD1\.5 family, got none"):
        load(path)
    with pytest.raises(
        ValueError, match=r"This control net \(diff\.safetensors\) is for SD1\.5, but the model is SDXL"
    ):
        load(path, model=real.family("sdxl").model)
