"""Adapters of UNets in the host's sampler: equal to diffusers' UNet with the same adapter, layer by layer."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tiller.tests.host.adapter_reference import Case, Compared, compare, compare_each_layer

TOLERANCE = 1e-5
H, BIG_G = "CLIP-ViT-H", "CLIP-ViT-bigG"
CASES = {
    "IP-Adapter, two pictures": Case("sd15", "IP-Adapter", "SD1.5", H, pictures=2),
    "IP-Adapter Plus": Case("sd15", "IP-Adapter Plus", "SD1.5"),
    "IP-Adapter Full Face": Case("sd15", "IP-Adapter Full Face", "SD1.5"),
    "FaceID with its LoRA": Case("sd15", "FaceID", "SD1.5"),
    "FaceID Plus": Case("sd15", "FaceID Plus", "SD1.5"),
    "FaceID Plus v2, two faces": Case("sd15", "FaceID Plus", "SD1.5", version=2, structure=0.6, pictures=2),
    "FaceID Portrait, three faces": Case("sd15", "FaceID Portrait", "SD1.5", pictures=3),
    "IP-Adapter (ViT-bigG), SDXL": Case("sdxl", "IP-Adapter", "SDXL", BIG_G),
    "IP-Adapter Plus, Kolors": Case("sdxl", "IP-Adapter Plus", "Kolors"),
    "FaceID with its LoRA, SDXL": Case("sdxl", "FaceID", "SDXL"),
    "FaceID Plus v2, SDXL": Case("sdxl", "FaceID Plus", "SDXL", version=2),
    "FaceID Portrait Unnorm, SDXL": Case("sdxl", "FaceID Portrait Unnorm", "SDXL"),
    "IP-Adapter Plus, SDXL, every layer": Case("sdxl_full", "IP-Adapter Plus", "SDXL"),
}
LAYERS = {"sd15": 16, "sdxl": 17, "sdxl_full": 70}


def check(found: Compared, at_least: float = 0.0) -> None:
    assert found.effect > at_least
    assert found.difference / found.effect < TOLERANCE


@pytest.mark.parametrize("name", CASES)
@torch.inference_mode()
def test_sampling_equals_diffusers(name: str) -> None:
    case: Any = CASES[name]
    found = compare(case, steps=1)
    assert found.layers == LAYERS[case.name]
    check(found, at_least=20.0)


@torch.inference_mode()
def test_each_layer_alone_acts_as_in_diffusers() -> None:
    found = compare_each_layer(Case("sd15", "IP-Adapter", "SD1.5", H, weight=4.0))
    assert len(found) == 16
    greatest = max(one.effect for one in found)
    for one in found:
        assert one.effect > 0.02 * greatest
        assert one.difference / greatest < TOLERANCE
