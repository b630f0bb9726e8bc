"""DWPose in the real host: its ONNX files found, checked, kept and given up; what runs them is said."""

import gc
import importlib
import logging
import os
import sys
import weakref
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tiller.preprocessors.sessions.runtime import fitting_providers
from tiller.tests.host import inprocess as real
from tiller.tests.unit.onnx_networks import constant, detections

from devtools import onnx_standins

DETECTOR, POSE = "yolox_l.onnx", "dw-ll_ucoco_384.onnx"
OPTIONS = {"body": True, "hands": True, "face": True, "scale_limbs": False, "resolution": 128}
PAGE = "https://huggingface.co/yzd-v/DWPose"


@pytest.fixture
def host(monkeypatch):
    """Our meeting with the host, with no session kept from before and no progress on the way."""
    real.host()
    module = importlib.import_module("tiller.preprocessors.pose._host")
    importlib.import_module("comfy.model_management").unload_all_models()
    module._KEPT.clear()
    node = real.pack_nodes("hints_pose")
    monkeypatch.setattr(node, "report_images", lambda: lambda done, total: None)
    return module


@pytest.fixture
def folder(host, tmp_path, monkeypatch):
    """models/controlnet_aux with the stand-ins, the only such folder that the host knows."""
    paths = importlib.import_module("folder_paths")
    names = importlib.import_module("tiller.preprocessors._host").FOLDERS
    monkeypatch.setattr(paths, "models_dir", str(tmp_path / "models"))
    monkeypatch.setattr(paths, "filename_list_cache", {})
    known = {key: value for key, value in paths.folder_names_and_paths.items() if key not in names}
    known["custom_nodes"] = ([str(tmp_path / "custom_nodes")], set())
    monkeypatch.setattr(paths, "folder_names_and_paths", known)
    return onnx_standins.ensure(tmp_path / "models")


@pytest.fixture
def opens(monkeypatch):
    """The names of the files that onnxruntime was asked to open."""
    runtime = importlib.import_module("onnxruntime")
    asked, session = [], runtime.InferenceSession

    def spy(path, *arguments, **options):
        asked.append(os.path.basename(path))
        return session(path, *arguments, **options)

    monkeypatch.setattr(runtime, "InferenceSession", spy)
    return asked


def run(detector="auto", weights="auto", batch=1, **changes):
    node = real.pack_nodes("hints_pose").TillerDWPose
    image = real.picture(96, 128, batch=batch)
    return node.execute(image, detector=detector, weights=weights, **{**OPTIONS, **changes}).args


def test_the_hint_and_the_key_points_agree(folder):
    hint, keypoints = run(batch=2, resolution=192)
    assert hint.shape == (2, 192, 256, 3)
    assert [len(entry["people"]) for entry in keypoints] == [2, 2]
    parts = {key: value for key, value in OPTIONS.items() if key != "resolution"}
    again = real.pack_nodes("pose").TillerDrawPose.execute(
        json_text="", keypoints=keypoints, resolution=0, min_score=0.3, **parts
    )
    assert torch.equal(again.args[0], hint)
    sdpose = importlib.import_module("comfy_extras.nodes_sdpose")
    theirs = sdpose.SDPoseDrawKeypoints.execute(keypoints, True, True, True, False, 4, 3, 0.3, True).args[0]
    assert torch.equal(theirs.amax(-1) > 0, hint.amax(-1) > 0)


VARIANTS = {
    "openpose": (True, False, False),
    "openpose_hand": (True, True, False),
    "openpose_face": (True, False, True),
    "openpose_faceonly": (False, False, True),
    "dw_openpose_full": (True, True, True),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_switches_draw_the_web_uis_variants(folder, variant):
    """Each is the parts drawn one over the other, person by person, on what the full one finds."""
    body, hands, face = VARIANTS[variant]
    hint, keypoints = run(body=body, hands=hands, face=face)
    _, full = run()
    assert keypoints == full
    for switch, key in ((body, "pose"), (hands, "hand_left"), (hands, "hand_right"), (face, "face")):
        if not switch:
            for person in (person for entry in full for person in entry["people"]):
                person[f"{key}_keypoints_2d"] = []
    drawn = real.pack_nodes("pose").TillerDrawPose.execute(
        json_text="", keypoints=full, resolution=0, min_score=0.3, body=True, hands=True, face=True,
        scale_limbs=False,
    )  # fmt: skip
    assert torch.equal(drawn.args[0], hint)
    assert hint.any()


def test_a_second_run_opens_nothing(folder, opens):
    first, _ = run()
    assert opens == [DETECTOR, POSE]
    assert torch.equal(run()[0], first)
    assert len(opens) == 2


def test_a_changed_file_is_opened_anew(folder, opens):
    run()
    os.utime(folder / POSE, ns=(1, 1))
    run()
    assert opens == [DETECTOR, POSE, POSE]


def test_at_most_two_sessions_are_kept(host, folder, opens):
    (folder / "other.onnx").write_bytes((folder / POSE).read_bytes())
    run()
    gone = weakref.ref(next(iter(host._KEPT.values())).model.session)
    run(weights="other.onnx")
    gc.collect()
    assert len(host._KEPT) == host.MOST_KEPT == 2
    assert gone() is not None, "the detector was just used"
    run(weights=POSE)
    assert opens == [DETECTOR, POSE, "other.onnx", POSE]


@pytest.mark.parametrize("how", ["unload_all_models", "free_memory"])
def test_what_the_manager_unloads_is_gone_and_opened_again(host, folder, opens, how):
    first, _ = run()
    sessions = [weakref.ref(patcher.model.session) for patcher in host._KEPT.values()]
    management = importlib.import_module("comfy.model_management")
    sizes = {loaded.model_memory() for loaded in management.current_loaded_models}
    assert sizes == {(folder / name).stat().st_size for name in (DETECTOR, POSE)}
    if how == "free_memory":
        management.free_memory(1e30, torch.device("cpu"))
    else:
        management.unload_all_models()
    gc.collect()
    assert not management.current_loaded_models
    assert [session() for session in sessions] == [None, None]
    assert torch.equal(run()[0], first)
    assert opens == [DETECTOR, POSE] * 2


def test_nobody_in_the_picture_opens_the_detector_alone(folder, opens):
    constant(folder / "blind.onnx", output=detections())
    hint, keypoints = run(detector="blind.onnx")
    assert not hint.any()
    assert keypoints == [{"people": [], "canvas_height": 128, "canvas_width": 171}]
    assert opens == ["blind.onnx"]


def test_an_interrupt_stops_before_the_next_network_and_the_next_run_is_clean(folder, opens):
    management = importlib.import_module("comfy.model_management")
    management.interrupt_current_processing(True)
    with pytest.raises(management.InterruptProcessingException):
        run()
    assert opens == [DETECTOR]
    assert run()[0].any()


def test_without_a_connection_everything_still_runs(folder, monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("a socket was opened")

    monkeypatch.setattr("socket.socket", refuse)
    assert run()[0].any()


# Files that will not do


def test_a_missing_file_is_asked_for_with_folder_page_and_licence(folder):
    (folder / POSE).unlink()
    with pytest.raises(FileNotFoundError) as caught:
        run()
    said = str(caught.value)
    assert said.startswith(f"DWPose needs its weight file {POSE}, found none in {folder}")
    assert said.endswith(f"Get {POSE} from {PAGE} (licence: Apache-2.0) and put it into {folder}.")


def test_a_torchscript_file_in_its_place_is_named(folder):
    """The file that comfyui_controlnet_aux takes by default."""
    (folder / POSE).unlink()
    (folder / "dw-ll_ucoco_384_bs5.torchscript.pt").write_bytes(b"x")
    (folder / "yolox_l.safetensors").write_bytes(b"x")
    with pytest.raises(FileNotFoundError) as caught:
        run()
    assert caught.value.remedy.startswith(f"Get {POSE} from {PAGE}")
    assert str(caught.value).endswith(
        f"into {folder}. dw-ll_ucoco_384_bs5.torchscript.pt is TorchScript, which Tiller does not read."
    )


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


BAD = {
    "truncated": (cut, "which is cut off, damaged or no ONNX file"),
    "zero bytes": (lambda path: path.write_bytes(b""), "which is empty: 0 bytes"),
    "web page": (
        lambda path: path.write_text("<!DOCTYPE html><html>Sign in</html>"),
        "which is a web page: the page was saved in place of the file",
    ),
    "text": (lambda path: path.write_text("404: not here"), "which is cut off, damaged or no ONNX file"),
    "git lfs": (
        lambda path: path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n"),
        "which is a pointer of Git LFS, not the file itself",
    ),
    "pickle": (
        lambda path: torch.save({"a": torch.zeros(2)}, path),
        "which is cut off, damaged or no ONNX file",
    ),
}


@pytest.mark.parametrize("name", [DETECTOR, POSE])
@pytest.mark.parametrize("kind", BAD)
def test_a_file_that_is_no_onnx_file_is_refused(host, folder, kind, name):
    write, words = BAD[kind]
    write(folder / name)
    with pytest.raises(host.UnreadableWeightsError) as caught:
        run()
    said = str(caught.value)
    title = {DETECTOR: "DWPose's person detector", POSE: "DWPose"}[name]
    assert said.startswith(f"{title} needs a readable ONNX file, got {folder / name}, {words}")
    widget = {DETECTOR: "detector", POSE: "weights"}[name]
    assert said.endswith(f"Get {name} from {PAGE} again, or choose another file in {widget}.")
    assert name not in [os.path.basename(source.path) for source in host._KEPT]


def test_the_two_files_exchanged_are_named(folder):
    with pytest.raises(ValueError, match=r"got dw-ll_ucoco_384\.onnx, which holds DWPose \(dw-ll_ucoco_384"):
        run(detector=POSE, weights=DETECTOR)


def test_a_foreign_network_is_refused_with_what_it_takes_and_gives(folder):
    constant(folder / "mine.onnx", (1, 3, 224, 224), logits=np.zeros((1, 1000)))
    with pytest.raises(ValueError, match=r"got mine\.onnx: it takes images \(1, 3, 224, 224\) tensor\(float"
                                         r"\) and gives logits \(1, 1000\)"):  # fmt: skip
        run(detector="mine.onnx")


# What runs them


def test_without_onnxruntime_the_node_says_how_to_install_it(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ImportError) as caught:
        run()
    said = str(caught.value)
    assert said.startswith("DWPose needs onnxruntime, got ")
    assert "pip install onnxruntime (for the processor) or pip install onnxruntime-gpu (for NVIDIA)" in said


def test_the_provider_is_told_once_per_file(folder, caplog):
    with caplog.at_level(logging.INFO, "tiller"):
        run()
        run()
    assert caplog.messages == [
        f"Loaded DWPose's person detector from {folder / DETECTOR}; it runs on CPUExecutionProvider.",
        f"Loaded DWPose from {folder / POSE}; it runs on CPUExecutionProvider.",
    ]


def test_a_host_with_a_gpu_is_warned_when_the_processor_runs(host, folder, caplog, monkeypatch):
    """The host's device is another; the sessions still run here, on the processor."""
    management = importlib.import_module("comfy.model_management")
    monkeypatch.setattr(management, "get_torch_device", lambda: torch.device("cuda", 1))
    times = importlib.import_module("tiller.preprocessors.sessions._host").WORKING_TIMES
    asked = []
    monkeypatch.setattr(management, "free_memory", lambda *arguments, **_: asked.append(arguments))
    with caplog.at_level(logging.WARNING, "tiller"):
        assert run()[0].any()
    assert [str(device) for _, device in asked] == ["cuda:1", "cuda:1"]
    assert [needed for needed, _ in asked] == [
        times * (folder / name).stat().st_size for name in (DETECTOR, POSE)
    ]
    version = importlib.import_module("onnxruntime").__version__
    assert len(caplog.messages) == 2
    assert caplog.messages[1].startswith(
        f"DWPose runs on the processor, though the host has a GPU: onnxruntime {version} offers "
    )
    assert caplog.messages[1].endswith(
        f"pip install --force-reinstall --no-deps onnxruntime-gpu=={version} puts it back."
    )


@pytest.mark.parametrize(
    ("device", "offered", "wanted"),
    [
        (
            "cuda:1",
            ["TensorrtExecutionProvider", "CUDAExecutionProvider"],
            [("CUDAExecutionProvider", {"device_id": 1})],
        ),
        ("cuda", ["ROCMExecutionProvider"], [("ROCMExecutionProvider", {"device_id": 0})]),
        ("cuda", ["AzureExecutionProvider"], []),
        ("mps", ["CoreMLExecutionProvider"], ["CoreMLExecutionProvider"]),
        ("cpu", ["CUDAExecutionProvider"], []),
    ],
)
def test_the_provider_follows_the_hosts_device(device, offered, wanted):
    runtime = SimpleNamespace(get_available_providers=lambda: [*offered, "CPUExecutionProvider"])
    assert fitting_providers(runtime, torch.device(device)) == [*wanted, "CPUExecutionProvider"]
