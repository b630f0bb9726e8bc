"""One loader for every control net: what the host loads, it loads as the host does."""

import pytest
import torch
from safetensors.torch import save_file
from tiller.tests.host import inprocess as real
from tiller.tests.host.inprocess import Run

from devtools import standins


def load(path, **settings):
    real.host()
    from tiller.adapters.control.load._host import load_control

    return load_control(path, **settings)


def saved(folder, layout, name="net.safetensors"):
    """The stand-in tensors of a layout as a file."""
    path = folder / name
    save_file(standins.random_tensors(standins.Layout(layout, {})), path)
    return path


@pytest.mark.parametrize("name", ["sd15", "sdxl", "flux"])
def test_stand_in_nets_sample_as_the_hosts_own(name):
    of = real.family(name)
    stand_in = f"tiller_standin_control_{name}"
    net = load(standins.ensure_standins(real.MODELS, [stand_in])[stand_in])
    positive, negative = real.conditioning(of, 1), real.conditioning(of, 2)
    image, run = real.picture(64, 64), Run(steps=2)
    core = real.sample(of, *real.core_apply(positive, negative, of.control, image), run)
    for apply in (real.core_apply, real.tiller_apply):
        ours = real.sample(of, *apply(positive, negative, net, image), run)
        assert real.difference(core, ours) == 0.0
    assert net.identified.file == f"{stand_in}.safetensors"


def test_a_file_that_is_no_control_net_is_called_what_it_is(tmp_path):
    lora = saved(tmp_path, {"lora_unet_down_blocks_0.lora_down.weight": (8, 320)}, "style.safetensors")
    with pytest.raises(
        ValueError, match=r"needs a control net, but style\.safetensors is a LoRA .*Load LoRA"
    ):
        load(lora)
    checkpoint = standins.ensure_standins(real.MODELS, ["tiller_standin_sd15"])["tiller_standin_sd15"]
    with pytest.raises(ValueError, match=r"is a UNet checkpoint \(SD1\.5\)\. Put it into models/checkpoints"):
        load(checkpoint)


def test_an_unknown_file_is_named(tmp_path):
    path = saved(tmp_path, {"something.weight": (8, 8)}, "odd.safetensors")
    with pytest.raises(ValueError, match=r"odd\.safetensors: A checkpoint .* or a control net was needed"):
        load(path)


def test_a_pickle_is_read_with_its_inner_dictionaries(tmp_path):
    real.host()
    from tiller.adapters.control.load._host import read_weights

    path = tmp_path / "net.pth"
    torch.save({"controlnet": {"a": torch.ones(2)}, "step": 3, "b": {"c": torch.ones(1)}}, path)
    assert {key: len(value) for key, value in read_weights(path)[0].items()} == {"controlnet.a": 2, "b.c": 1}


def test_a_file_of_differences_without_a_model_is_refused(tmp_path):
    layout = standins._unet_control("control_model.", standins.SD15_UNET) | {"difference": ()}
    path = tmp_path / "diff.safetensors"
    save_file(standins.random_tensors(standins.Layout(layout, {})), path)
    with pytest.raises(ValueError, match=r"needs a model of the SD1\.5 family, got none"):
        load(path)
    with pytest.raises(
        ValueError, match=r"This control net \(diff\.safetensors\) is for SD1\.5, but the model is SDXL"
    ):
        load(path, model=real.family("sdxl").model)


def listing(name):
    import json

    text = (real.ROOT / "tests" / "shapes" / f"control_{name}.json").read_text(encoding="utf-8")
    return {
        key: torch.empty(shape, device="meta", dtype=torch.float16) for key, shape in json.loads(text).items()
    }


@pytest.fixture
def without_memory(monkeypatch):
    """The host builds its nets on the meta device, so that nets of true size cost nothing."""
    real.host()
    import comfy.model_management

    monkeypatch.setattr(comfy.model_management, "unet_offload_device", lambda: torch.device("meta"))
    from tiller.adapters.control.load import _host

    def built(weights, name="net.safetensors"):
        found = _host.identify_weights(weights, name)
        return _host._load_with_host(weights, found, None, False)

    return built


PUBLISHED = [
    "alimama_flux_inpaint",
    "alimama_sd3_inpaint",
    "diffusers_sd15",
    "diffusers_sdxl",
    "diffusers_sdxl_mid",
    "diffusers_sdxl_small",
    "instantx_flux",
    "instantx_flux_union",
    "instantx_qwen",
    "instantx_qwen_inpaint",
    "instantx_sd3",
    "union_promax_sdxl",
    "union_sdxl",
]


@pytest.mark.filterwarnings("ignore:for .*copying from a non-meta")
@pytest.mark.parametrize("name", PUBLISHED)
def test_nets_of_true_size_are_filled_without_a_rest(name, without_memory):
    net = without_memory(listing(name))
    assert net.concat_mask is (
        name in ("alimama_flux_inpaint", "alimama_sd3_inpaint", "instantx_qwen_inpaint")
    )


@pytest.mark.parametrize(
    "name", ["diffusers_sd15", "instantx_flux", "instantx_sd3", "instantx_qwen", "union_sdxl"]
)
def test_a_key_too_few_or_too_many_is_named(name, without_memory):
    weights = listing(name)
    lost = next(
        key
        for key in weights
        if key.endswith("attn.to_out.0.weight") or key.endswith("mid_block.resnets.1.conv1.weight")
    )
    too_few = {key: tensor for key, tensor in weights.items() if key != lost}
    with pytest.raises(ValueError, match=r"net\.safetensors is a .*, but it (lacks|looks)"):
        without_memory(too_few)
    with pytest.raises(ValueError, match=r"but it also has left\.over, so the net would not give"):
        without_memory({**weights, "left.over": torch.empty(3, device="meta")})


@pytest.mark.parametrize("name", ["sd15", "sdxl", "flux"])
def test_original_layouts_miss_no_key_silently(name, tmp_path):
    stand_in = f"tiller_standin_control_{name}"
    layout = standins.STANDINS[stand_in].layout().shapes
    lost = sorted(key for key in layout if key.endswith((".norm2.weight", "img_mlp.0.weight")))[0]
    short = {key: shape for key, shape in layout.items() if key != lost}
    with pytest.raises(
        ValueError, match=r"but it lacks .*(norm2|img_mlp).*would not give what it was trained"
    ):
        load(saved(tmp_path, short))
    more = {**layout, ("control_model." if name != "flux" else "") + "extra.weight": (4, 4)}
    with pytest.raises(ValueError, match=r"but it also has extra\.weight"):
        load(saved(tmp_path, more))


def test_another_network_beside_the_control_net_is_left_alone(tmp_path):
    """Files of ControlNet 1.0 hold the whole model: what is outside `control_model.` is not the net's."""
    layout = standins._unet_control("control_model.", standins.SD15_UNET)
    path = saved(tmp_path, {**layout, "first_stage_model.quant_conv.weight": (8, 8, 1, 1)})
    assert load(path).identified.kind == "ControlNet (LDM layout)"


def test_a_net_of_mixed_sizes_is_refused_with_the_hosts_words(tmp_path):
    layout = standins._unet_control("", standins.SD15_UNET)
    layout["zero_convs.1.0.weight"] = (32, 32, 1, 1)
    with pytest.raises(
        ValueError, match=r"looks like a ControlNet \(LDM layout\), but ComfyUI cannot load it"
    ):
        load(saved(tmp_path, layout))


@pytest.mark.parametrize(("choice", "on"), [("auto", False), ("on", True), ("off", False)])
def test_pooling_is_what_was_chosen(choice, on, tmp_path):
    path = saved(tmp_path, standins._unet_control("", standins.SD15_UNET))
    assert load(path, pooling=choice).global_average_pooling is on
    assert load(path, pooling=choice).copy().global_average_pooling is on


def test_pooling_by_name_is_the_hosts_and_is_said(tmp_path, caplog):
    caplog.set_level("INFO", logger="tiller")
    layout = standins._unet_control("", standins.SD15_UNET)
    path = saved(tmp_path, layout, "control_v11e_sd15_shuffle.safetensors")
    import comfy.controlnet

    net = load(path)
    assert net.global_average_pooling is comfy.controlnet.load_controlnet(str(path)).global_average_pooling
    assert "on for control_v11e_sd15_shuffle.safetensors because of its name alone" in caplog.text
    assert load(saved(tmp_path, layout, "my shuffle net.safetensors")).global_average_pooling is False
    assert "set global_average_pooling to on" in caplog.text
    assert load(path, pooling="off").global_average_pooling is False


def test_pooling_is_refused_where_there_is_none(tmp_path):
    path = saved(tmp_path, {"body.0.in_conv.weight": (80, 192, 1, 1)}, "colour.safetensors")
    with pytest.raises(ValueError, match=r"is for ControlNets, but colour\.safetensors is a T2I-Adapter"):
        load(path, pooling="on")


def test_the_node_gives_net_and_text(tmp_path, monkeypatch):
    node = real.pack_nodes("load_control")
    path = standins.ensure_standins(real.MODELS, ["tiller_standin_control_sdxl"])[
        "tiller_standin_control_sdxl"
    ]
    monkeypatch.setattr(node, "control_path", lambda name: path)
    net, text = node.TillerLoadControl.execute(control_name=path.name).args
    assert net.identified.family == "SDXL"
    assert "Kind: ControlNet (LDM layout)\nBase model: SDXL" in text


def test_the_list_is_the_hosts():
    real.host()
    import folder_paths
    from tiller.adapters.control.load._host import control_names, control_path

    assert control_names() == folder_paths.get_filename_list("controlnet")
    with pytest.raises(FileNotFoundError):
        control_path("no such file.safetensors")


class Code:
    """Runs something when it is unpickled without care."""

    def __reduce__(self):
        return (print, ("it ran",))


@pytest.mark.parametrize(
    ("name", "content", "text"),
    [
        ("empty.safetensors", b"", "which is empty: 0 bytes"),
        ("page.safetensors", b"<!DOCTYPE html><html></html>", "which is a web page"),
        ("page.pth", b"<html>404</html>", "which is a web page"),
        ("cut.safetensors", b"\x10\0\0\0\0\0\0\0{}", "which is cut off or damaged"),
        ("code.pth", {"weight": Code()}, "holds code or objects, and nothing of it was run"),
        ("list.pth", [1, 2], "but list.pth holds a list"),
    ],
)
def test_a_file_that_cannot_be_read_is_said_to_be_what_it_looks_like(tmp_path, capfd, name, content, text):
    real.host()
    from tiller.adapters.control.load._host import load_control

    path = tmp_path / name
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    with pytest.raises(ValueError, match=text) as caught:
        load_control(path)
    assert name in str(caught.value)
    assert "weights_only" not in str(caught.value)
    assert "it ran" not in capfd.readouterr().out
