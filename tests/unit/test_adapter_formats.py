"""Adapter files are known by their keys and shapes, each as itself and as nothing else."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiller.adapters.identify import UnknownWeightsError, identify
from tiller.adapters.image_prompt.formats import LAYOUTS, flat, identify_adapter, split
from tiller.tests import adapter_files as files

Shapes = dict[str, tuple[int, ...]]

STATES = {
    "IP-Adapter": ("image_embeds", 1),
    "IP-Adapter Plus": ("penultimate", 257),
    "IP-Adapter Full Face": ("penultimate", 257),
    "FaceID Plus": ("penultimate", 257),
    "Flux IP-Adapter (XLabs)": ("image_embeds", 1),
    "Flux IP-Adapter (InstantX)": ("pooled", 1),
}
LAYERS = {"SD1.5": 16, "SDXL": 70, "Kolors": 70}
FLUX_LAYERS = {"Flux IP-Adapter (XLabs)": 19, "Flux IP-Adapter (InstantX)": 57}
OTHERS = files.others()


@pytest.mark.parametrize("name", files.FILES)
def test_a_published_file_is_known_for_what_it_is(name: str) -> None:
    file = files.FILES[name]
    spec = identify_adapter(files.published(*file), name)
    layers = LAYERS.get(file.base) or FLUX_LAYERS[file.variant]
    assert (spec.variant, spec.base, spec.tokens) == (file.variant, file.base, file.tokens)
    assert (spec.embeds.encoder if spec.embeds else None) == file.encoder
    if spec.embeds:
        state, tokens = STATES[file.variant]
        is_large = file.encoder == "CLIP-ViT-L-336"
        assert (spec.embeds.state, spec.embeds.tokens) == (state, 577 if is_large else tokens)
        assert spec.embeds.width == files.ENCODERS[file.encoder or ""][spec.embeds.state != "penultimate"]
    assert len(spec.layers) == layers
    assert spec.layers[0] == (0 if file.base == "Flux" else 1)
    assert spec.lora_layers == (tuple(range(2 * layers)) if files.has_lora(*file[:2]) else ())
    is_kolors_face = name == "Kolors-IP-Adapter-FaceID-Plus"
    assert spec.text_width == files.TEXT[file.base] * (2 if is_kolors_face else 1)
    assert spec.face == (
        "raw" if "Unnorm" in file.variant else "normed" if "Face" in file.variant[:6] else None
    )


def test_what_content_cannot_tell_is_left_open() -> None:
    assert identify_adapter(files.published("FaceID Plus", "SD1.5")).plus_versions == ("v1", "v2")
    assert identify_adapter(files.published("FaceID Plus", "SDXL")).plus_versions == ("v2",)
    assert identify_adapter(files.published("FaceID Plus", "Kolors")).plus_versions == ("v2",)
    assert identify_adapter(files.published("FaceID", "SDXL")).plus_versions == ()
    assert identify_adapter(files.published("FaceID", "SDXL")).face_packs == ("buffalo_l",)
    unnorm = identify_adapter(files.published("FaceID Portrait Unnorm", "SDXL"))
    assert unnorm.face_packs == ("buffalo_l", "antelopev2")
    assert identify_adapter(files.published("FaceID Plus", "Kolors")).face_packs == ("antelopev2",)
    assert identify_adapter(files.published("IP-Adapter", "SDXL")).face_packs == ()


def test_two_listings_of_one_spec_are_one_listing() -> None:
    """Nothing that differs is taken for the same: no two kinds of file share a spec."""
    told: dict[object, Shapes] = {}
    for file in files.FILES.values():
        shapes = files.published(*file)
        assert told.setdefault(identify_adapter(shapes), shapes) == shapes
    assert {spec.variant for spec in told} == {layout.variant for layout in LAYOUTS}  # pyright: ignore


@pytest.mark.parametrize("name", files.FILES)
def test_load_control_says_the_same_of_it(name: str) -> None:
    file = files.FILES[name]
    found = identify(files.published(*file))
    assert found.kind == ("IP-Adapter (Flux)" if file.base == "Flux" else "IP-Adapter")
    assert found.role == "other"
    assert "Load IP-Adapter (TillerLoadIPAdapter)" in found.use


REFUSED = {
    "pulid_v1": "PuLID (SDXL)",
    "pulid_v1.1": "PuLID (SDXL)",
    "ip-adapter_pulid_sdxl_fp16": "PuLID (SDXL)",
    "pulid_flux_v0.9.1": "PuLID for Flux (Flux)",
    "photomaker-v1": "PhotoMaker (SDXL)",
    "photomaker-v2": "PhotoMaker (SDXL)",
    "CLIP-ViT-H-14-laion2B-s32B-b79K": "CLIP vision model (any model)",
    "CLIP-ViT-bigG-14-laion2B-39B-b160k": "CLIP vision model (any model)",
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_something_else_is_named_with_what_loads_it(name: str) -> None:
    found = identify(OTHERS[name])
    with pytest.raises(ValueError) as caught:
        identify_adapter(OTHERS[name], name)
    assert str(caught.value) == f"An IP-Adapter was needed, but {name} is: {REFUSED[name]}. {found.use}"
    assert set(OTHERS) == set(REFUSED)


def test_a_lora_a_control_net_and_a_checkpoint_are_named() -> None:
    cases: dict[str, Shapes] = {
        "LoRA": {"lora_unet_down_blocks_0_attentions_0_proj_in.lora_down.weight": (4, 320)},
        "ControlNet (LDM layout)": {
            "control_model.zero_convs.0.0.weight": (320, 320, 1, 1),
            "control_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight": (320, 768),
        },
        "UNet checkpoint": {
            "model.diffusion_model.time_embed.0.weight": (1280, 320),
            "model.diffusion_model.input_blocks.0.0.weight": (320, 4, 3, 3),
            "model.diffusion_model.middle_block.0.in_layers.0.weight": (1280,),
            "model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight": (320, 768),
        },
    }
    said = {
        "LoRA": "LoRA (its own model). Put it into models/loras and load it with Load LoRA.",
        "ControlNet (LDM layout)": "ControlNet (LDM layout) (SD1.5). Put it into models/controlnet and load "
        "it with Load Control.",
        "UNet checkpoint": "UNet checkpoint (SD1.5). Put it into models/checkpoints and load it with Load "
        "Checkpoint.",
    }
    for kind, shapes in cases.items():
        with pytest.raises(ValueError) as caught:
            identify_adapter(shapes, "x.bin")
        assert str(caught.value) == f"An IP-Adapter was needed, but x.bin is: {said[kind]}"


def test_flat_and_nested_files_and_training_checkpoints_are_one() -> None:
    shapes = files.published("IP-Adapter", "SD1.5", "CLIP-ViT-H")
    spec = identify_adapter(shapes)
    nested: dict[str, dict[str, tuple[int, ...]]] = {"image_proj": {}, "ip_adapter": {}}
    for key, shape in shapes.items():
        part, _, bare = key.partition(".")
        nested[part][bare] = shape
    assert flat(nested) == shapes
    assert split(nested) == split(shapes) == (nested["image_proj"], nested["ip_adapter"])
    older = {"image_proj": nested["image_proj"], "adapter_modules": nested["ip_adapter"]}
    assert identify_adapter(flat(older)) == spec
    assert split(older) == split(shapes)
    trained = {f"unet.{key}": shape for key, shape in (("conv_in.weight", (320, 4, 3, 3)),)}
    trained |= {f"image_proj_model.{key}": shape for key, shape in nested["image_proj"].items()}
    trained |= {f"adapter_modules.{key}": shape for key, shape in nested["ip_adapter"].items()}
    assert identify_adapter(trained) == spec
    assert split(trained) == split(shapes)


def test_flux_layers_keep_the_names_of_their_blocks() -> None:
    proj, layers = split(files.published("Flux IP-Adapter (XLabs)", "Flux"))
    assert set(proj) == {"proj.weight", "proj.bias", "norm.weight", "norm.bias"}
    assert "double_blocks.18.processor.ip_adapter_double_stream_v_proj.bias" in layers
    assert "56.to_v_ip.weight" in split(files.published("Flux IP-Adapter (InstantX)", "Flux"))[1]


def changed(variant: str, base: str, change: Callable[[Shapes], object], encoder: str | None = None) -> str:
    """What is said of a published listing after a change."""
    shapes = dict(files.published(variant, base, encoder))
    change(shapes)
    with pytest.raises(UnknownWeightsError) as caught:
        identify_adapter(shapes, "x.safetensors")
    return str(caught.value)


PLUS = ("IP-Adapter Plus", "SD1.5")


def test_keys_that_lack_or_are_too_many_or_do_not_fit_are_named() -> None:
    again = "Download the file again, or choose another."
    said = changed(*PLUS, lambda s: s.pop("image_proj.layers.2.0.to_kv.weight"))
    assert said == (
        "x.safetensors is IP-Adapter Plus for SD1.5, but it lacks image_proj.layers.2.0.to_kv.weight. "
        + again
    )
    said = changed(*PLUS, lambda s: s.update({"image_proj.extra": (1,), "other.weight": (2,)}))
    assert "but it also has other.weight, image_proj.extra. " + again in said
    said = changed(*PLUS, lambda s: s.update({"image_proj.layers.0.0.to_out.weight": (768, 700)}))
    assert "but it has wrong shapes at image_proj.layers.0.0.to_out.weight. " + again in said

    said = changed(*PLUS, lambda s: s.update({"image_proj.layers.0.0.to_q.weight": ()}))
    assert "but it has wrong shapes at image_proj.layers.0.0.to_q.weight. " + again in said

    def without_last(shapes: Shapes) -> None:
        for key in [key for key in shapes if key.startswith("ip_adapter.31.")]:
            del shapes[key]

    said = changed("FaceID", "SD1.5", without_last)
    assert "but it lacks ip_adapter.31.to_k_ip.weight, ip_adapter.31.to_k_lora.down.weight, " in said

    def cut_off(shapes: Shapes) -> None:
        for number in range(9, 31, 2):
            del shapes[f"ip_adapter.{number}.to_k_ip.weight"], shapes[f"ip_adapter.{number}.to_v_ip.weight"]

    said = changed(*PLUS, cut_off)
    assert "lacks ip_adapter.11.to_k_ip.weight, ip_adapter.11.to_v_ip.weight" in said
    assert "and 19 more" in said


@pytest.mark.parametrize("name", files.FILES)
def test_every_key_of_a_file_is_needed_and_its_shape_matters(name: str) -> None:
    """But for the layers at the end: their number is compared with the model's."""
    shapes = files.published(*files.FILES[name])
    last = {key for key in shapes if key.startswith(("ip_adapter.139.", "ip_adapter.31.", "ip_adapter.56."))}
    some = list(shapes)[:: max(1, len(shapes) // 16)]
    for key in [key for key in some if key not in last]:
        less = {other: shape for other, shape in shapes.items() if other != key}
        with pytest.raises(UnknownWeightsError):
            identify_adapter(less)
        more_dimensions = {**shapes, key: (*shapes[key], 3)}
        with pytest.raises(UnknownWeightsError):
            identify_adapter(more_dimensions)


ONE_OF_EACH = {file.variant: file for file in reversed(files.FILES.values())}


@pytest.mark.parametrize("variant", ONE_OF_EACH)
def test_every_length_of_a_projector_and_of_a_layer_is_bound_to_another(variant: str) -> None:
    """But for the number of a resampler's latents, which are its tokens."""
    shapes = files.published(*ONE_OF_EACH[variant])
    layers = ("ip_adapter.0.", "ip_adapter.1.", "ip_adapter.3.", "double_blocks.1.")
    keys = [key for key in shapes if key.startswith(("image_proj.", "ip_adapter_proj_model.", *layers))]
    taken = [
        (key, axis)
        for key in keys
        for axis, length in enumerate(shapes[key])
        if is_known({**shapes, key: (*shapes[key][:axis], length + 1, *shapes[key][axis + 1 :])})
    ]
    assert taken == ([("image_proj.latents", 1)] if "image_proj.latents" in shapes else [])


def is_known(shapes: Shapes) -> bool:
    try:
        identify_adapter(shapes)
    except UnknownWeightsError:
        return False
    return True


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_no_subset_of_keys_breaks_it(data: st.DataObject) -> None:
    """Whatever is missing: an error with words, or fewer layers; never another exception."""
    file = data.draw(st.sampled_from(list(files.FILES.values())))
    shapes = files.published(*file)
    dropped = data.draw(st.sets(st.sampled_from(sorted(shapes)), min_size=1, max_size=20))
    shortened = data.draw(st.booleans())
    left = {key: shape for key, shape in shapes.items() if key not in dropped}
    if shortened:
        left |= dict.fromkeys(dropped, ())
    with contextlib.suppress(UnknownWeightsError):
        assert identify_adapter(left).layers != identify_adapter(shapes).layers


def test_parts_of_two_files_are_refused() -> None:
    standard, wide = files.published("IP-Adapter", "SD1.5"), files.published("IP-Adapter", "SDXL")

    def mixed(shapes: Shapes) -> None:
        shapes.update({key: shape for key, shape in wide.items() if key.startswith("image_proj.")})

    assert changed("IP-Adapter", "SD1.5", mixed) == (
        "x.safetensors is IP-Adapter for SD1.5, but its projector makes 4 tokens of width 2048, and its "
        "layers read a width of 768. Its parts are of two files; download it again."
    )

    def odd(shapes: Shapes) -> None:
        shapes["image_proj.proj.weight"], shapes["image_proj.proj.bias"] = (3000, 1024), (3000,)

    assert "makes no whole tokens of width 768" in changed("IP-Adapter", "SD1.5", odd)
    assert identify_adapter(standard).text_width == 768


def test_an_encoder_that_no_published_file_reads_is_told_by_its_width() -> None:
    shapes = files.published("IP-Adapter", "SDXL") | {"image_proj.proj.weight": (4 * 2048, 768)}
    spec = identify_adapter(shapes)
    assert (spec.base, spec.embeds and spec.embeds.encoder) == ("SDXL", "CLIP-ViT-L")
    shapes = files.published("IP-Adapter Plus", "SD1.5") | {"image_proj.proj_in.weight": (768, 1024)}
    spec = identify_adapter(shapes)
    assert (spec.base, spec.embeds and spec.embeds.encoder) == ("SD1.5", "CLIP-ViT-L")


def test_unknown_widths_and_projectors_are_said() -> None:
    def read(shapes: Shapes, width: int) -> None:
        for key, shape in shapes.items():
            if "_ip." in key:
                shapes[key] = (shape[0], width)

    assert changed("IP-Adapter", "SD1.5", lambda s: read(s, 1024)) == (
        "x.safetensors is IP-Adapter, whose layers must read a text width of 768 (SD1.5), 2048 (SDXL), "
        "4096 (Flux); 1.to_k_ip.weight reads 1024. It may be made for a model that Tiller does not know."
    )
    assert "1.to_k_ip.weight reads 4096. " in changed("IP-Adapter", "SD1.5", lambda s: read(s, 4096))
    assert "1.to_k_ip.weight reads nothing: it is missing." in changed(
        "IP-Adapter", "SD1.5", lambda s: s.pop("ip_adapter.1.to_k_ip.weight")
    )
    said = changed("IP-Adapter", "SD1.5", lambda s: s.update({"image_proj.proj.weight": (3072, 999)}))
    assert (
        "must read a width of 1024 (CLIP-ViT-H), 1280 (CLIP-ViT-bigG), 768 (CLIP-ViT-L); it reads 999."
        in said
    )

    def another(shapes: Shapes) -> None:
        for key in [key for key in shapes if key.startswith("image_proj.")]:
            shapes["image_proj.time." + key.removeprefix("image_proj.")] = shapes.pop(key)

    said = changed("IP-Adapter", "SD1.5", another)
    assert "has the layers of an adapter for a UNet, but a projector of no kind that Tiller knows" in said
    assert "Known are IP-Adapter, IP-Adapter Full Face, FaceID Plus" in said
    said = changed("IP-Adapter", "SD1.5", lambda s: s.update({"ip_adapter.0.to_k_ip.weight": (320, 768)}))
    assert "an adapter for Flux, but a projector of no kind" in said


def test_a_file_without_a_projector_or_without_layers_says_which() -> None:
    def drop(shapes: Shapes, prefix: str) -> None:
        for key in [key for key in shapes if key.startswith(prefix)]:
            del shapes[key]

    said = changed("IP-Adapter", "SD1.5", lambda s: drop(s, "image_proj."))
    assert said.startswith("An IP-Adapter was needed, but x.safetensors lacks the projector (image_proj.…); ")
    said = changed("IP-Adapter", "SD1.5", lambda s: drop(s, "ip_adapter."))
    assert "lacks the layers (ip_adapter.…); it has 4 tensors (image_proj.norm.bias" in said
    with pytest.raises(UnknownWeightsError, match=r"part\.bin lacks the projector .* and the layers"):
        identify_adapter({"double_blocks.0.img_attn.qkv.weight": (9216, 3072)}, "part.bin")
    said = changed("IP-Adapter", "SD1.5", lambda s: s.clear())
    assert (
        "lacks the projector (image_proj.…) and the layers (ip_adapter.…); it has 0 tensors (no ten" in said
    )
