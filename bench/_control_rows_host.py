"""Rows for the control nets that the host loads: our nodes beside its own, and beside diffusers."""

from __future__ import annotations

import importlib
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from _rows import Row, host

CORE = "ComfyUI"
DIFFUSERS = "diffusers"
Measure = Callable[[], tuple[float, float]]
FAMILIES = {"SD1.5": "sd15", "SDXL": "sdxl", "Flux": "flux"}


def _files() -> Any:
    host()
    from tiller.tests.host import control_files

    return control_files


def _loaded(name: str, model: Any = None) -> tuple[Any, Any]:
    """Our net of a layout's file, and the host's."""
    files = _files()
    controlnet = importlib.import_module("comfy.controlnet")
    from tiller.adapters.control.load._host import load_control

    with tempfile.TemporaryDirectory() as folder:
        path = files.file(name, Path(folder))
        return load_control(path, model), controlnet.load_controlnet(str(path), model)


def _vae(net: Any) -> Any:
    if net.latent_format is None:
        return None
    from tiller.tests.host.test_control_kinds import latent_net

    return latent_net()[1]


def _sampling(name: str, family: str) -> Measure:
    """Our Load Control and Apply Control beside the host's loader and Apply ControlNet, two steps."""

    def measure() -> tuple[float, float]:
        real = host()
        of, run = real.family(FAMILIES[family]), real.Run(size=(8, 12), steps=2)
        ours, theirs = _loaded(name, of.model if "difference" in name else None)
        for net in (ours, theirs):
            if "Union" in name:
                net.set_extra_arg("control_type", [3])
        positive, negative = real.conditioning(of, 1), real.conditioning(of, 2)
        image, vae = real.picture(64, 96), _vae(ours)
        plain = real.sample(of, positive, negative, run)
        if "inpaint" in name:  # the mask goes through the host's own node
            mask = {"extra_concat": [torch.rand(1, 1, 64, 96, generator=torch.Generator().manual_seed(1))]}
            mine = real.core_apply(positive, negative, ours, image, vae=vae, **mask)
        else:
            mask = {}
            mine = real.tiller_apply(positive, negative, ours, image, vae=vae)
        core = real.sample(of, *real.core_apply(positive, negative, theirs, image, vae=vae, **mask), run)
        return real.difference(core, real.sample(of, *mine, run)), real.difference(core, plain)

    return measure


def _largest(one: Any, other: Any) -> tuple[float, float]:
    """Greatest difference of two rows of tensors, and greatest value of the second."""
    pairs = list(zip(one, other, strict=True))
    return max(float((a - b).abs().max()) for a, b in pairs), max(float(b.abs().max()) for _, b in pairs)


def _call(net: Any) -> list[torch.Tensor]:
    """What a net adds in one call of two rows, layer by layer."""
    generator = torch.Generator().manual_seed(2)
    copy = net.copy()
    copy.set_cond_hint(torch.rand(1, 3, 64, 64, generator=generator))
    x = torch.randn(2, 4, 8, 8, generator=generator)
    result = copy.get_control(x, torch.tensor([500.0, 500.0]), {}, 2, {})
    return [value for values in result.values() for value in values if value is not None]


def _features(name: str) -> Measure:
    def measure() -> tuple[float, float]:
        ours, theirs = _loaded(name)
        return _largest(_call(ours), _call(theirs))

    return measure


def _weights(name: str) -> Measure:
    """Every number that the two nets hold, for models that no stand-in exists of."""

    def measure() -> tuple[float, float]:
        ours, theirs = (net.control_model.state_dict() for net in _loaded(name))
        keys = [key for key in ours if not key.startswith("orig_y_embedder.")]
        return _largest([ours[key] for key in keys], [theirs[key] for key in keys])

    return measure


def _adapter_beside_diffusers(name: str, kind: str, **sizes: Any) -> Measure:
    def measure() -> tuple[float, float]:
        # multiples of 64 pixels: at others the host pads before it halves, and diffusers does not
        files, hint = _files(), torch.rand(2, 3, 64, 128, generator=torch.Generator().manual_seed(3))
        from diffusers import T2IAdapter

        channels = [files.WIDTH, 2 * files.WIDTH, 4 * files.WIDTH, 4 * files.WIDTH]
        reference = T2IAdapter(adapter_type=kind, channels=channels, **sizes)
        reference.load_state_dict(files.FILES[name]())
        ours = _loaded(name)[0].t2i_model(hint)
        found = [value for values in ours.values() for value in values[::-1] if value is not None]
        return _largest(found, reference(hint))

    return measure


def _as_residuals(found: Any) -> list[torch.Tensor]:
    return [*found["output"], *found["middle"]]


def _original_beside_diffusers() -> tuple[float, float]:
    """The layout of SD1.5, small, under the names of diffusers."""
    files = _files()
    utils = importlib.import_module("comfy.utils")
    from diffusers import ControlNetModel

    from devtools import standins

    names = utils.unet_to_diffusers({**standins.SD15_UNET, "transformer_depth_output": [1, 1, 0, 0]})
    names = {ours: theirs for theirs, ours in names.items()}
    reference = ControlNetModel(
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        block_out_channels=(320, 320),
        layers_per_block=1,
        attention_head_dim=8,
        cross_attention_dim=768,
    )
    hint = ["conv_in", *(f"blocks.{i}" for i in range(6)), "conv_out"]
    for kind in ("weight", "bias"):
        names[f"middle_block_out.0.{kind}"] = f"controlnet_mid_block.{kind}"
        names |= {f"zero_convs.{i}.0.{kind}": f"controlnet_down_blocks.{i}.{kind}" for i in range(5)}
        names |= {
            f"input_hint_block.{2 * i}.{kind}": f"controlnet_cond_embedding.{part}.{kind}"
            for i, part in enumerate(hint)
        }
    weights = files.FILES["LDM SD1.5"]()
    renamed = {names[key.removeprefix("control_model.")]: tensor for key, tensor in weights.items()}
    reference.load_state_dict(renamed)
    generator = torch.Generator().manual_seed(5)
    x, image = torch.randn(2, 4, 8, 12, generator=generator), torch.rand(2, 3, 64, 96, generator=generator)
    text, time = torch.randn(2, 16, 768, generator=generator), torch.tensor([500, 20])
    down, middle = reference(x, time, text, image, return_dict=False)
    ours = _loaded("LDM SD1.5")[0].control_model(x=x, hint=image, timesteps=time, context=text)
    return _largest(_as_residuals(ours), [*down, middle])


def _sdxl_beside_diffusers() -> tuple[float, float]:
    """The smallest published SDXL layout, at its true size."""
    files = _files()
    from diffusers import ControlNetModel
    from tiller.adapters.control.load import _host

    reference = ControlNetModel(
        down_block_types=("DownBlock2D",) * 3,
        block_out_channels=(320, 640, 1280),
        attention_head_dim=(5, 10, 20),
        cross_attention_dim=2048,
        transformer_layers_per_block=(0, 0, 0),
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=256,
        projection_class_embeddings_input_dim=2816,
    )
    weights = files.random_tensors({key: value.shape for key, value in reference.state_dict().items()})
    reference.load_state_dict(weights)
    net: Any = _host._load_with_host(weights, _host.identify_weights(weights, "small"), None, False)
    generator = torch.Generator().manual_seed(6)
    x, image = torch.randn(1, 4, 8, 8, generator=generator), torch.rand(1, 3, 64, 64, generator=generator)
    text, pooled = torch.randn(1, 16, 2048, generator=generator), torch.randn(1, 1280, generator=generator)
    sizes = torch.tensor([[64.0, 64.0, 0.0, 0.0, 64.0, 64.0]])
    added = {"text_embeds": pooled, "time_ids": sizes}
    time = torch.tensor([500])
    down, middle = reference(x, time, text, image, added_cond_kwargs=added, return_dict=False)
    y = torch.cat((pooled, reference.add_time_proj(sizes.flatten()).reshape(1, -1)), dim=1)
    ours = net.control_model(x=x, hint=image, timesteps=time, context=text, y=y)
    return _largest(_as_residuals(ours), [*down, middle])


STEPS = "two steps"
CALL = "one call of the net"
ROWS = [
    Row("ControlNet (LDM layout)", "SD1.5", STEPS, CORE, _sampling("LDM SD1.5", "SD1.5")),
    Row("ControlNet (LDM layout)", "SD1.5", CALL, DIFFUSERS, _original_beside_diffusers),
    Row("ControlNet (LDM layout)", "SDXL", STEPS, CORE, _sampling("LDM SDXL", "SDXL")),
    Row("ControlNet (diffusers layout)", "SDXL", CALL, DIFFUSERS, _sdxl_beside_diffusers),
    Row("ControlNet (difference)", "SD1.5", STEPS, CORE, _sampling("LDM difference", "SD1.5")),
    Row("Control-LoRA", "SD1.5", STEPS, CORE, _sampling("Control-LoRA", "SD1.5")),
    Row("T2I-Adapter (light, colour)", "SD1.5", CALL, CORE, _features("T2I colour")),
    Row("T2I-Adapter (full)", "SD1.5", CALL, CORE, _features("T2I full SD1.5")),
    Row("T2I-Adapter (full)", "SDXL", CALL, CORE, _features("T2I full SDXL")),
    Row(
        "T2I-Adapter (full)",
        "SD1.5",
        "the network",
        DIFFUSERS,
        _adapter_beside_diffusers("T2I diffusers SD1.5", "full_adapter"),
    ),
    Row(
        "T2I-Adapter (full)",
        "SDXL",
        "the network",
        DIFFUSERS,
        _adapter_beside_diffusers("T2I diffusers SDXL", "full_adapter_xl", downscale_factor=16),
    ),
    Row("Flux ControlNet (XLabs)", "Flux", STEPS, CORE, _sampling("Flux XLabs", "Flux")),
    Row("Flux ControlNet (MistoLine)", "Flux", STEPS, CORE, _sampling("Flux MistoLine", "Flux")),
    Row("Flux ControlNet (InstantX)", "Flux", STEPS, CORE, _sampling("Flux InstantX", "Flux")),
    Row("Flux ControlNet (InstantX Union)", "Flux", STEPS, CORE, _sampling("Flux InstantX Union", "Flux")),
    Row("Flux ControlNet (Alimama inpaint)", "Flux", STEPS, CORE, _sampling("Flux Alimama inpaint", "Flux")),
    Row("SD3 ControlNet", "SD3", "its numbers as loaded", CORE, _weights("SD3")),
    Row("SD3 ControlNet (inpaint)", "SD3", "its numbers as loaded", CORE, _weights("SD3 inpaint")),
    Row("SD3.5 ControlNet", "SD3", "its numbers as loaded", CORE, _weights("SD3.5")),
    Row("Qwen-Image ControlNet (Fun)", "Qwen-Image", "its numbers as loaded", CORE, _weights("Qwen Fun")),
]
