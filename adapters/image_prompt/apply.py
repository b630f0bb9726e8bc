"""Applies image prompts to models: an adapter's tokens, weighed layer by layer, as an injection.

Source: tencent-ailab/IP-Adapter: ip_adapter/ip_adapter.py; cubiq/ComfyUI_IPAdapter_plus: IPAdapterPlus.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from ..injection.apply import flux_blocks, inject, injection_hooks, unet_sites
from ..injection.injection import Injection
from ..injection.mask import usable
from ..injection.tokens import Tokens
from ..injection.unet import UNetInjection
from ..lora.apply import layout_of_model
from .flux_layers import flux_injection, flux_tokens
from .layers import projections
from .projectors import tokens_of
from .records import Base, ImagePrompt, IPAdapter
from .regions import Overlap, regions_of
from .terms import InjectionSettings, terms_of

Build = Callable[[Any, IPAdapter, Tokens, InjectionSettings, Tokens | None], Injection]
"""(MODEL, adapter, tokens, settings, tokens of the composition or None) -> the injection."""


def unet_injection(
    model: Any, adapter: IPAdapter, tokens: Tokens, settings: InjectionSettings, composition: Tokens | None
) -> Injection:
    """The injection into a UNet; raises ValueError for an adapter of another model."""
    placed = projections(adapter, unet_sites(model))
    terms = terms_of(placed, tokens, settings, composition, layout_of_model(model))
    return UNetInjection(terms, settings.start, settings.end, usable(settings.mask))


def injection_into_flux(
    model: Any, adapter: IPAdapter, tokens: Tokens, settings: InjectionSettings, composition: Tokens | None
) -> Injection:
    """The injection into a Flux model; raises ValueError for an adapter of another model."""
    return flux_injection(flux_blocks(model), adapter, tokens, settings, composition)


BUILDERS: Mapping[Base, Build] = MappingProxyType(
    {"SD1.5": unet_injection, "SDXL": unet_injection, "Kolors": unet_injection, "Flux": injection_into_flux}
)
"""The base model that an adapter is for -> what makes its injection."""


def injection_of(
    model: Any,
    adapter: IPAdapter,
    tokens: Tokens,
    settings: InjectionSettings,
    composition: Tokens | None = None,
) -> Injection:
    """An adapter's tokens as an injection into a MODEL.

    Raises ValueError when model, adapter and settings are not made for each other.
    """
    return BUILDERS[adapter.spec.base](model, adapter, tokens, settings, composition)


def apply_tokens(
    model: Any,
    adapter: IPAdapter,
    tokens: Tokens,
    settings: InjectionSettings,
    composition: Tokens | None = None,
) -> Any:
    """A clone of a MODEL with an adapter's tokens, made by `tokens_of` or of faces; the model stays as it is.

    Raises ValueError when model, adapter and settings are not made for each other.
    """
    return inject(model, injection_of(model, adapter, tokens, settings, composition))


def apply_ip_adapter(
    model: Any,
    adapter: IPAdapter,
    prompt: ImagePrompt,
    settings: InjectionSettings,
    composition: ImagePrompt | None = None,
) -> Any:
    """A clone of a MODEL with an image prompt; `composition` is the prompt for the layers of the layout.

    Raises ValueError for a prompt of another encoder and for model, adapter and settings that are not made
    for each other.
    """
    return inject(model, prompt_injection(model, adapter, prompt, settings, composition))


def apply_regions(
    model: Any,
    adapter: IPAdapter,
    sockets: tuple[Mapping[str, Any], Mapping[str, Any]],
    settings: InjectionSettings,
    overlap: Overlap,
) -> Any:
    """A clone of a MODEL with the image prompts of growing sockets, each confined to its mask.

    `sockets` are the prompts and the masks by name; `settings` holds their weights in turn.

    Raises ValueError for sockets that do not go together, and as `apply_ip_adapter`.
    """
    for region in regions_of(*sockets, settings, overlap):
        model = apply_ip_adapter(model, adapter, region.prompt, region.settings)
    return model


def ip_adapter_hooks(
    model: Any, adapter: IPAdapter, prompt: ImagePrompt, settings: InjectionSettings, previous: Any = None
) -> Any:
    """HOOKS that bring an image prompt to the conditioning they are set on; `previous` ones come first."""
    hooks = injection_hooks(prompt_injection(model, adapter, prompt, settings))
    return hooks if previous is None else previous.clone_and_combine(hooks)


def prompt_injection(
    model: Any,
    adapter: IPAdapter,
    prompt: ImagePrompt,
    settings: InjectionSettings,
    composition: ImagePrompt | None = None,
) -> Injection:
    """An image prompt as an injection into a MODEL."""
    layout = None if composition is None else tokens_of(adapter, composition)
    tokens = tokens_of(adapter, prompt)
    if adapter.spec.base == "Flux":
        tokens = flux_tokens(adapter, tokens, prompt)
    return injection_of(model, adapter, tokens, settings, layout)
