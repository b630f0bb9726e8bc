"""ControlNet-XS files are known by their keys, and the network has their shapes."""

import json
from pathlib import Path

import pytest
import torch
from tiller.adapters.control.xs.blocks import SpatialTransformer, divisor, join, torch_attention
from tiller.adapters.control.xs.network import build
from tiller.adapters.identify import identify
from torch.nn import GroupNorm

SHAPES = Path(__file__).parent.parent / "shapes"
FILES = {
    "sd15_53m": ("SD1.5", {64: 8, 128: 8, 256: 8}, 1e-6),
    "sd21_14m": ("SD2", {4: 1, 8: 1, 16: 2}, 1e-6),
    "sdxl_48m": ("SDXL", {64: 1, 128: 2}, 1e-5),
}
"""File -> family, width of a transformer -> its heads, and the epsilon of its norm."""


def listed(name):
    listing = json.loads((SHAPES / f"control_xs_{name}.json").read_text(encoding="utf-8"))
    return {key: tuple(shape) for key, shape in listing.items()}


def built(shapes):
    with torch.device("meta"):
        return build({key: torch.empty(shape) for key, shape in shapes.items()})


@pytest.mark.parametrize("name", FILES)
def test_the_published_files_are_known_and_built_whole(name):
    shapes, (family, heads, epsilon) = listed(name), FILES[name]
    found = identify(shapes)
    assert (found.role, found.kind, found.family) == ("control", "ControlNet-XS", family)
    network = built(shapes)
    assert {key: tuple(tensor.shape) for key, tensor in network.state_dict().items()} == shapes
    transformers = [module for module in network.modules() if isinstance(module, SpatialTransformer)]
    cut = {
        transformer.norm.num_channels: inner.attn1.heads
        for transformer in transformers
        for inner in transformer.transformer_blocks
    }
    assert cut == heads
    assert {transformer.norm.eps for transformer in transformers} == {epsilon}
    groups = {norm.num_channels: norm.num_groups for norm in network.modules() if isinstance(norm, GroupNorm)}
    assert groups == {width: next(n for n in range(32, 0, -1) if width % n == 0) for width in groups}
    assert {4: 4, 8: 8, 16: 16, 64: 32, 128: 32, 256: 32}.items() >= {(w, groups[w]) for w in heads}
    assert (network.channels, network.base_width) == (4, 320)


def test_what_training_left_of_a_label_embedding_is_not_needed():
    shapes = listed("sdxl_48m")
    more = shapes | {"control_model.label_emb.0.0.weight": (1280, 2816)}
    assert built(more).state_dict().keys() == shapes.keys()


def test_the_time_embedding_mixes_by_the_strengths_root():
    network = built(listed("sd15_53m"))
    base = torch.rand(2, 5)
    assert network.embedding(torch.rand(2, 3), base, 0.5) is base
    network.control_model.time_embed = torch.nn.Linear(3, 5)
    time = torch.rand(2, 3)
    own, share = network.control_model.time_embed(time), 0.5**0.3
    assert torch.allclose(network.embedding(time, base, 0.5), own * share + base * (1 - share))
    assert torch.equal(network.embedding(time, base, 0.0), base)
    assert torch.equal(network.embedding(time, base, -1.0), base)


@pytest.mark.parametrize(("number", "limit", "found"), [(4, 32, 4), (48, 32, 24), (352, 32, 32), (7, 4, 1)])
def test_a_width_is_divided_evenly(number, limit, found):
    assert divisor(number, limit) == found


def test_attention_reads_by_heads():
    query, key, value = torch.rand(3, 1, 5, 4).unbind(0)
    by_head = [
        torch.softmax(query[..., part] @ key[..., part].transpose(1, 2) / 2**0.5, -1) @ value[..., part]
        for part in (slice(0, 2), slice(2, 4))
    ]
    assert torch.allclose(torch_attention(query, key, value, 2), torch.cat(by_head, -1), atol=1e-6)


def test_equal_grids_are_joined_as_they_are():
    values = torch.rand(1, 2, 4, 6)
    assert join(values, torch.Size((4, 6))) is values
    assert join(values, torch.Size((2, 3))).shape == (1, 2, 2, 3)
