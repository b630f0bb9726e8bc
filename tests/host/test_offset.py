"""A file of weight changes on the host's models: merged by hand, and nothing left behind."""

import pytest
import torch
from tiller.tests.host import inprocess as real
from tiller.tests.host.inprocess import Run
from tiller.tests.host.video_model import CONFIG, video_model

RUN = Run(steps=2)
PREFIX = "diffusion_model."
FAMILIES = ["sd15", "sdxl"]
QUERIES = (
    "attn1.to_q.weight",
    "attn2.to_out.0.bias",
    "norm2.weight",
    "emb_layers.1.weight",
    "proj_in.weight",
)


def apply(model, weights, strength=1.0, form="auto"):
    real.host()
    from tiller.adapters.offset.apply import apply_offset

    return apply_offset(model, weights, strength, form)


def state_of(model):
    """The model's own tensors, with no patch of any clone in them."""
    import comfy.model_management

    comfy.model_management.unload_all_models()
    return model.model.diffusion_model.state_dict()


def some_keys(model):
    return [key for key in state_of(model) if key.endswith(QUERIES)]


def to_diffusers(model, keys):
    import comfy.utils

    theirs = {
        ours: name
        for name, ours in comfy.utils.unet_to_diffusers(model.model.model_config.unet_config).items()
    }
    return {key: theirs[key] for key in keys}


def increments(model, scale=0.02, seed=3):
    generator = torch.Generator().manual_seed(seed)
    state = state_of(model)
    return {key: scale * torch.randn(state[key].shape, generator=generator) for key in some_keys(model)}


def replacements(model, seed=4):
    state = state_of(model)
    return {key: state[key].float() + change for key, change in increments(model, seed=seed).items()}


def sampled(of, model):
    positive, negative = real.conditioning(of, 1), real.conditioning(of, 2)
    return real.sample(of._replace(model=model), positive, negative, RUN)


def merged(of, changes):
    """The picture of the model with the changes added to its parameters by hand, and taken back after."""
    state = state_of(of.model)
    kept = {key: state[key].clone() for key in changes}
    try:
        for key, change in changes.items():
            state[key].copy_((state[key].float() + change).to(state[key].dtype))
        return sampled(of, of.model)
    finally:
        state = state_of(of.model)
        for key, tensor in kept.items():
            state[key].copy_(tensor)


def checksum(model):
    return {key: tensor.clone() for key, tensor in state_of(model).items()}


def test_there_is_something_to_change():
    for name in FAMILIES:
        assert len(some_keys(real.family(name).model)) > 5


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("naming", ["ldm", "diffusers"])
def test_increments_are_added(name, naming):
    of = real.family(name)
    changes = increments(of.model)
    names = {key: f"model.{PREFIX}{key}" for key in changes}
    if naming == "diffusers":
        names = to_diffusers(of.model, changes)
    file = {names[key]: change for key, change in changes.items()}
    plain = sampled(of, of.model)
    for strength in (1.0, -0.5):
        ours = sampled(of, apply(of.model, file, strength))
        hand = merged(of, {key: strength * change for key, change in changes.items()})
        assert real.difference(hand, plain) > 1e-2
        assert real.difference(ours, hand) == 0.0
    assert real.difference(sampled(of, of.model), plain) == 0.0


@pytest.mark.parametrize("name", FAMILIES)
def test_replacements_take_the_place_of_the_weights(name):
    of = real.family(name)
    new = replacements(of.model)
    state = state_of(of.model)
    hand = merged(of, {key: tensor - state[key].float() for key, tensor in new.items()})
    assert real.difference(sampled(of, apply(of.model, new)), hand) == 0.0
    blended = merged(of, {key: 0.3 * (tensor - state[key].float()) for key, tensor in new.items()})
    assert real.difference(sampled(of, apply(of.model, new, 0.3)), blended) == 0.0


def test_the_source_model_stays_as_it_is_and_twice_is_the_same():
    of = real.family("sd15")
    before, plain, new = checksum(of.model), sampled(of, of.model), replacements(of.model)
    first = sampled(of, apply(of.model, new))
    second = sampled(of, apply(of.model, new))
    assert real.difference(first, second) == 0.0
    assert real.difference(first, plain) > 1e-2
    assert of.model.patches == {}
    assert of.model.get_attachment("tiller_replaced_weights") is None
    assert real.difference(sampled(of, of.model), plain) == 0.0
    assert all(bool((before[key] == tensor).all()) for key, tensor in checksum(of.model).items())


def test_strength_0_is_the_source():
    of = real.family("sd15")
    assert apply(of.model, replacements(of.model), 0.0) is of.model


def test_the_base_weights_are_read_even_where_the_model_is_loaded_with_changes():
    of = real.family("sd15")
    new = replacements(of.model)
    expected = sampled(of, apply(of.model, new, 0.5))
    sampled(of, apply(of.model, increments(of.model, scale=0.5, seed=9)))
    assert real.difference(sampled(of, apply(of.model, new, 0.5)), expected) == 0.0


def test_changes_before_it_survive_and_changes_after_it_add_up():
    of = real.family("sd15")
    new, lora = replacements(of.model), increments(of.model, seed=8)
    state = state_of(of.model)
    hand = merged(of, {key: new[key] - state[key].float() + lora[key] for key in new})
    before = sampled(of, apply(apply(of.model, lora), new))
    after = sampled(of, apply(apply(of.model, new), lora))
    scale = float(hand.abs().max())
    assert real.difference(before, hand) / scale < 2e-3
    assert real.difference(after, hand) / scale < 2e-3
    assert real.difference(hand, sampled(of, apply(of.model, new))) / scale > 5e-2


def test_a_weight_is_not_replaced_twice():
    model = real.family("sd15").model
    for strength in (1.0, 0.5):
        with pytest.raises(ValueError, match="another offset has replaced"):
            apply(apply(model, replacements(model), strength), replacements(model, seed=7))


def test_more_input_channels_are_padded():
    of = real.family("sd15")
    wide = {"conv_in.weight": 0.01 * torch.randn(320, 8, 3, 3, generator=torch.Generator().manual_seed(1))}
    patched = apply(of.model, wide, form="increment")
    import comfy.lora

    base = state_of(of.model)["input_blocks.0.0.weight"].float()
    patches = patched.patches[f"{PREFIX}input_blocks.0.0.weight"]
    weight = comfy.lora.calculate_weight(patches, base.clone(), "input_blocks.0.0.weight")
    assert weight.shape == (320, 8, 3, 3)
    assert bool((weight[:, 4:] == wide["conv_in.weight"][:, 4:]).all())
    assert bool((weight[:, :4] == base + wide["conv_in.weight"][:, :4]).all())
    with pytest.raises(ValueError, match=r"\[320, 8, 3, 3\] and the model's weight \[320, 4, 3, 3\]"):
        apply(of.model, wide, form="replacement")


def test_a_form_that_cannot_be_told_is_asked_for():
    model = real.family("sd15").model
    mixed = increments(model)
    half = sorted(mixed)[::2]
    mixed |= {key: tensor for key, tensor in replacements(model).items() if key in half}
    with pytest.raises(ValueError, match=r"could not be told.*Set form to what the page"):
        apply(model, mixed)
    assert apply(model, mixed, form="increment").patches


def test_a_form_against_the_looks_of_the_file_is_taken_with_a_warning(caplog):
    model = real.family("sd15").model
    apply(model, replacements(model), form="increment")
    assert "are used as increments, as chosen, but they look like replacements" in caplog.text


def test_a_file_for_another_model_changes_nothing():
    model, other = real.family("sd15").model, real.family("sdxl").model
    with pytest.raises(ValueError, match=r"Nothing was changed\. Use the file with the base model"):
        apply(other, increments(model) | {"input_blocks.9.9.weight": torch.zeros(1)})
    assert other.patches == {}


def video_unet():
    """diffusers' spatio-temporal UNet in the layout of the small video model, with the host's weights."""
    from diffusers import UNetSpatioTemporalConditionModel

    unet = UNetSpatioTemporalConditionModel(
        sample_size=8,
        down_block_types=("CrossAttnDownBlockSpatioTemporal", "DownBlockSpatioTemporal"),
        up_block_types=("UpBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal"),
        block_out_channels=(320, 320),
        layers_per_block=1,
        num_attention_heads=(5, 5),
        cross_attention_dim=1024,
    )
    return unet.eval()


def test_diffusers_names_of_a_video_model_reach_every_weight():
    from tiller.adapters.offset.apply import _aliases

    real.host()
    import comfy.model_management
    import comfy.model_patcher
    import comfy.supported_models

    config = {
        **CONFIG,
        "num_res_blocks": [1, 1],
        "transformer_depth": [1, 0],
        "transformer_depth_output": [1, 1, 0, 0],
    }
    model = comfy.supported_models.SVD_img2vid(config).get_model({}, device=torch.device("cpu"))
    patcher = comfy.model_patcher.CoreModelPatcher(model, torch.device("cpu"), torch.device("cpu"))
    names, unet = _aliases(patcher), video_unet()
    theirs, ours = unet.state_dict(), model.diffusion_model.state_dict()
    assert {names[key] for key in theirs} == ours.keys()
    generator = torch.Generator().manual_seed(0)
    for key, tensor in theirs.items():
        assert tensor.shape == ours[names[key]].shape, key
        drawn = torch.randn(tensor.shape, generator=generator) * 0.05 + (tensor.ndim == 1 and "norm" in key)
        tensor.copy_(drawn)
        ours[names[key]].copy_(drawn)
    latents, context = (torch.randn(2, *size, generator=generator) for size in ((8, 8, 8), (1, 1024)))
    ids = torch.tensor([[5.0, 127.0, 0.0]])
    with torch.no_grad():
        expected = unet(latents[None], torch.tensor(0.7), context[:1], ids).sample[0]
        embedded = model.embedder(ids[0]).flatten()[None].repeat(2, 1)
        got = model.diffusion_model(
            latents, torch.tensor([0.7, 0.7]), context[:1].repeat(2, 1, 1), embedded, num_video_frames=2
        )
    assert real.difference(got, expected) / float(expected.abs().max()) < 1e-4


def test_a_video_models_weights_are_changed_under_diffusers_names():
    of = video_model()
    key = "down_blocks.0.attentions.0.temporal_transformer_blocks.0.attn1.to_q.weight"
    patched = apply(of.model, {key: torch.full((320, 320), 1e-3)}, form="increment")
    assert list(patched.patches) == [f"{PREFIX}input_blocks.1.1.time_stack.0.attn1.to_q.weight"]
