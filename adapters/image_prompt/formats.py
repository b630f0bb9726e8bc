"""What an adapter file is, from its keys and shapes, and which of its weights are which part.

Host-free. A file has a projector, which makes tokens of a picture's embeddings, and layers, which make keys
and values of the tokens. What it is called matters nowhere.

Source: tencent-ailab/IP-Adapter: ip_adapter/ip_adapter.py (load_ip_adapter), README.md (training
checkpoints); cubiq/ComfyUI_IPAdapter_plus: utils.py (ipadapter_model_loader), IPAdapterPlus.py;
huggingface/diffusers: loaders/unet.py; XLabs-AI/x-flux-comfyui: nodes.py; Shakker-Labs/
ComfyUI-IPAdapter-Flux: ipadapter_flux.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from ..identify import Identified, Shapes, UnknownWeightsError, identify
from ..nested import flat
from . import listings
from .listings import Lister, layer_numbers, size
from .records import AdapterSpec, Base, EmbedState, EncoderKind, HiddenState, Variant

Family = Literal["UNet", "InstantX", "XLabs"]

PROJECTOR_PREFIXES = ("image_proj.", "image_proj_model.", "ip_adapter_proj_model.")
LAYER_PREFIXES = ("ip_adapter.", "adapter_modules.")
MODEL_PREFIXES = ("unet.",)
"""Of the model that a training checkpoint carries beside its adapter: left out."""

IP_ADAPTERS = ("IP-Adapter", "IP-Adapter (Flux)")
"""What `adapters/identify` calls these files."""

CONTROL_USE = "Put it into models/controlnet and load it with Load Control."

BASES: dict[int, Base] = {768: "SD1.5", 2048: "SDXL", 4096: "Flux"}
"""Base model by the text width that the layers read. Kolors has SDXL's, and is known by its encoder."""

ENCODERS: dict[HiddenState, dict[int, EncoderKind]] = {
    "image_embeds": {1024: "CLIP-ViT-H", 1280: "CLIP-ViT-bigG", 768: "CLIP-ViT-L"},
    "penultimate": {1280: "CLIP-ViT-H", 1664: "CLIP-ViT-bigG", 1024: "CLIP-ViT-L"},
    "pooled": {1152: "SigLIP-so400m-384"},
}
"""State that a projector reads -> its width -> the encoder that has it."""

STATE_TOKENS: dict[HiddenState, int] = {"image_embeds": 1, "penultimate": 257, "pooled": 1}
KOLORS_TOKENS = 577


class Layout(NamedTuple):
    """One row of the table: an earlier row wins.

    `marks` are the keys that a projector of this kind has; `reads` the one whose columns are the width that
    it reads, of the encoder's `state`; `columns` that width, where it must be this one. `has_lora` asks
    for layers with or without a LoRA. `tokens` names the key that tells the number of tokens, `norm` the one
    of their width. `listing` makes the keys and shapes of the whole projector. `packs` as in `AdapterSpec`.
    """

    variant: Variant
    family: Family
    marks: tuple[str, ...]
    reads: str
    state: HiddenState | None
    tokens: str
    listing: Lister
    norm: str = "norm.weight"
    columns: int | None = None
    has_lora: bool | None = None
    face: Literal["normed", "raw"] | None = None
    packs: tuple[str, ...] = ()


MLP = ("proj.0.weight", "proj.2.weight", "norm.weight")
PERCEIVER = "perceiver_resampler.proj_in.weight"
BUFFALO, ANTELOPE = "buffalo_l", "antelopev2"

LAYOUTS: tuple[Layout, ...] = (
    Layout(
        "Flux IP-Adapter (InstantX)",
        "InstantX",
        MLP,
        "proj.0.weight",
        "pooled",
        "proj.2.weight",
        listings.mlp,
    ),
    Layout(
        "Flux IP-Adapter (XLabs)",
        "XLabs",
        ("proj.weight",),
        "proj.weight",
        "image_embeds",
        "proj.weight",
        listings.linear,
    ),
    Layout(
        "IP-Adapter",
        "UNet",
        ("proj.weight",),
        "proj.weight",
        "image_embeds",
        "proj.weight",
        listings.linear,
        has_lora=False,
    ),
    Layout(
        "IP-Adapter Full Face",
        "UNet",
        ("proj.3.weight",),
        "proj.0.weight",
        "penultimate",
        "",
        listings.per_token,
        norm="proj.3.weight",
        has_lora=False,
    ),
    Layout(
        "FaceID Plus",
        "UNet",
        (PERCEIVER,),
        PERCEIVER,
        "penultimate",
        "proj.2.weight",
        listings.face_perceiver,
        face="normed",
        packs=(BUFFALO,),
    ),
    Layout(
        "FaceID Portrait Unnorm",
        "UNet",
        ("latents",),
        "proj_in.weight",
        None,
        "latents",
        listings.resampler,
        norm="norm_out.weight",
        columns=listings.FACE_WIDTH,
        has_lora=False,
        face="raw",
        packs=(BUFFALO, ANTELOPE),
    ),
    Layout(
        "IP-Adapter Plus",
        "UNet",
        ("latents",),
        "proj_in.weight",
        "penultimate",
        "latents",
        listings.resampler,
        norm="norm_out.weight",
        has_lora=False,
    ),
    Layout(
        "FaceID",
        "UNet",
        MLP,
        "proj.0.weight",
        None,
        "proj.2.weight",
        listings.mlp,
        columns=listings.FACE_WIDTH,
        has_lora=True,
        face="normed",
        packs=(BUFFALO,),
    ),
    Layout(
        "FaceID Portrait",
        "UNet",
        MLP,
        "proj.0.weight",
        None,
        "proj.2.weight",
        listings.mlp,
        columns=listings.FACE_WIDTH,
        has_lora=False,
        face="normed",
        packs=(BUFFALO,),
    ),
)

LAYERS: dict[Family, Lister] = {
    "UNet": listings.unet_layers,
    "InstantX": listings.instantx_layers,
    "XLabs": listings.xlabs_layers,
}


FIRST: dict[Family, str] = {
    "UNet": "1.to_k_ip.weight",
    "InstantX": "0.to_k_ip.weight",
    "XLabs": f"{listings.XLABS}0.{listings.XLABS_PART}k_proj.weight",
}
"""The layer key that tells the text width."""


class Parts(NamedTuple):
    """A file's keys: bare key of the projector and of the layers -> key in the file, and all other keys."""

    image_proj: dict[str, str]
    ip_adapter: dict[str, str]
    others: tuple[str, ...]


def parts_of(keys: Mapping[str, Any]) -> Parts:
    """Which keys of a flat file are which part."""
    image_proj: dict[str, str] = {}
    ip_adapter: dict[str, str] = {}
    others = []
    for key in keys:
        if (prefix := _prefix(key, PROJECTOR_PREFIXES)) is not None:
            image_proj[key.removeprefix(prefix)] = key
        elif (prefix := _prefix(key, LAYER_PREFIXES)) is not None:
            ip_adapter[key.removeprefix(prefix)] = key
        elif key.startswith(listings.XLABS) and f".{listings.XLABS_PART}" in key:
            ip_adapter[key] = key
        elif _prefix(key, MODEL_PREFIXES) is None:
            others.append(key)
    return Parts(image_proj, ip_adapter, tuple(others))


def _prefix(key: str, prefixes: tuple[str, ...]) -> str | None:
    return next((prefix for prefix in prefixes if key.startswith(prefix)), None)


def split(weights: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The tensors of a file, flat or nested -> those of its projector and of its layers, by bare keys.

    The model that a training checkpoint carries is left out. Nothing is checked: see `identify_adapter`.
    """
    tensors = flat(weights)
    parts = parts_of(tensors)
    return (
        {bare: tensors[key] for bare, key in parts.image_proj.items()},
        {bare: tensors[key] for bare, key in parts.ip_adapter.items()},
    )


def identify_adapter(shapes: Shapes, name: str = "the file") -> AdapterSpec:
    """Key -> shape listing of an adapter file, flat -> what it is. `name` is the file's, for messages.

    Raises:
        UnknownWeightsError: for a file that is no adapter that is known, or whose keys are not complete.
        ValueError: for a file that is something else, with what it is and what loads it.
    """
    parts = parts_of(shapes)
    found = _identified(shapes)
    if found is not None and found.kind not in IP_ADAPTERS:
        use = CONTROL_USE if found.role == "control" else found.use
        raise ValueError(f"An IP-Adapter was needed, but {name} is: {found.kind} ({found.family}). {use}")
    _check_parts(parts, shapes, name)
    proj = {bare: shapes[key] for bare, key in parts.image_proj.items()}
    layers = {bare: shapes[key] for bare, key in parts.ip_adapter.items()}
    layout = _layout(proj, layers, name)
    spec = _spec(layout, proj, layers, name)
    _check_keys(layout, spec, parts, shapes, name)
    _check_widths(spec, size(layers, FIRST[layout.family], 1), name)
    return spec


def _identified(shapes: Shapes) -> Identified | None:
    try:
        return identify(shapes)
    except UnknownWeightsError:
        return None


def _check_parts(parts: Parts, shapes: Shapes, name: str) -> None:
    lacking = [
        f"{what} ({prefixes[0]}…)"
        for what, prefixes, part in (
            ("the projector", PROJECTOR_PREFIXES, parts.image_proj),
            ("the layers", LAYER_PREFIXES, parts.ip_adapter),
        )
        if not part
    ]
    if lacking:
        some = ", ".join(sorted(shapes)[:3]) or "no tensors"
        raise UnknownWeightsError(
            f"An IP-Adapter was needed, but {name} lacks {' and '.join(lacking)}; it has {len(shapes)} "
            f"tensors ({some}). Check that the file is what its page says, and that it is whole."
        )


def _family(layers: Shapes) -> Family:
    if any(key.startswith(listings.XLABS) for key in layers):
        return "XLabs"
    return "InstantX" if FIRST["InstantX"] in layers else "UNet"


def _layout(proj: Shapes, layers: Shapes, name: str) -> Layout:
    family, has_lora = _family(layers), any(listings.LORA in key for key in layers)
    for layout in LAYOUTS:
        if (
            layout.family == family
            and all(mark in proj for mark in layout.marks)
            and layout.columns in (None, size(proj, layout.reads, 1))
            and layout.has_lora in (None, has_lora)
        ):
            return layout
    known = ", ".join(layout.variant for layout in LAYOUTS if layout.family == family)
    raise UnknownWeightsError(
        f"{name} has the layers of an adapter for {'a UNet' if family == 'UNet' else 'Flux'}"
        f"{' with a LoRA half' if has_lora else ''}, but a projector of no kind that Tiller knows (it begins "
        f"with {', '.join(sorted(proj)[:3])}). Known are {known}. It may be made for another node pack."
    )


def _spec(layout: Layout, proj: Shapes, layers: Shapes, name: str) -> AdapterSpec:
    first = FIRST[layout.family]
    base = BASES.get(size(layers, first, 1))
    if base is None or (base == "Flux") != (layout.family != "UNet"):
        known = ", ".join(f"{width} ({of})" for width, of in BASES.items())
        raise UnknownWeightsError(
            f"{name} is {layout.variant}, whose layers must read a text width of {known}; "
            f"{first} reads {_named(size(layers, first, 1))}. "
            "It may be made for a model that Tiller does not know."
        )
    embeds = _embeds(layout, proj, name)
    if base == "SDXL" and layout.state == "penultimate" and embeds and embeds.encoder == "CLIP-ViT-L":
        base = "Kolors"
        embeds = EmbedState("CLIP-ViT-L-336", "penultimate", KOLORS_TOKENS, embeds.width)
    is_kolors_face = base == "Kolors" and layout.face is not None
    width = size(proj, layout.norm, 0)
    return AdapterSpec(
        variant=layout.variant,
        base=base,
        embeds=embeds,
        face=layout.face,
        tokens=_tokens(layout, proj, width, embeds),
        text_width=width,
        layers=layer_numbers(layers),
        lora_layers=layer_numbers(layers, is_lora=True),
        plus_versions=_versions(layout, base),
        face_packs=(ANTELOPE,) if is_kolors_face else layout.packs,
    )


def _named(width: int) -> str:
    return "nothing: it is missing" if width == listings.UNKNOWN else str(width)


def _versions(layout: Layout, base: Base) -> tuple[Literal["v1", "v2"], ...]:
    if layout.variant != "FaceID Plus":
        return ()
    return ("v1", "v2") if base == "SD1.5" else ("v2",)


def _embeds(layout: Layout, proj: Shapes, name: str) -> EmbedState | None:
    if layout.state is None:
        return None
    width, known = size(proj, layout.reads, 1), ENCODERS[layout.state]
    if width not in known:
        widths = ", ".join(f"{size} ({encoder})" for size, encoder in known.items())
        raise UnknownWeightsError(
            f"{name} is {layout.variant}, whose projector must read a width of {widths}; it reads "
            f"{_named(width)}. It may be made for a picture encoder that Tiller does not know."
        )
    return EmbedState(known[width], layout.state, STATE_TOKENS[layout.state], width)


def _tokens(layout: Layout, proj: Shapes, width: int, embeds: EmbedState | None) -> int:
    if layout.tokens == "latents":
        return size(proj, "latents", 1)
    if not layout.tokens:
        return embeds.tokens if embeds else 0
    rows = size(proj, layout.tokens, 0)
    return rows // width if width > 0 and rows % width == 0 else 0


def _check_keys(layout: Layout, spec: AdapterSpec, parts: Parts, shapes: Shapes, name: str) -> None:
    """Raises UnknownWeightsError for keys that lack or that nothing reads, and for shapes that do not fit."""
    told: dict[str, list[str]] = {"lacks": [], "also has": list(parts.others)}
    for part, lister in ((parts.image_proj, layout.listing), (parts.ip_adapter, LAYERS[layout.family])):
        bare, full = next(iter(part.items()))
        prefix = full.removesuffix(bare)
        found = {key: shapes[whole] for key, whole in part.items()}
        for what, keys in listings.differences(found, lister(found)).items():
            told[what] = [*told.get(what, ()), *(prefix + key for key in keys)]
    for what, keys in told.items():
        if keys:
            more = f" and {len(keys) - 3} more" if len(keys) > 3 else ""
            raise UnknownWeightsError(
                f"{name} is {spec.variant} for {spec.base}, but it {what} {', '.join(keys[:3])}{more}. "
                "Download the file again, or choose another."
            )


def _check_widths(spec: AdapterSpec, text: int, name: str) -> None:
    """Raises UnknownWeightsError where the projector does not make what the layers read.

    Kolors' model halves the width of FaceID's tokens before its layers.
    """
    wanted = 2 * text if spec.base == "Kolors" and spec.face is not None else text
    if spec.tokens < 1 or spec.text_width != wanted:
        raise UnknownWeightsError(
            f"{name} is {spec.variant} for {spec.base}, but its projector makes {spec.tokens or 'no whole'} "
            f"tokens of width {spec.text_width}, and its layers read a width of {wanted}. Its parts are of "
            "two files; download it again."
        )
