"""Runs the host's UNet control nets with the hint's encoding kept: over steps, rows and samplings."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import comfy.model_base
import comfy.model_management
import comfy.utils
import torch
from comfy.cldm import cldm
from comfy.controlnet import ControlNet, broadcast_image_to

from ....preprocessors.fit import Size
from ..call import Call
from . import forward
from .forward import Residuals

KEPT_SIZES = 4
"""Encodings of as many sizes are kept within a run (tiles and areas make several); the oldest goes."""

KEPT_BYTES = 64 * 2**20
"""What a unit may keep from one run to the next, in the host's memory: four hints of SDXL at 1024."""


Picture = Callable[[Size], torch.Tensor]
"""A size in pixels -> hint (B,3,H,W) in 0..1, of that size where the unit fits it itself."""


class Hint(NamedTuple):
    """One of the hints that a Union net takes in one pass: its picture, its type, and its factor."""

    picture: Picture
    type: int
    factor: float = 1.0


class Wanted(NamedTuple):
    """What an encoding was made for; the same of it gives the same encoding."""

    size: tuple[int, int]
    images: int
    rows: int
    dtype: torch.dtype
    weights: Any


class LdmRunner:
    """Stands in for the host's ControlNet.get_control: the same residuals, the hint encoded only once.

    It belongs to one unit, whose hints do not change. With `hints` a Union net takes them all in one pass;
    without, the net's own hint is taken, and the type that the net was set to.
    """

    def __init__(self, net: ControlNet, hints: Sequence[Hint] = ()) -> None:
        self.net: Any = net
        self.hints = tuple(hints)
        self._kept: dict[Wanted, torch.Tensor] = {}

    def __call__(self, call: Call) -> Residuals | None:
        """Residuals of the call, strength and pooling in them; None outside the net's window."""
        net = self.net
        if self._is_outside(call.t[0]):
            return None
        dtype = net.control_model.dtype if net.manual_cast_dtype is None else net.manual_cast_dtype
        device = call.x.device
        context = call.cond.get("crossattn_controlnet", call.cond["c_crossattn"])
        y = call.cond.get("y") if "y" in net.extra_conds else None
        sampling = net.model_sampling_current
        own = forward.residuals(
            net.control_model,
            sampling.calculate_input(call.t, call.x).to(dtype),
            self._guided(call, dtype),
            sampling.timestep(call.t).to(dtype),
            comfy.model_management.cast_to_device(context, device, dtype),
            None if y is None else comfy.model_base.convert_tensor(y, dtype, device),
            self._types(),
        )
        return net.control_merge(own, None, None)

    def rest(self) -> None:
        """Ends a run: what is kept for the next one goes to the host's memory, as far as it is small."""
        kept, room = {}, KEPT_BYTES
        for wanted, encoding in reversed(self._kept.items()):
            room -= encoding.nbytes
            if room >= 0:
                kept[wanted] = encoding.to("cpu")
        self._kept = dict(reversed(kept.items()))

    def _is_outside(self, level: torch.Tensor) -> bool:
        """The host's own test, in the latent's precision."""
        window: Any = self.net.timestep_range
        return window is not None and bool(level > window[0] or level < window[1])

    def _types(self) -> list[int]:
        if self.hints:
            return [hint.type for hint in self.hints]
        return list(self.net.extra_args.get("control_type", []))

    def _guided(self, call: Call, dtype: torch.dtype) -> torch.Tensor:
        """What the hints add to the first block (1 or rows,C,h,w), encoded at the first need."""
        height, width = call.x.shape[-2:]
        rows = call.x.shape[0]
        weights = self.net.control_model_wrapped.patches_uuid
        wanted = Wanted((height, width), rows // call.chunks, rows if self._types() else 0, dtype, weights)
        guided = self._kept.pop(wanted, None)
        if guided is None:
            guided = self._encode(call, dtype)
        guided = self._kept[wanted] = guided.to(call.x.device)
        while len(self._kept) > KEPT_SIZES:
            del self._kept[next(iter(self._kept))]
        return broadcast_image_to(guided, rows, call.chunks)

    def _encode(self, call: Call, dtype: torch.dtype) -> torch.Tensor:
        """Encoding (1 or images,C,h,w) of the hint, or (1 or rows,C,h,w) of the hints of a Union net.

        Each image is encoded once. The hints are fused for all rows, as the host does: the rounding of
        the fusion depends on how many there are.
        """
        net, rows = self.net.control_model, call.x.shape[0]
        types = self._types()
        pictures = [hint.picture for hint in self.hints] or [lambda size: self.net.cond_hint_original]
        if not types:
            return forward.encode_hint(net, self._fit(pictures[0], call, dtype))
        if len(types) != len(pictures):
            raise ValueError(
                f"A Union control net needs one hint for each of its types, got {len(types)} types and "
                f"{len(pictures)} hints. Give each type a control unit of its own."
            )
        encodings = [forward.encode_hint(net, self._fit(picture, call, dtype)) for picture in pictures]
        encodings = [broadcast_image_to(encoding, rows, call.chunks) for encoding in encodings]
        factors = [hint.factor for hint in self.hints] or [1.0]
        return forward.fuse_hints(net, encodings, types, factors)

    def _fit(self, picture: Picture, call: Call, dtype: torch.dtype) -> torch.Tensor:
        """The hint (1 or images,3,H,W) at the net's size: the host's own resize and centre crop."""
        ratio = self.net.compression_ratio
        size = Size(call.x.shape[-2] * ratio, call.x.shape[-1] * ratio)
        images = picture(size)[: call.x.shape[0] // call.chunks]
        algorithm = self.net.upscale_algorithm
        fitted = comfy.utils.common_upscale(images, size.width, size.height, algorithm, "center")
        return self.net.preprocess_image(fitted).to(device=call.x.device, dtype=dtype)


def runner_for(net: Any, hints: Sequence[Hint] = ()) -> LdmRunner | None:
    """A runner for a UNet control net of the host's own class; None for nets that must run themselves.

    A net that was changed (another class, hooks, a forward of its own, a VAE or a mask for its hint) runs
    itself.
    """
    if type(net) is not ControlNet or type(net.control_model) is not cldm.ControlNet:
        return None
    module = net.control_model
    changed = "forward" in vars(module) or module._forward_hooks or module._forward_pre_hooks
    if changed or net.latent_format is not None or net.vae is not None or net.extra_concat_orig:
        return None
    return LdmRunner(net, hints)
