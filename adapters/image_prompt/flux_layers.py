"""The layer weights of a Flux adapter file, put at the blocks of a model.

XLabs' files have a pair with biases for every double block; InstantX's number double blocks first, then
single ones, and normalise keys and values.

Source: XLabs-AI/x-flux-comfyui: nodes.py (LoadFluxIPAdapter); Shakker-Labs/ComfyUI-IPAdapter-Flux:
ipadapter_flux.py (init_ip_adapter), attention_processor.py.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from ..injection.flux import FluxBlocks, FluxSite, HeadNorm, InstantXInjection, XLabsInjection
from ..injection.keys_values import Projection, Term
from ..injection.tokens import Tokens
from . import listings
from .records import IPAdapter

XLABS = "Flux IP-Adapter (XLabs)"
INJECTIONS = {XLABS: XLabsInjection, "Flux IP-Adapter (InstantX)": InstantXInjection}
"""How the terms of a variant get into the model."""

WEIGHT_TYPES = ("linear",)
"""Weight types that have a meaning for Flux: the tables of the others count blocks of a UNet."""

BLOCK = re.compile(r"([DS])(\d+)")


def flux_sites(adapter: IPAdapter, blocks: FluxBlocks) -> tuple[FluxSite, ...]:
    """The blocks that an adapter of this variant acts at, in the order of its layers."""
    return blocks.sites[: blocks.double] if adapter.spec.variant == XLABS else blocks.sites


def flux_terms(
    adapter: IPAdapter,
    blocks: FluxBlocks | None,
    tokens: Tokens,
    weights: Mapping[FluxSite, tuple[float, ...]],
) -> dict[FluxSite, Term]:
    """Terms at the blocks of a Flux model; blocks without a weight have none.

    `weights` hold, per block, one weight or one per picture of the batch. For InstantX, which knows no
    negative side, `tokens.uncond` of zeros add nothing.

    Raises ValueError when the file has not exactly the layers of the model: the adapter is for another one.
    """
    finish = None if adapter.spec.variant == XLABS else HeadNorm(blocks.heads if blocks else 1)
    projections = _projections(adapter, blocks)
    return {
        site: Term(projection, tokens, weights[site], finish=finish)
        for site, projection in projections.items()
        if site in weights
    }


def _projections(adapter: IPAdapter, blocks: FluxBlocks | None) -> dict[FluxSite, Projection]:
    found: dict[FluxSite, Projection] = {}
    sites = flux_sites(adapter, blocks) if blocks else ()
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
    weights = adapter.ip_adapter
    if adapter.spec.variant == XLABS:
        names = [
            f"{listings.XLABS}{number}.{listings.XLABS_PART}{side}_proj.{kind}"
            for kind in ("weight", "bias")
            for side in "kv"
        ]
    else:
        names = [f"{number}.to_{side}_ip.weight" for side in "kv"]
    if any(name not in weights for name in names):
        return None
    return Projection(*(weights[name] for name in names))


def _not_for_it(adapter: IPAdapter, blocks: FluxBlocks | None) -> str:
    spec = adapter.spec
    kind = "double blocks" if spec.variant == XLABS else "blocks"
    widths = {len(value) for key, value in adapter.ip_adapter.items() if key.endswith("weight")}
    made_for = f"{len(spec.layers)} {kind} of width {', '.join(map(str, sorted(widths)))}"
    has = "is no Flux model"
    if blocks is not None:
        has = f"has {blocks.double} double and {blocks.single} single blocks of width {blocks.hidden}"
    return (
        f"{adapter.name} is {spec.variant}, made for {made_for}. The model {has}. Choose a model and an "
        "adapter that are made for each other."
    )


def flux_weights(
    blocks: FluxBlocks, weight: tuple[float, ...], weight_type: str = "linear"
) -> dict[FluxSite, tuple[float, ...]]:
    """The weight at every block for a weight type.

    Raises ValueError for a type whose table counts the blocks of a UNet.
    """
    if weight_type not in WEIGHT_TYPES:
        raise ValueError(
            f"The weight type {weight_type} names blocks of a UNet, and this model is Flux, whose blocks "
            f"are others. Choose {', '.join(WEIGHT_TYPES)}, or give weights by block name: D00 for the first "
            "double block, S00 for the first single one."
        )
    return dict.fromkeys(blocks.sites, weight)


def flux_weights_by_name(
    blocks: FluxBlocks, weight: tuple[float, ...], factors: Mapping[str, float]
) -> dict[FluxSite, tuple[float, ...]]:
    """The weight times the factor of every block named, D00 or S00; blocks not named have none.

    Raises ValueError for a name that the model has no block of.
    """
    named = {site.name: site for site in blocks.sites}
    chosen = {}
    for name, factor in factors.items():
        match = BLOCK.fullmatch(name.strip().upper())
        site = named.get(f"{match[1]}{int(match[2]):02d}") if match else None
        if site is None:
            raise ValueError(
                f"{name} is no block of this model. Its blocks are D00 to D{blocks.double - 1:02d} and "
                f"S00 to S{blocks.single - 1:02d}."
            )
        chosen[site] = tuple(factor * each for each in weight)
    return chosen
