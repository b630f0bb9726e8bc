"""Apply FaceID in the host's own sampler: equal to the authors' formula, and nothing left behind."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tiller.tests.host import faceid_by_hand as hand
from tiller.tests.host import inprocess as real
from tiller.tests.host.face_id_case import (
    KINDS,
    LORA,
    Encoder,
    adapter,
    apply,
    compare,
    faces,
    pack,
    tokens,
    unet,
)
from tiller.tests.host.small_unets import small

TOLERANCE = 2e-6


@pytest.fixture
def encoder(monkeypatch: pytest.MonkeyPatch) -> Encoder:
    standin = Encoder()
    monkeypatch.setattr(pack("image_prompt.face_id.apply"), "encode_image_prompt", standin.encode)
    return standin


def plain(base: str, **run: Any) -> torch.Tensor:
    return hand.picture(small(unet(base)), small(unet(base)).model, **run)


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_sampling_equals_the_authors_attention_with_its_lora_beside_it(kind: Any, encoder: Encoder) -> None:
    found = compare(kind, encoder)
    assert found.effect > 0.05
    assert found.difference / found.effect < TOLERANCE
    assert found.layers == len(adapter(*kind).spec.layers) == {"SD1.5": 16, "SDXL": 17}[kind[1]]


def test_the_lora_half_acts_by_its_strength_and_at_zero_leaves_the_weights_alone(encoder: Encoder) -> None:
    kind, of = ("FaceID", "SD1.5"), small("sd15")

    def drawn(strength: float) -> torch.Tensor:
        return hand.picture(of, apply(of.model, kind, faces(), face={"lora_strength": strength})[0])

    clone = apply(of.model, kind, faces(), face={"lora_strength": 0.0})[0]
    assert clone.patches == of.model.patches == {}
    injection = pack("image_prompt.apply")
    made = tokens(kind, faces(), encoder)
    alone = injection.apply_tokens(
        of.model, adapter(*kind), made, pack("image_prompt.terms").InjectionSettings()
    )
    assert torch.equal(drawn(0.0), hand.picture(of, alone))
    assert real.difference(drawn(1.0), drawn(0.0)) > 0.05
    assert len(apply(of.model, kind, faces())[0].patches) == 128


def test_at_weight_zero_only_the_lora_half_is_left(encoder: Encoder) -> None:
    kind, of = ("FaceID", "SD1.5"), small("sd15")
    lora = pack("lora._host").add_faceid_lora(of.model, adapter(*kind).ip_adapter, LORA)
    both = {"weight": (0.0,)}, {"start": 1.0, "end": 1.0}
    for off in both:
        got = hand.picture(of, apply(of.model, kind, faces(), **off)[0])
        assert torch.equal(got, hand.picture(of, lora))
    nothing = apply(of.model, kind, faces(), face={"lora_strength": 0.0}, weight=(0.0,))[0]
    assert torch.equal(hand.picture(of, nothing), plain("SD1.5"))


def test_the_source_model_stays_and_the_same_graph_gives_the_same_bits() -> None:
    kind, of = ("FaceID", "SD1.5"), small("sd15")
    before, first = plain("SD1.5"), apply(of.model, kind, faces())[0]
    options = repr(of.model.model_options)
    one = hand.picture(of, first)
    assert torch.equal(hand.picture(of, apply(of.model, kind, faces())[0]), one)
    second = apply(first, kind, faces(seed=2))[0]
    assert not torch.equal(hand.picture(of, second), one)
    assert torch.equal(hand.picture(of, first), one)
    assert torch.equal(plain("SD1.5"), before)
    assert (repr(of.model.model_options), of.model.patches) == (options, {})


def test_version_two_of_plus_adds_the_faces_own_tokens_to_those_of_its_picture(encoder: Encoder) -> None:
    kind = ("FaceID Plus", "SD1.5")
    picture = {
        (shortcut, structure): tokens(kind, faces(), encoder, shortcut, structure).cond
        for shortcut, structure in ((False, 1.0), (True, 0.0), (True, 1.5))
    }
    own, seen = picture[True, 0.0], picture[False, 1.0]
    torch.testing.assert_close(picture[True, 1.5], own + 1.5 * seen)
    of = small("sd15")

    def drawn(version: str, structure: float = 1.0) -> torch.Tensor:
        face = {"plus_version": version, "structure": structure}
        return hand.picture(of, apply(of.model, kind, faces(), encoder, face)[0], steps=1)

    assert torch.equal(drawn("v1"), drawn("v1", 3.0))
    assert real.difference(drawn("v2"), drawn("v1")) > 0.01
    assert real.difference(drawn("v2"), drawn("v2", 3.0)) > 0.01


def test_the_version_that_the_file_cannot_tell_is_asked_for(encoder: Encoder) -> None:
    asked = {"plus_version": "auto"}
    with pytest.raises(ValueError, match=r"nothing in the file tells which one it is\. Set plus_version"):
        apply(small("sd15").model, ("FaceID Plus", "SD1.5"), faces(), encoder, asked)
    _, text = apply(small("sdxl").model, ("FaceID Plus", "SDXL"), faces(), encoder, asked)
    assert "FaceID Plus v2 for SDXL" in text
    _, text = apply(small("sdxl").model, ("FaceID Plus", "SDXL"), faces(), encoder, {"plus_version": "v1"})
    assert "Computed as v1 as asked; the published files for SDXL are v2." in text
    with pytest.raises(ValueError, match="A plus_version of auto, v1, v2 is needed, got 'v3'"):
        pack("image_prompt.face_id.rules").FaceSettings(plus_version="v3")


def test_the_face_goes_upright_and_whole_through_the_encoder(encoder: Encoder) -> None:
    who = faces(2)
    apply(small("sd15").model, ("FaceID Plus", "SD1.5"), who, encoder)
    assert torch.equal(encoder.crops[0], who.crops(224))
    with pytest.raises(ValueError, match=r"also looks at the face, and needs image_encoder CLIP-ViT-H\."):
        apply(small("sd15").model, ("FaceID Plus", "SD1.5"), who)


def test_faces_are_averaged_or_each_has_its_tokens(encoder: Encoder) -> None:
    who = faces(3)
    for kind, mode, wanted in (
        (("FaceID", "SD1.5"), "auto", 4),
        (("FaceID", "SD1.5"), "all", 12),
        (("FaceID Plus", "SD1.5"), "average", 4),
        (("FaceID Plus", "SD1.5"), "all", 12),
        (("FaceID Portrait", "SD1.5"), "auto", 48),
        (("FaceID Portrait", "SD1.5"), "average", 16),
    ):
        clone, text = apply(small("sd15").model, kind, who, encoder, {"faces_mode": mode})
        [injection] = clone.model_options["transformer_options"]["tiller_injections"]
        assert {term.tokens.cond.shape[1] for term in injection.terms.values()} == {wanted}
        assert f"{wanted} tokens" in text
        assert ("averaged" in text) == (wanted in (4, 16))


def test_where_each_face_has_its_tokens_they_are_of_its_own_picture(encoder: Encoder) -> None:
    kind, who = ("FaceID Plus", "SD1.5"), faces(2)
    clone, _ = apply(small("sd15").model, kind, who, encoder, {"faces_mode": "all"})
    [injection] = clone.model_options["transformer_options"]["tiller_injections"]
    got = next(iter(injection.terms.values())).tokens
    settings = pack("image_prompt.encode.apply").EncodeSettings(batch="concat")
    pictures = encoder.encode(adapter(*kind), encoder, who.crops(224), settings)[0]
    face_tokens = pack("image_prompt.projectors").face_tokens
    for number in range(2):
        one = pack("image_prompt.records").ImagePrompt(pictures.state, pictures.parts[number : number + 1])
        vector = who.embeddings(True)[number : number + 1]
        wanted = face_tokens(adapter(*kind), vector, one, True, 1.0)
        own = slice(4 * number, 4 * number + 4)
        for side, other in ((got.cond, wanted.cond), (got.uncond, wanted.uncond)):
            assert real.difference(side[:, own], other) / other.abs().max() < TOLERANCE
    assert real.difference(got.cond[:, :4], got.cond[:, 4:]) > 0.05


def test_unnorm_reads_the_vector_as_it_is_and_the_others_its_direction() -> None:
    rules = pack("image_prompt.face_id.rules")
    who = faces(2)
    for kind, length in ((("FaceID Portrait", "SDXL"), 1.0), (("FaceID Portrait Unnorm", "SDXL"), 22.6)):
        found = rules.vectors(who, adapter(*kind).spec, "all")
        assert found.norm(dim=1).tolist() == pytest.approx([length] * 2, rel=0.1)


def test_two_people_in_two_masks_do_not_leak_into_each_other() -> None:
    of, kind = small("sd15"), ("FaceID Portrait", "SD1.5")
    left = torch.zeros(512, 512)
    left[:, :256] = 1.0

    def terms(first: int, second: int) -> torch.Tensor:
        model = apply(of.model, kind, faces(seed=first), mask=left)[0]
        model = apply(model, kind, faces(seed=second), mask=1.0 - left)[0]
        return attention_of(of, model)

    def columns(out: torch.Tensor, first: int, last: int) -> torch.Tensor:
        return out.unflatten(1, (16, 16))[:, :, first:last]

    one, other, none = terms(1, 2), terms(1, 3), attention_of(of, of.model)
    assert torch.equal(columns(one, 0, 7), columns(other, 0, 7)), "the left is the first person's alone"
    assert not torch.equal(columns(one, 9, 16), columns(other, 9, 16))
    assert not torch.equal(columns(one, 0, 7), columns(none, 0, 7))
    swapped = terms(2, 1)
    assert not torch.equal(columns(swapped, 0, 7), columns(one, 0, 7))
    whole = attention_of(of, apply(of.model, kind, faces(seed=1))[0])
    assert torch.equal(columns(whole, 0, 7), columns(one, 0, 7))


def attention_of(of: Any, model: Any) -> torch.Tensor:
    """What the first cross-attention of one call puts out before the projection: (rows, L, C)."""
    found: list[torch.Tensor] = []
    first = of.model.model.diffusion_model.input_blocks[1][1].transformer_blocks[0].attn2.to_out[0]
    handle = first.register_forward_pre_hook(lambda _, given: found.append(given[0].clone()))
    try:
        hand.picture(of, model, size=(16, 16), steps=1)
    finally:
        handle.remove()
    return found[0]


def test_a_wrong_adapter_or_encoder_is_refused_by_name(encoder: Encoder) -> None:
    model = small("sd15").model
    with pytest.raises(ValueError, match="needs an adapter of faces, but random IP-Adapter is"):
        apply(model, ("IP-Adapter", "SD1.5"), faces())
    with pytest.raises(ValueError, match="Choose a model and an adapter"):
        apply(model, ("FaceID", "SDXL"), faces())
    records, projectors = pack("image_prompt.records"), pack("image_prompt.projectors")
    of = adapter("IP-Adapter Plus", "SD1.5")
    state = of.spec.embeds
    nothing = torch.zeros(1, state.tokens, state.width)
    prompt = records.ImagePrompt(state, (records.PromptPart(nothing, nothing),))
    with pytest.raises(ValueError, match="Use Apply FaceID"):
        projectors.tokens_of(adapter("FaceID", "SD1.5"), prompt)


def test_face_models_of_another_kind_bring_a_warning_and_no_refusal() -> None:
    model, kind = small("sd15").model, ("FaceID", "SD1.5")
    assert "Warning" not in apply(model, kind, faces())[1]
    assert "Warning" not in apply(model, kind, faces(pack_name="mine"))[1]
    for who in (
        faces(pack_name="antelopev2", recogniser="IResNet-100"),
        faces(pack_name="buffalo_l", recogniser="IResNet-100"),
        faces(pack_name="mine", recogniser="a network of 7 convolutions"),
    ):
        text = apply(model, kind, who)[1]
        assert "Warning: this adapter was made with buffalo_l" in text
        assert who.recogniser in text


def test_kolors_tokens_go_through_the_models_text_projection() -> None:
    through = pack("image_prompt.face_id.apply")._through_text_projection
    records, held = pack("image_prompt.records"), pack("injection.tokens")
    spec = records.AdapterSpec("FaceID Plus", "Kolors", None, "normed", 6, 2048, (1,))
    of = records.IPAdapter(spec, {}, {}, "kolors")
    made = held.Tokens(torch.randn(1, 6, 4096), torch.randn(1, 6, 4096))
    model = small("sdxl").model
    with pytest.raises(ValueError, match="encoder_hid_proj"):
        through(model, of, made)
    projection = torch.nn.Linear(4096, 2048)
    clone = model.clone()
    clone.add_object_patch("diffusion_model", torch.nn.Module())
    clone.object_patches["diffusion_model"].encoder_hid_proj = projection
    got = through(clone, of, made)
    torch.testing.assert_close(got.cond, projection(made.cond).detach())
    torch.testing.assert_close(got.uncond, projection(made.uncond).detach())
