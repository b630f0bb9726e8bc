"""Every kind of control object goes through a unit: T2I-Adapter, Control-LoRA, nets with a VAE."""

import pytest
from tiller.tests.host import inprocess as real
from tiller.tests.host.inprocess import Run, kept

from devtools import standins

LORA_WHOLE = ("input_hint_block.", "zero_convs.", "middle_block_out.")


def tensors(module):
    layout = standins.Layout({key: tuple(t.shape) for key, t in module.state_dict().items()}, {})
    return {key: tensor.float() for key, tensor in standins.random_tensors(layout).items()}


@kept
def adapter():
    """A full SDXL T2I-Adapter of random weights, through the host's loader."""
    real.host()
    import comfy.controlnet
    from comfy.t2i_adapter.adapter import Adapter

    module = Adapter(cin=768, channels=[320, 640, 1280, 1280], nums_rb=2, ksize=1, sk=True, use_conv=False)
    return comfy.controlnet.load_controlnet_state_dict(tensors(module))


@kept
def lora():
    """A Control-LoRA of rank 4 for the SD1.5 stand-in, through the host's loader."""
    of = real.family("sd15")
    import comfy.controlnet
    import torch

    whole = of.control.control_model.state_dict()
    weights = {key: tensor for key, tensor in whole.items() if key.startswith(LORA_WHOLE)}
    query = "input_blocks.1.1.transformer_blocks.0.attn2.to_k"
    generator = torch.Generator().manual_seed(4)
    weights[f"{query}.up"] = torch.randn(320, 4, generator=generator)
    weights[f"{query}.down"] = torch.randn(4, 768, generator=generator) * 0.05
    weights["lora_controlnet"] = torch.zeros(0)
    return comfy.controlnet.load_controlnet_state_dict(weights)


@kept
def latent_net():
    """A Flux net that reads its hint through a VAE, and the VAE, of random weights."""
    real.host()
    import comfy.controlnet
    import comfy.latent_formats
    import comfy.model_management
    import comfy.ops
    import comfy.sd
    import torch
    from comfy.ldm.flux.controlnet import ControlNetFlux

    config = {key: value for key, value in standins.FLUX.items() if key != "image_model"}
    module = ControlNetFlux(
        latent_input=True,
        control_latent_channels=16,
        dtype=torch.float32,
        device="cpu",
        operations=comfy.ops.manual_cast,
        **config,
    )
    module.load_state_dict(tensors(module))
    net = comfy.controlnet.ControlNet(
        module,
        compression_ratio=1,
        latent_format=comfy.latent_formats.Flux(),
        load_device=comfy.model_management.get_torch_device(),
        extra_conds=["y", "guidance"],
    )
    path = standins.ensure_standins(real.MODELS, ["tiller_standin_flux"])["tiller_standin_flux"]
    vae = comfy.sd.load_checkpoint_guess_config(str(path), output_clip=False, output_model=False)[2]
    return net, vae


def both(of, net, image, run, vae=None, **settings):
    positive, negative = real.conditioning(of, 1), real.conditioning(of, 2)
    plain = real.sample(of, positive, negative, run)
    core = real.sample(of, *real.core_apply(positive, negative, net, image, vae=vae), run)
    ours = real.sample(of, *real.tiller_apply(positive, negative, net, image, vae=vae, **settings), run)
    return plain, core, ours


def test_t2i_adapter_is_the_hosts():
    of = real.family("sdxl")
    plain, core, ours = both(of, adapter(), real.picture(96, 96), Run(size=(12, 12), steps=2))
    assert real.difference(plain, core) > 1e-3
    assert real.difference(core, ours) == 0.0


def test_t2i_adapter_gets_a_hint_of_the_size_it_wants():
    from tiller.preprocessors.fit import Size, fit_image

    of, run, image = real.family("sdxl"), Run(size=(9, 12), steps=2), real.picture(60, 60)
    fitted = fit_image(image, Size(80, 96), "fill")
    _, core, _ = both(of, adapter(), fitted, run)
    _, _, ours = both(of, adapter(), image, run, resize_mode="fill")
    assert real.difference(core, ours) == 0.0


def test_control_lora_is_the_hosts():
    of = real.family("sd15")
    plain, core, ours = both(of, lora(), real.picture(64, 64), Run(steps=2))
    assert real.difference(plain, core) > 0.1
    assert real.difference(core, ours) == 0.0


def test_a_net_with_a_vae_is_the_hosts():
    net, vae = latent_net()
    of = real.family("flux")
    plain, core, ours = both(of, net, real.picture(64, 96), Run(size=(8, 12), steps=2), vae)
    assert real.difference(plain, core) > 1e-3
    assert real.difference(core, ours) == 0.0


def test_a_net_with_a_vae_gets_a_hint_in_pixels_of_the_vae():
    from tiller.preprocessors.fit import Size, fit_image

    net, vae = latent_net()
    of, run, image = real.family("flux"), Run(size=(8, 12), steps=2), real.picture(50, 50)
    _, core, _ = both(of, net, fit_image(image, Size(64, 96), "crop"), run, vae)
    _, _, ours = both(of, net, image, run, vae, resize_mode="crop")
    assert real.difference(core, ours) == 0.0


def test_different_kinds_chain_in_one_go():
    of = real.family("sd15")
    positive, negative = real.conditioning(of, 1), real.conditioning(of, 2)
    one, other = real.picture(64, 64), real.picture(64, 64, seed=8)
    core = real.core_apply(positive, negative, lora(), one, 0.5, 0.0, 1.0)
    core = real.core_apply(*core, of.control, other)
    units = [real.tiller_unit(lora(), one, strength=0.5), real.tiller_unit(of.control, other)]
    ours = real.tiller_apply_units(positive, negative, units)
    assert real.difference(real.sample(of, *core), real.sample(of, *ours)) == 0.0


@pytest.mark.parametrize("kind", ["net", "lora"])
def test_models_memory_and_hooks_of_the_net_reach_the_host(kind):
    of = real.family("sd15")
    import comfy.hooks
    import torch

    net = of.control if kind == "net" else lora()
    hooked = net.copy()
    hooked.extra_hooks = comfy.hooks.HookGroup()
    hooked.extra_hooks.add(comfy.hooks.TransformerOptionsHook())
    positive = real.conditioning(of, 1)
    core = real.core_apply(positive, [], of.control, real.picture(64, 64))
    host_chain = real.core_apply(*core, hooked, real.picture(64, 64))[0][0][1]["control"]
    our_chain = real.tiller_apply(*core, hooked, real.picture(64, 64))[0][0][1]["control"]
    for chain in (our_chain, our_chain.copy().set_previous_controlnet(our_chain.previous_controlnet)):
        models = chain.get_models()
        assert [id(model) for model in models] == [id(model) for model in host_chain.get_models()]
        memory = chain.inference_memory_requirements(torch.float16)
        assert memory == host_chain.inference_memory_requirements(torch.float16)
        assert len(chain.get_extra_hooks()) == len(host_chain.get_extra_hooks()) == 1


def test_a_clone_for_another_device_has_a_net_of_its_own():
    of = real.family("sd15")
    import torch

    control = real.tiller_apply(real.conditioning(of, 1), [], of.control, real.picture(64, 64))[0][0][1][
        "control"
    ]
    device = torch.device("cpu")
    clone = control.deepclone_multigpu(device, autoregister=True)
    assert control.get_instance_for_device(device) is clone
    assert clone.inner.control_model is not control.inner.control_model
    assert clone.unit is control.unit
    assert len(control.get_models()) == 2


@kept
def union():
    """A ControlNet-Union of six types for the SD1.5 stand-in, of random weights."""
    real.host()
    import comfy.cldm.cldm
    import comfy.controlnet
    import comfy.model_management
    import comfy.ops
    import torch

    module = comfy.cldm.cldm.ControlNet(
        image_size=32,
        in_channels=4,
        model_channels=320,
        hint_channels=3,
        use_spatial_transformer=True,
        legacy=False,
        union_controlnet_num_control_type=6,
        dtype=torch.float32,
        device="cpu",
        operations=comfy.ops.manual_cast,
        **standins.SD15_UNET,
    )
    module.load_state_dict(tensors(module))
    return comfy.controlnet.ControlNet(module, load_device=comfy.model_management.get_torch_device())


def test_the_type_set_on_a_union_net_is_kept():
    of, run, image = real.family("sd15"), Run(steps=2), real.picture(64, 64)
    results = []
    for number in (1, 3):
        typed = union().copy()
        typed.set_extra_arg("control_type", [number])
        _, core, ours = both(of, typed, image, run)
        assert real.difference(core, ours) == 0.0
        results.append(ours)
    assert real.difference(*results) > 1e-3


def test_the_type_in_the_options_is_the_hosts_set_union_type():
    of, run, image = real.family("sd15"), Run(steps=2), real.picture(64, 64)
    from comfy.cldm.control_types import UNION_CONTROLNET_TYPES
    from tiller.adapters.control.options import UNION_TYPES

    assert UNION_TYPES == UNION_CONTROLNET_TYPES
    typed = union().copy()
    typed.set_extra_arg("control_type", [3])
    kind = "canny/lineart/anime_lineart/mlsd"
    _, core, _ = both(of, typed, image, run)
    _, untyped, ours = both(of, union(), image, run, options=real.options(union_type=kind))
    assert real.difference(core, untyped) > 1e-3
    assert real.difference(core, ours) == 0.0
    assert "control_type" not in union().extra_args
    for name, text in (("tile", "this union net knows 6 types"), ("depth", "this control net is not one")):
        net = union() if name == "tile" else of.control
        with pytest.raises(ValueError, match=f"Apply Control got the union_type {name}.*{text}"):
            both(of, net, image, run, options=real.options(union_type=name))
