"""Puts ControlNet-LLLite's modules before the attention's projections, for one call of the model."""

from __future__ import annotations

from typing import Any, cast

import torch.nn.functional as F
from comfy.controlnet import broadcast_image_to
from torch import Tensor

from ...identify import Identified
from .._host import check_family
from ..call import Call, Steering
from ..patches.apply import ModelPatchNet
from ..patching import order_patches
from .network import SHOWN, Grid, LLLite, build

ATTENTIONS = ("attn1", "attn2")


class _Patch:
    """The host's patch of one attention's inputs q, k and v, before they are projected, in one call."""

    def __init__(self, net: LLLiteNet, attention: str, call: Call, steering: Steering) -> None:
        self.net, self.attention, self.steering = net, attention, steering
        self.hint, self.rows, self.chunks = net.pixels(call), call.x.shape[0], call.chunks
        self.factors = net.factors(steering)
        steered = steering.rows
        self.places = None if steered is None or bool(steered.all()) else steered.nonzero()[:, 0]

    def __call__(
        self, q: Tensor, k: Tensor, v: Tensor, options: dict[str, Any]
    ) -> tuple[Tensor, Tensor, Tensor]:
        block = options.get("block")
        own = self.net.names_at.get((block, options.get("block_index", 0), self.attention), {})
        factor = self.factors[block] if own else 0.0
        if factor == 0:
            return q, k, v
        grid = (options["activations_shape"][2], options["activations_shape"][3])
        return (
            self._pushed(q, own.get("q"), grid, factor),
            self._pushed(k, own.get("k"), grid, factor),
            self._pushed(v, own.get("v"), grid, factor),
        )

    def _pushed(self, x: Tensor, name: str | None, grid: Grid, factor: float) -> Tensor:
        """Tokens x (B,T,width) with the module's push on the steered rows; without a module, x itself."""
        if name is None:
            return x
        if x.shape[:2] != (self.rows, grid[0] * grid[1]):
            raise ValueError(
                f"ControlNet-LLLite needs one token per place of the model's {grid[0]} x {grid[1]} grid in "
                f"{self.rows} rows, got {x.shape[1]} tokens in {x.shape[0]} rows. Another patch merges or "
                "splits the tokens: take that one off."
            )
        condition = broadcast_image_to(self.net.condition(name, self.hint, x, grid), self.rows, self.chunks)
        mask, places = self._mask(x, grid), self.places
        if places is None:
            push = self.net.network.named[name](x, condition) * factor
            return x + (push if mask is None else push * mask)
        places = places.to(x.device)
        push = self.net.network.named[name](x[places], _of_rows(condition, places)) * factor
        result = x.clone()
        result[places] += push if mask is None else push * _of_rows(mask, places)
        return result

    def _mask(self, x: Tensor, grid: Grid) -> Tensor | None:
        """The mask as (n,T,1), one factor per token."""
        if self.steering.mask is None:
            return None
        mask = F.interpolate(self.steering.mask.float().to(x.device), grid, mode="bilinear")
        return mask.flatten(2).transpose(1, 2).to(x.dtype)


def _of_rows(values: Tensor, places: Tensor) -> Tensor:
    """The rows at `places`; a single row stands for all."""
    return values if values.shape[0] == 1 else values[places]


class LLLiteNet(ModelPatchNet):
    """A ControlNet-LLLite. What it makes of the hint is computed once per hint and size.

    Its layers are those of a ControlNet for the same model: one for each input block, shallow first, then
    the middle; an output block goes with the input block whose skip it reads. Its patch comes before those
    of other kinds, so that it sees the tokens on their grid; several LLLite keep the order of their chain.
    """

    def __init__(self, identified: Identified, network: LLLite) -> None:
        super().__init__(identified, network)
        self._start(network)

    def _start(self, network: LLLite) -> None:
        self.network = network
        self.input_blocks = 0
        self.names_at: dict[tuple[Any, int, str], dict[str, str]] = {}
        for name, place in network.addresses.items():
            key = (place.block, place.layer, place.attention)
            self.names_at.setdefault(key, {})[place.projection] = name
        self._forget()

    def _forget(self) -> None:
        self._conditions: dict[tuple[str, Grid], Tensor] = {}
        self._conditioned_on: Tensor | None = None

    def pre_run(self, model: Any, percent_to_timestep_function: Any) -> None:
        super().pre_run(model, percent_to_timestep_function)
        self._forget()  # the host cleans up after a run, but not after one that was stopped
        check_family(self.identified, model)
        self._check_places(model.diffusion_model)
        self.input_blocks = len(model.diffusion_model.input_blocks)

    def _check_places(self, unet: Any) -> None:
        """Raises ValueError, naming some, where modules stand before no projection of this UNet."""
        widths = {name: getattr(module, "in_features", None) for name, module in unet.named_modules()}
        modules = self.network.named
        lost = [
            name
            for name, place in self.network.addresses.items()
            if widths.get(place.path) != modules[name].down[0].in_features
        ]
        if lost:
            raise ValueError(
                "This ControlNet-LLLite needs a model with the places that its modules were trained for, but "
                f"{len(lost)} of {len(modules)} fit no place of this model, such as "
                f"{', '.join(sorted(lost)[:SHOWN])}. Sample with the base model that its page names."
            )

    def factors(self, steering: Steering) -> dict[Any, float]:
        """Block, such as ("input", 4) -> factor of its push: strength times the layer's."""
        count = self.input_blocks + 1
        layers = [1.0] * count if steering.layers is None else list(steering.layers(count))
        factors = {("middle", 0): steering.strength * layers[-1]}
        for block in range(self.input_blocks):
            factors["input", block] = steering.strength * layers[block]
            factors["output", block] = steering.strength * layers[self.input_blocks - 1 - block]
        return factors

    def pixels(self, call: Call) -> Tensor:
        """The hint (n,3,H,W) in 0..1 at the size of the call, one per picture that was given."""
        self.hint(call)
        return cast(Tensor, self.cond_hint)

    def condition(self, name: str, hint: Tensor, x: Tensor, grid: Grid) -> Tensor:
        """The share (n,T,hidden) of a hint (n,3,H,W) in a module, in the type of the tokens x."""
        if self._conditioned_on is not hint:
            self._conditions, self._conditioned_on = {}, hint
        if (name, grid) not in self._conditions:
            values = self.network.named[name].condition(hint.float() * 2.0 - 1.0, grid)
            self._conditions[name, grid] = values.to(x)
        return self._conditions[name, grid]

    def patch(self, call: Call, steering: Steering) -> None:
        for attention in ATTENTIONS:
            kind = f"{attention}_patch"
            there = call.options.get("patches", {}).get(kind, ())
            own = [patch for patch in there if isinstance(patch, _Patch)]
            others = [patch for patch in there if not isinstance(patch, _Patch)]
            order_patches(call.options, kind, [*own, _Patch(self, attention, call, steering), *others])

    def copy(self) -> LLLiteNet:
        clone = cast(LLLiteNet, super().copy())
        clone._start(self.network)
        return clone

    def cleanup(self) -> None:
        super().cleanup()
        self._forget()


def load(weights: dict[str, Tensor], identified: Identified) -> LLLiteNet:
    """A file's tensors -> the control net.

    Raises UnknownWeightsError for modules at places that Tiller does not know, and for incomplete ones.
    """
    return LLLiteNet(identified, build(weights))
