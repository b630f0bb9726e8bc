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
from ..window import is_outside
from . import forward
from .forward import Residuals

KEPT_SIZES = 4
"""Encodings of as many sizes are kept within a run (tiles and areas make several); the oldest goes."""

KEPT_BYTES = 64 * 2**20
"""What a unit may keep from one run to the next, in the host's memory: four hints of SDXL at 1024."""


Picture = Callable[[Size], torch.Tensor]
"""A size in pixels -> hint (B,3,H,W) in 0..1, of that size where the unit fits it itself."""


class Hint(NamedTuple):
    """A hint of a pass: its picture and how many images that has, its Union type, and its factor.

    Without a type it is what the net was set to.
    """

    picture: Picture
    images: int = 1
    type: int | None = None
    factor: float = 1.0


class Wanted(NamedTuple):
    """What an encoding was made for; the same of it gives the same encoding."""

    size: tuple[int, int]
    batch: tuple[int, int]
    dtype: torch.dtype
    weights: Any


class LdmRunner:
    """Stands in for the host's ControlNet.get_control: the same residuals, the hint encoded only once.

    It belongs to one unit, whose hints do not change. A Union net takes several of them in one pass.
    """

    def __init__(self, net: ControlNet, hints: Sequence[Hint]) -> None:
        self.net: Any = net
        self.hints = tuple(hints)
        self._kept: dict[Wanted, torch.Tensor] = {}

    def __call__(self, call: Call) -> Residuals | None:
        """Residuals of the call, strength and pooling in them; None outside the net's window."""
        net = self.net
        if is_outside(call.t, net.timestep_range):
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

    def _types(self) -> list[int]:
        types = [hint.type for hint in self.hints if hint.type is not None]
        return types or list(self.net.extra_args.get("control_type", []))

    def _guided(self, call: Call, dtype: torch.dtype) -> torch.Tensor:
        """What the hints add to the first block (1 or rows,C,h,w), encoded at the first need."""
        height, width = call.x.shape[-2:]
        rows = call.x.shape[0]
        weights = self.net.control_model_wrapped.patches_uuid
        alike = all(hint.images == 1 for hint in self.hints)
        batch = (0, 0) if alike else (rows, call.chunks)
        wanted = Wanted((height, width), batch, dtype, weights)
        guided = self._kept.pop(wanted, None)
        if guided is None:
            guided = self._encode(call, dtype)
        guided = self._kept[wanted] = guided.to(call.x.device)
        while len(self._kept) > KEPT_SIZES:
            del self._kept[next(iter(self._kept))]
        return _for_rows(guided, call)

    def _encode(self, call: Call, dtype: torch.dtype) -> torch.Tensor:
        """Encoding (1 or images,C,h,w) of the hint, or (1 or rows,C,h,w) of the hints of a Union net.

        Each image is encoded once. The hints are fused for all rows, as the host does: the rounding of
        the fusion depends on how many there are.
        """
        net = self.net.control_model
        types = self._types()
        if not types:
            return forward.encode_hint(net, self._fit(self.hints[0].picture, call, dtype))
        if len(types) != len(self.hints):
            raise ValueError(
                f"A Union control net needs one hint for each of its types, got {len(types)} types and "
                f"{len(self.hints)} hints. Give each type a control unit of its own."
            )
        encodings = [forward.encode_hint(net, self._fit(hint.picture, call, dtype)) for hint in self.hints]
        encodings = [_for_rows(encoding, call) for encoding in encodings]
        return forward.fuse_hints(net, encodings, types, [hint.factor for hint in self.hints])

    def _fit(self, picture: Picture, call: Call, dtype: torch.dtype) -> torch.Tensor:
        """The hint (1 or images,3,H,W) at the net's size: the host's own resize and centre crop."""
        ratio = self.net.compression_ratio
        size = Size(call.x.shape[-2] * ratio, call.x.shape[-1] * ratio)
        images, rows = picture(size), call.x.shape[0]
        if images.shape[0] != rows:
            images = images[: rows // call.chunks]
        algorithm = self.net.upscale_algorithm
        fitted = comfy.utils.common_upscale(images, size.width, size.height, algorithm, "center")
        return self.net.preprocess_image(fitted).to(device=call.x.device, dtype=dtype)


def _for_rows(images: torch.Tensor, call: Call) -> torch.Tensor:
    """Images (n,C,h,w) -> (1 or rows,C,h,w), the images of one conditioning again for each.

    As many images as rows are taken as they are, as the host does, though these may be several
    conditionings.
    """
    rows = call.x.shape[0]
    return images if images.shape[0] == rows else broadcast_image_to(images, rows, call.chunks)


def runner_for(net: Any, hints: Sequence[Hint]) -> LdmRunner | None:
    """A runner for a UNet control net of the host's own class; None for nets that must run themselves."""
    return LdmRunner(net, hints) if can_run(net) else None


def can_run(net: Any) -> bool:
    """Whether a net is the host's UNet control net as it is.

    Others run themselves: another class, hooks, a forward of its own, a VAE or a mask for its hint.
    """
    if type(net) is not ControlNet or type(net.control_model) is not cldm.ControlNet:
        return False
    module = net.control_model
    changed = "forward" in vars(module) or module._forward_hooks or module._forward_pre_hooks
    plain = net.latent_format is None and net.vae is None and not net.extra_concat_orig
    return plain and not changed
