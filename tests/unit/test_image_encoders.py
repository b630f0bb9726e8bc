"""Every published encoder is known by its keys and shapes, in both namings, and by nothing else."""

import pytest
import torch
from tiller.adapters.identify import UnknownWeightsError
from tiller.adapters.image_prompt.encoders import (
    ENCODERS,
    check_complete,
    describe_file,
    how_to_get,
    identify_encoder,
    layout,
)

KINDS = pytest.mark.parametrize("kind", list(ENCODERS))
HEADS = 16


@pytest.fixture(scope="module")
def published():
    """Key -> shape of each encoder as transformers builds it from its published sizes."""
    from transformers import (
        CLIPVisionConfig,
        CLIPVisionModelWithProjection,
        SiglipVisionConfig,
        SiglipVisionModel,
    )

    made = {}
    sizes = {
        "CLIP-ViT-H": (1280, 5120, 32, 224, 1024),
        "CLIP-ViT-bigG": (1664, 8192, 48, 224, 1280),
        "CLIP-ViT-L": (1024, 4096, 24, 224, 768),
        "CLIP-ViT-L-336": (1024, 4096, 24, 336, 768),
        "SigLIP-so400m-384": (1152, 4304, 27, 384, None),
    }
    for kind, (width, mlp, layers, side, projection) in sizes.items():
        config = {
            "hidden_size": width,
            "intermediate_size": mlp,
            "num_hidden_layers": layers,
            "num_attention_heads": HEADS,
            "image_size": side,
            "patch_size": 14,
        }
        with torch.device("meta"):
            if projection is None:
                model = SiglipVisionModel(SiglipVisionConfig(**config))
            else:
                model = CLIPVisionModelWithProjection(CLIPVisionConfig(**config, projection_dim=projection))
        shapes = {key: tuple(tensor.shape) for key, tensor in model.state_dict().items()}
        prefix = "" if any(key.startswith("vision_model.") for key in shapes) else "vision_model."
        made[kind] = {prefix + key: shape for key, shape in shapes.items() if "position_ids" not in key}
    return made


def open_clip(shapes):
    """The few names by which a file of open_clip is known, from those of transformers."""
    made = {"visual.proj": tuple(reversed(shapes["visual_projection.weight"]))}
    for key, shape in shapes.items():
        for old, new in (
            ("embeddings.patch_embedding.weight", "conv1.weight"),
            ("embeddings.position_embedding.weight", "positional_embedding"),
            ("encoder.layers.", "transformer.resblocks."),
        ):
            if key.startswith(f"vision_model.{old}"):
                name = key.replace(f"vision_model.{old}", f"visual.{new}", 1)
                made[name.replace("mlp.fc1", "mlp.c_fc")] = shape
    return made


@KINDS
def test_the_layout_is_that_of_the_published_model(published, kind):
    assert layout(kind) == published[kind]
    assert identify_encoder(published[kind]) == kind
    check_complete(published[kind], kind, ENCODERS[kind].layers, "x")


@pytest.mark.parametrize("kind", [kind for kind in ENCODERS if ENCODERS[kind].projection])
def test_open_clip_files_are_known(published, kind):
    assert identify_encoder(open_clip(published[kind])) == kind


@KINDS
def test_tokens_are_one_per_square_and_the_class_token(published, kind):
    places = published[kind]["vision_model.embeddings.position_embedding.weight"]
    assert places == (ENCODERS[kind].tokens, ENCODERS[kind].width)


@KINDS
def test_another_depth_is_another_network_but_for_stand_ins(kind):
    shapes = layout(kind, 2)
    with pytest.raises(UnknownWeightsError, match=f"{kind}, but with 2 layers instead of"):
        identify_encoder(shapes)
    assert identify_encoder(shapes, any_depth=True) == kind
    assert describe_file(layout(kind, 1), any_depth=True) == (
        f"{kind}, but with 1 layers instead of {ENCODERS[kind].layers}"
    )


def test_other_vision_transformers_are_described_by_their_sizes():
    base = {
        "vision_model.embeddings.patch_embedding.weight": (768, 3, 32, 32),
        "vision_model.embeddings.position_embedding.weight": (50, 768),
        "vision_model.encoder.layers.11.mlp.fc1.weight": (3072, 768),
    }
    assert describe_file(base) == (
        "an image encoder that no image prompt here is made with (width 768, 1 layers, 50 tokens)"
    )
    assert describe_file({"x": (1,)}) == "no image encoder known to Tiller"


def test_another_mlp_is_said():
    shapes = layout("CLIP-ViT-L")
    shapes["vision_model.encoder.layers.0.mlp.fc1.weight"] = (100, 1024)
    assert describe_file(shapes) == "CLIP-ViT-L, but with an MLP of 100 instead of 4096"


def test_files_and_pages_are_published_ones_and_each_its_own():
    assert len({encoder.file for encoder in ENCODERS.values()}) == len(ENCODERS)
    for kind, encoder in ENCODERS.items():
        assert encoder.page.startswith("https://huggingface.co/")
        assert how_to_get(kind).endswith("put it into models/clip_vision.")
