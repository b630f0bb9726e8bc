"""Rows for adapters of UNets: our injection beside diffusers' UNet with the same adapter, in one sampler."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from _adapter_rows import Row, host

Measure = Callable[[], tuple[float, float]]
LAYERS = {"sd15": 16, "sdxl_full": 70}
SMALL = {"SD1.5": "sd15", "SDXL": "sdxl_full", "Kolors": "sdxl_full"}
PICTURES = ("", "", "two pictures, ", "three pictures, ")
H, BIG_G = "CLIP-ViT-H", "CLIP-ViT-bigG"


def _reference() -> Any:
    host()
    return importlib.import_module("tiller.tests.host.adapter_reference")


def _sampling(case: dict[str, Any]) -> Measure:
    """Two steps of the host's sampler; every cross-attention must be reached."""

    def measure() -> tuple[float, float]:
        reference = _reference()
        found = reference.compare(reference.Case(**case), steps=2)
        if found.layers != LAYERS[case["name"]]:
            raise ValueError(f"{found.layers} layers were reached, not {LAYERS[case['name']]}.")
        return found.difference, found.effect

    return measure


def _each_layer(name: str, base: str) -> Measure:
    """Every layer alone, each in a picture of its own: none may be without effect."""

    def measure() -> tuple[float, float]:
        reference = _reference()
        found = reference.compare_each_layer(reference.Case(name, "IP-Adapter", base, H, weight=4.0))
        acting = [one for one in found if one.effect > 100 * one.difference]
        if len(acting) != LAYERS[name]:
            raise ValueError(f"{len(acting)} layers act, not {LAYERS[name]}.")
        return max(one.difference for one in found), max(one.effect for one in found)

    return measure


def _row(kind: str, variant: str, base: str, **more: Any) -> Row:
    case = {"name": SMALL[base], "variant": variant, "base": base, **more}
    pictures = PICTURES[more.get("pictures", 1)]
    layers = LAYERS[SMALL[base]]
    what = f"two steps, {pictures}{layers} of {layers} layers"
    return Row(kind, base, what, "diffusers", _sampling(case))


def _alone(base: str) -> Row:
    layers = LAYERS[SMALL[base]]
    what = f"one step, each of {layers} layers alone"
    return Row("IP-Adapter", base, what, "diffusers", _each_layer(SMALL[base], base))


def _projector(case: dict[str, Any]) -> Measure:
    def measure() -> tuple[float, float]:
        reference = _reference()
        found = reference.compare_projector(reference.Case(**case))
        return found.difference, found.effect

    return measure


PLUS = "FaceID Plus"
KOLORS_FACE = {"name": "sdxl", "variant": PLUS, "base": "Kolors", "pictures": 2, "structure": 0.6}
ROWS = [
    _row("IP-Adapter", "IP-Adapter", "SD1.5", encoder=H),
    _row("IP-Adapter", "IP-Adapter", "SD1.5", encoder=H, pictures=2),
    _row("IP-Adapter (ViT-bigG)", "IP-Adapter", "SD1.5", encoder=BIG_G),
    _row("IP-Adapter Plus", "IP-Adapter Plus", "SD1.5"),
    _row("IP-Adapter Full Face", "IP-Adapter Full Face", "SD1.5"),
    _row("IP-Adapter", "IP-Adapter", "SDXL", encoder=H),
    _row("IP-Adapter (ViT-bigG)", "IP-Adapter", "SDXL", encoder=BIG_G),
    _row("IP-Adapter Plus", "IP-Adapter Plus", "SDXL"),
    _row("IP-Adapter Plus", "IP-Adapter Plus", "SDXL", pictures=2),
    _row("IP-Adapter Plus", "IP-Adapter Plus", "Kolors"),
    _row("FaceID with its LoRA", "FaceID", "SD1.5"),
    _row("FaceID with its LoRA", "FaceID", "SD1.5", pictures=2),
    _row("FaceID Plus with its LoRA", PLUS, "SD1.5"),
    _row("FaceID Plus v2 with its LoRA", PLUS, "SD1.5", version=2, structure=0.6),
    _row("FaceID Portrait", "FaceID Portrait", "SD1.5", pictures=3),
    _row("FaceID with its LoRA", "FaceID", "SDXL"),
    _row("FaceID Plus v2 with its LoRA", PLUS, "SDXL", version=2),
    _row("FaceID Portrait", "FaceID Portrait", "SDXL", pictures=2),
    _row("FaceID Portrait Unnorm", "FaceID Portrait Unnorm", "SDXL"),
    # Kolors halves the width of these tokens before its layers, and the host has no Kolors
    Row("FaceID Plus v2", "Kolors", "the projector, two pictures", "diffusers", _projector(KOLORS_FACE)),
    _alone("SD1.5"),
    _alone("SDXL"),
]
