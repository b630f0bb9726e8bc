"""Listings of real layouts: the stand-in files, and the host's own control modules on the meta device."""

import pytest
from tiller.adapters.identify import identify, read_shapes
from tiller.tests.host import inprocess as real

from devtools import standins

FILES = {
    "tiller_standin_sd15": ("checkpoint", "UNet checkpoint", "SD1.5"),
    "tiller_standin_sdxl": ("checkpoint", "UNet checkpoint", "SDXL"),
    "tiller_standin_flux": ("checkpoint", "Flux checkpoint", "Flux"),
    "tiller_standin_control_sd15": ("control", "ControlNet (LDM layout)", "SD1.5"),
    "tiller_standin_control_sdxl": ("control", "ControlNet (LDM layout)", "SDXL"),
    "tiller_standin_control_flux": ("control", "Flux ControlNet (XLabs)", "Flux"),
}


@pytest.mark.parametrize("name", FILES)
def test_stand_in_files_are_what_they_are_called(name):
    real.host()
    path = standins.ensure_standins(real.MODELS, [name])[name]
    found = identify(read_shapes(path))
    assert (found.role, found.kind, found.family) == FILES[name]


def module(name):
    """A control module of the host on the meta device, at a small size."""
    real.host()
    import comfy.cldm.dit_embedder
    import comfy.cldm.mmdit
    import comfy.ldm.cascade.controlnet
    import comfy.ldm.hydit.controlnet
    import comfy.ldm.qwen_image.controlnet
    import comfy.ops
    import comfy.t2i_adapter.adapter
    import torch

    on_meta = {"device": "meta", "dtype": torch.float32, "operations": comfy.ops.disable_weight_init}
    with torch.device("meta"):
        return {
            "SD3": lambda: comfy.cldm.mmdit.ControlNet(
                num_blocks=1, control_latent_channels=16, depth=2, adm_in_channels=64, **on_meta
            ),
            "SD3.5": lambda: comfy.cldm.dit_embedder.ControlNetEmbedder(
                img_size=None,
                patch_size=2,
                in_chans=16,
                num_layers=1,
                main_model_double=2,
                double_y_emb=True,
                attention_head_dim=64,
                num_attention_heads=2,
                adm_in_channels=64,
                **on_meta,
            ),
            "Qwen": lambda: comfy.ldm.qwen_image.controlnet.QwenImageControlNetModel(
                extra_condition_channels=0, num_layers=1, **on_meta
            ),
            "Hunyuan": lambda: comfy.ldm.hydit.controlnet.HunYuanControlNet(**on_meta),
            "Cascade": lambda: comfy.ldm.cascade.controlnet.ControlNet(c_in=3, proj_blocks=[0, 4]),
            "light adapter": lambda: comfy.t2i_adapter.adapter.Adapter_light(
                cin=192, channels=[320, 640, 1280, 1280], nums_rb=4
            ),
        }[name]()


MODULES = {
    "SD3": ("SD3 ControlNet", "SD3", True),
    "SD3.5": ("SD3.5 ControlNet", "SD3", True),
    "Qwen": ("Qwen-Image ControlNet (InstantX)", "Qwen-Image", True),
    "Hunyuan": ("HunyuanDiT ControlNet", "HunyuanDiT", True),
    "Cascade": ("Stable Cascade ControlNet", "Stable Cascade", False),
    "light adapter": ("T2I-Adapter (light)", "SD1.5", False),
}


@pytest.mark.parametrize("name", MODULES)
def test_loaded_nets_are_known_by_the_names_of_the_hosts_modules(name):
    shapes = {key: tuple(tensor.shape) for key, tensor in module(name).state_dict().items()}
    found = identify(shapes)
    assert (found.kind, found.family, found.needs_vae) == MODULES[name]


@pytest.mark.parametrize(("name", "family"), [("sd15", "SD1.5"), ("sdxl", "SDXL"), ("flux", "Flux")])
def test_models_and_their_nets_are_of_one_family(name, family):
    of = real.family(name)
    from tiller.adapters.control._host import identify_net, model_family

    assert model_family(of.model.model) == family
    assert identify_net(of.control).family == family


@pytest.mark.parametrize(
    ("config", "family"),
    [
        ({"context_dim": 1024, "model_channels": 320}, "SD2"),
        ({"context_dim": 1024, "use_temporal_attention": True}, "SVD"),
        ({"stable_cascade_stage": "c"}, "Stable Cascade"),
        ({"pos_embed_scaling_factor": None, "depth": 24}, "SD3"),
        ({"image_model": "qwen_image"}, "Qwen-Image"),
        ({"image_model": "hydit1"}, "HunyuanDiT"),
        ({"image_model": "wan2.1"}, "wan2.1"),
        ({"context_dim": 640}, None),
        (None, None),
    ],
)
def test_the_hosts_configurations_name_the_family(config, family):
    real.host()
    from types import SimpleNamespace

    from tiller.adapters.control._host import model_family

    assert model_family(SimpleNamespace(model_config=SimpleNamespace(unet_config=config))) == family


def test_a_net_that_shows_no_weights_is_not_guessed(caplog):
    real.host()
    import comfy.controlnet
    from tiller.adapters.control._host import check_family, identify_net

    caplog.set_level("INFO", logger="tiller")
    assert identify_net(comfy.controlnet.ControlBase()) is None
    assert "shows no weights: its model family is not checked" in caplog.text
    check_family(None, real.family("sd15").model.model)


def test_unknown_stand_ins_and_unfinished_files_are_not_taken(tmp_path):
    with pytest.raises(ValueError, match=r"A stand-in is one of .* got sd99"):
        standins.ensure_standins(tmp_path, ["sd99"])
    name = "tiller_standin_control_flux"
    path = standins.ensure_standins(tmp_path, [f"{name}.safetensors"])[name]
    first = path.read_bytes()
    path.write_bytes(first.replace(b'"tiller_standin":"', b'"tiller_standin":"0'))
    again = standins.ensure_standins(tmp_path, [name])[name]
    assert again.read_bytes() == first
    assert [file.name for file in path.parent.iterdir()] == [path.name]
