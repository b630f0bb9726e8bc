"""A Flux adapter's layer weights at the blocks of a model, weighed block by block.

XLabs' files have a pair with biases for every double block; InstantX's number double blocks first, then
single ones, and normalise keys and values.

Source: XLabs-AI/x-flux-comfyui: nodes.py (LoadFluxIPAdapter, ApplyFluxIPAdapter);
Shakker-Labs/ComfyUI-IPAdapter-Flux: ipadapter_flux.py (init_ip_adapter), attention_processor.py.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch

from ..injection.flux import FluxBlocks, FluxSite, HeadNorm, InstantXInjection, XLabsInjection
from ..injection.injection import Injection
from ..injection.keys_values import Projection, Term
from ..injection.mask import usable
from ..injection.tokens import Tokens
from ..lora.blocks import CLIP, IN, OUT, T5, Layout
from ..lora.factors import factors_of
from . import listings
from .records import ImagePrompt, IPAdapter
from .terms import InjectionSettings

XLABS, INSTANTX = "Flux IP-Adapter (XLabs)", "Flux IP-Adapter (InstantX)"
INJECTIONS = {XLABS: XLabsInjection, INSTANTX: InstantXInjection}
"""How the terms of a variant get into the model."""

WEIGHT_TYPES = ("linear",)
"""Weight types that have a meaning for Flux: the tables of the others count layers of a UNet."""

SCALINGS = ("V only", "K+V")
"""Embeds scalings that have one: the others go by the widths of a UNet's layers."""


def flux_tokens(adapter: IPAdapter, tokens: Tokens, prompt: ImagePrompt) -> Tokens:
    """The tokens of a prompt as a Flux adapter takes them.

    InstantX's was published without a negative side: where the prompt has zeros there, for no picture, the
    negative conditioning gets nothing. Keys and values of zeros are zeros, and add zeros.
    """
    silent = adapter.spec.variant == INSTANTX and not any(bool(part.negative.any()) for part in prompt.parts)
    return Tokens(tokens.cond, torch.zeros_like(tokens.cond)) if silent else tokens


def flux_injection(
    blocks: FluxBlocks | None,
    adapter: IPAdapter,
    tokens: Tokens,
    settings: InjectionSettings,
    composition: Tokens | None = None,
) -> Injection:
    """An adapter's tokens as an injection into a Flux model of these blocks (None: no Flux model).

    Raises ValueError for an adapter of another model, and for settings that mean something for UNets alone.
    """
    terms = flux_terms(blocks, adapter, tokens, settings, composition)
    return INJECTIONS[adapter.spec.variant](terms, settings.start, settings.end, usable(settings.mask))


def flux_terms(
    blocks: FluxBlocks | None,
    adapter: IPAdapter,
    tokens: Tokens,
    settings: InjectionSettings,
    composition: Tokens | None = None,
) -> dict[FluxSite, Term]:
    """Terms at the blocks of a Flux model; see `flux_injection`."""
    projections = flux_projections(adapter, blocks)
    _refuse(settings, composition)
    factors = block_factors(blocks.sites if blocks else (), settings.layers)
    finish = HeadNorm(blocks.heads) if blocks and adapter.spec.variant == INSTANTX else None
    return {
        site: Term(
            projection,
            tokens,
            tuple(factors[site] * weight for weight in settings.weight),
            settings.scaling,
            finish,
        )
        for site, projection in projections.items()
    }


def flux_projections(adapter: IPAdapter, blocks: FluxBlocks | None) -> dict[FluxSite, Projection]:
    """Block -> its key and value weights, for every block that an adapter of this variant acts at.

    Raises ValueError when the file has not exactly the layers of the model: the adapter is for another one.
    """
    sites = () if blocks is None else blocks.sites
    if blocks is not None and adapter.spec.variant == XLABS:
        sites = sites[: blocks.double]
    found: dict[FluxSite, Projection] = {}
    for number, site in enumerate(sites):
        projection = _projection(adapter, number)
        wanted = (blocks.hidden if blocks else 0, adapter.spec.text_width)
        if projection is None or not tuple(projection.to_k.shape) == tuple(projection.to_v.shape) == wanted:
            break
        found[site] = projection
    if not sites or len(found) != len(sites) or len(adapter.spec.layers) != len(sites):
        raise ValueError(_not_for_it(adapter, blocks))
    return found


def _projection(adapter: IPAdapter, number: int) -> Projection | None:
    """The n-th pair of weights of a file; None where it has none."""
    if adapter.spec.variant == XLABS:
        part = f"{listings.XLABS}{number}.{listings.XLABS_PART}"
        names = [f"{part}{side}_proj.{kind}" for kind in ("weight", "bias") for side in "kv"]
    else:
        names = [f"{number}.to_{side}_ip.weight" for side in "kv"]
    weights = [adapter.ip_adapter[name] for name in names if name in adapter.ip_adapter]
    return Projection(*weights) if len(weights) == len(names) else None


def _not_for_it(adapter: IPAdapter, blocks: FluxBlocks | None) -> str:
    spec = adapter.spec
    kind = "double blocks" if spec.variant == XLABS else "blocks"
    widths = sorted({len(value) for key, value in adapter.ip_adapter.items() if key.endswith("weight")})
    has = "is no Flux model"
    if blocks is not None:
        has = f"has {blocks.double} double and {blocks.single} single blocks of width {blocks.hidden}"
    return (
        f"{adapter.name} is {spec.variant}, made for {len(spec.layers)} {kind} of width "
        f"{', '.join(map(str, widths))}. The model {has}. Choose a model and an adapter that are made for "
        "each other."
    )


def _refuse(settings: InjectionSettings, composition: Tokens | None) -> None:
    """Raises ValueError for settings that mean something for UNets alone."""
    if settings.weight_type not in WEIGHT_TYPES:
        raise ValueError(
            f'The weight type "{settings.weight_type}" deals the weight out to layers of a UNet, and this '
            f"model is Flux, whose blocks are others. Choose {', '.join(WEIGHT_TYPES)}, or give factors by "
            "block name in the Advanced node: D00-D09:0.5 for double blocks, S for all single ones."
        )
    if settings.scaling not in SCALINGS:
        raise ValueError(
            f'Embeds scaling "{settings.scaling}" goes by the widths of a UNet\'s layers, and this model is '
            f"Flux. Choose {' or '.join(SCALINGS)}."
        )
    if composition is not None:
        raise ValueError(
            "A composition image prompt needs a UNet: of Flux it is not known which blocks carry the layout. "
            "Leave composition_prompt open."
        )


def block_factors(sites: Iterable[FluxSite], text: str) -> dict[FluxSite, float]:
    """Block -> factor, 1 where the text of block weights says nothing; see `lora.factors`.

    Raises ValueError for a text that cannot be read, or names blocks that the model does not have.
    """
    named = {site.name: site for site in sites}
    factors = factors_of("ALL", text, Layout("Flux", (CLIP, T5, IN, *named, OUT)))
    return {site: factors[name] for name, site in named.items()}
