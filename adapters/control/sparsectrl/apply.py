"""SparseCtrl behind the host's control interface: residuals for every frame of a clip."""

from typing import Any

import comfy.cldm.cldm
import comfy.latent_formats
import comfy.model_management
import comfy.ops
import comfy.utils
import torch
from comfy.controlnet import ControlNet
from comfy.ldm.modules.attention import optimized_attention
from comfy.ldm.modules.diffusionmodules.openaimodel import TimestepEmbedSequential
from comfy.ldm.modules.diffusionmodules.util import timestep_embedding

from ...identify import Identified
from ...motion.network import PLAIN, Effect, Layers, MotionNetwork
from ..window import is_outside
from .frames import Clip, SparseSettings, key_positions, pictures_in
from .network import CONFIG, SparseLayout, hint_blocks, host_name, is_motion, plain_name, read_layout


class SparseNet(comfy.cldm.cldm.ControlNet):
    """The host's ControlNet with motion modules behind its input blocks, which never sees the noise."""

    def __init__(self, layout: SparseLayout, layers: Layers) -> None:
        host = {"dtype": layers.dtype, "device": layers.device, "operations": layers.kinds}
        super().__init__(**layout.config, **host)
        if layout.latent_hints:
            channels, width = layout.config["hint_channels"], layout.config["model_channels"]
            conv = layers.kinds.Conv2d(
                channels, width, 3, padding=1, dtype=layers.dtype, device=layers.device
            )
            self.input_hint_block = TimestepEmbedSequential(conv)
        self.latent_hints = layout.latent_hints
        self.motion = MotionNetwork(layout.motion, layers)
        self.motion_after = {layout.after(place): place for place in layout.motion}

    def encode(self, hint: torch.Tensor) -> torch.Tensor:
        """Hints with their mask (B,C + 1,H,W) -> (B,width,h,w), added to the first hidden values."""
        return self.input_hint_block(hint, None, None)

    def residuals(
        self,
        hint: torch.Tensor,
        timesteps: torch.Tensor,
        context: torch.Tensor,
        frames: int,
        effect: Effect = PLAIN,
    ) -> dict[str, list[torch.Tensor]]:
        """Encoded hints (rows,width,h,w), frames within, timesteps (rows,), text -> the residuals."""
        emb = timestep_embedding(timesteps, self.model_channels, repeat_only=False).to(hint.dtype)
        emb = self.time_embed(emb)
        no_noise = hint.new_zeros((hint.shape[0], self.in_channels, *hint.shape[-2:]))
        hidden = self.input_blocks[0](no_noise, emb, context) + hint
        output = [self.zero_convs[0](hidden, emb, context)]
        for index in range(1, len(self.input_blocks)):
            hidden = self.input_blocks[index](hidden, emb, context)
            if index in self.motion_after:
                hidden = self.motion.module(self.motion_after[index])(hidden, frames, effect)
            output.append(self.zero_convs[index](hidden, emb, context))
        hidden = self.middle_block(hidden, emb, context)
        return {"middle": [self.middle_block_out(hidden, emb, context)], "output": output}


class SparseControl(ControlNet):
    """A SparseCtrl net with its settings: the image batch of the apply node holds the key pictures.

    The batch of the latent is the clip. Inside the host's context windows over dimension 0 the frames keep
    their places in the whole clip.
    """

    def __init__(
        self,
        net: SparseNet | None,
        identified: Identified,
        load_device: Any = None,
        manual_cast_dtype: torch.dtype | None = None,
    ) -> None:
        latent = net is not None and net.latent_hints
        super().__init__(
            net,
            compression_ratio=1 if latent else 8,
            latent_format=comfy.latent_formats.SD15() if latent else None,
            load_device=load_device,
            manual_cast_dtype=manual_cast_dtype,
            extra_conds=[],
        )
        self.control_model: Any = net
        self.model_sampling_current: Any = None
        self.identified = identified
        self.settings = SparseSettings()
        self.vae: Any = None

    def with_settings(self, settings: SparseSettings) -> "SparseControl":
        """A copy over the same weights with other settings."""
        clone = self.copy()
        clone.settings = settings
        return clone

    def get_control(
        self, x_noisy: torch.Tensor, t: torch.Tensor, cond: Any, batched_number: int, transformer_options: Any
    ) -> Any:
        chained: Any = self.previous_controlnet
        arguments = (x_noisy, t, cond, batched_number, transformer_options)
        previous = None if chained is None else chained.get_control(*arguments)
        if is_outside(t, self.timestep_range):
            return previous
        clip = clip_of(x_noisy.shape[0] // batched_number, transformer_options)
        dtype = self.control_model.dtype if self.manual_cast_dtype is None else self.manual_cast_dtype
        pictures = self._encoded(x_noisy, dtype)
        positions = key_positions(self.settings.key_frames, len(pictures) - 1, clip.total)
        placed = pictures_in(clip, positions, self.settings.context_aware)
        per_frame = pictures[[placed.get(place, -1) for place in range(len(clip.frames))]]
        context = cond.get("crossattn_controlnet", cond["c_crossattn"])
        control = self.control_model.residuals(
            per_frame.repeat(batched_number, 1, 1, 1),
            self.model_sampling_current.timestep(t).float(),
            comfy.model_management.cast_to_device(context, x_noisy.device, dtype),
            len(clip.frames),
            Effect(self.settings.motion_strength, self.settings.motion_scale),
        )
        self._weigh(control, [place in placed for place in range(len(clip.frames))], batched_number)
        return self.control_merge(control, previous, output_dtype=None)

    def _weigh(self, control: dict[str, list[torch.Tensor]], keyed: list[bool], chunks: int) -> None:
        """Multiplies each frame's residuals, in place, by the strength of its kind."""
        settings = self.settings
        if settings.key_strength == 1.0 and settings.between_strength == 1.0:
            return
        factors = [settings.key_strength if key else settings.between_strength for key in keyed] * chunks
        for residuals in control.values():
            for residual in residuals:
                residual *= torch.tensor(factors).to(residual).view(-1, 1, 1, 1)

    def _encoded(self, x_noisy: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """The encoded pictures and, last, the encoded empty frame (K + 1,width,h,w); kept for the run."""
        if self.cond_hint is None or self.cond_hint.shape[-2:] != x_noisy.shape[-2:]:
            hint = self._hint(x_noisy).to(device=x_noisy.device, dtype=dtype)
            mask = torch.full_like(hint[:, :1], self.settings.mask_strength)
            marked = torch.cat([hint, mask], dim=1)
            empty = torch.zeros_like(marked[:1])
            self.cond_hint = self.control_model.encode(torch.cat([marked, empty]))
        return self.cond_hint

    def _hint(self, x_noisy: torch.Tensor) -> torch.Tensor:
        """The pictures at the size of the latent: pixels in 0..1, or encoded and scaled for the model."""
        ratio, vae = self.compression_ratio, self.vae
        if self.latent_format is not None:
            if vae is None:
                raise ValueError(
                    "SparseCtrl rgb reads its pictures through a VAE, but got none. Connect the VAE of the "
                    "model's checkpoint to vae."
                )
            ratio *= vae.spacial_compression_encode()
        height, width = x_noisy.shape[-2] * ratio, x_noisy.shape[-1] * ratio
        original = self.cond_hint_original
        hint = comfy.utils.common_upscale(original, width, height, self.upscale_algorithm, "center")
        if self.latent_format is None or vae is None:
            return hint
        loaded = comfy.model_management.loaded_models(only_currently_used=True)
        hint = vae.encode(hint.movedim(1, -1))
        comfy.model_management.load_models_gpu(loaded)
        return self.latent_format.process_in(hint)

    def copy(self) -> "SparseControl":
        clone = SparseControl(None, self.identified, self.load_device, self.manual_cast_dtype)
        clone.control_model = self.control_model
        clone.control_model_wrapped = self.control_model_wrapped
        clone.settings = self.settings
        self.copy_to(clone)
        return clone


def with_settings(net: Any, settings: SparseSettings) -> SparseControl:
    """The net with other settings, over the same weights. Raises ValueError for a net of another kind."""
    if not isinstance(net, SparseControl):
        known = getattr(net, "identified", None)
        what = known.kind if known is not None else type(net).__name__
        raise ValueError(
            f"Sparse Control needs a SparseCtrl net, got a {what}. Load v3_sd15_sparsectrl_rgb or "
            "v3_sd15_sparsectrl_scribble with Load Control."
        )
    return net.with_settings(settings)


def clip_of(frames: int, transformer_options: Any) -> Clip:
    """The frames of this call, by the host's context window where there is one over the batch."""
    window = transformer_options.get("context_window")
    if window is not None and window.dim == 0:
        anchor = getattr(window, "causal_anchor_index", None)
        before = () if anchor is None or anchor < 0 else (anchor,)
        shown = (*before, *window.index_list)
        if len(shown) == frames:
            return Clip(shown, window.total_frames)
    return Clip(tuple(range(frames)), frames)


def _renamed(weights: dict[str, torch.Tensor], layout: SparseLayout) -> dict[str, torch.Tensor]:
    depth = [0] * sum(count + 1 for count in layout.config["num_res_blocks"])
    names = comfy.utils.unet_to_diffusers({**layout.config, "transformer_depth_output": depth})
    blocks = hint_blocks(weights)
    renamed = {}
    for key, tensor in weights.items():
        name = f"motion.{key}" if is_motion(key) else host_name(key, names, blocks)
        renamed[name or key] = tensor
    return renamed


def load(weights: dict[str, torch.Tensor], identified: Identified) -> SparseControl:
    """The net of a SparseCtrl file.

    Raises ValueError for weights that are no such net, or with keys that it has no use for.
    """
    weights = {plain_name(key): tensor for key, tensor in weights.items()}
    weights.pop(CONFIG, None)
    layout = read_layout({key: tuple(tensor.shape) for key, tensor in weights.items()})
    device = comfy.model_management.get_torch_device()
    dtype = comfy.model_management.unet_dtype(
        supported_dtypes=[torch.float16, torch.bfloat16, torch.float32],
        weight_dtype=comfy.utils.weight_dtype(weights),
    )
    cast = comfy.model_management.unet_manual_cast(dtype, device)
    layers = Layers(
        comfy.ops.pick_operations(dtype, cast),
        optimized_attention,
        dtype,
        comfy.model_management.unet_offload_device(),
    )
    net = SparseNet(layout, layers)
    missing, unexpected = net.load_state_dict(_renamed(weights, layout), strict=False)
    if missing or unexpected:
        raise ValueError(
            f"A complete SparseCtrl net was needed, but {len(missing)} of its weights are missing "
            f"({', '.join(missing[:3]) or 'none'}) and {len(unexpected)} are not known "
            f"({', '.join(unexpected[:3]) or 'none'}). Download the file again."
        )
    return SparseControl(net, identified, device, cast)
