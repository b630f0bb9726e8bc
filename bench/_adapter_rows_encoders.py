"""Rows for image encoders: what goes in beside the published processors, what comes out beside transformers.

The encoders have their published widths and two layers, and are loaded as files are.
"""

from __future__ import annotations

import gc
import importlib
from collections.abc import Callable
from typing import Any

import numpy as np
from _adapter_rows import Row, host

KIND, READ = "Image encoder", "Picture for an encoder"
TRANSFORMERS = "transformers"


def _modules() -> tuple[Any, Any]:
    """The tests' own encoders, and the torch they are made with."""
    host()
    return importlib.import_module("tiller.tests.host.image_encoders"), importlib.import_module("torch")


def _state(kind: str, state: str, zeros: bool = False) -> Callable[[], tuple[float, float]]:
    """A state of the encoder for a picture of noise, or for zeros behind the normalisation."""

    def measure() -> tuple[float, float]:
        files, torch = _modules()
        ours = files.pack("encode._host").encoder_of(kind, files.tensors(kind), kind)
        side = files.pack("encoders").ENCODERS[kind].image_size
        levels = torch.randint(0, 256, (1, side, side, 3), generator=torch.Generator().manual_seed(4)) / 255.0
        mask = torch.zeros(1, side, side, 1) if zeros else None
        squares = files.pack("pictures").Squares(levels, mask, False)
        mean, std = torch.tensor(ours.model.image_mean), torch.tensor(ours.model.image_std)
        pixels = ((levels - mean) / std).movedim(-1, 1) * (0.0 if zeros else 1.0)
        made = files.theirs(kind)(pixels, output_hidden_states=True)
        theirs = {
            "penultimate": lambda: made.hidden_states[-2],
            "image_embeds": lambda: made.image_embeds[:, None],
            "pooled": lambda: made.pooler_output[:, None],
        }[state]()
        mine = files.pack("encode.apply").encode_squares(ours, state, squares)
        files.theirs.cache_clear()
        gc.collect()
        return float((mine - theirs).abs().max()), float(theirs.abs().max())

    return measure


def _picture(kind: str, size: tuple[int, int]) -> Callable[[], tuple[float, float]]:
    """A picture as the encoder sees it, in levels from 0 to 255."""

    def measure() -> tuple[float, float]:
        import transformers

        files, _ = _modules()
        encoder, pictures = files.pack("encoders").ENCODERS[kind], files.pack("pictures")
        picture = np.random.default_rng(3).integers(0, 256, (*size, 3), dtype=np.uint8)
        side = {"height": encoder.image_size, "width": encoder.image_size}
        if encoder.stretched:
            processor = transformers.SiglipImageProcessorPil(size=side)
        else:
            processor = transformers.CLIPImageProcessorPil(size=side["height"], crop_size=side)
        given = processor(picture, do_normalize=False, do_rescale=False, return_tensors="np")
        theirs = given["pixel_values"][0].transpose(1, 2, 0).astype(int)
        position = "stretch" if encoder.stretched else "center"
        mine = pictures.framed(picture, pictures.Framing(encoder.image_size, position)).astype(int)
        return float(np.abs(mine - theirs).max()), float(np.abs(theirs).max())

    return measure


H, G, L, KOLORS, SIGLIP = (
    "CLIP-ViT-H",
    "CLIP-ViT-bigG",
    "CLIP-ViT-L",
    "CLIP-ViT-L-336",
    "SigLIP-so400m-384",
)

ROWS = [
    Row(KIND, H, "hidden states before the last block", TRANSFORMERS, _state(H, "penultimate")),
    Row(KIND, H, "hidden states of no picture", TRANSFORMERS, _state(H, "penultimate", zeros=True)),
    Row(KIND, H, "projected class token", TRANSFORMERS, _state(H, "image_embeds")),
    Row(KIND, G, "projected class token", TRANSFORMERS, _state(G, "image_embeds")),
    Row(KIND, L, "projected class token", TRANSFORMERS, _state(L, "image_embeds")),
    Row(KIND, KOLORS, "hidden states before the last block", TRANSFORMERS, _state(KOLORS, "penultimate")),
    Row(KIND, SIGLIP, "pooled by attention", TRANSFORMERS, _state(SIGLIP, "pooled")),
    Row(READ, H, "771 x 513, levels 0 to 255", "CLIPImageProcessor on Pillow", _picture(H, (771, 513))),
    Row(READ, H, "512 x 512, levels 0 to 255", "CLIPImageProcessor on Pillow", _picture(H, (512, 512))),
    Row(
        READ,
        KOLORS,
        "300 x 500, levels 0 to 255",
        "CLIPImageProcessor on Pillow",
        _picture(KOLORS, (300, 500)),
    ),
    Row(
        READ,
        SIGLIP,
        "300 x 500, levels 0 to 255",
        "SiglipImageProcessor on Pillow",
        _picture(SIGLIP, (300, 500)),
    ),
]
