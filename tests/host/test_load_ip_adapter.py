"""The loader of adapters in the host: any container, every folder, and in words what the file wants."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from tiller.tests import adapter_files as files
from tiller.tests.host import inprocess as real

from devtools import standins

SITES = {0: (8, 768), 1: (16, 768)}
PLACES = ("ipadapter", "ipadapter-flux", "xlabs/ipadapters")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A models folder of this test, with the folders of adapters."""
    real.host()
    monkeypatch.setattr("folder_paths.models_dir", str(tmp_path))
    monkeypatch.setattr("folder_paths.folder_names_and_paths", {})
    monkeypatch.setattr("folder_paths.filename_list_cache", {})
    for place in PLACES:
        (tmp_path / place).mkdir(parents=True)
    return tmp_path


def node() -> Any:
    return real.pack_nodes("load_ip_adapter").TillerLoadIPAdapter


def nested(weights: dict[str, torch.Tensor]) -> dict[str, dict[str, torch.Tensor]]:
    parts: dict[str, dict[str, torch.Tensor]] = {}
    for key, tensor in weights.items():
        part, _, bare = key.partition(".")
        parts.setdefault(part, {})[bare] = tensor
    return parts


def small(variant: str, dtype: torch.dtype = torch.float16, **settings: Any) -> dict[str, torch.Tensor]:
    made = files.random_adapter(variant, "SD1.5", SITES, 1, **settings)
    return {key: tensor.to(dtype) for key, tensor in made.items()}


def same(loaded: Any, weights: dict[str, torch.Tensor]) -> None:
    parts = nested(weights)
    for own, wanted in ((loaded.image_proj, parts["image_proj"]), (loaded.ip_adapter, parts["ip_adapter"])):
        assert own.keys() == wanted.keys()
        assert all(torch.equal(own[key], wanted[key]) for key in own)
        assert {(tensor.dtype, tensor.device.type) for tensor in own.values()} == {(torch.float16, "cpu")}


def test_every_container_of_one_adapter_loads_to_the_same(folder: Path) -> None:
    weights = small("IP-Adapter")
    place, parts = folder / "ipadapter", nested(weights)
    save_file(weights, place / "flat.safetensors")
    torch.save(parts, place / "nested.bin")
    torch.save({"image_proj": parts["image_proj"], "adapter_modules": parts["ip_adapter"]}, place / "old.pt")
    trained = {f"image_proj_model.{key}": tensor for key, tensor in parts["image_proj"].items()}
    trained |= {f"adapter_modules.{key}": tensor for key, tensor in parts["ip_adapter"].items()}
    torch.save({**trained, "unet.conv_in.weight": torch.zeros(320, 4, 3, 3)}, place / "trained.ckpt")
    (place / "read me.txt").write_text("no weights", encoding="utf-8")
    names = ["flat.safetensors", "nested.bin", "old.pt", "trained.ckpt"]
    assert sorted(node().define_schema().inputs[0].options) == names
    for name in names:
        loaded = node().execute(name).args[0]
        same(loaded, weights)
        assert (loaded.spec.variant, loaded.name) == ("IP-Adapter", name)


def test_files_of_every_folder_are_listed_and_found(folder: Path) -> None:
    flux = files.random_flux_adapter("Flux IP-Adapter (XLabs)", 8, 2, 2, 0, text=4096)
    save_file(flux, folder / "xlabs/ipadapters" / "ip_adapter.safetensors")
    instantx = files.random_flux_adapter("Flux IP-Adapter (InstantX)", 8, 2, 2, 0)
    torch.save(nested(instantx), folder / "ipadapter-flux" / "ip-adapter.bin")
    (folder / "ipadapter" / "sub").mkdir()
    save_file(small("IP-Adapter"), folder / "ipadapter" / "sub" / "a.safetensors")
    options = node().define_schema().inputs[0].options
    assert [name.replace(os.sep, "/") for name in options] == [
        "sub/a.safetensors",
        "ip-adapter.bin",
        "ip_adapter.safetensors",
    ]
    variants = [node().execute(name).args[0].spec.variant for name in options]
    assert variants == ["IP-Adapter", "Flux IP-Adapter (InstantX)", "Flux IP-Adapter (XLabs)"]


def test_files_of_one_name_in_two_folders_are_both_there(folder: Path) -> None:
    """Both InstantX' adapter and InstantID's are published as ip-adapter.bin."""
    torch.save(nested(small("IP-Adapter")), folder / "ipadapter" / "ip-adapter.bin")
    instantx = files.random_flux_adapter("Flux IP-Adapter (InstantX)", 8, 2, 2, 0)
    torch.save(nested(instantx), folder / "ipadapter-flux" / "ip-adapter.bin")
    options = node().define_schema().inputs[0].options
    assert options == ["ip-adapter.bin", "ipadapter-flux/ip-adapter.bin"]
    variants = [node().execute(name).args[0].spec.variant for name in options]
    assert variants == ["IP-Adapter", "Flux IP-Adapter (InstantX)"]
    with pytest.raises(FileNotFoundError, match=r"needs the file xlabs/ipadapters/ip-adapter\.bin"):
        node().execute("xlabs/ipadapters/ip-adapter.bin")


def test_the_text_says_what_the_file_is_and_wants(folder: Path) -> None:
    save_file(small("IP-Adapter Plus"), folder / "ipadapter" / "plus.safetensors")
    assert node().execute("plus.safetensors").args[1] == (
        "File: plus.safetensors\n"
        "Family: IP-Adapter Plus\n"
        "Base model: SD1.5\n"
        "Image encoder: CLIP-ViT-H, all tokens of the picture. Published as "
        "CLIP-ViT-H-14-laion2B-s32B-b79K.safetensors; it belongs into models/clip_vision, for Load Image "
        "Encoder\n"
        "Tokens: 16, of width 768\n"
        "Layers: 2\n"
        "LoRA half: none\n"
        "Face analysis: none"
    )
    save_file(small("FaceID"), folder / "ipadapter" / "face.safetensors")
    said = node().execute("face.safetensors").args[1]
    assert "Image encoder: none, it reads the face's vector alone\n" in said
    assert "LoRA half: in the file, at 4 attention layers\n" in said
    assert said.endswith("Face analysis: buffalo_l; it reads the face's vector normed to length 1")


def text(variant: str, base: str) -> str:
    real.host()
    formats = importlib.import_module("tiller.adapters.image_prompt.formats")
    about = importlib.import_module("tiller.adapters.image_prompt.load.about")
    return about.describe(formats.identify_adapter(files.published(variant, base)), "x.bin")


def test_the_text_says_what_keys_do_not_tell() -> None:
    said = text("FaceID Plus", "SD1.5")
    assert (
        "Family: FaceID Plus, v1 or v2: the keys do not tell, set plus_version where it is applied\n" in said
    )
    assert "Family: FaceID Plus v2\n" in text("FaceID Plus", "SDXL")
    said = text("FaceID Portrait Unnorm", "SDXL")
    assert "Face analysis: buffalo_l or antelopev2; it reads the face's vector as it is, not normed\n" in said
    assert "Note: InstantID's adapter has the same keys, so the node that applies it decides." in said
    assert "Published as siglip-so400m-patch14-384.safetensors;" in text("Flux IP-Adapter (InstantX)", "Flux")
    assert "Published as clip-vit-large-patch14-336.bin;" in text("IP-Adapter Plus", "Kolors")


def test_a_missing_file_is_told_with_the_folders(folder: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        node().execute("gone.bin")
    said = str(caught.value)
    assert said.startswith("Load IP-Adapter needs the file gone.bin, found none in ")
    assert all(str(folder.joinpath(*place.split("/"))) in said for place in PLACES)
    assert "put it into one of these folders" in said


def test_other_files_are_called_what_they_are(folder: Path) -> None:
    lora = {"lora_unet_down_blocks_0.lora_down.weight": torch.zeros(8, 320)}
    save_file(lora, folder / "ipadapter" / "style.safetensors")
    with pytest.raises(ValueError, match=r"needed, but style\.safetensors is: LoRA .*Load LoRA"):
        node().execute("style.safetensors")
    pulid = {
        "image_proj.body.0.weight": torch.zeros(4, 4),
        "ip_adapter.1.to_k_ip.weight": torch.zeros(8, 2048),
    }
    save_file(pulid, folder / "ipadapter" / "pulid.safetensors")
    with pytest.raises(ValueError, match=r"pulid\.safetensors is: PuLID \(SDXL\)\. .*models/pulid"):
        node().execute("pulid.safetensors")
    cut = small("IP-Adapter")
    del cut["ip_adapter.1.to_v_ip.weight"], cut["image_proj.norm.bias"]
    save_file(cut, folder / "ipadapter" / "cut.safetensors")
    with pytest.raises(
        ValueError, match=r"it lacks image_proj\.norm\.bias, ip_adapter\.1\.to_v_ip\.weight\."
    ):
        node().execute("cut.safetensors")


def test_files_that_are_no_weights_are_refused_and_code_is_not_run(folder: Path) -> None:
    class Harm:
        def __reduce__(self) -> Any:
            return os.mkdir, (str(folder / "harm"),)

    torch.save({"image_proj": {}, "ip_adapter": Harm()}, folder / "ipadapter" / "harm.bin")
    with pytest.raises(ValueError, match="needs a readable weight file, got "):
        node().execute("harm.bin")
    assert not (folder / "harm").exists()
    (folder / "ipadapter" / "page.bin").write_text("<!DOCTYPE html>", encoding="utf-8")
    with pytest.raises(ValueError, match="which is a web page"):
        node().execute("page.bin")


def test_a_file_is_read_again_only_when_it_changes(folder: Path) -> None:
    path = folder / "ipadapter" / "a.safetensors"
    save_file(small("IP-Adapter"), path)
    before = node().fingerprint_inputs("a.safetensors")
    assert before == node().fingerprint_inputs("a.safetensors")
    os.utime(path, ns=(1, 1))
    assert before != node().fingerprint_inputs("a.safetensors")
    assert node().fingerprint_inputs("gone.bin") == ""


@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("ip_adapter_sd15", "tiller_standin_sd15"),
        ("faceid_sd15", "tiller_standin_sd15"),
        ("ip_adapter_sdxl", "tiller_standin_layers_sdxl"),
        ("ip_adapter_toy", ""),
        ("faceid_toy", ""),
    ],
)
def test_the_stand_ins_fit_the_models_of_ours(name: str, model: str) -> None:
    real.host()
    formats = importlib.import_module("tiller.adapters.image_prompt.formats")
    spec = formats.identify_adapter(standins.STANDINS[f"tiller_standin_{name}"].layout().shapes)
    is_face = name.startswith("faceid")
    assert spec.variant == ("FaceID" if is_face else "IP-Adapter")
    assert spec.lora_layers == (tuple(range(2 * len(spec.layers))) if is_face else ())
    keys = standins.STANDINS[model].layout().shapes if model else default_model_keys()
    assert len(sites_of(keys)) == len(spec.layers)


def sites_of(keys: Iterable[str]) -> list[Any]:
    sites = importlib.import_module("tiller.adapters.injection.sites")
    bare = (key.removeprefix("model.diffusion_model.").removesuffix(".weight") for key in keys)
    return sites.cross_attention_sites(bare)


def default_model_keys() -> list[str]:
    """Keys of the default model's UNet, as it is stored."""
    numpy = importlib.import_module("numpy")
    with numpy.load(real.ROOT / "default_model" / "narrow.npz") as stored:
        return [key.removeprefix("unet.") for key in stored.files]


def test_the_flux_stand_in_is_known() -> None:
    real.host()
    formats = importlib.import_module("tiller.adapters.image_prompt.formats")
    flux = formats.identify_adapter(standins.STANDINS["tiller_standin_ip_adapter_flux"].layout().shapes)
    assert (flux.variant, flux.layers, flux.tokens) == ("Flux IP-Adapter (XLabs)", (0, 1), 4)
    assert flux.embeds.encoder == "CLIP-ViT-L"
