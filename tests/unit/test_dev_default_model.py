"""The default model's files: expanded when they are needed, whole or not at all."""

import json
import struct
from pathlib import Path

import pytest
import torch

from default_model import expand, files
from devtools import default_model, messages, models
from devtools.environment import Environment, Places
from devtools.messages import Trouble


def write(path, metadata):
    path.parent.mkdir(parents=True, exist_ok=True)
    header = json.dumps({"__metadata__": metadata}).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header)


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An environment with a stored file, in which expanding is noted and pretended."""
    monkeypatch.setattr(files, "STORED", tmp_path / "narrow.npz")
    files.STORED.write_bytes(b"weights")
    made = Environment(Places(tmp_path), tmp_path / "python", tmp_path / "host", True)
    calls = []

    def run_logged(command, log, title, changes=None, folder=None):
        calls.append((command, folder))
        for name in default_model.NAMES:
            write(Path(command[3]) / name, files.origin(Path(command[4])))
        return 0, ""

    monkeypatch.setattr(default_model, "run_logged", run_logged)
    return made, calls


def test_the_files_are_expanded_once(here):
    environment, calls = here
    folder = default_model.ensure(environment)
    assert default_model.ensure(environment) == folder == environment.places.default_model
    assert all((folder / name).is_file() for name in default_model.NAMES)
    ((command, root),) = calls
    assert command[:3] == [environment.python, "-m", "default_model.expand"]
    assert (root / "default_model" / "expand.py").is_file()


@pytest.mark.parametrize("name", default_model.NAMES)
@pytest.mark.parametrize("change", ["missing", "broken", "other"])
def test_any_file_that_is_not_the_expanded_one_is_made_again(here, name, change):
    environment, calls = here
    path = default_model.ensure(environment) / name
    if change == "missing":
        path.unlink()
    elif change == "broken":
        path.write_bytes(b"\xff" * 12)
    else:
        write(path, {"tiller_standin": "2"})
    default_model.ensure(environment)
    assert len(calls) == 2


def test_another_stored_file_or_version_expands_again(here, monkeypatch):
    environment, calls = here
    default_model.ensure(environment)
    files.STORED.write_bytes(b"better weights")
    default_model.ensure(environment)
    assert len(calls) == 2
    monkeypatch.setattr(files, "VERSION", "another")
    default_model.ensure(environment)
    assert len(calls) == 3


def test_a_missing_stored_file_is_told(here):
    environment, calls = here
    files.STORED.unlink()
    with pytest.raises(Trouble, match=r"made from .*narrow\.npz, which is missing\. Restore it"):
        default_model.ensure(environment)
    assert not calls


@pytest.mark.parametrize(
    ("says", "sentence"),
    [
        ("Traceback\nOSError: [Errno 28] No space left on device", "is full. Free some space"),
        ("Traceback\nBadZipFile: no zip", "could not be expanded: BadZipFile: no zip Details: "),
    ],
)
def test_a_failing_expansion_is_told(here, monkeypatch, says, sentence):
    monkeypatch.setattr(default_model, "run_logged", lambda *arguments, **options: (1, says))
    with pytest.raises(Trouble) as trouble:
        default_model.ensure(here[0])
    assert sentence in str(trouble.value)


def test_a_disk_too_full_to_say_so_is_told(here, monkeypatch, tmp_path):
    (tmp_path / ".dev").mkdir()
    monkeypatch.setattr(messages, "NOTHING_LEFT", 10**18)
    monkeypatch.setattr(default_model, "run_logged", lambda *arguments, **options: (1, ""))
    with pytest.raises(Trouble, match="is full"):
        default_model.ensure(here[0])


def test_an_expanded_file_says_what_it_was_made_from(tmp_path):
    expand.save({"a": torch.ones(2)}, tmp_path / "x" / "file.safetensors", {"stored": "0123"})
    assert default_model.metadata_of(tmp_path / "x" / "file.safetensors") == {"stored": "0123"}


def test_a_half_written_file_never_appears(tmp_path, monkeypatch):
    import safetensors.torch

    def fails(tensors, path, metadata):
        Path(path).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    path = tmp_path / "file.safetensors"
    path.write_bytes(b"older")
    monkeypatch.setattr(safetensors.torch, "save_file", fails)
    with pytest.raises(OSError, match="No space"):
        expand.save({"a": torch.ones(2)}, path, {})
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("file.safetensors", b"older")]


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("control_v11p_sd15_canny_fp16.safetensors", "lines"),
        ("control_v11p_sd15s2_lineart_anime.safetensors", "lines"),
        ("control_scribble-fp16.safetensors", "lines"),
        ("control_v11p_sd15_SoftEdge.safetensors", "lines"),
        ("control_sd15_hed.safetensors", "lines"),
        ("control_v11p_sd15_mlsd.safetensors", "lines"),
        ("control_v1p_sd15_brightness.safetensors", "brightness"),
        ("illumination20000.safetensors", "brightness"),
        ("control_v1p_sd15_qrcode_monster_v2.safetensors", "brightness"),
        ("control_v11f1p_sd15_depth.safetensors", None),
        ("control_sd15_polished.safetensors", None),
        ("xinsir_canny_sdxl.safetensors", None),
        ("flux-canny.safetensors", None),
    ],
)
def test_the_default_model_takes_the_place_of_what_it_has_learned(name, part):
    found = models.substitute("controlnet", name)
    assert found == files.CONTROLS[part] if part else found.startswith("controlnet/tiller_standin_control_")


def test_recipes_get_the_default_model_under_their_names(here, monkeypatch):
    environment, _ = here
    root = environment.places.root
    recipe = {
        "1": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "v1-5.safetensors"}},
        "2": {"class_type": "ControlNetLoader", "inputs": {"control_net_name": "sd15_canny.safetensors"}},
        "3": {"class_type": "ControlNetLoader", "inputs": {"control_net_name": "xl_canny.safetensors"}},
    }
    (root / "workflows/api").mkdir(parents=True)
    (root / "workflows/api/one.json").write_text(json.dumps(recipe))
    asked = []

    def make(environment, folder, names):
        asked.append(set(names))
        for name in names:
            write(folder / models.standins.STANDINS[name].folder / f"{name}.safetensors", {"which": name})

    monkeypatch.setattr(models, "_make_standins", make)
    folder = models.ensure_standins(environment, ["tiller_standin_sd15"])
    assert asked == [{"tiller_standin_sd15", "tiller_standin_control_sdxl"}]
    default = environment.places.default_model
    pairs = {
        "checkpoints/v1-5.safetensors": default / files.CHECKPOINT,
        "controlnet/sd15_canny.safetensors": default / files.CONTROLS["lines"],
        "controlnet/xl_canny.safetensors": folder / "controlnet/tiller_standin_control_sdxl.safetensors",
        **{name: default / name for name in default_model.NAMES},
    }
    for name, source in pairs.items():
        assert (folder / name).samefile(source), name
    assert default_model.metadata_of(folder / "checkpoints/tiller_standin_sd15.safetensors") == {
        "which": "tiller_standin_sd15"
    }
