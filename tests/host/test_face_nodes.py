"""Faces in the real host: packs found in its folders, opened, given up; what runs them is said."""

import gc
import importlib
import logging
import sys
import weakref
from types import SimpleNamespace

import pytest
import torch
from tiller.tests.host import inprocess as real
from tiller.tests.unit.face_networks import plain, write

from devtools import face_standins

NAME = face_standins.NAME


@pytest.fixture
def host(monkeypatch):
    """Our meeting with the host, with no progress on the way."""
    real.host()
    module = importlib.import_module("tiller.adapters.faces._host")
    importlib.import_module("comfy.model_management").unload_all_models()
    monkeypatch.setattr(module, "report_images", lambda: lambda done, total: None)
    return module


@pytest.fixture
def models(host, tmp_path, monkeypatch):
    """The host's models folder with the stand-in pack, and no other place that it knows."""
    paths = importlib.import_module("folder_paths")
    monkeypatch.setattr(paths, "models_dir", str(tmp_path / "models"))
    known = {key: value for key, value in paths.folder_names_and_paths.items() if key != host.FOLDER}
    monkeypatch.setattr(paths, "folder_names_and_paths", known)
    face_standins.ensure(tmp_path / "models")
    return tmp_path / "models"


@pytest.fixture
def opens(host, monkeypatch):
    """The names of the files that onnxruntime was asked to open."""
    asked, opening = [], host.open_session

    def spy(runtime, path, providers):
        asked.append(path.rpartition("/")[2])
        return opening(runtime, path, providers)

    monkeypatch.setattr(host, "open_session", spy)
    return asked


def load(pack=NAME, provider="auto"):
    return real.pack_nodes("faces").TillerLoadFaceAnalysis.execute(pack=pack, provider=provider).args


def analyze(analysis, image=None, **changes):
    node = real.pack_nodes("faces").TillerAnalyzeFaces
    settings = {"choice": "largest", "index": 0, "detection_size": 640, **changes}
    return node.execute(analysis, real.picture(96, 128) if image is None else image, **settings).args


def test_from_the_folder_to_the_crop(models):
    analysis, info = load()
    folder = models / "insightface/models" / NAME
    assert info.split("\n")[:3] == [
        f"{NAME} from {folder}",
        "detector: det_middle.onnx",
        "recogniser: mean_colours.onnx (a network of 0 convolutions)",
    ]
    assert "runs on CPUExecutionProvider (onnxruntime " in info
    assert info.endswith("\nlicence: the published packs of insightface are for non-commercial research only")
    faces, report, count = analyze(analysis, real.picture(96, 128, batch=2))
    assert count == 2
    assert report.count("1 face found at 640 x 640") == 2
    torch.testing.assert_close(faces.faces[0].box, torch.tensor([40.0, 24.0, 88.0, 72.0]))
    nodes = real.pack_nodes("faces")
    crop = nodes.TillerCropFace.execute(faces, size="256", template="FFHQ").args[0]
    assert crop.shape == (2, 256, 256, 3)
    assert nodes.TillerPreviewFaces.execute(faces).args[0].shape == (2, 96, 128, 3)
    assert faces.embedding(True).norm().item() == pytest.approx(1.0, abs=1e-6)


def test_packs_of_the_host_s_other_folders_are_offered(host, models, tmp_path):
    assert host.installed_packs() == [NAME, "buffalo_l", "antelopev2"]
    elsewhere = face_standins.ensure(tmp_path / "elsewhere", ["mine", "antelopev2"])
    importlib.import_module("folder_paths").add_model_folder_path("insightface", str(elsewhere))
    assert host.installed_packs() == ["antelopev2", "mine", NAME, "buffalo_l"]
    assert load("mine")[0].pack.folder == elsewhere / "models/mine"


def test_a_missing_pack_is_asked_for_with_every_place(models):
    with pytest.raises(FileNotFoundError) as caught:
        load("antelopev2")
    said = str(caught.value)
    root = models / "insightface"
    for place in ("models/antelopev2", "antelopev2", "models/antelopev2/antelopev2", "antelopev2/antelopev2"):
        assert f"{root / place} (no such folder)" in said


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "mean_colours.onnx is empty: 0 bytes"),
        (b"<!DOCTYPE html><html>Sign in</html>", "mean_colours.onnx is a web page: the page was saved"),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
            "mean_colours.onnx is a pointer of Git",
        ),
    ],
)
def test_a_file_that_is_none_is_told_with_the_reason(models, content, words):
    (models / "insightface/models" / NAME / "mean_colours.onnx").write_bytes(content)
    with pytest.raises(FileNotFoundError, match="needs a recogniser") as caught:
        load()
    assert words in str(caught.value)


def test_a_file_that_onnxruntime_refuses_is_named(host, models):
    network = plain((1, 3, 112, 112), [(1, 512)])
    network.graph.node[0].op_type = "NoSuchThing"
    folder = models / "insightface/models" / NAME
    (folder / "mean_colours.onnx").unlink()
    write(folder, odd=network)
    with pytest.raises(
        host.UnreadableWeightsError, match=r"can run, got .*odd\.onnx, which it refuses \(.*Get the pack"
    ):
        load()


def test_what_the_manager_unloads_is_gone_and_opened_again(models, opens):
    management = importlib.import_module("comfy.model_management")
    analysis, _ = load()
    first = analyze(analysis)[0].embedding(False)
    assert opens == ["det_middle.onnx", "mean_colours.onnx"]
    networks = weakref.ref(analysis.networks())
    files = (models / "insightface/models" / NAME).glob("*.onnx")
    size = sum(path.stat().st_size for path in files)
    assert [loaded.model_memory() for loaded in management.current_loaded_models] == [size]
    management.unload_all_models()
    gc.collect()
    assert networks() is None
    assert torch.equal(analyze(analysis)[0].embedding(False), first)
    assert opens == ["det_middle.onnx", "mean_colours.onnx"] * 2


def test_an_interrupt_stops_before_the_next_network_and_the_next_run_is_clean(models):
    management = importlib.import_module("comfy.model_management")
    analysis, _ = load()
    management.interrupt_current_processing(True)
    with pytest.raises(management.InterruptProcessingException):
        analyze(analysis)
    assert analyze(analysis)[2] == 1


def test_the_same_graph_gives_the_same_bits(models):
    one, two = (analyze(load()[0])[0] for _ in range(2))
    assert torch.equal(one.embedding(False), two.embedding(False))
    assert torch.equal(one.crops(224), two.crops(224))


# What runs them


def test_without_onnxruntime_the_node_says_how_to_install_it(models, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ImportError, match=r"Face analysis needs onnxruntime, got .* pip install onnxruntime"):
        load()


def test_a_provider_that_onnxruntime_lacks_is_refused_with_what_it_offers(models):
    version = importlib.import_module("onnxruntime").__version__
    with pytest.raises(ValueError) as caught:
        load(provider="DirectML")
    said = str(caught.value)
    assert said.startswith(
        f"Face analysis on DirectML needs DmlExecutionProvider, but onnxruntime {version} offers "
    )
    assert "CPUExecutionProvider here. Install the onnxruntime for it" in said
    assert load(provider="CPU")[1] == load()[1]


def test_a_provider_that_does_not_start_is_refused(host, models, monkeypatch):
    monkeypatch.setattr(host, "_providers", lambda *_: ["CPUExecutionProvider"])
    with pytest.raises(
        ValueError, match=r"shall run on CUDA, but onnxruntime .* could not start CUDAExecution"
    ):
        load(provider="CUDA")


def test_a_host_with_a_gpu_is_told_when_the_processor_runs(models, caplog, monkeypatch):
    management = importlib.import_module("comfy.model_management")
    monkeypatch.setattr(management, "get_torch_device", lambda: torch.device("cuda", 1))
    asked = []
    monkeypatch.setattr(management, "free_memory", lambda *arguments, **_: asked.append(arguments))
    with caplog.at_level(logging.WARNING, "tiller"):
        analysis, info = load()
    version = importlib.import_module("onnxruntime").__version__
    last = info.split("\n")[-1]
    assert last.startswith(
        f"Face analysis runs on the processor, though the host has a GPU: onnxruntime {version} offers "
    )
    assert last.endswith(f"pip install --force-reinstall --no-deps onnxruntime-gpu=={version} puts it back.")
    assert caplog.messages == [last]
    assert [str(device) for _, device in asked] == ["cuda:1"]
    assert analyze(analysis)[2] == 1


@pytest.mark.parametrize(
    ("choice", "device", "offered", "wanted"),
    [
        ("auto", "cuda:1", ["CUDAExecutionProvider"], [("CUDAExecutionProvider", {"device_id": 1})]),
        ("auto", "mps", ["CoreMLExecutionProvider"], []),
        ("auto", "cpu", ["CUDAExecutionProvider"], []),
        ("CUDA", "cuda:1", ["CUDAExecutionProvider"], [("CUDAExecutionProvider", {"device_id": 1})]),
        ("CUDA", "cpu", ["CUDAExecutionProvider"], ["CUDAExecutionProvider"]),
        ("ROCm", "cuda", ["MIGraphXExecutionProvider"], [("MIGraphXExecutionProvider", {"device_id": 0})]),
        ("CPU", "cuda", ["CUDAExecutionProvider"], []),
    ],
)
def test_the_provider_follows_the_choice_and_the_host_s_device(host, choice, device, offered, wanted):
    runtime = SimpleNamespace(get_available_providers=lambda: [*offered, "CPUExecutionProvider"])
    assert host._providers(runtime, choice, torch.device(device)) == [*wanted, "CPUExecutionProvider"]
