"""Image prompts saved by the host's rules are listed and loaded without being moved."""

import importlib

import pytest
import torch
from safetensors.torch import save_file
from tiller.tests.host import image_encoders as files
from tiller.tests.host.inprocess import host, picture

H = "CLIP-ViT-H"


@pytest.fixture
def stored(tmp_path, monkeypatch):
    """The module, with an output folder and a models folder of the test's own."""
    host()
    paths = importlib.import_module("folder_paths")
    module = files.pack("stored._host")
    monkeypatch.setattr(paths, "output_directory", str(tmp_path / "output"))
    monkeypatch.setattr(paths, "models_dir", str(tmp_path / "models"))
    kept = {key: value for key, value in paths.folder_names_and_paths.items() if key != module.FOLDER}
    monkeypatch.setattr(paths, "folder_names_and_paths", kept)
    monkeypatch.setattr(paths, "filename_list_cache", {})
    return module


def encoded():
    apply = files.pack("encode.apply")
    adapter, encoder = files.adapter(narrow=True), files.narrow_encoder(H)
    image = picture(40, 60, batch=2)
    return apply.encode_image_prompt(adapter, encoder, image, apply.EncodeSettings(weight=0.7))[0]


def test_what_was_saved_is_listed_and_comes_back_to_the_bit(stored, tmp_path):
    prompt = encoded()
    assert stored.prompt_names() == []
    names = [stored.save_prompt(prompt, prefix) for prefix in ("anna", "anna", "people/anna")]
    assert names == ["anna_00001_.safetensors", "anna_00002_.safetensors", "people/anna_00001_.safetensors"]
    assert sorted(stored.prompt_names()) == sorted(names)
    assert (tmp_path / "output/image_prompts/people/anna_00001_.safetensors").is_file()
    for name in names:
        back, text = stored.load_prompt(name, files.adapter(narrow=True))
        assert back.state == prompt.state
        for one, other in zip(back.parts, prompt.parts, strict=True):
            assert torch.equal(one.embeds, other.embeds)
            assert torch.equal(one.negative, other.negative)
        assert text.startswith(
            f"{name}: 2 parts of 257 x 64 from CLIP-ViT-H (penultimate). Read by IP-Adapter"
        )


def test_files_in_the_models_folder_are_listed_too_and_others_are_not(stored, tmp_path):
    name = stored.save_prompt(encoded(), "x")
    models = tmp_path / "models" / "image_prompts"
    models.mkdir(parents=True)
    (tmp_path / "output/image_prompts" / name).rename(models / "given.safetensors")
    (models / "readme.txt").write_text("x", encoding="utf-8")
    assert stored.prompt_names() == ["given.safetensors"]
    assert len(stored.load_prompt("given.safetensors")[0].parts) == 2


def test_a_prefix_that_leads_out_of_the_folder_is_refused(stored, tmp_path):
    with pytest.raises(Exception, match="outside the output folder"):
        stored.save_prompt(encoded(), "../x")
    assert not list(tmp_path.rglob("*.safetensors"))


def test_a_file_of_another_kind_is_refused_and_one_for_another_adapter(stored, tmp_path):
    name = stored.save_prompt(encoded(), "x")
    with pytest.raises(
        ValueError, match=r"reads CLIP-ViT-bigG \(image_embeds\), but x_00001_.safetensors was"
    ):
        stored.load_prompt(name, files.adapter("CLIP-ViT-bigG", "image_embeds", "SDXL"))
    save_file({"a": torch.zeros(2)}, tmp_path / "output/image_prompts/other.safetensors")
    with pytest.raises(
        ValueError, match=r"but other.safetensors is none.* It holds a \(2,\). Choose another"
    ):
        stored.load_prompt("other.safetensors")
    (tmp_path / "output/image_prompts/page.safetensors").write_text("<html>", encoding="utf-8")
    with pytest.raises(ValueError, match="which is a web page"):
        stored.load_prompt("page.safetensors")


def test_a_file_that_changed_is_seen(stored, tmp_path):
    name = stored.save_prompt(encoded(), "x")
    before = stored.state_of_file(name)
    stored.save_prompt(encoded(), "y")
    assert stored.state_of_file(name) == before
    save_file({"a": torch.zeros(2)}, tmp_path / "output/image_prompts" / name)
    assert stored.state_of_file(name) != before
    assert stored.state_of_file("missing.safetensors") == ""
