"""The base of control nets that the host has no kind for: they patch the model for one call."""

from typing import Any

import comfy.model_management
import torch
from comfy.controlnet import ControlBase, broadcast_image_to
from comfy.model_patcher import CoreModelPatcher
from comfy.utils import common_upscale

from ...identify import Identified
from ..call import Call, Steering
from ..window import is_outside


class ModelPatchNet(ControlBase):
    """A control net that acts through the model's own patches, put into the options of a single call.

    A subclass implements `patch`. It goes wherever a control net of the host goes, the host's own Apply
    ControlNet included. `networks` are its small modules: the host loads them with the model and moves
    them away again. Copies share the networks and nothing else.
    """

    def __init__(self, identified: Identified, *networks: torch.nn.Module) -> None:
        super().__init__()
        self.identified = identified
        self.networks = networks
        device = comfy.model_management.get_torch_device()
        offload = comfy.model_management.unet_offload_device()
        self.patchers = [CoreModelPatcher(network, device, offload) for network in networks]

    def patch(self, call: Call, steering: Steering) -> None:
        """Adds what the net does to `call.options`, with `patching.add_patch` or `add_wrapper`."""
        raise NotImplementedError

    def get_control(
        self, x_noisy: torch.Tensor, t: torch.Tensor, cond: Any, batched_number: int, transformer_options: Any
    ) -> Any:
        chained: Any = self.previous_controlnet
        arguments = (x_noisy, t, cond, batched_number, transformer_options)
        previous = None if chained is None else chained.get_control(*arguments)
        if self.strength != 0 and not is_outside(t, self.timestep_range):
            self.patch(Call(*arguments), Steering(self.strength))
        return previous

    def hint(self, call: Call, ratio: int = 8) -> torch.Tensor:
        """The hint (rows,3,ratio * h,ratio * w) in 0..1 for this call, on the latent's device and type."""
        height, width = call.x.shape[-2] * ratio, call.x.shape[-1] * ratio
        if self.cond_hint is None or self.cond_hint.shape[-2:] != (height, width):
            fitted = common_upscale(self.cond_hint_original, width, height, self.upscale_algorithm, "center")
            self.cond_hint = fitted.to(call.x)
        return broadcast_image_to(self.cond_hint, call.x.shape[0], call.chunks)

    def copy(self) -> "ModelPatchNet":
        """A net of its own settings over the same networks; a subclass with more fields adds them."""
        clone: ModelPatchNet = type(self).__new__(type(self))
        ControlBase.__init__(clone)
        clone.identified, clone.networks, clone.patchers = self.identified, self.networks, self.patchers
        self.copy_to(clone)
        return clone

    def get_models(self) -> list[Any]:
        return super().get_models() + self.patchers
