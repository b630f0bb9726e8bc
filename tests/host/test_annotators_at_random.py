"""Every hint with weights on pictures of random sizes, batches, channels and number types: never a surprise.

EXAMPLES pictures per hint; HINT_EXAMPLES=200 in the environment for a long run.
"""

import os
import socket

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as any_of
from tiller.tests.host import inprocess as real

from devtools.locales import load_pack

EXAMPLES = int(os.environ.get("HINT_EXAMPLES", "8"))
HALVES = [torch.float16, torch.bfloat16, torch.float64]


def with_weights():
    real.host()
    return sorted(
        name
        for name, node in load_pack().items()
        if {"image", "weights"} <= {entry.id for entry in node.define_schema().inputs}
    )


@any_of.composite
def pictures(draw):
    """IMAGE of up to three pictures of up to 200 x 200, gray, coloured or transparent, in any number type."""
    batch, height, width = draw(any_of.integers(1, 3)), *(draw(any_of.integers(1, 200)) for _ in range(2))
    if draw(any_of.booleans()):
        height, width = (min(side, 48) for side in (height, width))
    channels = draw(any_of.sampled_from([1, 3, 3, 4]))
    generator = torch.Generator().manual_seed(draw(any_of.integers(0, 9)))
    noise = torch.rand(batch, height, width, channels, generator=generator)
    flat = torch.full_like(noise, draw(any_of.sampled_from([0.0, 0.5, 1.0])))
    image = flat if draw(any_of.integers(0, 4)) == 0 else noise
    return image.to(draw(any_of.sampled_from([torch.float32, torch.float32, *HALVES])))


def defaults(node):
    """The widgets at their defaults."""
    return {
        entry.id: entry.default
        for entry in node.define_schema().inputs
        if getattr(entry, "default", None) is not None
    }


@pytest.fixture(autouse=True)
def blocked(monkeypatch):
    """No connection is made on the way."""

    def refuse(*_):
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.mark.parametrize("name", with_weights() if os.environ.get("COMFYUI_PATH") else [])
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
@given(image=pictures(), own_size=any_of.booleans())
def test_any_picture_gives_a_hint_of_its_batch_in_range(name, image, own_size):
    real.annotators()
    node = load_pack()[name]
    given_values = defaults(node) | {"resolution": 0 if own_size else 64}
    if "mask" in {entry.id for entry in node.define_schema().inputs}:
        given_values["mask"] = (image[..., 0].float() > 0.5).float()
    if not own_size and max(image.shape[1:3]) > 4 * min(image.shape[1:3]):
        given_values["resolution"] = min(64, min(image.shape[1:3]) * 4)
    hint = node.execute(image=image, **given_values).args[0]
    assert hint.shape[0] == image.shape[0]
    assert hint.shape[3] == 3
    assert hint.dtype == torch.float32
    assert torch.isfinite(hint).all()
    assert 0.0 <= float(hint.min()) <= float(hint.max()) <= 1.0
