"""ControlNeXt as a control object of the host."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from comfy.controlnet import broadcast_image_to
from torch.nn import functional

from ...identify import Identified
from .._host import check_family, model_family
from ..call import Call, Steering, cond_rows
from ..patches.apply import ModelPatchNet
from ..patching import add_patch
from .network import PIXELS_PER_LATENT, VARIANTS, ControlNextNetwork, Prepared, Variant, addition, build


class ControlNext(ModelPatchNet):
    """A ControlNeXt, whose features depend on the hint and the time step alone.

    So what depends on the hint alone is worked out once per run, and the rest once per step and hint image,
    however many rows the batch has. The files for SDXL and SVD are alike to the last shape: which of the two
    ways it acts in follows from the model it is used with.
    """

    def __init__(self, identified: Identified, network: ControlNextNetwork) -> None:
        super().__init__(identified, network)
        self._forget()

    def _forget(self) -> None:
        self.variant: Variant | None = None
        self._sampling: Any = None
        self._prepared: tuple[torch.Tensor, Prepared] | None = None
        self._features: tuple[float, torch.Tensor] | None = None

    @property
    def network(self) -> ControlNextNetwork:
        return self.networks[0]  # pyright: ignore[reportReturnType]

    def copy(self) -> "ControlNext":
        clone = super().copy()
        assert isinstance(clone, ControlNext)
        clone._forget()
        return clone

    def pre_run(self, model: Any, percent_to_timestep_function: Any) -> None:
        super().pre_run(model, percent_to_timestep_function)
        self._forget()  # the host cleans up after a run, but not after one that was stopped
        check_family(self.identified, model)
        self.variant = VARIANTS[model_family(model) or self.identified.family]
        self._sampling = model.model_sampling

    def cleanup(self) -> None:
        super().cleanup()
        self._forget()

    def patch(self, call: Call, steering: Steering) -> None:
        variant = self.variant
        if variant is None:
            raise ValueError(
                "A ControlNeXt needs to be told its model before a run, but the sampler did not do so. "
                "Sample with KSampler or SamplerCustom."
            )
        features = broadcast_image_to(self._features_of(call), call.x.shape[0], call.chunks)
        scale = self.network.own_scale * variant.factor * steering.strength * _layer_factor(steering)
        rows = _rows(call, steering, variant)

        def inject(hidden: torch.Tensor) -> torch.Tensor:
            added = addition(features, hidden, variant) * scale
            if steering.mask is not None:
                added = added * functional.interpolate(
                    steering.mask.to(added), size=hidden.shape[-2:], mode="bilinear", align_corners=False
                )
            steered = hidden + added.to(hidden.dtype)
            return steered if rows is None else torch.where(rows, steered, hidden)

        add_patch(call.options, variant.patch, _as_patch(inject, variant))

    def _features_of(self, call: Call) -> torch.Tensor:
        """Features (hint images,C,h',w'), or one row per batch row where rows have steps of their own."""
        network, prepared = self.network, self._prepared_hint(call)
        timesteps = self._sampling.timestep(call.t).to(call.x.device)
        if not bool((call.t == call.t[0]).all()):
            rows = Prepared(*(broadcast_image_to(part, call.x.shape[0], call.chunks) for part in prepared))
            return network.features(rows, timesteps)
        step = float(call.t[0])
        if self._features is None or self._features[0] != step:
            self._features = step, network.features(prepared, timesteps[:1])
        return self._features[1]

    def _prepared_hint(self, call: Call) -> Prepared:
        assert self.variant is not None
        self.hint(call, PIXELS_PER_LATENT)
        hint: torch.Tensor = self.cond_hint  # pyright: ignore[reportAssignmentType]
        if self._prepared is None or self._prepared[0] is not hint:
            self._prepared = hint, self.network.prepare(hint.float(), self.variant.padding)
            self._features = None
        return self._prepared[1]


def _layer_factor(steering: Steering) -> float:
    if steering.layers is None:
        return 1.0
    factors = steering.layers(1)
    if len(factors) != 1:
        raise ValueError(
            f"A ControlNeXt acts in one place and takes one layer factor, got {len(factors)}. "
            "Give a single number, or leave the layers empty."
        )
    return float(factors[0])


def _rows(call: Call, steering: Steering, variant: Variant) -> torch.Tensor | None:
    """(rows,1,1,1) bool of the rows that are steered, or None for all."""
    rows = None if steering.rows is None else steering.rows.to(call.x.device)
    if variant.spares_negative:
        positive = cond_rows(call.options["cond_or_uncond"], call.x.shape[0]).to(call.x.device)
        rows = positive if rows is None else rows & positive
    return None if rows is None else rows.view(-1, 1, 1, 1)


def _as_patch(inject: Callable[[torch.Tensor], torch.Tensor], variant: Variant) -> Callable[..., Any]:
    """`inject` in the form of the host's patches of the variant's kind."""
    if variant.block is None:
        return lambda arguments: {**arguments, "h": inject(arguments["h"])}

    def at_block(hidden: torch.Tensor, options: dict[str, Any]) -> torch.Tensor:
        return inject(hidden) if options["block"] == variant.block else hidden

    return at_block


def load(weights: Mapping[str, torch.Tensor], identified: Identified) -> ControlNext:
    """A ControlNeXt from the tensors of its file.

    Raises ValueError for keys that are missing, not used or of another shape.
    """
    return ControlNext(identified, build(weights))
