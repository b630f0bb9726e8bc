"""The layers of an adapter file are put where the model has cross-attention, all of them or none."""

from __future__ import annotations

import pytest
import torch
from tiller.adapters.image_prompt.formats import identify_adapter, split
from tiller.adapters.image_prompt.layers import projections
from tiller.adapters.image_prompt.records import IPAdapter
from tiller.adapters.injection.sites import Site
from tiller.tests import adapter_files as files

SITES = {
    Site("input", 1, 0): (8, 768),
    Site("output", 3, 0): (16, 768),
    Site("middle", 0, 0): (24, 768),
}


def loaded(weights: dict[str, torch.Tensor]) -> IPAdapter:
    spec = identify_adapter({key: tuple(tensor.shape) for key, tensor in weights.items()})
    return IPAdapter(spec, *split(weights), "x.bin")


def test_the_nth_layer_of_a_file_goes_to_the_nth_site() -> None:
    weights = files.random_adapter("IP-Adapter", "SD1.5", SITES, 0)
    placed = projections(loaded(weights), SITES)
    assert list(placed) == list(SITES)
    for number, site in enumerate(SITES):
        assert torch.equal(placed[site].to_k, weights[f"ip_adapter.{2 * number + 1}.to_k_ip.weight"])
        assert torch.equal(placed[site].to_v, weights[f"ip_adapter.{2 * number + 1}.to_v_ip.weight"])


@pytest.mark.parametrize(
    "sites",
    [
        {},
        dict(list(SITES.items())[:2]),
        {**SITES, Site("output", 4, 0): (8, 768)},
        {**SITES, Site("output", 3, 0): (12, 768)},
        {site: (channels, 2048) for site, (channels, _) in SITES.items()},
    ],
    ids=["none", "fewer", "more", "other channels", "other text"],
)
def test_a_model_with_other_layers_is_refused_with_both_named(sites: dict[Site, tuple[int, int]]) -> None:
    adapter = loaded(files.random_adapter("IP-Adapter", "SD1.5", SITES, 0))
    with pytest.raises(
        ValueError, match=r"x\.bin is IP-Adapter for SD1\.5: 3 layers, text width 768\. "
    ) as caught:
        projections(adapter, sites)
    widths = sorted({width for _, width in sites.values()})
    assert (
        f"The model has {len(sites)} cross-attention layers, text width {widths[0] if widths else 'none'}. "
        in (str(caught.value))
    )


def test_tokens_of_another_width_than_the_layers_are_refused() -> None:
    """Kolors' FaceID makes tokens twice as wide, which only Kolors' own model brings to its layers' width."""
    shapes = files.published("FaceID Plus", "Kolors")
    weights = {key: torch.empty(shape, device="meta") for key, shape in shapes.items()}
    sites = {Site("input", 4 + n, 0): (width, 2048) for n, width in enumerate(files.CHANNELS["Kolors"])}
    with pytest.raises(
        ValueError, match=r"FaceID Plus for Kolors: 70 layers, text width 4096\. The model has 70"
    ):
        projections(loaded(weights), sites)
