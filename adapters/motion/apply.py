"""Puts AnimateDiff motion modules between the blocks of a model, by the model's own patches."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import comfy.model_management
import comfy.ops
import comfy.utils
import torch
from comfy.ldm.modules.attention import SpatialTransformer, optimized_attention
from comfy.ldm.modules.diffusionmodules.openaimodel import ResBlock, forward_timestep_embed
from comfy.model_patcher import CoreModelPatcher
from comfy.model_sampling import ModelSamplingDiscrete

from ..identify import Identified
from .network import Effect, Layers, MotionModule, MotionNetwork, Place, Sizes, places

BetaSchedule = Literal["linear", "model"]
BETA_SCHEDULES: tuple[BetaSchedule, ...] = get_args(BetaSchedule)

KEY = "tiller_motion"
PATCH = "forward_timestep_embed_patch"
CONFIG = "animatediff_config"

Block = tuple[str, int]
"""The host's name of a block: input, middle or output, and its number."""


@dataclass(frozen=True, eq=False)
class Motion:
    """Loaded motion modules: what they are, the network, and the host's handle that moves it."""

    identified: Identified
    network: MotionNetwork
    patcher: CoreModelPatcher


def load(weights: dict[str, torch.Tensor], identified: Identified) -> Motion:
    """The motion modules of a file.

    Raises ValueError for weights that are no motion modules of AnimateDiff v2 or v3, for missing weights
    and for keys that there is no use for.
    """
    weights = {key.removeprefix("module."): tensor for key, tensor in weights.items()}
    weights.pop(CONFIG, None)
    found = places({key: tuple(tensor.shape) for key, tensor in weights.items()})
    check_version(found)
    device = comfy.model_management.get_torch_device()
    dtype = comfy.model_management.unet_dtype(
        supported_dtypes=[torch.float16, torch.bfloat16, torch.float32],
        weight_dtype=comfy.utils.weight_dtype(weights),
    )
    offload = comfy.model_management.unet_offload_device()
    network = MotionNetwork(found, Layers(comfy.ops.manual_cast, optimized_attention, dtype, offload))
    missing, unexpected = network.load_state_dict(weights, strict=False)
    if missing or unexpected:
        raise ValueError(
            f"Complete motion modules were needed, but {len(missing)} of their weights are missing "
            f"({', '.join(missing[:3]) or 'none'}) and {len(unexpected)} are not known "
            f"({', '.join(unexpected[:3]) or 'none'}). Download the file again."
        )
    return Motion(identified, network, CoreModelPatcher(network, device, offload))


def check_version(found: Mapping[Place, Sizes]) -> None:
    """Raises ValueError for the modules of AnimateDiff v1 and of nets other than a UNet of SD1.5."""
    sides = {place.side for place in found}
    if not {"down_blocks", "up_blocks"} <= sides:
        raise ValueError(
            "Motion modules for both halves of a UNet were needed, but the file has them for "
            f"{', '.join(sorted(sides)) or 'none'} alone. A SparseCtrl net goes into Load Control."
        )
    if "mid_block" not in sides and min(sizes.frames for sizes in found.values()) < 32:
        raise ValueError(
            "Motion modules of AnimateDiff v2 or v3 for SD1.5 were needed, but these look like v1: 24 "
            "positions and no module in the middle. v1 also changes the norms of the UNet, which Tiller does "
            "not. Get mm_sd_v15_v2 or v3_sd15_mm."
        )


class Injection:
    """Runs each motion module behind the last layer of its block that keeps the size."""

    def __init__(self, after: Mapping[Block, tuple[type, MotionModule]], effect: Effect) -> None:
        self.after = after
        self.effect = effect

    def __call__(
        self, layer: Any, x: torch.Tensor, emb: Any, context: Any, options: dict[str, Any], *more: Any
    ) -> torch.Tensor:
        """The host's call of one layer: first as without us, other packs' handlers included, then motion."""
        patches = options["patches"]
        others = [entry for entry in patches[PATCH] if entry[1] is not self]
        inner = {**options, "patches": {**patches, PATCH: others}}
        x = forward_timestep_embed([layer], x, emb, context, inner, *more)
        if "transformer_index" in inner:
            options["transformer_index"] = inner["transformer_index"]
        found = self.after.get(options.get("block", ("", 0)))
        if found is None or not isinstance(layer, found[0]):
            return x
        return found[1](x, x.shape[0] // len(options["cond_or_uncond"]), self.effect)


def block_of(place: Place, found: Mapping[Place, Sizes]) -> Block:
    """The host's block that the module of a place comes after."""
    if place.side == "mid_block":
        return "middle", 0
    before = sum(other.side == place.side and other.level < place.level for other in found)
    if place.side == "up_blocks":
        return "output", before + place.number
    return "input", 1 + before + place.level + place.number


def _blocks(unet: Any) -> dict[Block, Any]:
    sides = {"input": unet.input_blocks, "middle": [unet.middle_block], "output": unet.output_blocks}
    return {(name, number): block for name, side in sides.items() for number, block in enumerate(side)}


def _after(unet: Any, network: MotionNetwork) -> dict[Block, tuple[type, MotionModule]]:
    """Block -> the kind of its layer that motion follows, and the module.

    Raises ValueError when the modules are made for a UNet of another build.
    """
    blocks = _blocks(unet)
    after: dict[Block, tuple[type, MotionModule]] = {}
    for place, module in network:
        name = block_of(place, network.found)
        layers = list(blocks.get(name, ()))
        kind = SpatialTransformer if any(isinstance(one, SpatialTransformer) for one in layers) else ResBlock
        width = next((one.out_channels for one in layers if isinstance(one, ResBlock)), None)
        if width != module.sizes.width:
            raise ValueError(
                f"These motion modules are made for another UNet: {place.side} {place.level}.{place.number} "
                f"has {module.sizes.width} channels, and the model's {name[0]} block {name[1]} has "
                f"{'none' if width is None else width}. Use a model of the SD1.5 family."
            )
        after[name] = (kind, module)
    return after


def _linear_sampling(model: Any) -> Any:
    """The model's way from steps to noise levels, over betas that grow evenly, as AnimateDiff was trained."""
    current: Any = model.get_model_object("model_sampling")
    if not issubclass(type(current), ModelSamplingDiscrete) or current.sigmas.shape[0] != 1000:
        raise ValueError(
            "The linear beta schedule needs a model with 1000 noise levels, but this one has another "
            "sampling. Set beta_schedule to model, or take off what changes the model's sampling."
        )
    sampling: Any = type(current)(model.model.model_config)
    sampling._register_schedule(
        beta_schedule="sqrt_linear",
        timesteps=1000,
        linear_start=0.00085,
        linear_end=0.012,
        zsnr=getattr(current, "zsnr", False),
    )
    return sampling


def apply_motion(model: Any, motion: Motion, effect: Effect, beta_schedule: BetaSchedule) -> Any:
    """A clone of the model that treats the batch of the latent as the frames of one clip.

    `beta_schedule` "linear" gives the clone the noise levels that AnimateDiff was trained with, "model"
    leaves them. Strength 0 leaves the motion out.

    Raises ValueError for a model that is no UNet of SD1.5, or that has motion modules already.

    Source: guoyww/AnimateDiff: animatediff/models/unet_blocks.py (where the modules sit),
    configs/inference/inference-v2.yaml and -v3.yaml (noise_scheduler_kwargs).
    """
    unet = model.model.diffusion_model
    if not hasattr(unet, "input_blocks") or not hasattr(unet, "output_blocks"):
        raise ValueError(
            f"Motion modules need a UNet of the SD1.5 family, got a {type(unet).__name__}. Connect the model "
            "of an SD1.5 checkpoint."
        )
    if model.get_additional_models_with_key(KEY):
        raise ValueError("This model has motion modules already. Apply Motion needs the model without them.")
    injection = Injection(_after(unet, motion.network), effect)
    clone = model.clone()
    patches = clone.model_options["transformer_options"].setdefault("patches", {})
    own = [(SpatialTransformer, injection), (ResBlock, injection)]
    patches[PATCH] = [*own, *patches.get(PATCH, ())]
    clone.set_additional_models(KEY, [motion.patcher])
    if beta_schedule == "linear":
        clone.add_object_patch("model_sampling", _linear_sampling(model))
    return clone
