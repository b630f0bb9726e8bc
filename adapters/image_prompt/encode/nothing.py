"""What the negative side gets where there is no picture."""

from __future__ import annotations

from typing import Literal

from ..records import AdapterSpec

NoImage = Literal["official", "black"]
NO_IMAGE: tuple[NoImage, ...] = ("official", "black")
Nothing = Literal["zero embedding", "zero tensor", "black picture"]


def nothing_is(spec: AdapterSpec, rule: NoImage) -> Nothing:
    """The stand-in for a picture on the negative side of an adapter.

    Officially, IP-Adapters that read the projected class token get zeros in its place, and those that read
    hidden states get those of a tensor of zeros behind the normalisation, which is no black picture. XLabs'
    for Flux encodes that tensor as well. InstantX's has no negative side: zeros say so, and nothing is added
    there. "black" encodes a black picture where hidden states are read, as IPAdapter_plus does, and for
    InstantX, as diffusers does with adapters for Flux; it is the official rule elsewhere.

    Sources: tencent-ailab/IP-Adapter: ip_adapter/ip_adapter.py (get_image_embeds of each class);
    XLabs-AI/x-flux-comfyui: nodes.py (ApplyFluxIPAdapter); huggingface/diffusers:
    pipelines/flux/pipeline_flux.py; cubiq/ComfyUI_IPAdapter_plus: IPAdapterPlus.py (ipadapter_execute).
    """
    state = None if spec.embeds is None else spec.embeds.state
    if state == "pooled":
        return "zero embedding" if rule == "official" else "black picture"
    if state == "penultimate":
        return "zero tensor" if rule == "official" else "black picture"
    return "zero tensor" if spec.base == "Flux" else "zero embedding"
