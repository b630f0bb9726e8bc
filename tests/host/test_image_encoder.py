"""Encoders found by shape, loaded whole, and giving what transformers' own models give."""

import importlib
from pathlib import Path

import pytest
import torch
from tiller.adapters.identify import UnknownWeightsError
from tiller.tests.host import image_encoders as files
from tiller.tests.host.inprocess import host, picture

H, G, L, L336 = "CLIP-ViT-H", "CLIP-ViT-bigG", "CLIP-ViT-L", "CLIP-ViT-L-336"
SIGLIP = "SigLIP-so400m-384"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The user's folder of encoders, empty."""
    host()
    paths = importlib.import_module("folder_paths")
    suffixes = paths.folder_names_and_paths["clip_vision"][1]
    monkeypatch.setitem(paths.folder_names_and_paths, "clip_vision", ([str(tmp_path)], suffixes))
    monkeypatch.setattr(paths, "filename_list_cache", {})
    return tmp_path


def load(name="auto", adapter=None):
    return files.pack("encode._host").load_image_encoder(name, adapter)


def squares(side, masks=None):
    return files.pack("pictures").Squares(picture(side, side, seed=4), masks, False)


def relative(ours, theirs):
    assert ours.shape == theirs.shape
    return float((ours - theirs).abs().max() / theirs.abs().max())


def normalised(model, pictures):
    mean, std = torch.tensor(model.image_mean), torch.tensor(model.image_std)
    return (((pictures * 255).round() / 255 - mean) / std).movedim(-1, 1)


@pytest.mark.parametrize(("kind", "naming"), [(H, "transformers"), (L, "transformers"), (L, "open_clip")])
def test_clip_states_equal_those_of_transformers(folder, kind, naming):
    named = files.tensors(kind)
    files.write(folder / "x.safetensors", files.in_open_clip(named) if naming == "open_clip" else named)
    encoder, _ = load("x.safetensors")
    assert (encoder.kind, encoder.head) == (kind, None)
    given = squares(224)
    made = files.theirs(kind)(normalised(encoder.model, given.pictures), output_hidden_states=True)
    encode = files.pack("encode.apply").encode_squares
    assert relative(encode(encoder, "penultimate", given), made.hidden_states[-2]) <= 1e-5
    assert relative(encode(encoder, "image_embeds", given), made.image_embeds[:, None]) <= 1e-5


def test_siglip_is_pooled_as_in_transformers(folder):
    files.write(folder / "x.safetensors", files.tensors(SIGLIP))
    encoder, _ = load("x.safetensors")
    given = squares(384)
    made = files.theirs(SIGLIP)(normalised(encoder.model, given.pictures)).pooler_output[:, None]
    assert encoder.kind == SIGLIP
    assert relative(files.pack("encode.apply").encode_squares(encoder, "pooled", given), made) <= 1e-5
    assert encoder.model.image_mean == [0.5, 0.5, 0.5]


def small(kind, layers, standin, path):
    """A file with the encoder's keys and shapes and nothing in them, of any depth."""
    shapes = files.pack("encoders").layout(kind, layers)
    files.write(
        path, {key: torch.zeros(shape, dtype=torch.float16) for key, shape in shapes.items()}, standin
    )


def test_auto_finds_the_adapters_encoder_whatever_its_name(folder):
    small(L, 2, True, folder / "CLIP-ViT-H-14.safetensors")
    files.write(folder / "some name.safetensors", files.tensors(H))
    for adapter, name in (
        (files.adapter(H), "some name.safetensors"),
        (files.adapter(L, "image_embeds", "Flux"), "CLIP-ViT-H-14.safetensors"),
    ):
        encoder, text = load(adapter=adapter)
        assert encoder.name == name
        assert f"{adapter.spec.embeds.encoder}, for pictures of 224 x 224" in text
        assert "wants" in text
        assert adapter.name in text
        assert "stand-in" in text


def test_a_real_file_goes_before_a_stand_in():
    choose = files.pack("encode.choose")
    shapes = files.pack("encoders").layout(H)
    real, other = choose.Candidate("b", shapes), choose.Candidate("c", shapes)
    standin = choose.Candidate("a", files.pack("encoders").layout(H, 2), "", True)
    assert choose.choose([standin, other, real], files.adapter()) is real
    assert choose.choose([standin], files.adapter()) is standin


def test_without_an_adapter_auto_takes_the_only_encoder_and_asks_of_several(folder):
    small(L, 2, True, folder / "a.safetensors")
    assert load()[0].kind == L
    small(L336, 2, True, folder / "b.safetensors")
    with pytest.raises(ValueError, match=r"which of several encoders .* a.safetensors: CLIP-ViT-L; b.saf"):
        load()


def test_where_nothing_fits_every_file_is_listed_with_what_it_is(folder):
    small(G, 2, True, folder / "h.safetensors")
    small(H, 3, False, folder / "cut.safetensors")
    files.write(folder / "dino.safetensors", {"encoder.layer.0.layer_scale2.lambda1": torch.zeros(3)})
    files.write(folder / "adapter.safetensors", {"ip_adapter.1.to_k_ip.weight": torch.zeros(3, 3)})
    (folder / "old.bin").write_bytes(b"x")
    (folder / "page.safetensors").write_text("<!doctype html>", encoding="utf-8")
    with pytest.raises(FileNotFoundError) as caught:
        load(adapter=files.adapter(H, name="plus.safetensors"))
    text = str(caught.value)
    assert text.startswith("plus.safetensors (IP-Adapter Plus, SD1.5) needs the image encoder CLIP-ViT-H; ")
    for listed in (
        "h.safetensors: CLIP-ViT-bigG",
        "cut.safetensors: CLIP-ViT-H, but with 3 layers instead of 32",
        "dino.safetensors: a DINOv2 encoder",
        "adapter.safetensors: an IP-Adapter, not an encoder",
        "old.bin: not looked into, choose it by name",
        "page.safetensors: not readable",
    ):
        assert listed in text
    assert (
        "Get CLIP-ViT-H-14-laion2B-s32B-b79K.safetensors from https://huggingface.co/h94/IP-Adapter" in text
    )
    assert "put it into models/clip_vision" in text


def test_an_empty_folder_is_said_to_be_empty(folder):
    with pytest.raises(
        FileNotFoundError, match="An image encoder is needed; models/clip_vision holds no files"
    ):
        load()


def test_another_encoder_than_the_adapters_is_refused_with_both_named(folder):
    small(L, 2, True, folder / "l.safetensors")
    wanted = r"plus.safetensors \(IP-Adapter Plus, SD1.5\) needs the image encoder CLIP-ViT-H, but "
    with pytest.raises(ValueError, match=wanted + "l.safetensors is CLIP-ViT-L. Get CLIP-ViT-H-14"):
        load("l.safetensors", files.adapter(H, name="plus.safetensors"))


def test_an_adapter_of_faces_alone_wants_no_encoder(folder):
    records, whole = files.pack("records"), files.adapter()
    spec = files.replaced(whole.spec, embeds=None, variant="FaceID", face="normed")
    with pytest.raises(ValueError, match=r"faceid.bin .FaceID, SD1.5. reads the vector of a face alone"):
        load(adapter=records.IPAdapter(spec, {}, {}, "faceid.bin"))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"vision_model.post_layernorm.bias": None},
            "looks like CLIP-ViT-L but lacks vision_model.post_layern",
        ),
        ({"vision_model.more": torch.zeros(2)}, "but also holds vision_model.more"),
        ({"vision_model.pre_layrnorm.bias": torch.zeros(2)}, "has in another shape vision_model.pre_layr"),
        (
            {"visual_projection.weight": None},
            "it is CLIP-ViT-L, but with no projection instead of one to 768",
        ),
        (
            {"visual_projection.weight": torch.zeros(512, 1024)},
            "with a projection to 512 instead of one to 768",
        ),
    ],
)
def test_a_file_that_is_not_whole_is_refused_by_key(folder, change, words):
    made = {**files.tensors(L), **change}
    files.write(folder / "l.safetensors", {key: tensor for key, tensor in made.items() if tensor is not None})
    with pytest.raises(UnknownWeightsError, match=words):
        load("l.safetensors")


def test_the_text_half_of_a_model_does_not_matter(folder):
    beside = ["text_model.embeddings.x", "text_projection.weight", "logit_scale"]
    files.write(folder / "l.safetensors", files.tensors(L) | {key: torch.zeros(2) for key in beside})
    assert load("l.safetensors")[0].kind == L


def test_siglip_without_its_pooling_is_refused(folder):
    shapes = files.pack("encoders").layout(SIGLIP, 2)
    named = {key: torch.zeros(shape) for key, shape in shapes.items() if ".head." not in key}
    files.write(folder / "s.safetensors", named)
    with pytest.raises(UnknownWeightsError, match=r"but without its pooling .vision_model.head.probe"):
        load("s.safetensors")


def test_a_pickle_is_loaded_by_its_name(folder):
    torch.save(files.tensors(L), folder / "l.bin")
    with pytest.raises(
        UnknownWeightsError, match=r"l.bin: it is CLIP-ViT-L, but with 2 layers instead of 24"
    ):
        load("l.bin")


@pytest.mark.parametrize("kind", [H, G, L, L336, SIGLIP])
def test_the_host_takes_the_same_configuration_for_the_published_file(kind, monkeypatch):
    host()
    clip_vision, encoders = importlib.import_module("comfy.clip_vision"), files.pack("encoders")
    asked = []

    def told(config):
        asked.append(Path(config).name)
        raise InterruptedError

    monkeypatch.setattr(clip_vision, "ClipVisionModel", told)
    named = {key: torch.empty(shape, device="meta") for key, shape in encoders.layout(kind).items()}
    with pytest.raises(InterruptedError):
        clip_vision.load_clipvision_from_sd(named)
    assert asked == [encoders.ENCODERS[kind].config]
