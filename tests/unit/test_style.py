"""Tokens of a style after those of the text."""

from types import SimpleNamespace

import pytest
import torch
from tiller.adapters.control.style import apply_style, style_tokens, with_tokens


def text(width=16, batch=1, length=5, seed=0, **options):
    generator = torch.Generator().manual_seed(seed)
    return [[torch.randn(batch, length, width, generator=generator), options]]


TOKENS = torch.randn(1, 3, 16, generator=torch.Generator().manual_seed(9))


def test_positive_gets_the_tokens_and_negative_stays():
    positive, negative = text(seed=1), text(seed=2)
    styled, other = apply_style(positive, negative, TOKENS, 0.5, "positive")
    assert torch.equal(styled[0][0], torch.cat((positive[0][0], TOKENS * 0.5), dim=1))
    assert other is negative
    assert positive[0][0].shape == (1, 5, 16)


def test_webui_gives_the_negative_as_many_zeros():
    positive, negative = text(seed=1), text(seed=2, length=7)
    styled, other = apply_style(positive, negative, TOKENS, 2.0, "webui")
    assert torch.equal(styled[0][0][:, 5:], TOKENS * 2)
    assert torch.equal(other[0][0][:, :7], negative[0][0])
    assert torch.equal(other[0][0][:, 7:], torch.zeros(1, 3, 16))


@pytest.mark.parametrize("rows", ["positive", "webui"])
def test_strength_zero_returns_both_themselves(rows):
    positive, negative = text(seed=1), text(seed=2)
    styled, other = apply_style(positive, negative, TOKENS, 0.0, rows)
    assert styled is positive
    assert other is negative


def test_a_batch_of_texts_gets_the_tokens_in_every_row():
    styled = with_tokens(text(batch=2), TOKENS)[0][0]
    assert torch.equal(styled[:, 5:], TOKENS.expand(2, -1, -1))


def test_options_are_copied_and_kept():
    options = {"pooled_output": torch.ones(1, 4)}
    conditioning = text(**options)
    styled = with_tokens(conditioning, TOKENS)
    assert styled[0][1] == conditioning[0][1]
    assert styled[0][1] is not conditioning[0][1]


def test_an_attention_mask_grows_by_free_tokens():
    mask = torch.randn(1, 6, 6, generator=torch.Generator().manual_seed(3)).half()
    styled = with_tokens(text(attention_mask=mask), TOKENS)
    wider = styled[0][1]["attention_mask"]
    kept = [0, 1, 2, 3, 4, 8]
    assert wider.shape == (1, 9, 9)
    assert torch.equal(wider[:, kept][:, :, kept], mask)
    assert wider[:, 5:8].abs().max() == wider[:, :, 5:8].abs().max() == 0
    yes = with_tokens(text(attention_mask=torch.ones(1, 6, 6, dtype=torch.bool)), TOKENS)
    assert yes[0][1]["attention_mask"].abs().max() == 0


def test_another_family_is_said():
    with pytest.raises(ValueError, match=r"tokens of width 16, but the conditioning has width 32\. .*SD1\.5"):
        with_tokens(text(width=32), TOKENS)


def model(width):
    return SimpleNamespace(
        model=SimpleNamespace(style_embedding=torch.zeros(1, 8, width)),
        get_cond=lambda output: output.last_hidden_state[:, :2],
    )


def test_every_picture_of_a_batch_gives_its_tokens():
    output = SimpleNamespace(last_hidden_state=torch.arange(24.0).reshape(2, 3, 4))
    tokens = style_tokens(model(4), output)
    assert torch.equal(tokens, output.last_hidden_state[:, :2].reshape(1, 4, 4))


def test_wrong_sockets_and_the_wrong_clip_are_said():
    output = SimpleNamespace(last_hidden_state=torch.zeros(1, 3, 1280))
    with pytest.raises(ValueError, match=r"embeddings of width 1024, got 1280\. .*CLIP ViT-L/14"):
        style_tokens(model(1024), output)
    with pytest.raises(ValueError, match="needs a style model and the output of CLIP Vision Encode, got str"):
        style_tokens("x", output)
    with pytest.raises(ValueError, match="got SimpleNamespace and NoneType"):
        style_tokens(model(4), None)


def test_what_another_model_says_of_its_input_is_passed_on():
    def refuse(output):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    output = SimpleNamespace(last_hidden_state=torch.zeros(1, 3, 1280))
    with pytest.raises(ValueError, match="cannot read CLIP vision embeddings of width 1280: mat1"):
        style_tokens(SimpleNamespace(get_cond=refuse), output)
