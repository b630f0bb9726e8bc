"""Pictures become what the official code makes of them, and batches, tiles and negatives keep their rules."""

import importlib

import pytest
import torch
from tiller.tests.host import image_encoders as files
from tiller.tests.host.inprocess import picture

H, L = "CLIP-ViT-H", "CLIP-ViT-L"


@pytest.fixture(scope="module")
def encoder():
    """CLIP-ViT-H with two narrow layers, as transformers has it."""
    return files.narrow_encoder(H)


def encode(encoder, image, state="penultimate", negative=None, mask=None, base="SD1.5", **settings):
    apply = files.pack("encode.apply")
    adapter = files.adapter(encoder.kind, state, base, narrow=True)
    return apply.encode_image_prompt(
        adapter, encoder, image, apply.EncodeSettings(**settings), negative, mask
    )


def official(image, pixels=None):
    """transformers' hidden states before the last block, and image_embeds, of IMAGE or of pixels."""
    from transformers import CLIPImageProcessorPil

    if pixels is None:
        levels = list((image * 255).round().to(torch.uint8).numpy())
        pixels = CLIPImageProcessorPil()(levels, return_tensors="pt").pixel_values
    made = files.theirs(H, narrow=True)(pixels, output_hidden_states=True)
    return made.hidden_states[-2], made.image_embeds[:, None], pixels


def close(ours, theirs, most=1e-5):
    assert ours.shape == theirs.shape
    return float((ours - theirs).abs().max() / theirs.abs().max().clamp(min=1e-9)) <= most


def same(one, other):
    return len(one.parts) == len(other.parts) and all(
        torch.equal(a.embeds, b.embeds) and torch.equal(a.negative, b.negative)
        for a, b in zip(one.parts, other.parts, strict=True)
    )


def levels(image):
    return (image * 255).round() / 255


@pytest.mark.parametrize("size", [(224, 224), (300, 417)])
def test_hidden_states_and_their_no_image_are_the_official_ones(encoder, size):
    image = levels(picture(*size))
    hidden, _, pixels = official(image)
    nothing = official(None, torch.zeros_like(pixels))[0]
    prompt, seen = encode(encoder, image)
    (part,) = prompt.parts
    assert close(part.embeds, hidden)
    assert close(part.negative, nothing)
    assert prompt.state == files.adapter(narrow=True).spec.embeds
    assert seen.shape == (1, 224, 224, 3)


def test_projected_embeddings_have_zeros_for_no_image(encoder):
    image = levels(picture(250, 224))
    for rule in ("official", "black"):
        (part,) = encode(encoder, image, "image_embeds", no_image=rule)[0].parts
        assert close(part.embeds, official(image)[1])
        assert torch.equal(part.negative, torch.zeros(1, 1, 32))


def test_black_encodes_a_black_picture(encoder):
    (part,) = encode(encoder, levels(picture(64, 64)), no_image="black")[0].parts
    black = official(torch.zeros(1, 224, 224, 3))[0]
    assert close(part.negative, black)
    official_part = encode(encoder, levels(picture(64, 64)))[0].parts[0]
    assert float((official_part.negative - black).abs().max()) > 1e-2


def test_the_rule_for_no_image_of_each_family():
    nothing = files.pack("encode.nothing").nothing_is

    def rules(kind, state, base):
        spec = files.adapter(kind, state, base).spec
        return nothing(spec, "official"), nothing(spec, "black")

    assert rules(H, "image_embeds", "SDXL") == ("zero embedding", "zero embedding")
    assert rules("CLIP-ViT-L-336", "penultimate", "Kolors") == ("zero tensor", "black picture")
    assert rules(L, "image_embeds", "Flux") == ("zero tensor", "zero tensor")
    assert rules("SigLIP-so400m-384", "pooled", "Flux") == ("zero embedding", "black picture")


def test_flux_gets_the_embedding_of_zero_pixels(encoder):
    (part,) = encode(encoder, levels(picture(64, 64)), "image_embeds", base="Flux")[0].parts
    assert close(part.negative, official(None, torch.zeros(1, 3, 224, 224))[1])


def test_a_mask_multiplies_behind_the_normalisation(encoder):
    image, mask = levels(picture(224, 224)), torch.zeros(1, 224, 224)
    mask[:, :100] = 1.0
    prompt, seen = encode(encoder, image, mask=mask)
    _, _, pixels = official(image)
    assert close(prompt.parts[0].embeds, official(None, pixels * mask)[0])
    assert torch.allclose(seen[:, :100], image[:, :100])
    assert torch.allclose(seen[:, 100:], torch.tensor(encoder.model.image_mean).expand(1, 124, 224, 3))
    assert same(encode(encoder, image, mask=torch.ones(1, 10, 10))[0], encode(encoder, image)[0])


def test_pictures_of_a_batch_are_those_one_by_one(encoder):
    image = levels(picture(40, 60, batch=2))
    each = [encode(encoder, image[n : n + 1], weight=0.5)[0].parts[0] for n in range(2)]
    together = encode(encoder, image, weight=0.5)[0].parts
    assert [torch.equal(a.embeds, b.embeds) for a, b in zip(together, each, strict=True)] == [True, True]
    (frames,) = encode(encoder, image, weight=0.5, batch="one per picture")[0].parts
    assert torch.equal(frames.embeds, torch.cat([part.embeds for part in each]))
    assert frames.negative.shape == frames.embeds.shape
    (mean,) = encode(encoder, image, weight=0.5, batch="average")[0].parts
    assert torch.equal(mean.embeds, torch.cat([part.embeds for part in each]).mean(0, keepdim=True))


def test_weight_is_for_the_picture_alone_and_the_same_twice_is_the_same(encoder):
    image = levels(picture(40, 60))
    (plain,), (twice,) = encode(encoder, image)[0].parts, encode(encoder, image, weight=2.0)[0].parts
    assert torch.equal(twice.embeds, plain.embeds * 2.0)
    assert torch.equal(twice.negative, plain.negative)
    assert same(encode(encoder, image)[0], encode(encoder, image)[0])


def test_a_negative_picture_takes_the_place_of_no_image(encoder):
    image, against = levels(picture(50, 60, batch=2)), levels(picture(70, 50, seed=9))
    parts = encode(encoder, image, negative=against)[0].parts
    wanted = encode(encoder, against)[0].parts[0].embeds
    assert all(torch.equal(part.negative, wanted) for part in parts)
    two = levels(picture(70, 50, seed=9, batch=2))
    second = encode(encoder, image, negative=two)[0].parts[1].negative
    assert torch.equal(second, encode(encoder, two[1:])[0].parts[0].embeds)
    with pytest.raises(ValueError, match="one negative picture, or one for each of the 2 pictures, got 3"):
        encode(encoder, image, negative=picture(8, 8, batch=3))


def merged_by_hand(tiles, across):
    """The merge token by token: where a tile's token lies in the large grid, and the mean of each cell."""
    side = 16
    large = torch.zeros(across * side, across * side, tiles.shape[-1])
    for number, tile in enumerate(tiles):
        row, column = divmod(number, across)
        for place in range(side * side):
            y, x = divmod(place, side)
            large[row * side + y, column * side + x] = tile[1 + place]
    cells = [
        large[y * across : (y + 1) * across, x * across : (x + 1) * across].mean(dim=(0, 1))
        for y in range(side)
        for x in range(side)
    ]
    return torch.stack([tiles[:, 0].mean(0), *cells])[None]


def test_enhanced_tiles_are_merged_by_the_formula(encoder):
    image = levels(picture(448, 448))
    quarters = [image[:, y : y + 224, x : x + 224] for y in (0, 224) for x in (0, 224)]
    tiles = torch.cat([encode(encoder, quarter)[0].parts[0].embeds for quarter in quarters])
    whole, merged = encode(encoder, image)[0].parts[0].embeds, merged_by_hand(tiles, 2)
    (mixed,) = encode(encoder, image, tiles="enhance mixed", enhance_ratio=0.3)[0].parts
    assert close(mixed.embeds, 0.3 * whole + 0.7 * merged, 1e-6)
    beside = encode(encoder, image, tiles="enhance side by side", enhance_ratio=0.3)[0].parts
    assert close(beside[0].embeds, 0.3 * whole, 1e-6)
    assert close(beside[1].embeds, merged, 1e-6)
    (all_whole,) = encode(encoder, image, tiles="enhance mixed", enhance_ratio=1.0)[0].parts
    assert torch.equal(all_whole.embeds, whole)


def test_tiles_of_a_wide_picture_are_parts_of_their_own(encoder):
    image = levels(picture(224, 500))
    prompt, seen = encode(encoder, image, tiles="tiled")
    assert torch.equal(seen, torch.cat([image[:, :, x : x + 224] for x in (0, 138, 276)]))
    singles = [encode(encoder, one[None])[0].parts[0].embeds for one in seen]
    assert [torch.equal(p.embeds, s) for p, s in zip(prompt.parts, singles, strict=True)] == [True] * 3


def test_an_encoder_of_another_kind_is_refused_with_both_named(encoder):
    apply = files.pack("encode.apply")
    with pytest.raises(ValueError, match=r"needs the image encoder CLIP-ViT-bigG, but h.safetensors is CLIP"):
        apply.encode_image_prompt(
            files.adapter("CLIP-ViT-bigG"), encoder, picture(8, 8), apply.EncodeSettings()
        )


def test_many_pictures_can_be_stopped_and_the_host_manages_the_encoder(encoder):
    management = importlib.import_module("comfy.model_management")
    encode(encoder, picture(8, 8))
    assert any(loaded.model is encoder.model.patcher for loaded in management.current_loaded_models)
    management.interrupt_current_processing(True)
    with pytest.raises(management.InterruptProcessingException):
        encode(encoder, picture(8, 8, batch=2))
    assert len(encode(encoder, picture(8, 8, batch=2))[0].parts) == 2


def test_a_negative_picture_is_read_whole_beside_tiles_and_sharpening(encoder):
    against = levels(picture(70, 50, seed=9))
    parts = encode(encoder, levels(picture(60, 150)), negative=against, tiles="tiled", sharpening=1.0)[
        0
    ].parts
    wanted = encode(encoder, against)[0].parts[0].embeds
    assert len(parts) == 3
    assert all(torch.equal(part.negative, wanted) for part in parts)


def test_official_is_what_each_encoder_was_trained_with():
    apply, record = files.pack("encode.apply"), files.pack("records").ImageEncoder
    positions = {
        kind: apply._preparation(record(kind, None, None, ""), apply.EncodeSettings()).framing.position
        for kind in (H, "SigLIP-so400m-384")
    }
    assert positions == {H: "center", "SigLIP-so400m-384": "stretch"}
