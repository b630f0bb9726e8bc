"""What a FaceID file wants that its numbers alone do not say: version, faces, face models; and in words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

from ...faces.records import Faces
from ..records import AdapterSpec, IPAdapter

PlusVersion = Literal["auto", "v1", "v2"]
PLUS_VERSIONS: tuple[PlusVersion, ...] = ("auto", "v1", "v2")
FacesMode = Literal["auto", "average", "all"]
FACES_MODES: tuple[FacesMode, ...] = ("auto", "average", "all")
PLUS = "FaceID Plus"
PORTRAITS = ("FaceID Portrait", "FaceID Portrait Unnorm")
RECOGNISERS = {"buffalo_l": "IResNet-50", "antelopev2": "IResNet-100"}
"""Pack of face models -> the network of its recogniser, as Analyze Faces names it."""

ARCFACE_CROPS = {"CLIP-ViT-H": 224, "CLIP-ViT-L-336": 336}
"""Encoder -> side of the upright face that goes into it."""


@dataclass(frozen=True)
class FaceSettings:
    """What Apply FaceID asks beside the weights.

    `structure` weighs what the picture of the face adds in version 2 of Plus (the authors' s_scale), any
    finite number. `lora_strength` is that of the LoRA half; 0 leaves it out.

    Raises ValueError for a version or mode that is not known.
    """

    plus_version: PlusVersion = "auto"
    structure: float = 1.0
    lora_strength: float = 1.0
    faces_mode: FacesMode = "auto"

    def __post_init__(self) -> None:
        for what, value, known in (
            ("plus_version", self.plus_version, PLUS_VERSIONS),
            ("faces_mode", self.faces_mode, FACES_MODES),
        ):
            if value not in known:
                raise ValueError(f"A {what} of {', '.join(known)} is needed, got {value!r}.")


def check_face_adapter(adapter: IPAdapter) -> None:
    """Raises ValueError for an adapter that reads no face."""
    spec = adapter.spec
    if spec.face is None:
        raise ValueError(
            f"Apply FaceID needs an adapter of faces, but {adapter.name} is {spec.variant} for {spec.base}: "
            "it reads pictures. Use Encode Image Prompt and Apply IP-Adapter with it."
        )


def has_shortcut(adapter: IPAdapter, version: PlusVersion) -> bool:
    """Whether the face's own tokens are added to those of its picture: version 2 of FaceID Plus.

    Raises ValueError for "auto" with a file that may be of both versions, as those for SD1.5: weights' names
    and sizes are the same.

    Source: tencent-ailab/IP-Adapter: ip_adapter/ip_adapter_faceid.py (IPAdapterFaceIDPlus: shortcut False,
    IPAdapterFaceIDPlusXL: shortcut True); cubiq/ComfyUI_IPAdapter_plus: IPAdapterPlus.py (Kolors as v2).
    """
    spec = adapter.spec
    if spec.variant != PLUS:
        return False
    if version == "auto" and len(spec.plus_versions) > 1:
        raise ValueError(
            f"{adapter.name} is FaceID Plus for {spec.base}, which was published in two versions that are "
            "computed differently, and nothing in the file tells which one it is. Set plus_version to v2 for "
            "ip-adapter-faceid-plusv2_sd15, or to v1 for ip-adapter-faceid-plus_sd15."
        )
    return version != "v1"


def takes_all(spec: AdapterSpec, mode: FacesMode) -> bool:
    """Whether every face has tokens of its own, or all have those of their mean."""
    return spec.variant in PORTRAITS if mode == "auto" else mode == "all"


def vectors(faces: Faces, spec: AdapterSpec, mode: FacesMode) -> torch.Tensor:
    """Vectors (N,512) of the chosen faces in the form that the adapter reads; N = 1 for the mean.

    Raises ValueError for faces that cancel each other out.
    """
    normalised = spec.face == "normed"
    return faces.embeddings(normalised) if takes_all(spec, mode) else faces.embedding(normalised)


def pack_note(faces: Faces, spec: AdapterSpec) -> str:
    """A warning where the faces are of other models than the adapter was made with, else empty.

    The recogniser's network tells more than the name of its folder; neither is a proof, so nothing is
    refused. Vectors of two recognisers look alike and mean different people.
    """
    wanted = [RECOGNISERS[pack] for pack in spec.face_packs if pack in RECOGNISERS]
    known = faces.recogniser in RECOGNISERS.values()
    fits = faces.recogniser in wanted if known else faces.pack in spec.face_packs
    if fits or not spec.face_packs:
        return ""
    return (
        f"Warning: this adapter was made with {' or '.join(spec.face_packs)}, and the faces come from "
        f"{faces.pack} (recogniser: {faces.recogniser}). If that is another recogniser, "
        "the picture shows somebody else."
    )


def description(
    adapter: IPAdapter, faces: Faces, settings: FaceSettings, tokens: int, encoder_name: str | None
) -> str:
    """What Apply FaceID has done, in words."""
    spec = adapter.spec
    kind = spec.variant
    if kind == PLUS:
        kind += " v2" if has_shortcut(adapter, settings.plus_version) else " v1"
    count = len(faces.faces)
    how = "each with its own tokens" if takes_all(spec, settings.faces_mode) else "averaged"
    lines = [
        f"{adapter.name}: {kind} for {spec.base}, {len(spec.layers)} layers, {tokens} tokens.",
        f"{count} {'face' if count == 1 else f'faces, {how},'} by {faces.pack}, "
        f"{'at length 1' if spec.face == 'normed' else 'as the recogniser gives it'}.",
    ]
    if spec.embeds is not None:
        lines.append(f"Picture of the face through {encoder_name}.")
    elif encoder_name is not None:
        lines.append(f"{encoder_name} is not used: this kind reads no picture of the face.")
    if spec.lora_layers:
        lines.append(f"LoRA half of the file at strength {settings.lora_strength:g}.")
    if spec.variant == PLUS and settings.plus_version == "v1" and "v1" not in spec.plus_versions:
        lines.append(f"Computed as v1 as asked; the published files for {spec.base} are v2.")
    note = pack_note(faces, spec)
    return "\n".join([*lines, note] if note else lines)
