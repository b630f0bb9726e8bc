"""The layer weights of an adapter file, put at the sites of a model.

Source: tencent-ailab/IP-Adapter: ip_adapter/ip_adapter.py (set_ip_adapter, load_ip_adapter): the weights of
the n-th cross-attention are numbered 2 n + 1.
"""

from __future__ import annotations

from collections.abc import Mapping

from ..injection.keys_values import Projection
from ..injection.sites import Site
from .records import IPAdapter


def projections(adapter: IPAdapter, sites: Mapping[Site, tuple[int, int]]) -> dict[Site, Projection]:
    """Site -> its key and value weights, for every cross-attention of the model.

    `sites` are the model's, in the order of adapter files, with their channels and text width.

    Raises ValueError when the file has not exactly the layers of the model: the adapter is for another one.
    """
    wanted = {2 * index + 1: site for index, site in enumerate(sites)}
    found = {}
    for number, site in wanted.items():
        to_k, to_v = (adapter.ip_adapter.get(f"{number}.to_{side}_ip.weight") for side in "kv")
        if (
            to_k is None
            or to_v is None
            or tuple(to_k.shape) != tuple(sites[site])
            or to_v.shape != to_k.shape
        ):
            break
        found[site] = Projection(to_k, to_v)
    widths = sorted({width for _, width in sites.values()})
    if (
        len(found) != len(sites)
        or len(adapter.spec.layers) != len(sites)
        or widths != [adapter.spec.text_width]
    ):
        raise ValueError(
            f"{adapter.name} is {adapter.spec.variant} for {adapter.spec.base}: {len(adapter.spec.layers)} "
            f"layers, text width {adapter.spec.text_width}. The model has {len(sites)} cross-attention "
            f"layers, text width {', '.join(map(str, widths)) or 'none'}. Choose a model and an adapter that "
            "are made for each other."
        )
    return found
