"""Swin's shifted windows against attention place by place, on maps smaller than a window, too."""

import pytest
import torch
from tiller.preprocessors.networks.oneformer_sizes import SwinSizes
from tiller.preprocessors.networks.oneformer_swin import BLOCKED, Swin, relative_places
from tiller.tests.unit.annotators import randomise

WINDOW = 4
SIZES = [(8, 12), (5, 7), (2, 3), (1, 9)]


@pytest.fixture(scope="module")
def stage():
    swin = Swin(SwinSizes(width=8, depths=(2, 1, 1, 1), heads=(2, 4, 8, 8), window=WINDOW, widening=2)).eval()
    randomise(swin, 3)
    return swin.layers[0]


def zone(place: int, length: int) -> int:
    """Which part of a moved side a place is in: its start, its last window, or what came from the start."""
    return (place >= length - WINDOW) + (place >= length - WINDOW // 2)


def seen(block, patches: torch.Tensor, shift: int) -> torch.Tensor:
    """What the block's attention makes of one map (h,w,C): each place asks every other of the padded map."""
    height, width, channels = patches.shape
    down, right = height + -height % WINDOW, width + -width % WINDOW
    canvas = torch.zeros(down, right, channels)
    canvas[:height, :width] = block.norm1(patches)
    attention, heads = block.attn, block.attn.heads
    query, key, value = attention.qkv(canvas).view(down, right, 3, heads, -1).unbind(2)
    made = torch.zeros(height, width, channels)
    for y in range(height):
        for x in range(width):
            here = (y - shift) % down, (x - shift) % right
            scores, values = [], []
            for v in range(down):
                for u in range(right):
                    there = (v - shift) % down, (u - shift) % right
                    if any(one // WINDOW != other // WINDOW for one, other in zip(here, there, strict=True)):
                        continue
                    row = (
                        (here[0] - there[0] + WINDOW - 1) * (2 * WINDOW - 1) + here[1] - there[1] + WINDOW - 1
                    )
                    score = (query[y, x] * key[v, u]).sum(-1) * (channels // heads) ** -0.5
                    score = score + attention.relative_position_bias_table[row]
                    zones = [(zone(at[0], down), zone(at[1], right)) for at in (here, there)]
                    scores.append(score + BLOCKED if shift and zones[0] != zones[1] else score)
                    values.append(value[v, u])
            weights = torch.stack(scores).softmax(dim=0)
            made[y, x] = (weights[..., None] * torch.stack(values)).sum(0).flatten()
    return attention.proj(made)


@torch.inference_mode()
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("number", [0, 1])
def test_a_block_looks_at_its_window_only(stage, size, number):
    block = stage.blocks[number]
    patches = torch.randn(2, *size, 8, generator=torch.Generator().manual_seed(4))
    shift = WINDOW // 2 * number
    assert block.window.shift == shift
    with_seen = patches + torch.stack([seen(block, one, shift) for one in patches])
    wanted = with_seen + block.mlp(block.norm2(with_seen))
    apart = block.window._replace(shift=WINDOW // 2).apart(patches)
    made = block(patches, relative_places(WINDOW, patches.device), apart)
    assert float((made - wanted).abs().max()) < 1e-5
