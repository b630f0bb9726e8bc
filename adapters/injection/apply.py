"""Puts injections on a clone of a model, or on one conditioning through the host's hooks.

Nothing is registered at layers: a wrapper around the call of the model reads which injections act, and puts
their patches into the options of that call. So patches of others are chained whatever the order of nodes,
branches cannot meet, and outside its window an injection costs nothing.

Source: ComfyUI: comfy/patcher_extension.py, comfy/model_base.py (BaseModel.apply_model), comfy/hooks.py.
"""

from __future__ import annotations

from typing import Any

import comfy.hooks
import torch
from comfy.ldm.modules.attention import optimized_attention
from comfy.patcher_extension import WrappersMP

from .flux import FluxBlocks
from .injection import AREAS, Call, Injection
from .mask import Area
from .sites import Site, cross_attention_sites, number_order

KEY = "tiller_injections"


def inject(model: Any, injection: Injection) -> Any:
    """A clone of a MODEL with one more injection; the model itself stays as it is."""
    clone = model.clone()
    options = clone.model_options["transformer_options"]
    options[KEY] = [*options.get(KEY, ()), injection]
    if not clone.get_wrappers(WrappersMP.APPLY_MODEL, KEY):
        clone.add_wrapper_with_key(WrappersMP.APPLY_MODEL, KEY, call_with_injections)
        clone.add_wrapper_with_key(WrappersMP.CALC_COND_BATCH, KEY, step_with_areas)
    return clone


def injection_hooks(injection: Injection) -> Any:
    """HOOKS that bring an injection to the conditioning they are set on, and to no other."""
    brought = {KEY: [injection], "wrappers": {WrappersMP.APPLY_MODEL: {KEY: [call_with_injections]}}}
    noting = {"wrappers": {WrappersMP.CALC_COND_BATCH: {KEY: [step_with_areas]}}}
    scopes = comfy.hooks.EnumHookScope
    group = comfy.hooks.HookGroup()
    group.add(comfy.hooks.TransformerOptionsHook(brought, scopes.HookedOnly))
    group.add(comfy.hooks.TransformerOptionsHook(noting, scopes.AllConditioning))
    return group


def step_with_areas(
    executor: Any, model: Any, conds: Any, x: torch.Tensor, t: torch.Tensor, model_options: dict[str, Any]
) -> Any:
    """All conditionings of one step: notes which part of the latent `x` (B,C,h,w) each one is for."""
    if x.ndim == 4:
        areas = {
            entry["uuid"]: Area.of(entry["area"], *x.shape[-2:])
            for side in conds
            for entry in side or ()
            if "area" in entry
        }
        if areas:
            options = {**model_options.get("transformer_options", {}), AREAS: areas}
            model_options = {**model_options, "transformer_options": options}
    return executor(model, conds, x, t, model_options)


def call_with_injections(
    executor: Any,
    x: torch.Tensor,
    t: torch.Tensor,
    c_concat: Any = None,
    c_crossattn: Any = None,
    control: Any = None,
    transformer_options: dict[str, Any] | None = None,
    **kwargs: Any,
) -> Any:
    """One call of the model: `t` (rows,) holds its noise level, looked at once, and only for a window."""
    options = dict(transformer_options or {})
    injections = options.get(KEY)
    if injections:
        options[KEY] = []  # taken: the same wrapper may stand here twice, of the model and of a hook
        _place(injections, executor.class_obj, x, t, options)
    return executor(x, t, c_concat, c_crossattn, control, options, **kwargs)


def _place(
    injections: list[Injection], model: Any, x: torch.Tensor, t: torch.Tensor, options: dict[str, Any]
) -> None:
    call = Call.of(options, optimized_attention, x, model.get_dtype_inference())
    sigmas = options.get("sample_sigmas")
    level: float | None = None
    for injection in injections:
        run = injection.run(call, sigmas, model.model_sampling.percent_to_sigma)
        if run.window is not None:
            level = float(t[0]) if level is None else level
            if not run.window[1] <= level <= run.window[0]:
                continue
        injection.place(call, run, options)


def unet_sites(model: Any) -> dict[Site, tuple[int, int]]:
    """Cross-attentions of a MODEL's UNet in the order of adapter files -> (channels, text width).

    Empty for a model that is no UNet.
    """
    network = model.get_model_object("diffusion_model")
    named = {
        site: (module.out_features, module.in_features)
        for name, module in network.named_modules()
        for site in cross_attention_sites([name])
    }
    return {site: named[site] for site in sorted(named, key=number_order)}


def flux_blocks(model: Any) -> FluxBlocks | None:
    """The blocks of a MODEL of the Flux kind; None for another model."""
    network = model.get_model_object("diffusion_model")
    wanted = ("double_blocks", "single_blocks", "hidden_size", "num_heads")
    if not all(hasattr(network, name) for name in wanted):
        return None
    double, single, hidden, heads = (getattr(network, name) for name in wanted)
    return FluxBlocks(len(double), len(single), hidden, heads)
