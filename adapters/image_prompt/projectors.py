"""Embeddings -> image tokens: projectors as the keys and shapes of an adapter file make them.

Everything is computed in float32, once per prompt; nothing of it is kept.

Source: Ye et al., "IP-Adapter" (arXiv 2308.06721), section 3.2.1; tencent-ailab/IP-Adapter:
ip_adapter/ip_adapter.py (ImageProjModel, MLPProjModel), resampler.py (Resampler), ip_adapter_faceid.py
(MLPProjModel, ProjPlusModel); XLabs-AI/x-flux-comfyui: layers.py; Shakker-Labs/ComfyUI-IPAdapter-Flux.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import torch
import torch.nn.functional as functional

from ..injection.tokens import Tokens, concatenate
from .records import EmbedState, ImagePrompt, IPAdapter

HEAD_WIDTH = 64
FACE_WIDTH = 512
"""Numbers in the vector that a recogniser of faces gives."""

CAST_AT_ONCE = 1 << 26
"""So many numbers of a matrix are float32 at one time: InstantX's largest has 1.2 billion."""


class Weights:
    """A projector's weights by their keys, and which of them have been read.

    Raises ValueError for a key that is needed and absent, or whose shape does not fit what goes through it.
    """

    def __init__(self, tensors: Mapping[str, torch.Tensor], name: str) -> None:
        self.tensors, self.name = tensors, name
        self._read: set[str] = set()

    def take(self, key: str) -> torch.Tensor:
        if key not in self.tensors:
            raise ValueError(
                f"The projector of {self.name} needs the weights {key}, and the file has none by that name "
                "(image_proj). Download the file again, or choose another."
            )
        self._read.add(key)
        return self.tensors[key]

    def linear(self, x: torch.Tensor, key: str, has_bias: bool = True) -> torch.Tensor:
        """(…,in) -> (…,out) by the matrix `key`.weight and, where it has one, its bias."""
        matrix = self.take(f"{key}.weight")
        if matrix.ndim != 2 or matrix.shape[1] != x.shape[-1]:
            raise ValueError(
                f"The projector of {self.name} reads vectors of width {x.shape[-1]} at {key}, and its "
                f"weights there are {tuple(matrix.shape)}. Download the file again, or choose another."
            )
        rows = max(1, CAST_AT_ONCE // matrix.shape[1])
        parts = [functional.linear(x, block.to(x)) for block in matrix.split(rows)]
        out = parts[0] if len(parts) == 1 else torch.cat(parts, dim=-1)
        return out + self.take(f"{key}.bias").to(x) if has_bias else out

    def norm(self, x: torch.Tensor, key: str) -> torch.Tensor:
        weight, bias = self.take(f"{key}.weight"), self.take(f"{key}.bias")
        return functional.layer_norm(x, x.shape[-1:], weight.to(x), bias.to(x))

    def width(self, key: str) -> int:
        """How many numbers the vector `key` has."""
        return self.take(key).shape[0]

    def finish(self) -> None:
        """Raises ValueError when keys are left that nothing has read."""
        left = sorted(set(self.tensors) - self._read)
        if left:
            shown = ", ".join(left[:5]) + (f" and {len(left) - 5} more" if len(left) > 5 else "")
            raise ValueError(
                f"The projector of {self.name} has weights that no known projector uses: {shown} "
                "(image_proj). It is of a kind that Tiller does not know; choose another file."
            )


def _linear(weights: Weights, x: torch.Tensor) -> torch.Tensor:
    """One vector (N,1,E) -> (N,T,X): one matrix makes all tokens."""
    return weights.norm(weights.linear(x, "proj").unflatten(-1, (-1, weights.width("norm.weight"))), "norm")


def _per_token(weights: Weights, x: torch.Tensor) -> torch.Tensor:
    """Each token (N,S,E) on its own -> (N,S,X)."""
    return weights.norm(weights.linear(functional.gelu(weights.linear(x, "proj.0")), "proj.2"), "proj.3")


def _mlp(weights: Weights, x: torch.Tensor) -> torch.Tensor:
    """One vector (N,1,E) -> (N,T,X) through a hidden layer."""
    hidden = weights.linear(functional.gelu(weights.linear(x, "proj.0")), "proj.2")
    return weights.norm(hidden.unflatten(-1, (-1, weights.width("norm.weight"))), "norm")


def _split(x: torch.Tensor, heads: int) -> torch.Tensor:
    return x.unflatten(-1, (heads, -1)).transpose(-3, -2)


def _attention(weights: Weights, x: torch.Tensor, latents: torch.Tensor, key: str) -> torch.Tensor:
    """Latents (N,Q,D) attend to the picture (N,S,D) and to themselves."""
    picture, own = weights.norm(x, f"{key}.norm1"), weights.norm(latents, f"{key}.norm2")
    q = weights.linear(own, f"{key}.to_q", has_bias=False)
    both = torch.cat([picture, own], dim=1)
    k, v = weights.linear(both, f"{key}.to_kv", has_bias=False).chunk(2, dim=-1)
    heads = q.shape[-1] // HEAD_WIDTH
    q, k, v = (_split(side, heads) for side in (q, k, v))
    out = functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
    return weights.linear(out, f"{key}.to_out", has_bias=False)


def _resample(weights: Weights, x: torch.Tensor, latents: torch.Tensor, prefix: str = "") -> torch.Tensor:
    """Picture tokens (N,S,E) and latents (N,Q,D) -> (N,Q,X), layer by layer as many as the file has."""
    x = weights.linear(x, f"{prefix}proj_in")
    for number in itertools.count():
        layer = f"{prefix}layers.{number}"
        if f"{layer}.0.to_q.weight" not in weights.tensors:
            break
        latents = latents + _attention(weights, x, latents, f"{layer}.0")
        hidden = weights.linear(weights.norm(latents, f"{layer}.1.0"), f"{layer}.1.1", has_bias=False)
        latents = latents + weights.linear(functional.gelu(hidden), f"{layer}.1.3", has_bias=False)
    return weights.norm(weights.linear(latents, f"{prefix}proj_out"), f"{prefix}norm_out")


def _resampler(weights: Weights, x: torch.Tensor) -> torch.Tensor:
    latents = weights.take("latents").to(x)
    return _resample(weights, x, latents.expand(len(x), -1, -1))


def project(weights: Weights, x: torch.Tensor) -> torch.Tensor:
    """Embeddings (N,S,E) -> tokens (N,T,X) by the projector that the keys of `weights` are of.

    Raises ValueError for weights that are missing, left over or of another shape.
    """
    keys = weights.tensors
    if "proj.weight" in keys:
        tokens = _linear(weights, x).flatten(1, 2)
    elif "proj.3.weight" in keys:
        tokens = _per_token(weights, x)
    elif "latents" in keys:
        tokens = _resampler(weights, x)
    else:
        tokens = _mlp(weights, x).flatten(1, 2)
    weights.finish()
    return tokens


def project_face(
    weights: Weights, face: torch.Tensor, x: torch.Tensor | None, shortcut: bool, structure: float
) -> torch.Tensor:
    """Vectors of faces (N,512), for the Plus kinds with the faces' pictures (N,S,E), -> tokens (N,T,X).

    `shortcut` adds the tokens of the vector to those of the picture, the latter times `structure`.
    """
    if x is None:
        return project(weights, face[:, None])
    own = _mlp(weights, face[:, None]).flatten(1, 2)
    seen = _resample(weights, x, own, "perceiver_resampler.")
    weights.finish()
    return own + structure * seen if shortcut else seen


def _check_state(adapter: IPAdapter, prompt: ImagePrompt) -> None:
    wanted, came = adapter.spec.embeds, prompt.state
    if wanted != came:
        raise ValueError(
            f"{adapter.name} ({adapter.spec.variant}, {adapter.spec.base}) needs {_words(wanted)}, and the "
            f"image prompt has {_words(came)}. Make the prompt with this adapter's own image encoder."
        )


def _words(state: EmbedState | None) -> str:
    if state is None:
        return "no picture"
    return f"{state.encoder} {state.state} ({state.tokens} x {state.width})"


def tokens_of(adapter: IPAdapter, prompt: ImagePrompt, device: torch.device | str = "cpu") -> Tokens:
    """Tokens (N,T,X), float32 on the processor, of an image prompt; those of its parts stand side by side.

    Raises ValueError for an adapter of faces, for a prompt of another encoder or another state of it, and
    for weights that no known projector has.
    """
    if adapter.spec.face is not None:
        raise ValueError(
            f"{adapter.name} is {adapter.spec.variant}: it needs the vector of a face, and an image prompt "
            "came. Use Apply FaceID."
        )
    _check_state(adapter, prompt)

    def tokens(embeds: torch.Tensor) -> torch.Tensor:
        return project(Weights(adapter.image_proj, adapter.name), embeds.to(device, torch.float32)).cpu()

    return concatenate([Tokens(tokens(part.embeds), tokens(part.negative)) for part in prompt.parts])


def face_tokens(
    adapter: IPAdapter,
    embeddings: torch.Tensor,
    prompt: ImagePrompt | None,
    shortcut: bool,
    structure: float,
    device: torch.device | str = "cpu",
) -> Tokens:
    """Tokens (1, N * T, X), float32 on the processor, of N faces' vectors (N,512), side by side.

    The Plus kinds also need `prompt`: the pictures of the same faces in the same order. The negative side
    is made of zeros for the vector and of the prompt's negative for the picture. `shortcut` is how version
    2 of Plus works, with `structure` as the weight of what the picture adds (the papers' s_scale).

    Raises ValueError for an adapter without faces, vectors of another shape, and pictures that are missing,
    not wanted, of another state or of another number.
    """
    if adapter.spec.face is None:
        raise ValueError(
            f"{adapter.name} is {adapter.spec.variant}: it needs an image prompt, and the vector of a face "
            "came. Use Apply IP-Adapter."
        )
    if embeddings.ndim != 2 or embeddings.shape[1] != FACE_WIDTH or len(embeddings) == 0:
        raise ValueError(
            f"Vectors of faces (number, {FACE_WIDTH}) are needed, got {tuple(embeddings.shape)}. Analyse "
            "the faces with a recogniser of ArcFace's shape."
        )
    faces = embeddings.to(device, torch.float32)
    pictures = _pictures(adapter, prompt, len(faces))

    def tokens(vectors: torch.Tensor, side: int) -> torch.Tensor:
        x = None if pictures is None else pictures[side].to(device, torch.float32)
        weights = Weights(adapter.image_proj, adapter.name)
        return project_face(weights, vectors, x, shortcut, structure).flatten(0, 1)[None].cpu()

    return Tokens(tokens(faces, 0), tokens(torch.zeros_like(faces), 1))


def _pictures(
    adapter: IPAdapter, prompt: ImagePrompt | None, faces: int
) -> tuple[torch.Tensor, torch.Tensor] | None:
    """Pictures and their negatives, each (faces,S,E), for a Plus adapter; None for the others."""
    if prompt is None and adapter.spec.embeds is None:
        return None
    if prompt is None:
        raise ValueError(
            f"{adapter.name} ({adapter.spec.variant}) needs the picture of the face beside its vector: "
            f"{_words(adapter.spec.embeds)}. Connect an image prompt of the face's crop."
        )
    _check_state(adapter, prompt)
    embeds, negative = (
        torch.cat([getattr(part, side) for part in prompt.parts]) for side in ("embeds", "negative")
    )
    if len(embeds) not in (1, faces):
        raise ValueError(
            f"{adapter.name} needs one picture for each of {faces} faces, or one for all; the image prompt "
            f"has {len(embeds)}. Give the crops of the same faces."
        )
    return embeds.expand(faces, -1, -1), negative.expand(faces, -1, -1)
