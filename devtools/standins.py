# ruff: noqa: TID251 (development only: builds the files with the classes of the host)
"""Small random stand-in models that the unmodified host loads: for tests, for a first try without weights.

    COMFYUI_PATH=/path/to/ComfyUI python devtools/standins.py MODELS_DIR [NAME ...]

The layouts are the host's own classes on the meta device at the smallest sizes that its model
detection accepts; the numbers are random, so a picture made with them shows nothing. What they are
good for: every node runs, finite numbers come out, and a control net changes them. Each file is
the same on every machine with the same torch: one seeded block of normals, cut per key.
"""

from __future__ import annotations

import json
import math
import os
import sys
import zlib
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

VERSION = "3"
"""Rises when a layout below changes, so that an older file of the same name is written anew."""

BLOCK = 4_194_301
"""How many normals are drawn: a prime, so that rows of a big tensor never repeat in step."""

SEED = 20
GAIN = 0.7
"""Weights have standard deviation GAIN / sqrt(fan_in): a few sampling steps stay finite."""

HINT_GAIN = 1.8
"""The same for the hint encoder of a control net: at GAIN its eight layers would all but erase the hint."""

Shapes = dict[str, tuple[int, ...]]
Numbers = dict[str, float]


class Layout(NamedTuple):
    """Tensors of one file: random ones by shape, and scalars by value; `notes` for its metadata."""

    shapes: Shapes
    scalars: Numbers
    notes: tuple[tuple[str, str], ...] = ()


SD15_UNET: dict[str, Any] = {
    "num_res_blocks": [1, 1],
    "channel_mult": [1, 1],
    "transformer_depth": [1, 0],
    "transformer_depth_middle": 1,
    "num_heads": 8,
    "num_head_channels": -1,
    "context_dim": 768,
    "use_linear_in_transformer": False,
}
SDXL_UNET: dict[str, Any] = {
    "num_res_blocks": [2, 2, 2],
    "channel_mult": [1, 1, 1],
    "transformer_depth": [0, 0, 1, 1, 2, 2],
    "transformer_depth_middle": -1,
    "num_heads": -1,
    "num_head_channels": 64,
    "context_dim": 2048,
    "use_linear_in_transformer": True,
    "adm_in_channels": 2816,
    "num_classes": "sequential",
}
FLUX: dict[str, Any] = {
    "image_model": "flux",
    "in_channels": 16,
    "out_channels": 16,
    "patch_size": 2,
    "vec_in_dim": 768,
    "context_in_dim": 4096,
    "hidden_size": 256,
    "mlp_ratio": 4.0,
    "num_heads": 2,
    "depth": 2,
    "depth_single_blocks": 2,
    "axes_dim": [16, 56, 56],
    "theta": 10000,
    "qkv_bias": True,
    "guidance_embed": True,
    "txt_ids_dims": [],
}


def _shapes(module: Any, prefix: str) -> Shapes:
    return {prefix + key: tuple(tensor.shape) for key, tensor in module.state_dict().items()}


def _unet(prefix: str, config: dict[str, Any], output_depth: list[int], in_channels: int = 4) -> Shapes:
    import torch
    from comfy import ops
    from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel

    module = UNetModel(
        image_size=32,
        in_channels=in_channels,
        out_channels=4,
        model_channels=320,
        use_spatial_transformer=True,
        legacy=False,
        transformer_depth_output=output_depth,
        dtype=torch.float32,
        device="meta",
        operations=ops.disable_weight_init,
        **config,
    )
    return _shapes(module, prefix)


def _unet_control(prefix: str, config: dict[str, Any]) -> Shapes:
    import torch
    from comfy import ops
    from comfy.cldm.cldm import ControlNet

    module = ControlNet(
        image_size=32,
        in_channels=4,
        model_channels=320,
        hint_channels=3,
        use_spatial_transformer=True,
        legacy=False,
        dtype=torch.float32,
        device="meta",
        operations=ops.disable_weight_init,
        **config,
    )
    return _shapes(module, prefix)


def _published_flux(shapes: Shapes) -> Shapes:
    """Flux files name the query and key norms `.scale`; the host's module calls them `.weight`."""
    published: Shapes = {}
    for key, shape in shapes.items():
        is_norm = key.endswith(("query_norm.weight", "key_norm.weight"))
        published[key.removesuffix("weight") + "scale" if is_norm else key] = shape
    return published


def _flux(prefix: str, control: bool) -> Shapes:
    import torch
    from comfy import ops
    from comfy.ldm.flux.controlnet import ControlNetFlux
    from comfy.ldm.flux.model import Flux

    kind = ControlNetFlux if control else Flux
    config = {key: value for key, value in FLUX.items() if not (control and key == "image_model")}
    module = kind(dtype=torch.float32, device="meta", operations=ops.disable_weight_init, **config)
    return _published_flux(_shapes(module, prefix))


def _taesd(prefix: str, channels: int) -> Shapes:
    from comfy.taesd.taesd import TAESD

    shapes = _shapes(TAESD(latent_channels=channels), prefix)
    return {key: shape for key, shape in shapes.items() if not key.endswith(("vae_scale", "vae_shift"))}


def _clip_l(prefix: str) -> Shapes:
    import comfy.clip_model
    import torch
    from comfy import ops

    folder = Path(comfy.clip_model.__file__).parent
    config = json.loads((folder / "sd1_clip_config.json").read_text(encoding="utf-8"))
    module = comfy.clip_model.CLIPTextModel(config, torch.float32, "meta", ops.disable_weight_init)
    return _shapes(module, prefix)


UNET_PREFIX = "model.diffusion_model."
OFFSET_ENDINGS = ("attn1.to_k.weight", "attn2.to_k.weight")


def _sd15(in_channels: int = 4) -> Layout:
    unet = _unet(UNET_PREFIX, SD15_UNET, [1, 1, 0, 0], in_channels)
    shapes = unet | _taesd("first_stage_model.", 4) | _clip_l("cond_stage_model.transformer.")
    return Layout(shapes, {"first_stage_model.vae_scale": 0.18215, "first_stage_model.vae_shift": 0.0})


def _sdxl() -> Layout:
    shapes = _unet(UNET_PREFIX, SDXL_UNET, [0] * 9) | _taesd("first_stage_model.", 4)
    return Layout(shapes, {"first_stage_model.vae_scale": 0.13025, "first_stage_model.vae_shift": 0.0})


def _sdxl_layers() -> Layout:
    """SDXL with a transformer in each of the eleven places of the published model, for weight types."""
    config = {**SDXL_UNET, "transformer_depth_middle": 1}
    shapes = _unet(UNET_PREFIX, config, [0, 0, 0, 1, 1, 1, 2, 2, 2]) | _taesd("first_stage_model.", 4)
    return Layout(shapes, {"first_stage_model.vae_scale": 0.13025, "first_stage_model.vae_shift": 0.0})


def _flux_checkpoint() -> Layout:
    shapes = _flux(UNET_PREFIX, control=False) | _taesd("vae.", 16)
    return Layout(shapes, {"vae.vae_scale": 0.3611, "vae.vae_shift": 0.1159})


MOTION_WIDTH = 320


def _motion_module(prefix: str, attentions: int) -> Shapes:
    """One motion module of AnimateDiff (two attentions) or SparseCtrl (one), for clips of 32 frames."""
    width, square = MOTION_WIDTH, (MOTION_WIDTH, MOTION_WIDTH)
    block = "transformer_blocks.0."
    shapes: Shapes = {"proj_in.weight": square, "proj_out.weight": square}
    shapes |= {block + "ff.net.0.proj.weight": (width * 8, width), block + "ff.net.0.proj.bias": (width * 8,)}
    shapes |= {block + "ff.net.2.weight": (width, width * 4)}
    vectors = ["norm.weight", "norm.bias", "proj_in.bias", "proj_out.bias", block + "ff.net.2.bias"]
    vectors += [block + "ff_norm.weight", block + "ff_norm.bias"]
    for number in range(attentions):
        attention = f"{block}attention_blocks.{number}."
        vectors += [
            f"{block}norms.{number}.weight",
            f"{block}norms.{number}.bias",
            attention + "to_out.0.bias",
        ]
        shapes |= {attention + f"{name}.weight": square for name in ("to_q", "to_k", "to_v", "to_out.0")}
        shapes[attention + "pos_encoder.pe"] = (1, 32, width)
    shapes |= {name: (width,) for name in vectors}
    return {f"{prefix}temporal_transformer.{key}": shape for key, shape in shapes.items()}


def _motion() -> Layout:
    """Motion modules for the stand-in of SD1.5, without one in the middle as AnimateDiff v3."""
    places = [f"down_blocks.{level}.motion_modules.0." for level in range(2)]
    places += [f"up_blocks.{level}.motion_modules.{number}." for level in range(2) for number in range(2)]
    return Layout({key: shape for place in places for key, shape in _motion_module(place, 2).items()}, {})


def _sparse_control() -> Layout:
    """A SparseCtrl net for encoded pictures (rgb) for the stand-in of SD1.5, in diffusers' names."""
    from comfy.utils import unet_to_diffusers

    unet = {**SD15_UNET, "transformer_depth_output": [0] * 4}
    names = {host: theirs for theirs, host in unet_to_diffusers(unet).items()}
    shapes: Shapes = {"controlnet_cond_embedding.weight": (320, 5, 3, 3)}
    shapes["controlnet_cond_embedding.bias"] = (320,)
    for key, shape in _unet_control("", SD15_UNET).items():
        if key.startswith("input_hint_block."):
            continue
        block, _, kind = key.rpartition(".")
        zero = f"controlnet_down_blocks.{block.split('.')[1]}" if block.startswith("zero_convs") else ""
        last = "controlnet_mid_block" if block == "middle_block_out.0" else ""
        shapes[f"{zero or last}.{kind}" if zero or last else names[key]] = shape
    for level in range(2):
        shapes |= _motion_module(f"down_blocks.{level}.motion_modules.0.", 1)
    return Layout(shapes, {})


def _offset() -> Layout:
    """Increments for a few weights of the SD1.5 stand-in."""
    unet = _unet("diffusion_model.", SD15_UNET, [1, 1, 0, 0])
    return Layout({key: shape for key, shape in unet.items() if key.endswith(OFFSET_ENDINGS)}, {})


LORA_RANK = 4
LORA_BLOCKS = {
    "sd15": ("input_blocks_1_1", 768),
    "toy": ("middle_block_1", 768),
    "sdxl": ("input_blocks_4_1", 2048),
}
"""The block that a LoRA changes, and the width of the text: SD1.5's is as wide in the published model."""


def _lora(family: str) -> Layout:
    """A LoRA of one block's attention; Flux: of two blocks' projection."""
    if family == "flux":
        modules = {f"double_blocks_{block}_img_attn_proj": (256, 256) for block in range(2)}
    else:
        block, text = LORA_BLOCKS[family]
        sides = {"attn1_to_q": 320, "attn1_to_out_0": 320, "attn2_to_k": text, "attn2_to_out_0": 320}
        modules = {f"{block}_transformer_blocks_0_{part}": (320, width) for part, width in sides.items()}
    names = {f"lora_unet_{module}": shape for module, shape in modules.items()}
    shapes: Shapes = {f"{name}.lora_up.weight": (out, LORA_RANK) for name, (out, _) in names.items()}
    shapes |= {f"{name}.lora_down.weight": (LORA_RANK, width) for name, (_, width) in names.items()}
    return Layout(shapes, {f"{name}.alpha": 1.0 for name in names})


SDXL_UNION: dict[str, Any] = {
    "num_res_blocks": [2, 2, 2],
    "channel_mult": [1, 2, 4],
    "transformer_depth": [0] * 6,
    "transformer_depth_middle": 0,
    "num_heads": -1,
    "num_head_channels": 64,
    "context_dim": 1,
    "use_linear_in_transformer": True,
    "adm_in_channels": 2816,
    "num_classes": "sequential",
}
"""The smallest SDXL control net that the host knows in diffusers' layout, the only one for Union nets."""

PROMAX_TYPES = 8


def _hint_names() -> dict[str, str]:
    """The host's name of each convolution of a hint encoder -> diffusers'."""
    names = {"input_hint_block.0": "controlnet_cond_embedding.conv_in"}
    names |= {
        f"input_hint_block.{2 * block + 2}": f"controlnet_cond_embedding.blocks.{block}" for block in range(6)
    }
    return names | {"input_hint_block.14": "controlnet_cond_embedding.conv_out"}


def _union() -> Layout:
    """A ControlNet-Union ProMax of SDXL in diffusers' names."""
    from comfy.utils import unet_to_diffusers

    unet = {**SDXL_UNION, "transformer_depth_output": [0] * 9}
    names = {
        host: theirs
        for theirs, host in unet_to_diffusers(unet).items()
        if not theirs.startswith("class_embedding.")  # another name of the same layers, in no order
    }
    hints, shapes = _hint_names(), {}
    config = {**SDXL_UNION, "union_controlnet_num_control_type": PROMAX_TYPES}
    for key, shape in _unet_control("", config).items():
        block, _, kind = key.rpartition(".")
        if block.startswith("zero_convs"):
            block = f"controlnet_down_blocks.{block.split('.')[1]}"
        elif block == "middle_block_out.0":
            block = "controlnet_mid_block"
        elif key in names:
            block = names[key].rpartition(".")[0]
        else:
            block = hints.get(block, block)
        shapes[f"{block}.{kind}" if block else kind] = shape
    return Layout({key.replace("in_proj.", "in_proj_"): shape for key, shape in shapes.items()}, {})


ADAPTER_LAYERS = {"sd15": 4, "toy": 7, "sdxl": 16}
"""Cross-attentions of the stand-in of SD1.5, of the default model and of the SDXL with eleven transformers,
all 320 wide."""

LAYER_WIDTH, FACE_WIDTH, TOKENS, LORA_RANK = 320, 512, 4, 4


def _dense(name: str, rows: int, columns: int) -> Shapes:
    return {f"{name}.weight": (rows, columns), f"{name}.bias": (rows,)}


def _norm(name: str, width: int) -> Shapes:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def _adapter_layers(base: str, text: int, rank: int = 0) -> Shapes:
    """Keys and values of an image prompt adapter; with `rank`, a LoRA at every attention."""
    shapes: Shapes = {}
    for index in range(ADAPTER_LAYERS[base]):
        for number, read in ((2 * index, LAYER_WIDTH), (2 * index + 1, text)):
            for name in ("q", "k", "v", "out") if rank else ():
                lora = f"ip_adapter.{number}.to_{name}_lora."
                shapes[lora + "down.weight"] = (rank, read if name in "kv" else LAYER_WIDTH)
                shapes[lora + "up.weight"] = (LAYER_WIDTH, rank)
        own = f"ip_adapter.{2 * index + 1}.to_"
        shapes |= {f"{own}k_ip.weight": (LAYER_WIDTH, text), f"{own}v_ip.weight": (LAYER_WIDTH, text)}
    return shapes


def _ip_adapter(base: str, text: int) -> Layout:
    """A standard IP-Adapter that reads CLIP-ViT-H's picture vector."""
    proj = _dense("image_proj.proj", TOKENS * text, 1024) | _norm("image_proj.norm", text)
    return Layout(proj | _adapter_layers(base, text), {})


def _face_id(base: str, text: int) -> Layout:
    """A FaceID adapter with its LoRA half."""
    proj = _dense("image_proj.proj.0", 2 * FACE_WIDTH, FACE_WIDTH) | _norm("image_proj.norm", text)
    proj |= _dense("image_proj.proj.2", TOKENS * text, 2 * FACE_WIDTH)
    return Layout(proj | _adapter_layers(base, text, LORA_RANK), {})


def _ip_adapter_flux() -> Layout:
    """XLabs' IP-Adapter, which reads CLIP-ViT-L's picture vector, for the stand-in of Flux."""
    width, root = FLUX["context_in_dim"], "ip_adapter_proj_model."
    shapes = _dense(root + "proj", TOKENS * width, 768) | _norm(root + "norm", width)
    for block in range(FLUX["depth"]):
        name = f"double_blocks.{block}.processor.ip_adapter_double_stream_"
        for side in "kv":
            shapes |= _dense(f"{name}{side}_proj", FLUX["hidden_size"], width)
    return Layout(shapes, {})


def _encoder(config: str) -> Layout:
    """A picture encoder of the host with two layers, the least that has a last but one."""
    import comfy.clip_model
    import torch
    from comfy import ops

    path = Path(comfy.clip_model.__file__).parent / f"clip_vision_config_{config}.json"
    described = {**json.loads(path.read_text(encoding="utf-8")), "num_hidden_layers": 2}
    module = comfy.clip_model.CLIPVisionModelProjection(
        described, torch.float32, "meta", ops.disable_weight_init
    )
    return Layout(_shapes(module, ""), {})


def _prompt() -> Layout:
    """An image prompt for standard IP-Adapters that read CLIP-ViT-H."""
    shapes: Shapes = {f"parts.0.{side}": (1, 1, 1024) for side in ("embeds", "negative")}
    notes = (("tiller", "image_prompt"), ("version", "1"), ("encoder", "CLIP-ViT-H"))
    return Layout(shapes, {}, (*notes, ("state", "image_embeds"), ("tokens", "1"), ("width", "1024")))


class StandIn(NamedTuple):
    """A stand-in: the models folder it belongs to and the layout it has.

    `pickled`: a .bin file lies beside it, nested as adapters are published in that form.
    """

    folder: str
    layout: Callable[[], Layout]
    pickled: bool = False


STANDINS: dict[str, StandIn] = {
    "tiller_standin_sd15": StandIn("checkpoints", _sd15),
    "tiller_standin_ip2p_sd15": StandIn("checkpoints", lambda: _sd15(in_channels=8)),
    "tiller_standin_sdxl": StandIn("checkpoints", _sdxl),
    "tiller_standin_layers_sdxl": StandIn("checkpoints", _sdxl_layers),
    "tiller_standin_flux": StandIn("checkpoints", _flux_checkpoint),
    "tiller_standin_control_sd15": StandIn(
        "controlnet", lambda: Layout(_unet_control("control_model.", SD15_UNET), {})
    ),
    "tiller_standin_control_sdxl": StandIn(
        "controlnet", lambda: Layout(_unet_control("control_model.", SDXL_UNET), {})
    ),
    "tiller_standin_union_sdxl": StandIn("controlnet", _union),
    "tiller_standin_sparse_sd15": StandIn("controlnet", _sparse_control),
    "tiller_standin_motion_sd15": StandIn("animatediff_models", _motion),
    "tiller_standin_offset_sd15": StandIn("loras", _offset),
    **{
        f"tiller_standin_lora_{family}": StandIn("loras", partial(_lora, family))
        for family in ("sd15", "toy", "sdxl", "flux")
    },
    "tiller_standin_control_flux": StandIn("controlnet", lambda: Layout(_flux("", control=True), {})),
    "tiller_standin_ip_adapter_sd15": StandIn("ipadapter", lambda: _ip_adapter("sd15", 768)),
    "tiller_standin_ip_adapter_toy": StandIn("ipadapter", lambda: _ip_adapter("toy", 768)),
    "tiller_standin_ip_adapter_sdxl": StandIn("ipadapter", lambda: _ip_adapter("sdxl", 2048)),
    "tiller_standin_ip_adapter_flux": StandIn("ipadapter", _ip_adapter_flux),
    "tiller_standin_faceid_sd15": StandIn("ipadapter", lambda: _face_id("sd15", 768)),
    "tiller_standin_faceid_toy": StandIn("ipadapter", lambda: _face_id("toy", 768), pickled=True),
    "tiller_standin_prompt": StandIn("image_prompts", _prompt),
    "tiller_standin_encoder_h": StandIn("clip_vision", lambda: _encoder("h")),
    "tiller_standin_encoder_l": StandIn("clip_vision", lambda: _encoder("vitl")),
}


def random_tensors(layout: Layout) -> dict[str, Any]:
    """Float16 tensors of the layout: gains 1, biases 0, the rest normal with std GAIN / sqrt(fan_in)."""
    import torch

    block = torch.randn(BLOCK, generator=torch.Generator().manual_seed(SEED)).repeat(2)
    tensors = {}
    for key, shape in layout.shapes.items():
        if len(shape) <= 1:
            is_gain = key.endswith(("weight", "scale"))
            tensors[key] = torch.full(shape, 1.0 if is_gain else 0.0, dtype=torch.float16)
            continue
        size = math.prod(shape)
        start = zlib.crc32(key.encode()) % BLOCK
        normals = block if size <= BLOCK else block.repeat(1 + size // BLOCK)
        gain = HINT_GAIN if "input_hint_block." in key else GAIN
        scaled = normals[start : start + size] * (gain / math.sqrt(math.prod(shape[1:])))
        tensors[key] = scaled.to(torch.float16).reshape(shape)
    return tensors | {key: torch.tensor(value) for key, value in layout.scalars.items()}


def metadata_of(path: Path) -> dict[str, str]:
    """What its writer noted in a safetensors file; nothing for a file that is missing or broken."""
    if not path.is_file():
        return {}
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        try:
            return json.loads(file.read(length)).get("__metadata__", {})
        except (ValueError, OverflowError):
            return {}


def is_current(path: Path) -> bool:
    """Whether the file exists and was written with the layouts of this version, as is what lies beside it."""
    known = STANDINS.get(path.stem)
    is_whole = known is None or not known.pickled or path.with_suffix(".bin").is_file()
    return is_whole and metadata_of(path).get("tiller_standin") == VERSION


def ensure_standins(models_dir: Path, names: Iterable[str] | None = None) -> dict[str, Path]:
    """Write the stand-ins that are missing into models_dir and return the path of each name.

    Needs the host on `sys.path` (its `comfy.cli_args.args.cpu` set first where there is no GPU).
    A file appears under its name only when it is complete.

    Raises ValueError for a name that is not a stand-in.
    """
    wanted = list(STANDINS) if names is None else [name.removesuffix(".safetensors") for name in names]
    unknown = [name for name in wanted if name not in STANDINS]
    if unknown:
        raise ValueError(f"A stand-in is one of {', '.join(STANDINS)}; got {', '.join(unknown)}.")
    paths = {}
    for name in wanted:
        path = models_dir / STANDINS[name].folder / f"{name}.safetensors"
        paths[name] = path
        if is_current(path):
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        _write(path, STANDINS[name])
    return paths


def _write(path: Path, standin: StandIn) -> None:
    import torch
    from safetensors.torch import save_file

    layout = standin.layout()
    tensors, part = random_tensors(layout), path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        if standin.pickled:
            nested: dict[str, dict[str, Any]] = {}
            for key, tensor in tensors.items():
                nested.setdefault(key.partition(".")[0], {})[key.partition(".")[2]] = tensor
            torch.save(nested, part)
            part.replace(path.with_suffix(".bin"))
        save_file(tensors, part, metadata={**dict(layout.notes), "tiller_standin": VERSION})
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def main(arguments: list[str]) -> int:
    """Write the named stand-ins (all of them by default) into the models folder of the first argument."""
    host = os.environ.get("COMFYUI_PATH")
    if not arguments or not host:
        print(__doc__, file=sys.stderr)
        return 2
    sys.path.insert(0, host)
    sys.argv = sys.argv[:1]
    import comfy.cli_args

    comfy.cli_args.args.cpu = True
    for name, path in ensure_standins(Path(arguments[0]), arguments[1:] or None).items():
        print(f"{name}: {path} ({path.stat().st_size / 1e6:.1f} MB)")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
