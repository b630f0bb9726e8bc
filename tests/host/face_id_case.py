"""A face, a FaceID file of random weights and a stand-in encoder: Apply FaceID as tests and tables run it."""

from __future__ import annotations

import importlib
from functools import cache
from typing import Any, NamedTuple

import torch
from tiller.tests import adapter_files
from tiller.tests.host import faceid_by_hand as hand
from tiller.tests.host import inprocess as real
from tiller.tests.host.small_unets import small

LORA = 0.7
KINDS = {
    "v1, SD1.5": ("FaceID", "SD1.5"),
    "Plus, SD1.5": ("FaceID Plus", "SD1.5"),
    "Portrait, SD1.5": ("FaceID Portrait", "SD1.5"),
    "v1, SDXL": ("FaceID", "SDXL"),
    "Plus, SDXL": ("FaceID Plus", "SDXL"),
    "Portrait, SDXL": ("FaceID Portrait", "SDXL"),
    "Portrait Unnorm": ("FaceID Portrait Unnorm", "SDXL"),
}


def pack(module: str) -> Any:
    real.host()
    return importlib.import_module(f"tiller.adapters.{module}")


def unet(base: str) -> str:
    return {"SD1.5": "sd15"}.get(base, "sdxl")


@cache
def adapter(variant: str, base: str) -> Any:
    """An IPAdapter of random weights for a small UNet; its LoRA a third as large as what it is added to."""
    sites = pack("injection.apply").unet_sites(small(unet(base)).model)
    flat = adapter_files.random_adapter(variant, base, sites, seed=4)
    flat |= {key: value * 0.3 for key, value in flat.items() if key.endswith("_lora.up.weight")}
    formats = pack("image_prompt.formats")
    spec = formats.identify_adapter({key: tuple(value.shape) for key, value in flat.items()})
    assert (spec.variant, spec.base) == (variant, base)
    return pack("image_prompt.records").IPAdapter(spec, *formats.split(flat), f"random {variant}")


def faces(count: int = 1, seed: int = 1, pack_name: str = "buffalo_l", recogniser: str = "IResNet-50") -> Any:
    """Faces with random vectors about 20 long, one per noise picture."""
    records = pack("faces.records")
    generator = torch.Generator().manual_seed(seed)
    points = torch.tensor([[50.0, 60.0], [90.0, 60.0], [70.0, 80.0], [55.0, 100.0], [85.0, 100.0]])
    found = tuple(
        (
            records.Face(
                torch.tensor([30.0, 30.0, 110.0, 120.0]),
                points,
                0.9,
                torch.randn(512, generator=generator),
            ),
        )
        for _ in range(count)
    )
    return records.Faces(real.picture(150, 140, seed, count), found, (0,) * count, pack_name, recogniser)


class Encoder:
    """Stands in for CLIP-ViT-H: hidden states drawn from the pixels of each crop."""

    kind, name = "CLIP-ViT-H", "stand-in"

    def __init__(self) -> None:
        self.crops: list[torch.Tensor] = []

    def encode(self, adapter: Any, encoder: Any, image: torch.Tensor, settings: Any) -> Any:
        assert encoder is self
        records, embeddings = pack("image_prompt.records"), pack("image_prompt.embeddings")
        self.crops.append(image)
        state = adapter.spec.embeds
        shape = state.tokens, state.width
        seeds = [int(one.sum() * 100) for one in image]
        states = torch.stack(
            [torch.randn(shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
        )
        nothing = torch.randn(1, *shape, generator=torch.Generator().manual_seed(0))
        parts = embeddings.batch_parts([states], nothing, settings.batch, settings.weight)
        return records.ImagePrompt(state, parts), image


def apply(model: Any, kind: Any, who: Any, encoder: Any = None, face: Any = None, **acting: Any) -> Any:
    """The pack's own entry: (model, text)."""
    rules, terms = pack("image_prompt.face_id.rules"), pack("image_prompt.terms")
    settings = rules.FaceSettings(**{"plus_version": "v2", "lora_strength": LORA, **(face or {})})
    of = adapter(*kind) if isinstance(kind, tuple) else kind
    return pack("image_prompt.face_id.apply").apply_face_id(
        model, of, who, encoder, settings, terms.InjectionSettings(**acting)
    )


def tokens(
    kind: tuple[str, str], who: Any, encoder: Any, shortcut: bool = True, structure: float = 1.0
) -> Any:
    """The tokens by the projector, whose own equality is tested elsewhere."""
    of, prompt = adapter(*kind), None
    portrait = "Portrait" in kind[0]
    normed = "Unnorm" not in kind[0]
    vectors = who.embeddings(normed) if portrait else who.embedding(normed)
    if of.spec.embeds is not None:
        settings = pack("image_prompt.encode.apply").EncodeSettings(batch="average")
        prompt = encoder.encode(of, encoder, who.crops(224), settings)[0]
    return pack("image_prompt.projectors").face_tokens(of, vectors, prompt, shortcut, structure)


class Compared(NamedTuple):
    """Greatest difference from the authors' formula, its greatest effect, and the layers it reached."""

    difference: float
    effect: float
    layers: int


def compare(kind: tuple[str, str], encoder: Encoder, version: str = "v2") -> Compared:
    """Two steps of the host's sampler in double precision, ours beside the authors' attention by hand.

    Double, because rounding, which models of random weights magnify, must not hide a difference.
    """
    of, who = hand.precise(unet(kind[1])), faces(2)
    made = tokens(kind, who, encoder, version == "v2")
    given = hand.ByHand(adapter(*kind).ip_adapter, made.cond, made.uncond, 0.8, LORA)
    model, reached = hand.by_hand(of.name, given)
    wanted = hand.picture(of, model)
    face = {"plus_version": version}
    got = hand.picture(of, apply(of.model, kind, who, encoder, face, weight=(0.8,))[0])
    effect = real.difference(wanted, hand.picture(of, of.model))
    return Compared(real.difference(got, wanted), effect, len(set(reached)))
