"""The nodes of motion and SparseCtrl in the host: files by their contents, errors that say what came."""

import pytest
from safetensors.torch import save_file
from tiller.tests.host import inprocess as real
from tiller.tests.host.test_sparse_control import stand_in

from devtools import standins


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """models/animatediff_models in a folder of this test."""
    real.host()
    monkeypatch.setattr("folder_paths.models_dir", str(tmp_path))
    monkeypatch.setattr("folder_paths.folder_names_and_paths", {})
    monkeypatch.setattr("folder_paths.filename_list_cache", {})
    place = tmp_path / "animatediff_models"
    place.mkdir()
    return place


def test_a_file_of_the_folder_is_listed_and_loaded(folder):
    name = "tiller_standin_motion_sd15"
    path = standins.ensure_standins(real.MODELS, [name])[name]
    (folder / path.name).write_bytes(path.read_bytes())
    (folder / "read me.txt").write_text("no weights", encoding="utf-8")
    node = real.pack_nodes("motion").TillerLoadMotion
    assert node.define_schema().inputs[0].options == [path.name]
    motion = node.execute(path.name).args[0]
    assert motion.identified.file == path.name
    assert len(motion.network.found) == 6


def test_what_is_no_motion_module_is_called_what_it_is(folder):
    node = real.pack_nodes("motion").TillerLoadMotion
    with pytest.raises(FileNotFoundError, match=r"needs the file gone\.ckpt, .* Get v3_sd15_mm\.ckpt"):
        node.execute("gone.ckpt")
    shapes = {"lora_unet_down_blocks_0.lora_down.weight": (8, 320)}
    save_file(standins.random_tensors(standins.Layout(shapes, {})), folder / "style.safetensors")
    with pytest.raises(ValueError, match=r"but style\.safetensors is a LoRA .*Load LoRA"):
        node.execute("style.safetensors")
    (folder / "net.safetensors").write_bytes(
        standins.ensure_standins(real.MODELS, ["tiller_standin_sparse_sd15"])[
            "tiller_standin_sparse_sd15"
        ].read_bytes()
    )
    with pytest.raises(ValueError, match=r"net\.safetensors is a SparseCtrl \(SD1\.5\)\. .*Load Control"):
        node.execute("net.safetensors")


def test_the_settings_go_onto_a_copy_of_the_net():
    net = stand_in()[1]
    node = real.pack_nodes("sparse_control").TillerSparseControl
    settings = {socket.id: getattr(socket, "default", None) for socket in node.define_schema().inputs}
    default = node.execute(**{**settings, "control_net": net}).args[0]
    assert default.settings == net.settings
    changed = node.execute(
        **{**settings, "control_net": net, "key_frames": "3, -1", "mask_strength": 0.5}
    ).args[0]
    assert changed is not net
    assert changed.control_model is net.control_model
    assert (changed.settings.key_frames, changed.settings.mask_strength) == ((3, -1), 0.5)
    assert changed.copy().settings == changed.settings
    assert net.settings.key_frames is None
    with pytest.raises(ValueError, match=r"needs whole numbers .* got 'x' in '1, x'"):
        node.execute(**{**settings, "control_net": net, "key_frames": "1, x"})
    other = real.family("sd15").control
    with pytest.raises(ValueError, match=r"needs a SparseCtrl net, got a ControlNet\. Load v3_sd15"):
        node.execute(**{**settings, "control_net": other})


def test_apply_motion_gives_a_model_that_samples(folder):
    of = real.family("sd15")
    name = "tiller_standin_motion_sd15"
    path = standins.ensure_standins(real.MODELS, [name])[name]
    (folder / path.name).write_bytes(path.read_bytes())
    nodes = real.pack_nodes("motion")
    motion = nodes.TillerLoadMotion.execute(path.name).args[0]
    model = nodes.TillerApplyMotion.execute(of.model, motion, 1.0, 1.0, "linear").args[0]
    run = real.Run(steps=2, batch=3)
    texts = real.conditioning(of, 1), real.conditioning(of, 2)
    moving = real.sample(of._replace(model=model), *texts, run)
    still = nodes.TillerApplyMotion.execute(of.model, motion, 0.0, 1.0, "linear").args[0]
    assert real.difference(moving, real.sample(of._replace(model=still), *texts, run)) > 1e-2
