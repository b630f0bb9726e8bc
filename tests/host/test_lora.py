"""LoRAs with block weights in the real host: the host's own numbers at 1, the formula at other factors."""

import pytest
import torch
from tiller.tests.host import inprocess as real
from tiller.tests.host.inprocess import Run
from tiller.tests.host.lora_files import (
    ALPHA,
    RANK,
    load,
    lora,
    loras,
    merged,
    modules,
    names_of,
    small_flux,
    text_encoders,
    text_lora,
)
from tiller.tests.host.small_unets import small

__all__ = ["loras"]
FILES = [
    ("sd15", "diffusers", "lora"),
    ("sd15", "processor", "lora"),
    ("sd15", "diffusers", "loha"),
    ("sd15", "diffusers", "lokr"),
    ("sd15", "diffusers", "dora"),
    ("sd15", "diffusers", "diff"),
    ("sdxl", "kohya", "lora"),
    ("sdxl", "generic", "lora"),
    ("flux", "kohya", "lora"),
    ("flux", "generic", "lora"),
]
TEXTS = {"sd15": ("clip_l",), "sdxl": ("clip_l", "clip_g"), "flux": ("clip_l", "t5xxl")}
TEXT_LORAS = {"sd15": ("te",), "sdxl": ("te1", "te2"), "flux": ("te1", "t5")}
ONES = {"sd15": 26, "sdxl": 20, "flux": 61}
RUN = Run(steps=2)


def of(name):
    return small_flux() if name == "flux" else small(name)


def by_host(model, clip, name, strength=1.0, strength_clip=1.0):
    return real.host().LoraLoader().load_lora(model, clip, name, strength, strength_clip)


def equal(ours, theirs):
    return ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in ours)


def sampled(family, model):
    positive, negative = real.conditioning(family, 1), real.conditioning(family, 2)
    return real.sample(family._replace(model=model), positive, negative, RUN)


@pytest.mark.parametrize(("family", "naming", "form"), FILES)
def test_a_vector_of_ones_is_the_hosts_own_loader_to_the_bit(loras, family, naming, form):
    model, clip = of(family).model, text_encoders(*TEXTS[family])
    weights = lora(model, naming, form)
    name = loras("a.safetensors", {**weights, **text_lora(*TEXT_LORAS[family])})
    wanted, wanted_text = by_host(model, clip, name, 0.8, 0.6)
    assert len(merged(wanted)) >= len(names_of(model, naming))
    assert len(merged(wanted_text.patcher)) == len(TEXTS[family])
    for blocks in ("", ",".join(["1"] * ONES[family])):
        settings = {"strength_model": 0.8, "strength_clip": 0.6, "blocks": blocks}
        got, got_text, _ = load(model, clip, name, **settings)
        assert equal(merged(got), merged(wanted))
        assert equal(merged(got_text.patcher), merged(wanted_text.patcher))
    assert model.patches == {}
    assert clip.patcher.patches == {}


def test_the_metadata_of_the_file_goes_with_the_model_as_the_host_has_it(loras):
    model, clip = small("sd15").model, text_encoders("clip_l")
    weights = {**lora(model, "diffusers", "lora"), **text_lora("te")}
    name = loras("told.safetensors", weights, {"ss_tag": "a cat"})
    wanted, wanted_text = by_host(model, clip, name)
    got, got_text, _ = load(model, clip, name)
    assert wanted.get_attachment("lora_metadata") == {"ss_tag": "a cat"}
    assert got.get_attachment("lora_metadata") == wanted.get_attachment("lora_metadata")
    text, wanted_text = got_text.patcher, wanted_text.patcher
    assert text.get_attachment("lora_metadata") == wanted_text.get_attachment("lora_metadata")
    assert model.get_attachment("lora_metadata") is None


@pytest.mark.parametrize("family", ["sd15", "sdxl", "flux"])
def test_the_picture_is_the_hosts_own_to_the_bit(loras, family):
    base = of(family)
    name = loras("a.safetensors", lora(base.model))
    plain = sampled(base, base.model)
    got, _, _ = load(base.model, None, name, strength_model=0.5)
    wanted, _ = by_host(base.model, None, name, 0.5, 0.0)
    picture = sampled(base, got)
    assert torch.equal(picture, sampled(base, wanted))
    assert real.difference(picture, plain) > 0.01
    assert torch.equal(sampled(base, base.model), plain)
    off, clip, _ = load(base.model, None, name, strength_model=0.0)
    assert off is base.model
    assert clip is None


def by_formula(weights, theirs, shape, factor):
    up, down = weights[f"{theirs}.lora_up.weight"], weights[f"{theirs}.lora_down.weight"]
    return factor * ALPHA / RANK * (up.flatten(1) @ down.flatten(1)).reshape(shape)


BLOCKS = {
    "sd15": (
        "NONE, IN01:1, IN04-IN08:0.5, MID:-0.25, OUT03:2",
        {"input_blocks.1.": 1, "input_blocks.4.": 0.5, "input_blocks.5.": 0.5, "input_blocks.7.": 0.5,
         "input_blocks.8.": 0.5, "middle_block.": -0.25, "output_blocks.3.": 2},
    ),
    "sdxl": (
        "0.1,0.2,0.3,0.4,0.5,0.6,0.7,0.8,0.9,1.0,1.1,1.2",
        {"input_blocks.4.": 0.2, "input_blocks.5.": 0.3, "input_blocks.7.": 0.4, "input_blocks.8.": 0.5,
         "middle_block.": 0.6, **{f"output_blocks.{i}.": 0.7 + 0.1 * i for i in range(6)}},
    ),
    "flux": (
        "NONE, D03:0.5, S10-S12:0.25, IN:2, OUT:3",
        {"double_blocks.3.": 0.5, "single_blocks.10.": 0.25, "single_blocks.11.": 0.25,
         "single_blocks.12.": 0.25, "img_in": 2, "vector_in": 2, "final_layer": 3},
    ),
}  # fmt: skip
"""Text, and the factors that it means, by how a module's name begins; all others have 0."""


@pytest.mark.parametrize("family", list(BLOCKS))
def test_factors_are_the_formula(loras, family):
    base, (blocks, factors) = of(family), BLOCKS[family]
    naming = "diffusers" if family == "sd15" else "kohya"
    weights = lora(base.model, naming)
    name = loras("a.safetensors", weights)
    got = merged(load(base.model, None, name, strength_model=0.8, blocks=blocks)[0])
    state, shapes = base.model.model.state_dict(), modules(base.model)
    changed, worst = set(), 0.0
    for module, theirs in names_of(base.model, naming).items():
        inner = module.removeprefix("diffusion_model.")
        factor = next((value for start, value in factors.items() if inner.startswith(start)), 0.0)
        key = f"{module}.weight"
        if factor:
            changed.add(key)
            wanted = state[key] + by_formula(weights, theirs, shapes[module], 0.8 * factor)
            worst = max(worst, real.difference(got[key], wanted))
    assert got.keys() == changed
    assert worst <= 1e-6


def test_the_text_encoders_have_factors_of_their_own(loras):
    clip, model = text_encoders("clip_l", "t5xxl"), small_flux().model
    name = loras("a.safetensors", {**lora(model), **text_lora("te1", "t5")})
    _, text, _ = load(model, clip, name, blocks="CLIP:0")
    assert [key.split(".")[0] for key in merged(text.patcher)] == ["t5xxl"]
    _, text, _ = load(model, clip, name, preset="NONE", blocks="CLIP:0.5")
    assert next(iter(text.patcher.patches.values()))[0][0] == 0.5
    sd15, clip = small("sd15").model, text_encoders("clip_l")
    name = loras("b.safetensors", {**lora(sd15), **text_lora("te")})
    model, text, _ = load(sd15, clip, name, blocks="BASE:0")
    assert text is clip
    assert model.patches
    model, text, _ = load(sd15, clip, name, preset="NONE", blocks="BASE:1")
    assert text.patcher.patches
    assert model is sd15


def test_preset_none_leaves_everything_untouched(loras):
    model, clip = small("sd15").model, text_encoders("clip_l")
    name = loras("a.safetensors", {**lora(model), **text_lora("te")})
    got, text, info = load(model, clip, name, preset="NONE")
    assert got is model
    assert text is clip
    assert "IN01-IN11 0" in info or "IN01-IN02 0" in info


def test_a_stack_is_a_chain(loras):
    model, clip = small("sdxl").model, text_encoders("clip_l", "clip_g")
    first = loras("a.safetensors", {**lora(model), **text_lora("te1")})
    second = loras("b.safetensors", {**lora(model, seed=2), **text_lora("te1", "te2", seed=3)})
    settings = [
        {
            "lora_name": first,
            "strength_model": 0.7,
            "strength_clip": 1.0,
            "preset": "OUTALL",
            "blocks": "MID:1",
        },
        {"lora_name": second, "strength_model": -0.5, "strength_clip": 0.3, "preset": "ALL", "blocks": ""},
        {"lora_name": first, "strength_model": 0.0, "strength_clip": 0.0, "preset": "ALL", "blocks": ""},
    ]
    node = real.pack_nodes("lora")
    units = {f"lora{i}": node.TillerLoRAUnit.execute(**entry).args[0] for i, entry in enumerate(settings)}
    got, got_text, info = node.TillerStackLoRA.execute(model, {**units, "lora3": None}, clip).args
    chained, text = model, clip
    for entry in settings:
        chained, text, _ = node.TillerLoadLoRA.execute(chained, text, **entry).args
    assert equal(merged(got), merged(chained))
    assert equal(merged(got_text.patcher), merged(text.patcher))
    assert "a.safetensors: off, both strengths are 0" in info
    assert model.patches == {}


def test_the_text_says_what_the_file_has_and_what_is_left_over(loras):
    model = small("sd15").model
    extra = {"lora_unet_no_such_layer.lora_up.weight": torch.zeros(1), "other": torch.zeros(1)}
    name = loras("a.safetensors", {**lora(model, "diffusers"), **text_lora("te"), **extra})
    info = load(model, None, name, blocks="IN04-IN05:0.5")[2].split("\n")
    assert info[0] == "a.safetensors: LoRA, rank 4, alpha 2, for SD1.5; strength 1, text 1"
    assert info[1] == ("  blocks: IN01-IN02 1, IN04-IN05 0.5, IN07-IN08 1, IN10-IN11 1, MID 1, OUT00-OUT11 1")
    assert info[2] == "  not in the file: BASE, IN00, IN03, IN06, IN09"
    assert info[3] == (
        "  2 tensors match nothing in the model: lora_unet_no_such_layer.lora_up.weight, other"
    )
    assert info[4].startswith("  3 tensors of the text encoder are not used, no clip is connected: lora_te_")


def test_channels_of_an_inpainting_model_are_left_out(loras):
    model = small("sd15", in_channels=9).model
    four = small("sd15").model
    weights = lora(four, "diffusers")
    ends = {
        "lora_unet_conv_in.lora_up.weight": torch.ones(32, RANK, 1, 1),
        "lora_unet_conv_in.lora_down.weight": torch.ones(RANK, 4, 3, 3),
    }
    name = loras("a.safetensors", {**weights, **ends})
    got, _, info = load(model, None, name)
    assert (
        "left out, since this model's layer has more channels: diffusion_model.input_blocks.0.0.weight"
        in info
    )
    assert "diffusion_model.input_blocks.0.0.weight" not in got.patches
    assert len(merged(got)) == len(names_of(four, "diffusers"))


REFUSED = [
    (
        "sdxl",
        lambda: lora(small("sd15").model, "diffusers"),
        r"Load LoRA \(Blocks\) needs a LoRA for this model \(SDXL\), but a\.safetensors is made for SD1\.5: "
        r"\d+ of its \d+ changes have another size than the weights they are for \(diffusion_model\..* and "
        r"\d+ more\)\. Choose a LoRA made for SDXL\.",
    ),
    (
        "sd15",
        lambda: lora(small("sdxl").model, "kohya", "lokr"),
        r"for this model \(SD1\.5\), but a\.safetensors is made for another one: \d+ of its \d+ changes",
    ),
    (
        "sd15",
        lambda: lora(small_flux().model),
        r"for this model \(SD1\.5\), but a\.safetensors changes nothing in it: it is a LoRA for Flux\. "
        r"Choose a LoRA made for this model's family\.",
    ),
    (
        "flux",
        lambda: lora(small("sd15").model, "diffusers"),
        r"for this model \(Flux\), but a\.safetensors changes nothing in it: it is a LoRA for SD1\.5\.",
    ),
    (
        "sd15",
        lambda: {"1.to_k_ip.weight": torch.zeros(1)},
        r"changes nothing in it: it is an IP-Adapter for image prompt\. It is an image prompt adapter",
    ),
    (
        "sd15",
        lambda: {"some.tensor": torch.zeros(1)},
        r"changes nothing in it: it is a file of unknown kind \(some\.tensor\)\. Check that it is what its",
    ),
    (
        "sd15",
        lambda: text_lora("te"),
        r"all of its 3 tensors are for the text encoder\. Connect the checkpoint's CLIP to clip of Load LoRA",
    ),
]


@pytest.mark.parametrize(("family", "weights", "message"), REFUSED)
def test_a_file_for_something_else_is_refused(loras, family, weights, message):
    name = loras("a.safetensors", weights())
    with pytest.raises(ValueError, match=message):
        load(of(family).model, None, name)


def test_a_control_lora_of_flux_that_widens_the_first_layer_is_the_hosts(loras):
    """Its names are converted, its first layer reads twice the channels, its norms replace the model's."""
    model = small_flux().model
    hidden, channels = model.model.diffusion_model.img_in.weight.shape
    norm = model.model.diffusion_model.single_blocks[0].norm.key_norm.weight
    generator = torch.Generator().manual_seed(4)
    weights = {
        "img_in.lora_A.weight": torch.randn(RANK, 2 * channels, generator=generator),
        "img_in.lora_B.weight": torch.randn(hidden, RANK, generator=generator),
        "img_in.lora_B.bias": torch.randn(hidden, generator=generator),
        "single_blocks.0.norm.key_norm.scale": torch.randn(norm.shape, generator=generator),
    }
    name = loras("a.safetensors", weights)
    wanted = by_host(model, None, name)[0].patches
    got, _, info = load(model, None, name, blocks="IN:1")
    assert got.patches.keys() == wanted.keys()
    assert len(wanted) == 3
    assert "match nothing" not in info
    for key, (patch,) in wanted.items():
        ours, theirs = got.patches[key][0][1], patch[1]
        if isinstance(theirs, tuple):
            assert ours[0] == theirs[0]
            assert torch.equal(ours[1][0], theirs[1][0])
        else:
            assert torch.equal(ours.weights[0], theirs.weights[0])
            assert torch.equal(ours.weights[1], theirs.weights[1])
            assert ours.weights[2:] == theirs.weights[2:]
    assert list(load(model, None, name, preset="NONE", blocks="S:1")[0].patches) == [
        "diffusion_model.single_blocks.0.norm.key_norm.weight"
    ]


def test_packed_weights_are_left_to_the_host():
    from tiller.adapters.lora._host import _fits

    patch = ("diff", (torch.zeros(4, 8),))
    assert not _fits("a", patch, {"a": torch.zeros(4, 4)})
    assert _fits("a", patch, {"a": torch.zeros(4, 4, dtype=torch.uint8)})
    assert _fits(("a", (0, 2, 4)), patch, {"a": torch.zeros(12, 8)})


def test_wrong_block_weights_are_refused(loras):
    model = small("sdxl").model
    name = loras("a.safetensors", lora(model))
    with pytest.raises(ValueError, match=r"17 numbers is for SD1\.5 and SD2"):
        load(model, None, name, blocks=",".join(["1"] * 17))
    with pytest.raises(ValueError, match="got 'half'"):
        real.pack_nodes("lora").TillerLoRAUnit.execute(lora_name=name, blocks="MID:half")


def test_files_that_hold_no_tensors_are_refused(loras, tmp_path):
    model = small("sd15").model
    torch.save({"a": torch.zeros(1), "epoch": 3}, tmp_path / "a.pt")
    with pytest.raises(
        ValueError, match=r"needs a file of tensors, but a\.pt holds other things under epoch\."
    ):
        load(model, None, "a.pt")
    torch.save([1, 2], tmp_path / "b.pt")
    with pytest.raises(ValueError, match=r"needs a file of tensors by name, but b\.pt holds a list\."):
        load(model, None, "b.pt")
    (tmp_path / "c.safetensors").write_bytes(b"<!doctype html>")
    with pytest.raises(ValueError, match="which is a web page"):
        load(model, None, "c.safetensors")
    with pytest.raises(FileNotFoundError):
        load(model, None, "missing.safetensors")
