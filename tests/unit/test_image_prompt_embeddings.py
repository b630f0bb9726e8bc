"""Image prompts combined by their formulas, and kept in files to the bit."""

import dataclasses

import pytest
import torch
from tiller.adapters.image_prompt.embeddings import METHODS, batch_parts, combined
from tiller.adapters.image_prompt.records import (
    AdapterSpec,
    EmbedState,
    ImagePrompt,
    IPAdapter,
    PromptPart,
)
from tiller.adapters.image_prompt.stored.form import check_for, described, from_file, to_file

STATE = EmbedState("CLIP-ViT-H", "penultimate", 5, 8)
OTHER = EmbedState("CLIP-ViT-bigG", "image_embeds", 1, 8)


def prompt(seed, parts=1, frames=1, state=STATE):
    generator = torch.Generator().manual_seed(seed)

    def draw():
        return torch.randn(frames, state.tokens, state.width, generator=generator)

    return ImagePrompt(state, tuple(PromptPart(draw() * (seed + 1), draw()) for _ in range(parts)))


def embeds(*prompts):
    return torch.cat([part.embeds for one in prompts for part in one.parts])


def only(made):
    (part,) = made.parts
    return part.embeds


def test_concat_keeps_every_part_with_its_weight():
    one, two = prompt(1), prompt(2, parts=2)
    made = combined([one, two], [1.0, 0.5], "concat")
    factors = (1.0, 0.5, 0.5)
    for part, given, factor in zip(made.parts, (*one.parts, *two.parts), factors, strict=True):
        assert torch.equal(part.embeds, given.embeds * factor)
        assert torch.equal(part.negative, given.negative)
    assert combined([one], [1.0], "concat").parts[0].embeds.equal(one.parts[0].embeds)


def test_each_method_is_its_formula():
    """cubiq's formulas on the stacked embeddings, with weights multiplied in before, as that pack has it."""
    one, two = prompt(1, parts=2), prompt(2)
    given, weights = [one, two], [0.7, 1.3]
    stack = embeds(one, two) * torch.tensor([0.7, 0.7, 1.3])[:, None, None]
    wanted = {
        "add": stack.sum(0),
        "average": stack.mean(0),
        "max": stack.max(0).values,
        "min": stack.min(0).values,
        "norm average (IPAdapter_plus)": (stack / stack.norm(dim=0, keepdim=True)).mean(0),
    }
    for method, theirs in wanted.items():
        torch.testing.assert_close(only(combined(given, weights, method)), theirs[None], rtol=0, atol=1e-6)
    made = combined(given, weights, "subtract")
    for part, first in zip(made.parts, stack[:2], strict=True):
        torch.testing.assert_close(part.embeds, (first - stack[2])[None], rtol=0, atol=1e-6)
    assert set(METHODS) == {*wanted, "concat", "subtract", "norm average"}


def test_subtract_takes_the_mean_of_the_others():
    one, two, three = prompt(1), prompt(2), prompt(3)
    stack = embeds(one, two, three)
    made = only(combined([one, two, three], [1.0] * 3, "subtract"))
    torch.testing.assert_close(made, (stack[0] - stack[1:].mean(0))[None], rtol=0, atol=1e-6)
    assert torch.equal(only(combined([one], [1.0], "subtract")), one.parts[0].embeds)


def test_norm_average_counts_directions_at_the_mean_length():
    one, two = prompt(1), prompt(9)
    a, b = embeds(one)[0], embeds(two)[0]
    lengths = a.norm(dim=-1, keepdim=True), b.norm(dim=-1, keepdim=True)
    wanted = (a / lengths[0] + 0.5 * b / lengths[1]) / 2 * (lengths[0] + lengths[1]) / 2
    made = only(combined([one, two], [1.0, 0.5], "norm average"))
    torch.testing.assert_close(made, wanted[None], rtol=0, atol=1e-5)
    torch.testing.assert_close(
        only(combined([one, one], [1.0, 1.0], "norm average")), one.parts[0].embeds, rtol=0, atol=1e-5
    )
    zero = ImagePrompt(STATE, (PromptPart(torch.zeros(1, 5, 8), torch.zeros(1, 5, 8)),))
    for method in METHODS:
        for part in combined([zero, zero], [1.0, 1.0], method).parts:
            assert torch.equal(part.embeds, torch.zeros(1, 5, 8))


def test_the_negative_is_the_mean_and_equal_ones_stay():
    one, two = prompt(1), prompt(2)
    negatives = torch.cat([one.parts[0].negative, two.parts[0].negative])
    made = combined([one, two], [3.0, 1.0], "average").parts[0].negative
    torch.testing.assert_close(made, negatives.mean(0, keepdim=True), rtol=0, atol=1e-6)


def test_one_picture_serves_every_frame():
    made = only(combined([prompt(1, frames=3), prompt(2)], [1.0, 1.0], "add"))
    assert torch.equal(made, embeds(prompt(1, frames=3)) + embeds(prompt(2)))


def test_prompts_that_do_not_go_together_are_refused():
    with pytest.raises(ValueError, match=r"got CLIP-ViT-H, penultimate .5 x 8. and CLIP-ViT-bigG, image_emb"):
        combined([prompt(1), prompt(1, state=OTHER)], [1.0, 1.0], "concat")
    with pytest.raises(ValueError, match="for one size of batch, got 2 and 3"):
        combined([prompt(1, frames=2), prompt(1, frames=3)], [1.0, 1.0], "concat")
    with pytest.raises(ValueError, match="At least one image prompt is needed, got none"):
        combined([], [], "add")


def test_parts_of_a_batch_come_picture_by_picture():
    pieces = [torch.arange(2.0).view(2, 1, 1), torch.arange(2.0).view(2, 1, 1) + 10]
    parts = batch_parts(pieces, torch.zeros(1, 1, 1), "concat", 1.0)
    assert [float(part.embeds) for part in parts] == [0.0, 10.0, 1.0, 11.0]


@pytest.mark.parametrize("given", [prompt(3), prompt(4, parts=3, frames=2)], ids=["one", "several"])
def test_a_file_gives_the_same_bits(given, tmp_path):
    from safetensors import safe_open
    from safetensors.torch import save_file

    tensors, metadata = to_file(given)
    save_file(tensors, tmp_path / "x.safetensors", metadata=metadata)
    with safe_open(tmp_path / "x.safetensors", "pt") as file:
        back = from_file({key: file.get_tensor(key) for key in file.keys()}, file.metadata(), "x")  # noqa: SIM118
    assert back.state == given.state
    for one, other in zip(back.parts, given.parts, strict=True):
        assert torch.equal(one.embeds, other.embeds)
        assert torch.equal(one.negative, other.negative)
    assert metadata["family"] == "IP-Adapter Plus, IP-Adapter Full Face, FaceID Plus"


def test_views_of_one_tensor_are_saved_whole():
    whole = torch.randn(3, 5, 8)
    given = ImagePrompt(STATE, (PromptPart(whole[:1], whole[1:2]), PromptPart(whole[2:], whole[:1])))
    tensors, metadata = to_file(given)
    assert len({tensor.data_ptr() for tensor in tensors.values()}) == 4
    assert torch.equal(from_file(tensors, metadata, "x").parts[1].embeds, whole[2:])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"tiller": None}, r"needs a file from Save Image Prompt, but x is none.*parts.0.embeds \(1, 5, 8\)"),
        ({"version": "7"}, "reads files of version 1, but x is of version 7. Update Tiller"),
        (
            {"encoder": "EVA"},
            r"of the encoder EVA \(penultimate\), which this Tiller does not know. It knows CL",
        ),
        ({"state": "late"}, r"of the encoder CLIP-ViT-H \(late\), which this Tiller does not know"),
        ({"tokens": "x"}, "which this Tiller does not know"),
        ({"width": "9"}, "x is damaged: it should hold parts of 5 x 9"),
    ],
)
def test_files_of_another_kind_version_or_encoder_are_refused(change, words):
    tensors, metadata = to_file(prompt(1))
    metadata = {key: value for key, value in {**metadata, **change}.items() if value is not None}
    with pytest.raises(ValueError, match=words):
        from_file(tensors, metadata, "x")


def test_a_file_with_parts_missing_is_damaged():
    tensors, metadata = to_file(prompt(1, parts=2))
    for key in ("parts.1.negative", "parts.0.embeds"):
        with pytest.raises(ValueError, match="x is damaged"):
            from_file({name: value for name, value in tensors.items() if name != key}, metadata, "x")
    with pytest.raises(ValueError, match=r"x is damaged.*got nothing"):
        from_file({}, metadata, "x")


def test_a_prompt_for_another_adapter_is_refused_with_both_named():
    spec = AdapterSpec("IP-Adapter Plus", "SD1.5", STATE, None, 16, 768, (1, 3))
    adapter = IPAdapter(spec, {}, {}, "plus.safetensors")
    check_for(adapter, prompt(1), "anna")
    words = (
        r"plus.safetensors \(IP-Adapter Plus, SD1.5\) reads CLIP-ViT-H \(penultimate\), but anna was encoded "
    )
    with pytest.raises(ValueError, match=words + r"with CLIP-ViT-bigG \(image_embeds\), for IP-Adapter. Enc"):
        check_for(adapter, prompt(1, state=OTHER), "anna")
    face = IPAdapter(dataclasses.replace(spec, embeds=None), {}, {}, "faceid.bin")
    with pytest.raises(ValueError, match="reads a face alone, but anna was encoded"):
        check_for(face, prompt(1), "anna")


def test_a_prompt_is_described_in_words():
    assert described(prompt(1, parts=2, frames=3)) == (
        "2 parts of 5 x 8 from CLIP-ViT-H (penultimate), for a batch of 3. "
        "Read by IP-Adapter Plus, IP-Adapter Full Face, FaceID Plus."
    )
    assert "1 part of 1 x 8" in described(prompt(1, state=OTHER))
