"""What Apply FaceID decides before anything is computed, and how it says so."""

import pytest
import torch
from tiller.adapters.faces.records import Face, Faces
from tiller.adapters.image_prompt.face_id.rules import (
    FaceSettings,
    check_face_adapter,
    description,
    has_shortcut,
    pack_note,
    takes_all,
    vectors,
)
from tiller.adapters.image_prompt.formats import identify_adapter
from tiller.adapters.image_prompt.records import IPAdapter
from tiller.tests.adapter_files import published


def adapter(variant, base, **more):
    return IPAdapter(identify_adapter(published(variant, base, **more)), {}, {}, "my file")


def faces(count=1, pack="buffalo_l", recogniser="IResNet-50"):
    generator = torch.Generator().manual_seed(3)
    found = tuple(
        (Face(torch.zeros(4), torch.zeros(5, 2), 0.9, torch.randn(512, generator=generator)),)
        for _ in range(count)
    )
    return Faces(torch.zeros(count, 8, 8, 3), found, (0,) * count, pack, recogniser)


@pytest.mark.parametrize(
    ("variant", "base", "version", "wanted"),
    [
        ("FaceID Plus", "SD1.5", "v1", False),
        ("FaceID Plus", "SD1.5", "v2", True),
        ("FaceID Plus", "SDXL", "auto", True),
        ("FaceID Plus", "SDXL", "v1", False),
        ("FaceID Plus", "Kolors", "auto", True),
        ("FaceID", "SD1.5", "auto", False),
        ("FaceID Portrait", "SDXL", "v2", False),
    ],
)
def test_the_shortcut_is_version_two_of_plus(variant, base, version, wanted):
    assert has_shortcut(adapter(variant, base), version) is wanted


def test_what_the_file_cannot_tell_is_asked():
    with pytest.raises(ValueError, match=r"my file is FaceID Plus for SD1\.5.*Set plus_version to v2 for"):
        has_shortcut(adapter("FaceID Plus", "SD1.5"), "auto")


def test_an_adapter_without_faces_is_sent_to_its_own_node():
    check_face_adapter(adapter("FaceID", "SDXL"))
    with pytest.raises(ValueError, match="it reads pictures"):
        check_face_adapter(adapter("IP-Adapter Plus", "SDXL"))


def test_portraits_take_every_face_and_the_others_the_mean():
    for variant, base, wanted in (
        ("FaceID", "SD1.5", False),
        ("FaceID Plus", "SDXL", False),
        ("FaceID Portrait", "SD1.5", True),
        ("FaceID Portrait Unnorm", "SDXL", True),
    ):
        spec = adapter(variant, base).spec
        assert takes_all(spec, "auto") is wanted
        assert takes_all(spec, "all")
        assert not takes_all(spec, "average")


def test_vectors_have_length_one_but_for_unnorm():
    who = faces(3)
    normed, raw = adapter("FaceID", "SDXL").spec, adapter("FaceID Portrait Unnorm", "SDXL").spec
    torch.testing.assert_close(vectors(who, normed, "all").norm(dim=1), torch.ones(3))
    torch.testing.assert_close(vectors(who, normed, "auto"), who.embedding(True))
    assert torch.equal(vectors(who, raw, "auto"), who.embeddings(False))
    assert torch.equal(vectors(who, raw, "average"), who.embedding(False))


def test_other_face_models_are_warned_of_by_their_network_before_their_name():
    spec = adapter("FaceID", "SD1.5").spec
    kolors = adapter("FaceID Plus", "Kolors").spec
    large = {"recogniser": "IResNet-100"}
    assert pack_note(faces(), spec) == ""
    assert pack_note(faces(pack="mine"), spec) == ""
    assert "made with buffalo_l, and the faces come from antelopev2 (recogniser: IResNet-100)" in pack_note(
        faces(pack="antelopev2", **large), spec
    )
    assert pack_note(faces(**large), spec)
    assert pack_note(faces(pack="mine", recogniser="a network of 7 convolutions"), spec)
    assert pack_note(faces(recogniser="a network of 7 convolutions"), spec) == ""
    assert pack_note(faces(pack="antelopev2", **large), kolors) == ""
    assert "made with antelopev2" in pack_note(faces(), kolors)


def test_the_words_say_what_was_done():
    plus = adapter("FaceID Plus", "SDXL")
    text = description(plus, faces(2), FaceSettings(plus_version="v1", lora_strength=0.6), 4, "ViT-H")
    assert "my file: FaceID Plus v1 for SDXL, 70 layers, 4 tokens." in text
    assert "2 faces, averaged, by buffalo_l, at length 1." in text
    assert "Picture of the face through ViT-H." in text
    assert "LoRA half of the file at strength 0.6." in text
    assert "Computed as v1 as asked; the published files for SDXL are v2." in text
    first = adapter("FaceID Plus", "SD1.5")
    assert "Computed as v1" not in description(first, faces(), FaceSettings("v1"), 4, "ViT-H")
    portrait = adapter("FaceID Portrait Unnorm", "SDXL")
    text = description(portrait, faces(), FaceSettings(), 16, "ViT-H")
    assert "1 face by buffalo_l, as the recogniser gives it." in text
    assert "ViT-H is not used" in text
    assert "LoRA" not in text
    assert "v1" not in description(plus, faces(), FaceSettings(), 4, "ViT-H")


def test_unknown_choices_are_refused():
    with pytest.raises(ValueError, match="A plus_version of auto, v1, v2 is needed, got 'v3'"):
        FaceSettings(plus_version="v3")
    with pytest.raises(ValueError, match="A faces_mode of auto, average, all is needed, got 'some'"):
        FaceSettings(faces_mode="some")
