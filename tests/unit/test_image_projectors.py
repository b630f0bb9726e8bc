"""Projectors: equal to diffusers' own classes after its own conversion of the same weights; clear errors."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tiller.adapters.image_prompt.projectors import Weights, face_tokens, project, tokens_of
from tiller.adapters.image_prompt.records import AdapterSpec, EmbedState, ImagePrompt, IPAdapter, PromptPart

X, HIDDEN, SEEN, FACE = 128, 192, 80, 512
TOLERANCE = 1e-5
STATE = EmbedState("CLIP-ViT-H", "penultimate", 9, SEEN)


def linear(key: str, out: int, into: int, bias: bool = True) -> dict[str, tuple[int, ...]]:
    return {f"{key}.weight": (out, into)} | ({f"{key}.bias": (out,)} if bias else {})


def norm(key: str, width: int) -> dict[str, tuple[int, ...]]:
    return {f"{key}.weight": (width,), f"{key}.bias": (width,)}


def resampler(width: int, into: int, depth: int, prefix: str = "") -> dict[str, tuple[int, ...]]:
    shapes = linear(f"{prefix}proj_in", width, into)
    for i in range(depth):
        layer = f"{prefix}layers.{i}"
        shapes |= norm(f"{layer}.0.norm1", width) | norm(f"{layer}.0.norm2", width)
        shapes |= linear(f"{layer}.0.to_q", 128, width, False) | linear(f"{layer}.0.to_kv", 256, width, False)
        shapes |= linear(f"{layer}.0.to_out", width, 128, False) | norm(f"{layer}.1.0", width)
        shapes |= linear(f"{layer}.1.1", 4 * width, width, False)
        shapes |= linear(f"{layer}.1.3", width, 4 * width, False)
    return shapes | linear(f"{prefix}proj_out", X, width) | norm(f"{prefix}norm_out", X)


def mlp(tokens: int, into: int = FACE) -> dict[str, tuple[int, ...]]:
    return linear("proj.0", 2 * into, into) | linear("proj.2", tokens * X, 2 * into) | norm("norm", X)


SHAPES = {
    "linear": linear("proj", 4 * X, SEEN) | norm("norm", X),
    "full face": linear("proj.0", SEEN, SEEN) | linear("proj.2", X, SEEN) | norm("proj.3", X),
    "resampler": {"latents": (1, 16, HIDDEN)} | resampler(HIDDEN, SEEN, 4),
    "resampler of a face": {"latents": (1, 16, HIDDEN)} | resampler(HIDDEN, FACE, 4),
    "FaceID": mlp(4),
    "portrait": mlp(16),
    "FaceID Plus": mlp(4) | resampler(X, SEEN, 4, "perceiver_resampler."),
}
READS = {"linear": (1, SEEN), "full face": (9, SEEN), "resampler": (9, SEEN)}
FACES = ["resampler of a face", "FaceID", "portrait"]


def drawn(shapes: dict[str, tuple[int, ...]], seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)

    def one(shape: tuple[int, ...]) -> torch.Tensor:
        values = torch.randn(shape, generator=generator)
        return values / shape[-1] ** 0.5 if len(shape) > 1 else values * 0.5

    return {key: one(shape) for key, shape in shapes.items()}


def adapter(kind: str) -> IPAdapter:
    weights = drawn(SHAPES[kind])
    state = EmbedState("CLIP-ViT-H", "penultimate", *READS[kind]) if kind in READS else None
    if kind == "FaceID Plus":
        state = STATE
    face = None if kind in READS else "raw" if kind.startswith("resampler") else "normed"
    spec = AdapterSpec("IP-Adapter", "SD1.5", state, face, 4, X, ())
    return IPAdapter(spec, weights, {}, f"{kind}.safetensors")


def prompt_for(of: IPAdapter, sizes: tuple[int, ...] = (1,), seed: int = 1) -> ImagePrompt:
    state, generator = of.spec.embeds, torch.Generator().manual_seed(seed)
    assert state is not None

    def some(count: int) -> torch.Tensor:
        return torch.randn(count, state.tokens, state.width, generator=generator)

    return ImagePrompt(state, tuple(PromptPart(some(size), some(size) * 0.1) for size in sizes))


def faces(count: int) -> torch.Tensor:
    return torch.randn(count, FACE, generator=torch.Generator().manual_seed(2))


@pytest.fixture(scope="module")
def diffusers() -> Any:
    """kind -> diffusers' projector with the same weights."""
    from diffusers.loaders.unet import UNet2DConditionLoadersMixin as Loaders

    def build(of: IPAdapter) -> Any:
        # `self` is not looked at without the low-memory way
        return Loaders._convert_ip_adapter_image_proj_to_diffusers(
            Loaders(), dict(of.image_proj), low_cpu_mem_usage=False
        ).eval()

    return build


def difference(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    assert ours.shape == theirs.shape
    return float((ours - theirs).abs().max() / theirs.abs().max())


@pytest.mark.parametrize("kind", READS)
@torch.no_grad()
def test_pictures_become_the_tokens_that_diffusers_makes(kind: str, diffusers: Any) -> None:
    of = adapter(kind)
    reference, prompt = diffusers(of), prompt_for(of, (2, 1))
    got = tokens_of(of, prompt)
    for side, source in (("cond", "embeds"), ("uncond", "negative")):
        sets = [getattr(part, source) for part in prompt.parts]
        one, other = (reference(each[:, 0] if kind == "linear" else each) for each in sets)
        wanted = torch.cat([one, other.expand(2, -1, -1)], dim=1)
        assert difference(getattr(got, side), wanted) < TOLERANCE


@pytest.mark.parametrize("kind", FACES)
@torch.no_grad()
def test_vectors_of_faces_become_the_tokens_that_diffusers_makes(kind: str, diffusers: Any) -> None:
    of, people = adapter(kind), faces(3)
    reference = diffusers(of)
    got = face_tokens(of, people, None, shortcut=False, structure=1.0)
    for side, vectors in ((got.cond, people), (got.uncond, torch.zeros_like(people))):
        given = vectors[:, None] if kind.startswith("resampler") else vectors
        assert difference(side, reference(given).flatten(0, 1)[None]) < TOLERANCE


@pytest.mark.parametrize(("shortcut", "structure"), [(False, 1.0), (True, 1.0), (True, 0.35)])
@torch.no_grad()
def test_both_versions_of_faceid_plus_equal_diffusers(
    shortcut: bool, structure: float, diffusers: Any
) -> None:
    of, people = adapter("FaceID Plus"), faces(3)
    reference, prompt = diffusers(of), prompt_for(of, (2, 1))
    reference.shortcut, reference.shortcut_scale = shortcut, structure
    got = face_tokens(of, people, prompt, shortcut, structure)
    for side, source, vectors in (
        (got.cond, "embeds", people),
        (got.uncond, "negative", torch.zeros_like(people)),
    ):
        reference.clip_embeds = torch.cat([getattr(part, source) for part in prompt.parts])[:, None]
        assert difference(side, reference(vectors).flatten(0, 1)[None]) < TOLERANCE


def test_one_picture_serves_all_faces() -> None:
    of = adapter("FaceID Plus")
    one = prompt_for(of)
    part = one.parts[0]
    three = ImagePrompt(one.state, (part, part, part))
    alone, each = (face_tokens(of, faces(3), prompt, True, 1.0) for prompt in (one, three))
    assert torch.equal(alone.cond, each.cond)
    assert torch.equal(alone.uncond, each.uncond)


def test_depth_heads_and_hidden_width_are_those_of_the_file() -> None:
    for depth in (1, 2, 6):
        weights = drawn({"latents": (1, 5, HIDDEN)} | resampler(HIDDEN, SEEN, depth))
        assert project(Weights(weights, "a"), torch.randn(2, 9, SEEN)).shape == (2, 5, X)
    for tokens, into in ((4, FACE), (128, 24)):
        assert project(Weights(drawn(mlp(tokens, into)), "a"), torch.randn(2, 1, into)).shape == (
            2,
            tokens,
            X,
        )


def test_half_precision_weights_are_computed_in_float32_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    weights = {key: value.half() for key, value in drawn(SHAPES["linear"]).items()}
    x = torch.randn(2, 1, SEEN)
    whole = project(Weights({key: value.float() for key, value in weights.items()}, "a"), x)
    monkeypatch.setattr("tiller.adapters.image_prompt.projectors.CAST_AT_ONCE", 1000)
    blocks = project(Weights(weights, "a"), x)
    assert blocks.dtype == torch.float32
    assert difference(blocks, whole) < TOLERANCE


def test_embeddings_of_any_precision_become_float32_tokens() -> None:
    of = adapter("resampler")
    prompt = prompt_for(of)
    part = prompt.parts[0]
    half = PromptPart(part.embeds.half(), part.negative.half())
    rounded = PromptPart(half.embeds.float(), half.negative.float())
    got, wanted = (tokens_of(of, ImagePrompt(prompt.state, (each,))) for each in (half, rounded))
    assert torch.equal(got.cond, wanted.cond)
    assert torch.equal(got.uncond, wanted.uncond)


@pytest.mark.parametrize("kind", SHAPES)
def test_a_weight_that_is_missing_or_left_over_is_named(kind: str) -> None:
    def run(weights: dict[str, torch.Tensor]) -> None:
        of = adapter(kind)
        of = IPAdapter(of.spec, weights, {}, "some.safetensors")
        if of.spec.face is None:
            tokens_of(of, prompt_for(of))
        else:
            face_tokens(of, faces(1), prompt_for(of) if kind == "FaceID Plus" else None, True, 1.0)

    full = drawn(SHAPES[kind])
    with pytest.raises(ValueError, match=r"some\.safetensors has weights .* uses: attn\.pos_emb, extra"):
        run(full | {"extra": torch.zeros(1), "attn.pos_emb": torch.zeros(1)})
    missing = list(full)[-1]
    with pytest.raises(ValueError, match=rf"needs the weights {missing}, .*none by that name"):
        run({key: value for key, value in full.items() if key != missing})


def test_weights_that_do_not_fit_are_named_with_their_shape() -> None:
    with pytest.raises(ValueError, match=r"width 24 at proj_in, and its weights there are \(192, 80\)"):
        project(Weights(drawn(SHAPES["resampler"]), "a"), torch.randn(1, 9, 24))


def test_a_prompt_of_another_state_is_refused_with_both_named() -> None:
    of = adapter("resampler")
    other = ImagePrompt(EmbedState("CLIP-ViT-bigG", "image_embeds", 1, 1280), prompt_for(of).parts)
    with pytest.raises(
        ValueError,
        match=r"resampler\.safetensors .* needs CLIP-ViT-H penultimate \(9 x 80\), and the image prompt has "
        r"CLIP-ViT-bigG image_embeds \(1 x 1280\)",
    ):
        tokens_of(of, other)


def test_faces_and_pictures_are_not_taken_for_each_other() -> None:
    picture, face, plus = adapter("linear"), adapter("FaceID"), adapter("FaceID Plus")
    with pytest.raises(ValueError, match=r"FaceID\.safetensors is .* needs the vector of a face"):
        tokens_of(face, prompt_for(picture))
    with pytest.raises(ValueError, match=r"linear\.safetensors is .* needs an image prompt"):
        face_tokens(picture, faces(1), None, False, 1.0)
    with pytest.raises(ValueError, match="needs no picture, and the image prompt has CLIP-ViT-H"):
        face_tokens(face, faces(1), prompt_for(picture), False, 1.0)
    with pytest.raises(ValueError, match="needs the picture of the face beside its vector: CLIP-ViT-H"):
        face_tokens(plus, faces(1), None, True, 1.0)
    with pytest.raises(ValueError, match=r"one picture for each of 3 faces, or one for all; .* has 2"):
        face_tokens(plus, faces(3), prompt_for(plus, (2,)), True, 1.0)


@pytest.mark.parametrize("shape", [(512,), (0, 512), (2, 511), (1, 1, 512)])
def test_a_vector_of_another_shape_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"Vectors of faces \(number, 512\) are needed, got \("):
        face_tokens(adapter("FaceID"), torch.zeros(shape), None, False, 1.0)
