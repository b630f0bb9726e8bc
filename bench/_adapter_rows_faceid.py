"""Rows for Apply FaceID: the whole node's path beside the authors' attention, whose LoRA is not merged."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from unittest import mock

from _adapter_rows import Row, host

WHAT = "two steps, double precision, LoRA 0.7"
REFERENCE = "the authors' attention by hand"


def _measure(kind: tuple[str, str], version: str) -> Callable[[], tuple[float, float]]:
    def measure() -> tuple[float, float]:
        host()
        case = importlib.import_module("tiller.tests.host.face_id_case")
        encoder = case.Encoder()
        with mock.patch.object(
            case.pack("image_prompt.face_id.apply"), "encode_image_prompt", encoder.encode
        ):
            found = case.compare(kind, encoder, version)
        return found.difference, found.effect

    return measure


def _row(variant: str, base: str, version: str = "v2") -> Row:
    name = f"{variant} {version}" if variant == "FaceID Plus" else variant
    return Row(f"Apply FaceID: {name}", base, WHAT, REFERENCE, _measure((variant, base), version))


ROWS = [
    _row("FaceID", "SD1.5"),
    _row("FaceID Plus", "SD1.5", "v1"),
    _row("FaceID Plus", "SD1.5"),
    _row("FaceID Portrait", "SD1.5"),
    _row("FaceID", "SDXL"),
    _row("FaceID Plus", "SDXL"),
    _row("FaceID Portrait", "SDXL"),
    _row("FaceID Portrait Unnorm", "SDXL"),
]
