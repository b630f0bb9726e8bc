"""ControlNet-LLLite files are known by their keys, and each module knows its place."""

import json
from pathlib import Path

import pytest
import torch
from tiller.adapters.control.lllite.network import LLLiteModule, address, build
from tiller.adapters.identify import identify

LISTING = Path(__file__).parent.parent / "shapes" / "control_lllite_sdxl.json"
NAME = "lllite_unet_{}_transformer_blocks_{}"


def listed():
    return {key: tuple(shape) for key, shape in json.loads(LISTING.read_text(encoding="utf-8")).items()}


def test_the_published_files_are_known_and_built_whole():
    shapes = listed()
    found = identify(shapes)
    assert (found.role, found.kind, found.family) == ("control", "ControlNet-LLLite", "SDXL")
    network = build({key: torch.empty(shape, device="meta") for key, shape in shapes.items()})
    assert {key: tuple(tensor.shape) for key, tensor in network.state_dict().items()} == shapes
    assert len(network.named) == 136
    assert {module.kernels for module in network.named.values()} == {(4, 4), (4, 4, 2)}


@pytest.mark.parametrize(
    ("name", "path"),
    [
        (NAME.format("input_blocks_4_1", "0_attn1_to_q"), "input_blocks.4.1.transformer_blocks.0.attn1.to_q"),
        (
            NAME.format("input_blocks_11_1", "9_attn2_to_q"),
            "input_blocks.11.1.transformer_blocks.9.attn2.to_q",
        ),
        (NAME.format("middle_block_1", "3_attn1_to_v"), "middle_block.1.transformer_blocks.3.attn1.to_v"),
        (
            NAME.format("output_blocks_2_1", "0_attn1_to_k"),
            "output_blocks.2.1.transformer_blocks.0.attn1.to_k",
        ),
    ],
)
def test_a_name_is_a_place_of_the_model(name, path):
    place = address(name)
    assert place is not None
    assert place.path == path.format("transformer_blocks")


@pytest.mark.parametrize(
    "name",
    [
        NAME.format("input_blocks_4_1", "0_attn2_to_k"),
        NAME.format("input_blocks_4_1", "0_attn1_to_out_0"),
        NAME.format("input_blocks_4_1", "0_ff_net_2"),
        "lllite_unet_input_blocks_4_0_in_layers_2",
        "lllite_conditioning1",
    ],
)
def test_other_names_have_no_place(name):
    assert address(name) is None


@pytest.mark.parametrize(("height", "width"), [(72, 112), (64, 64), (40, 96)])
def test_the_hints_share_has_a_token_for_each_begun_cell(height, width):
    torch.manual_seed(1)
    module = LLLiteModule(6, 5, 4, (4, 4))
    hint = torch.rand(2, 3, height, width)
    rows, columns = -(-height // 16), -(-width // 16)
    tokens = module.condition(hint, (rows, columns))
    assert tokens.shape == (2, rows * columns, 5)
    whole = module.condition(hint[..., : height // 16 * 16, : width // 16 * 16], (height // 16, width // 16))
    inner = tokens.unflatten(1, (rows, columns))[:, : height // 16, : width // 16]
    assert torch.allclose(inner, whole.unflatten(1, (height // 16, width // 16)), atol=1e-6)
    assert module.condition(hint, (3, 3)).shape == (2, 9, 5)
