"""Runs ControlNet-XS's thin encoder beside the model's own, block by block, in one call of the model.

In each place ControlNet-XS comes after what residuals (a ControlNet, a T2I-Adapter) add there, and reads it.
"""

from __future__ import annotations

from typing import Any, cast

import comfy.ops
import torch
import torch.nn.functional as F
from comfy.controlnet import broadcast_image_to
from comfy.ldm.modules.attention import optimized_attention
from comfy.ldm.modules.diffusionmodules.util import timestep_embedding
from torch import Tensor

from ...identify import Identified
from .._host import check_family
from ..call import Call, Steering
from ..patches.apply import ModelPatchNet
from ..patching import add_patch, add_wrapper
from .blocks import join
from .network import TwoStream, build


class Streams:
    """The control's stream through one call; `places` are the rows that it steers, and that it runs for."""

    def __init__(self, net: XSNet, call: Call, steering: Steering, places: Tensor) -> None:
        self.network, self.steering = net.network, steering
        self.is_whole = len(places) == call.x.shape[0]
        self.places = places.to(call.x.device)
        self.hint = self._of_rows(broadcast_image_to(net.guidance(call), call.x.shape[0], call.chunks))
        self.factors = net.factors(steering)
        self.stored: list[Tensor] = []
        self.x: Any = None
        self.times: Any = None
        self.context: Any = None
        self.pooled: Tensor | None = None

    def _of_rows(self, values: Tensor) -> Tensor:
        return values if self.is_whole or values.shape[0] == 1 else values[self.places]

    def around(self, executor: Any, *args: Any, **kwargs: Any) -> Any:
        """The host's wrapper of the model: takes what the blocks need."""
        self.x, self.times, self.context, pooled = (*args, None, None)[:4]
        self.pooled = None if pooled is None else executor.class_obj.label_emb(pooled)
        return executor(*args, **kwargs)

    def embed(self, base: Tensor, channels: int, options: dict[str, Any]) -> Tensor:
        """The host's patch of the time embedding, which size and pooled text are added to afterwards."""
        time = timestep_embedding(self.times, channels).to(base.dtype)
        own = self.network.embedding(self._of_rows(time), self._of_rows(base), self.steering.strength)
        self.embedding = own if self.pooled is None else own + self._of_rows(self.pooled)
        self.text = self._of_rows(self.context)
        if self.is_whole or self.network.control_model.time_embed is None:
            return own if self.is_whole else base
        result = base.clone()
        result[self.places] = own
        return result

    def encode(self, base: Tensor, options: dict[str, Any]) -> Tensor:
        """The host's patch behind each input block, before its values are stored for the decoder."""
        index, network = options["block"][1], self.network
        if index == 0:
            self.control = self._of_rows(self.x)[:, : network.channels]
        own = network.control_model.input_blocks[index](self.control, self.embedding, self.text)
        own = join(own, base.shape[-2:])
        if index == 0:
            own = own + join(self.hint.to(own), own.shape[-2:])
        self.stored.append(own)
        base = self._steered(base, network.enc_zero_convs_out[index], own, index)
        self.control = torch.cat([own, network.enc_zero_convs_in[index](self._of_rows(base))], 1)
        return base

    def middle(self, arguments: dict[str, Any]) -> dict[str, Any]:
        """The host's patch behind the middle block."""
        network = self.network
        own = network.control_model.middle_block(self.control, self.embedding, self.text)
        base = self._steered(arguments["h"], network.middle_block_out, own, network.depth)
        return {**arguments, "h": base}

    def decode(self, base: Tensor, skip: Tensor, options: dict[str, Any]) -> tuple[Tensor, Tensor]:
        """The host's patch before each output block reads what the encoder stored."""
        index, network = options["block"][1], self.network
        place = network.depth + 1 + index
        return self._steered(base, network.dec_zero_convs_out[index], self.stored.pop(), place), skip

    def _steered(self, base: Tensor, conv: torch.nn.Module, own: Tensor, place: int) -> Tensor:
        """The model's values with conv(own) on the steered rows, by the factor of the place."""
        if self.factors[place] == 0:
            return base
        added = join(conv(own), base.shape[-2:]) * self.factors[place]
        if self.steering.mask is not None:
            mask = F.interpolate(self.steering.mask.float().to(base.device), base.shape[-2:], mode="bilinear")
            added = added * self._of_rows(mask).to(base.dtype)
        if self.is_whole:
            return base + added
        result = base.clone()
        result[self.places] += added
        return result


class XSNet(ModelPatchNet):
    """A ControlNet-XS. What it makes of the hint is computed once per hint and size.

    Its layers are the input blocks, shallow first, then the middle; what goes into an output block goes with
    the input block whose values it comes from. A file with a time embedding of its own changes the model's
    in the steered rows, by the strength: a mask does not confine that.
    """

    def __init__(self, identified: Identified, network: TwoStream) -> None:
        super().__init__(identified, network)
        self._start(network)

    def _start(self, network: TwoStream) -> None:
        self.network = network
        self.scales = [float(scale) for scale in network.scale_list]
        self._forget()

    def _forget(self) -> None:
        self._guidance: Tensor | None = None
        self._guided_by: Tensor | None = None

    def pre_run(self, model: Any, percent_to_timestep_function: Any) -> None:
        super().pre_run(model, percent_to_timestep_function)
        self._forget()  # the host cleans up after a run, but not after one that was stopped
        check_family(self.identified, model)
        unet = model.diffusion_model
        needed = (self.network.depth, len(self.network.dec_zero_convs_out))
        if (len(unet.input_blocks), len(unet.output_blocks)) != needed:
            raise ValueError(
                f"This ControlNet-XS needs a model of {needed[0]} input and {needed[1]} output blocks, got "
                f"{len(unet.input_blocks)} and {len(unet.output_blocks)}. Sample with the base model that "
                "its page names."
            )
        width = unet.input_blocks[0][0].out_channels
        if width != self.network.base_width:
            raise ValueError(
                f"This ControlNet-XS needs a model whose first block is {self.network.base_width} channels "
                f"wide, got {width}. Sample with the base model that its page names."
            )

    def factors(self, steering: Steering) -> list[float]:
        """What is added in each place times this: encoder's blocks, middle, decoder's blocks."""
        depth = self.network.depth
        layers = [1.0] * (depth + 1) if steering.layers is None else list(steering.layers(depth + 1))
        in_order = [*layers, *reversed(layers[:depth])]
        return [steering.strength * a * b for a, b in zip(in_order, self.scales, strict=True)]

    def guidance(self, call: Call) -> Tensor:
        """What the network makes of the hint (n,C,h,w), one for each picture that was given."""
        self.hint(call)
        pixels = cast(Tensor, self.cond_hint)
        known = self._guidance
        if known is None or self._guided_by is not pixels:
            known = self.network.input_hint_block(pixels.float())
            self._guidance, self._guided_by = known, pixels
        return known

    def patch(self, call: Call, steering: Steering) -> None:
        places = _steered_rows(call, steering)
        if len(places) == 0 or not any(self.factors(steering)):
            return
        streams = Streams(self, call, steering, places)
        add_wrapper(call.options, streams.around)
        add_patch(call.options, "emb_patch", streams.embed)
        add_patch(call.options, "input_block_patch", streams.encode)
        add_patch(call.options, "middle_block_after_patch", streams.middle)
        add_patch(call.options, "output_block_patch", streams.decode)

    def copy(self) -> XSNet:
        clone = cast(XSNet, super().copy())
        clone._start(self.network)
        return clone

    def cleanup(self) -> None:
        super().cleanup()
        self._forget()


def _steered_rows(call: Call, steering: Steering) -> Tensor:
    """Numbers of the rows that are steered and whose mask is not empty."""
    rows = torch.ones(call.x.shape[0], dtype=torch.bool) if steering.rows is None else steering.rows.cpu()
    if steering.mask is not None:
        rows = rows & steering.mask.flatten(1).ne(0).any(1).cpu()
    return rows.nonzero()[:, 0]


def load(weights: dict[str, Tensor], identified: Identified) -> XSNet:
    """A file's tensors -> the control net.

    Raises UnknownWeightsError for files that lack tensors, or have others.
    """
    return XSNet(identified, build(weights, comfy.ops.manual_cast, optimized_attention))
