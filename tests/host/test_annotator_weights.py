"""Annotators' weights in the real host: found, loaded safely, kept, given up, and refused with a sentence."""

import gc
import importlib
import os
import pickle
import weakref
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from tiller.tests.host import inprocess as real

from devtools import annotator_standins

NAME = "table5_pidinet.pth"
BATCH = torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def state():
    return annotator_standins.random_state("pidinet")


@pytest.fixture
def host(monkeypatch):
    """Our meeting with the host, with nothing kept from before and no progress on the way."""
    real.host()
    module = importlib.import_module("tiller.preprocessors._host")
    importlib.import_module("comfy.model_management").unload_all_models()
    module._KEPT.clear()
    monkeypatch.setattr(module, "report_images", lambda: lambda done, total: None)
    return module


@pytest.fixture
def folders(host, tmp_path, monkeypatch):
    """models, custom_nodes: empty folders of this test's own that the host looks in."""
    paths = importlib.import_module("folder_paths")
    monkeypatch.setattr(paths, "models_dir", str(tmp_path / "models"))
    monkeypatch.setattr(paths, "filename_list_cache", {})
    known = {key: value for key, value in paths.folder_names_and_paths.items() if key not in host.FOLDERS}
    known["custom_nodes"] = ([str(tmp_path / "custom_nodes")], set())
    monkeypatch.setattr(paths, "folder_names_and_paths", known)
    return tmp_path


@pytest.fixture
def loads(monkeypatch):
    """The files that the host's loader was asked for."""
    utils = importlib.import_module("comfy.utils")
    asked: list[str] = []
    load = utils.load_torch_file

    def spy(path, *arguments, **options):
        assert options.get("safe_load") is True
        asked.append(path)
        return load(path, *arguments, **options)

    monkeypatch.setattr(utils, "load_torch_file", spy)
    return asked


def put(path: Path, state) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save({"state_dict": {f"module.{key}": tensor for key, tensor in state.items()}}, path)
    return path


def pidinet(host, weights="auto"):
    networks = importlib.import_module("tiller.preprocessors.networks.pidinet")
    return host.network("pidinet", networks.PiDiNet, weights, "channels_last")


def alone(state, batch):
    """The network without the host, picture by picture."""
    network = importlib.import_module("tiller.preprocessors.networks.pidinet").PiDiNet()
    network.load_state_dict({key: tensor.float() for key, tensor in state.items()})
    with torch.inference_mode():
        return torch.cat([network(one[None]) for one in batch])


PLACES = (
    f"models/controlnet_aux/{NAME}",
    f"models/controlnet_aux/some/where/{NAME.upper()}",
    f"models/annotators/{NAME}",
    f"models/sams/{NAME}",
    f"models/depthanything/{NAME}",
    f"models/inpaint/{NAME}",
    f"custom_nodes/comfyui_controlnet_aux/ckpts/lllyasviel/Annotators/{NAME}",
    "models/controlnet_aux/table5_pidinet.safetensors",
)


@pytest.mark.parametrize("place", PLACES)
def test_a_file_is_found_by_its_name_where_people_have_it(host, folders, loads, state, place):
    path = put(folders / place, state)
    made = pidinet(host)(BATCH)
    assert [Path(one) for one in loads] == [path]
    assert (made - alone(state, BATCH)).abs().max() < 0.02
    assert made.std() > 0.05


def test_safetensors_come_before_pickled_files_and_a_chosen_file_before_both(host, folders, loads, state):
    pickled = put(folders / "models/controlnet_aux" / NAME, state)
    safe = put(folders / "models/controlnet_aux/a/table5_pidinet.safetensors", state)
    mine = put(folders / "models/annotators/mine.pt", state)
    for weights, path in (("auto", safe), (NAME, pickled), ("mine.pt", mine)):
        pidinet(host, weights)(BATCH[:1])
        assert Path(loads[-1]) == path
    assert set(host.weight_names()) == {NAME, os.path.join("a", "table5_pidinet.safetensors"), "mine.pt"}


def test_a_missing_file_is_asked_for_with_folders_page_and_licence(host, folders):
    with pytest.raises(FileNotFoundError) as caught:
        pidinet(host)(BATCH)
    said = str(caught.value)
    assert said.startswith(f"PiDiNet needs its weight file {NAME}, found none in ")
    for part in ("models/controlnet_aux", "models/annotators", "comfyui_controlnet_aux/ckpts"):
        assert str(folders / (part if "models" in part else f"custom_nodes/{part}")) in said
    assert "https://huggingface.co/lllyasviel/Annotators (licence: research only" in said
    with pytest.raises(FileNotFoundError, match=r"weight file gone\.pth, found none in"):
        pidinet(host, "gone.pth")(BATCH)


class Harmful:
    """Writes a file when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self):
        return Path.touch, (self.target,)


def harmful_pickle(path: Path, _) -> None:
    path.write_bytes(pickle.dumps({"state_dict": Harmful(path.with_name("executed"))}, protocol=2))


def harmful_archive(path: Path, _) -> None:
    torch.save({"state_dict": Harmful(path.with_name("executed"))}, path)


def truncated(share: float) -> Callable[[Path, object], None]:
    def write(path: Path, state) -> None:
        whole = put(path, state).read_bytes()
        path.write_bytes(whole[: int(len(whole) * share)])

    return write


def legacy_truncated(path: Path, state) -> None:
    torch.save(state, path, _use_new_zipfile_serialization=False)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])


BAD = {
    "zero bytes": (lambda path, _: path.write_bytes(b""), NAME, "which is empty: 0 bytes"),
    "web page": (
        lambda path, _: path.write_text("\n<!DOCTYPE html><html><body>Sign in</body></html>"),
        NAME,
        "which is a web page: the page was saved in place of the file",
    ),
    "git lfs": (
        lambda path, _: path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n"),
        NAME,
        "which is a pointer of Git LFS, not the file itself",
    ),
    "text": (lambda path, _: path.write_text("404: not here"), NAME, "which is cut off or damaged"),
    "truncated": (truncated(0.6), NAME, "which is cut off or damaged"),
    "truncated early": (truncated(0.01), NAME, "which is cut off or damaged"),
    "truncated, old format": (legacy_truncated, NAME, "which is cut off or damaged"),
    "truncated safetensors": (truncated(0.6), "table5_pidinet.safetensors", "which is cut off or damaged"),
    "pickle with code": (harmful_pickle, NAME, "it holds code or objects, and nothing of it was run"),
    "archive with code": (harmful_archive, NAME, "it holds code or objects, and nothing of it was run"),
    "TorchScript": (
        lambda path, _: torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), path),
        NAME,
        "which is a TorchScript program, not plain weights, and nothing of it was run",
    ),
    "no names": (lambda path, _: torch.save([torch.zeros(2)], path), NAME, "which is cut off or damaged"),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_file_that_is_no_weight_file_is_refused_and_never_run(host, folders, state, kind):
    write, name, words = BAD[kind]
    path = folders / "models/controlnet_aux" / name
    path.parent.mkdir(parents=True)
    write(path, state)
    with pytest.raises(host.UnreadableWeightsError) as caught:
        pidinet(host)(BATCH)
    said = str(caught.value)
    assert said.startswith(f"PiDiNet needs a readable weight file, got {path}, ")
    assert words in said
    assert said.endswith("Get table5_pidinet.pth from https://huggingface.co/lllyasviel/Annotators again, or "
                         "choose another file in weights.")  # fmt: skip
    assert not path.with_name("executed").exists()
    assert not host._KEPT


def test_another_networks_file_is_named(host, folders):
    put(folders / "models/controlnet_aux" / NAME, annotator_standins.random_state("mlsd"))
    with pytest.raises(ValueError, match=r"like those of table5_pidinet\.pth, got table5_pidinet\.pth, which "
                                         r"holds M-LSD \(mlsd_large_512_fp32\.pth\)"):  # fmt: skip
        pidinet(host)(BATCH)


def test_a_second_run_loads_nothing(host, folders, loads, state):
    put(folders / "models/controlnet_aux" / NAME, state)
    first = pidinet(host)(BATCH)
    assert torch.equal(pidinet(host)(BATCH), first)
    assert len(loads) == 1


def test_a_changed_file_is_loaded_anew(host, folders, loads, state):
    path = put(folders / "models/controlnet_aux" / NAME, state)
    first = pidinet(host)(BATCH)
    put(path, {key: tensor * 0.5 for key, tensor in state.items()})
    os.utime(path, ns=(1, 1))
    assert not torch.equal(pidinet(host)(BATCH), first)
    assert len(loads) == 2


def test_what_the_manager_unloads_is_gone_and_loaded_again(host, folders, loads, state):
    put(folders / "models/controlnet_aux" / NAME, state)
    first = pidinet(host)(BATCH)
    (patcher,) = host._KEPT.values()
    room = weakref.ref(patcher.model.init_block.weight)
    del patcher
    management = importlib.import_module("comfy.model_management")
    assert management.current_loaded_models
    management.unload_all_models()
    gc.collect()
    assert not management.current_loaded_models
    assert room() is None
    assert torch.equal(pidinet(host)(BATCH), first)
    assert len(loads) == 2


def test_a_network_unloaded_among_others_leaves_the_managers_list_whole(host, folders, state):
    for number in range(3):
        put(folders / f"models/controlnet_aux/{number}.safetensors", state)
        pidinet(host, f"{number}.safetensors")(BATCH[:1])
    management = importlib.import_module("comfy.model_management")
    gone = management.free_memory(1e30, torch.device("cpu"))
    assert len(gone) == 3
    assert not management.current_loaded_models


def test_only_a_few_networks_are_kept(host, folders, loads, state):
    for number in range(host.MOST_KEPT + 1):
        put(folders / f"models/controlnet_aux/{number}.safetensors", state)
        pidinet(host, f"{number}.safetensors")(BATCH[:1])
    assert len(host._KEPT) == host.MOST_KEPT
    pidinet(host, "1.safetensors")(BATCH[:1])
    assert len(loads) == host.MOST_KEPT + 1
    pidinet(host, "0.safetensors")(BATCH[:1])
    assert len(loads) == host.MOST_KEPT + 2


def test_every_picture_of_a_long_batch_is_told_and_equals_itself_alone(host, folders, state, monkeypatch):
    put(folders / "models/controlnet_aux" / NAME, state)
    told = []
    monkeypatch.setattr(host, "report_images", lambda: lambda done, total: told.append((done, total)))
    batch = torch.cat([BATCH, BATCH.flip(0), BATCH.flip(2)])
    made = pidinet(host)(batch)
    assert told == [(done, 9) for done in range(1, 10)]
    assert made.shape == (9, 1, 64, 64)
    assert (made - alone(state, batch)).abs().max() < 0.02
    assert torch.equal(made[4:5], pidinet(host)(batch[4:5]))


def test_a_device_takes_several_pictures_together_as_its_memory_allows(host, folders, state, monkeypatch):
    put(folders / "models/controlnet_aux" / NAME, state)
    told = []
    monkeypatch.setattr(host, "report_images", lambda: lambda done, total: told.append(done))
    monkeypatch.setattr(host.management, "is_device_cpu", lambda _: False)
    batch = torch.cat([BATCH, BATCH.flip(0), BATCH.flip(2)])
    together = pidinet(host)(batch)
    assert told == [8, 9]
    assert (together - alone(state, batch)).abs().max() < 0.02
    told.clear()
    monkeypatch.setattr(host.management, "get_free_memory", lambda *_: 6.5 * 64 * 64 * 2048)
    pidinet(host)(batch)
    assert told == [3, 6, 9]


def test_an_interrupt_stops_within_a_picture_and_the_next_run_is_clean(host, folders, loads, state):
    put(folders / "models/controlnet_aux" / NAME, state)
    management = importlib.import_module("comfy.model_management")
    networks = importlib.import_module("tiller.preprocessors.networks.pidinet")
    reached = []

    class Stopped(networks.PiDiNet):
        def __init__(self) -> None:
            super().__init__()
            self.block2_1.register_forward_hook(lambda *_: self.stop())
            self.block4_1.register_forward_hook(lambda *_: reached.append(1))

        def stop(self) -> None:
            if not reached:
                management.interrupt_current_processing(True)

    with pytest.raises(management.InterruptProcessingException):
        host.network("pidinet", Stopped)(BATCH)
    assert reached == []
    reached.append(0)
    assert torch.isfinite(host.network("pidinet", Stopped)(BATCH)).all()
    assert len(loads) == 1


def test_a_network_may_give_several_maps(host, folders, state):
    put(folders / "models/controlnet_aux" / NAME, state)
    networks = importlib.import_module("tiller.preprocessors.networks.pidinet")

    class Two(networks.PiDiNet):
        def forward(self, image):
            made = super().forward(image)
            return made, made * 2

    one, other = host.network("pidinet", Two)(BATCH)
    assert torch.equal(one * 2, other)
    assert one.shape == (3, 1, 64, 64)


def test_tensors_beside_the_batch_go_whole_along_with_each_of_its_parts(host, folders, state, monkeypatch):
    put(folders / "models/controlnet_aux" / NAME, state)
    networks = importlib.import_module("tiller.preprocessors.networks.pidinet")
    told, parts = [], []
    monkeypatch.setattr(host, "report_images", lambda: lambda done, total: told.append((done, total)))

    class Asked(networks.PiDiNet):
        def forward(self, prompts, embedding, scale):
            parts.append((len(prompts), embedding.dtype, tuple(embedding.shape)))
            return prompts * embedding.sum() * scale, prompts[:, 0]

    prompts = torch.arange(2.0 * host.MOST_AT_ONCE_BESIDE + 3)[:, None, None]
    embedding = torch.arange(6, dtype=torch.float16).reshape(1, 6, 1, 1)
    made, first = host.network("pidinet", Asked)(prompts, embedding, torch.full((1, 1), 2.0))
    assert torch.equal(made, prompts * 30.0)
    assert torch.equal(first, prompts[:, 0])
    assert parts == [(count, torch.float32, (1, 6, 1, 1)) for count in (64, 64, 3)]
    assert told == []


def test_a_network_is_built_to_the_sizes_that_the_file_has(host, folders, state):
    put(folders / "models/controlnet_aux" / NAME, state)
    networks = importlib.import_module("tiller.preprocessors.networks.pidinet")
    widths = []

    def of_size(shapes):
        widths.append(shapes["init_block.weight"][0])
        return networks.PiDiNet()

    host.network("pidinet", of_size, by_shapes=True)(BATCH)
    assert widths == [60]


def test_a_tensor_that_the_size_is_read_from_is_asked_for_by_name(host, folders, state):
    put(folders / "models/controlnet_aux" / NAME, state)

    def of_size(shapes):
        return shapes["trunk.weight"]

    with pytest.raises(ValueError, match=r"PiDiNet needs the tensors of table5_pidinet\.pth; "
                                         r"table5_pidinet\.pth lacks trunk\.weight\. Get"):  # fmt: skip
        host.network("pidinet", of_size, by_shapes=True)(BATCH)


def test_without_a_connection_everything_still_runs(host, folders, state, monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("a socket was opened")

    monkeypatch.setattr("socket.socket", refuse)
    put(folders / "models/controlnet_aux" / NAME, state)
    assert torch.isfinite(pidinet(host)(BATCH[:1])).all()
