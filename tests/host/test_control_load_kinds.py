"""Every layout that the host loads gives the very net that the host makes of it, and works as it does."""

import pytest
import torch
from tiller.tests.host import control_files
from tiller.tests.host import inprocess as real
from tiller.tests.host.control_files import FILES
from tiller.tests.host.inprocess import Run

OWN = (
    "compression_ratio",
    "upscale_algorithm",
    "concat_mask",
    "extra_conds",
    "strength_type",
    "global_average_pooling",
    "channels_in",
)
KINDS = {
    "LDM SD1.5": ("ControlNet (LDM layout)", "SD1.5"),
    "LDM SDXL": ("ControlNet (LDM layout)", "SDXL"),
    "LDM difference": ("ControlNet (LDM layout, difference from the base)", "SD1.5"),
    "Control-LoRA": ("Control-LoRA", "SD1.5"),
    "T2I full SD1.5 gray": ("T2I-Adapter", "SD1.5"),
    "T2I full SD1.5": ("T2I-Adapter", "SD1.5"),
    "T2I full SDXL": ("T2I-Adapter", "SDXL"),
    "T2I full SDXL gray": ("T2I-Adapter", "SDXL"),
    "T2I colour": ("T2I-Adapter (light)", "SD1.5"),
    "T2I light gray": ("T2I-Adapter (light)", "SD1.5"),
    "T2I diffusers SD1.5": ("T2I-Adapter (diffusers layout)", "SD1.5"),
    "T2I diffusers SDXL": ("T2I-Adapter (diffusers layout)", "SDXL"),
    "Flux XLabs": ("Flux ControlNet (XLabs)", "Flux"),
    "Flux MistoLine": ("Flux ControlNet (MistoLine)", "Flux"),
    "Flux InstantX": ("Flux ControlNet (InstantX)", "Flux"),
    "Flux InstantX Union": ("Flux ControlNet (InstantX)", "Flux"),
    "Flux Alimama inpaint": ("Flux ControlNet (InstantX)", "Flux"),
    "SD3": ("SD3 ControlNet", "SD3"),
    "SD3 inpaint": ("SD3 ControlNet", "SD3"),
    "SD3.5": ("SD3.5 ControlNet", "SD3"),
    "Qwen Fun": ("Qwen-Image ControlNet (Fun)", "Qwen-Image"),
}
SAMPLED = {
    "LDM difference": "sd15",
    "Control-LoRA": "sd15",
    "Flux MistoLine": "flux",
    "Flux InstantX": "flux",
    "Flux InstantX Union": "flux",
    "Flux Alimama inpaint": "flux",
}
"""Layouts that a stand-in model samples with, apart from those that are stand-ins themselves."""


def base(name):
    return real.family("sd15").model if name == "LDM difference" else None


def both(name, folder):
    """Our net of a layout's file, what is said of it, and the host's."""
    path = control_files.file(name, folder)
    import comfy.controlnet
    from tiller.adapters.control.load._host import load_control_and_text

    theirs = comfy.controlnet.load_controlnet(str(path), base(name))
    return *load_control_and_text(path, base(name), "auto"), theirs


def weights(net):
    module = getattr(net, "control_model", None) or getattr(net, "t2i_model", None)
    return net.control_weights if module is None else module.state_dict()


def test_every_layout_has_its_kind():
    assert set(KINDS) == set(FILES)


@pytest.mark.parametrize("name", FILES)
def test_the_net_is_the_hosts_to_the_bit(name, tmp_path):
    ours, text, theirs = both(name, tmp_path)
    assert (ours.identified.kind, ours.identified.family) == KINDS[name]
    assert type(ours) is type(theirs)
    mine, hosts = weights(ours), weights(theirs)
    assert mine.keys() == hosts.keys()
    filled_later = [key for key in mine if key.startswith("orig_y_embedder.")]
    assert bool(filled_later) == (name == "SD3.5")
    assert [key for key in mine if key not in filled_later and not torch.equal(mine[key], hosts[key])] == []
    for field in OWN:
        assert getattr(ours, field, None) == getattr(theirs, field, None), field
    assert type(ours.latent_format) is type(theirs.latent_format)
    picture = torch.rand(1, 3, 4, 4)
    assert torch.equal(ours.preprocess_image(picture), theirs.preprocess_image(picture))
    assert f"Kind: {KINDS[name][0]}\nBase model: {KINDS[name][1]}" in text
    assert ours.identified.needs_vae is (ours.latent_format is not None)
    assert ("VAE: needed" in text) is ours.identified.needs_vae
    assert ("reads a mask" in text) is ours.concat_mask is ("inpaint" in name)
    assert ("10 hint types" in text) is ("Union" in name)


def vae(name):
    if "InstantX" not in name and "Alimama" not in name:
        return None
    from tiller.tests.host.test_control_kinds import latent_net

    return latent_net()[1]


def prepared(net, name):
    """The net with what its kind needs set: the type of a Union net, the mask of an inpaint net."""
    if "Union" in name:
        net = net.copy()
        net.set_extra_arg("control_type", [3])
    return net


@pytest.mark.parametrize("name", SAMPLED)
def test_it_samples_as_the_hosts(name, tmp_path):
    ours, _, theirs = both(name, tmp_path)
    of = real.family(SAMPLED[name])
    positive, negative = real.conditioning(of, 1), real.conditioning(of, 2)
    image, run = real.picture(64, 96), Run(size=(8, 12), steps=2)
    mask = {"extra_concat": [torch.rand(1, 1, 64, 96)]} if "inpaint" in name else {}
    plain = real.sample(of, positive, negative, run)
    core = real.core_apply(positive, negative, prepared(theirs, name), image, vae=vae(name), **mask)
    core = real.sample(of, *core, run)
    mine = prepared(ours, name)
    for apply in (real.core_apply, *([] if mask else [real.tiller_apply])):
        more = {**mask, "vae": vae(name)}
        result = real.sample(of, *apply(positive, negative, mine, image, **more), run)
        assert real.difference(core, result) == 0.0
    assert real.difference(core, plain) > 1e-3


def test_a_difference_is_the_net_that_base_and_difference_make(tmp_path):
    ours, _, _ = both("LDM difference", tmp_path)
    alone = control_files.FILES["LDM SD1.5"]()
    of = real.family("sd15").model.model.state_dict()
    for key, tensor in ours.control_model.state_dict().items():
        added = of.get(f"diffusion_model.{key}")
        whole = alone[f"control_model.{key}"]
        assert torch.equal(tensor, whole if added is None else whole + added), key


@pytest.mark.parametrize("name", [name for name in FILES if "SD1.5" in name or "Flux" in name])
def test_a_file_of_another_family_is_refused_by_name_when_sampling_starts(name, tmp_path):
    ours, _, _ = both(name, tmp_path)
    of = real.family("sdxl")
    positive, negative = real.conditioning(of, 1), real.conditioning(of, 2)
    control = real.tiller_apply(positive, negative, ours, real.picture(64, 64), vae=vae("InstantX"))
    with pytest.raises(ValueError) as caught:
        real.sample(of, *control)
    family = KINDS[name][1]
    assert str(caught.value).startswith(
        f"This control net ({name.replace(' ', '_')}.safetensors) is for {family}, but the model is SDXL."
    )


def test_a_light_adapter_in_the_names_of_diffusers_is_diffusers_own(tmp_path):
    from diffusers import T2IAdapter
    from safetensors.torch import save_file
    from tiller.adapters.control.load._host import load_control

    reference = T2IAdapter(adapter_type="light_adapter", channels=[320, 640, 1280], num_res_blocks=4)
    weights = control_files.random_tensors({k: v.shape for k, v in reference.state_dict().items()})
    reference.load_state_dict(weights)
    save_file(weights, tmp_path / "colour.safetensors")
    net = load_control(tmp_path / "colour.safetensors")
    hint = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        expected = reference(hint)
        ours = [value for value in net.t2i_model(hint)["input"][::-1] if value is not None]
    assert len(ours) == len(expected) == 4
    assert all(torch.equal(one, other) for one, other in zip(ours, expected, strict=True))
