"""A small OneFormer, its tensors by the names of transformers' hub files, and the formula of its map."""

import re

import torch
from tiller.preprocessors.networks.oneformer import TASK, OneFormer
from tiller.preprocessors.networks.oneformer_sizes import OneFormerSizes, SwinSizes
from tiller.tests.unit.annotators import randomise
from torch.nn import functional

SMALL = OneFormerSizes(
    swin=SwinSizes(width=16, depths=(2, 2, 3, 2), heads=(1, 2, 4, 8), window=3, widening=4),
    width=32,
    pixel_inner=40,
    pixel_layers=2,
    queries=20,
    query_inner=48,
    query_layers=4,
    class_layers=2,
    classes=31,
    tokens=77,
)

SWIN, PIXELS, QUERIES = (
    "model.pixel_level_module.encoder",
    "model.pixel_level_module.decoder",
    "model.transformer_module",
)
RENAMED = (
    (r"^backbone\.patch_embed\.proj", rf"{SWIN}.embeddings.patch_embeddings.projection"),
    (r"^backbone\.patch_embed\.norm", rf"{SWIN}.embeddings.norm"),
    (r"^backbone\.layers", rf"{SWIN}.encoder.layers"),
    (r"^backbone\.norm(\d)", lambda found: f"{SWIN}.hidden_states_norms.stage{int(found[1]) + 1}"),
    (r"(blocks\.\d+)\.norm1", r"\1.layernorm_before"),
    (r"(blocks\.\d+)\.norm2", r"\1.layernorm_after"),
    (r"\.attn\.relative", r".attention.self.relative"),
    (r"\.attn\.proj", r".attention.output.dense"),
    (r"\.mlp\.fc1", r".intermediate.dense"),
    (r"\.mlp\.fc2", r".output.dense"),
    (r"^sem_seg_head\.pixel_decoder", PIXELS),
    (r"\.input_proj\.", r".input_projections."),
    (r"decoder\.transformer\.", r"decoder."),
    (r"(decoder\.encoder\.layers\.\d+)\.norm1", r"\1.self_attn_layer_norm"),
    (r"(decoder\.encoder\.layers\.\d+)\.norm2", r"\1.final_layer_norm"),
    (r"(decoder\.encoder\.layers\.\d+)\.linear(\d)", r"\1.fc\2"),
    (r"\.mask_features", r".mask_projection"),
    (r"(adapter_1|layer_1)\.weight", r"\1.0.weight"),
    (r"(adapter_1|layer_1)\.norm", r"\1.1"),
    (r"^sem_seg_head\.predictor\.query_embed", rf"{QUERIES}.queries_embedder"),
    (r"^sem_seg_head\.predictor\.level_embed", rf"{QUERIES}.level_embed"),
    (r"^sem_seg_head\.predictor", rf"{QUERIES}.decoder"),
    (r"\.class_transformer\.", r".query_transformer."),
    (r"\.class_input_proj", r".query_input_projection"),
    (r"transformer_(self|cross)_attention_layers\.(\d+)", r"layers.\2.\1_attn"),
    (r"transformer_ffn_layers\.(\d+)", r"layers.\1.ffn"),
    (r"(mask_embed\.layers\.\d)", r"\1.0"),
    (r"^task_mlp\.layers\.(\d)", r"model.task_encoder.task_mlp.layers.\1.0"),
)
SPLIT = (
    (r"\.attn\.qkv\.(\w+)$", r".attention.self.{}.\1", ("query", "key", "value")),
    (r"(layers\.\d+\.self_attn\.self_attn)\.in_proj_(\w+)$", r"\1.{}_proj.\2", ("q", "k", "v")),
)
"""Tensors that hold three, and what the three are called."""


def hub_names(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Tensors by the names of the published files -> by those of transformers' hub files.

    Source: huggingface/transformers: src/transformers/models/oneformer/convert_to_hf_oneformer.py.
    """
    renamed = {}
    for key, tensor in state.items():
        for pattern, replacement in RENAMED:
            key = re.sub(pattern, replacement, key)
        for pattern, replacement, names in SPLIT:
            if re.search(pattern, key):
                for name, third in zip(names, tensor.chunk(3), strict=True):
                    renamed[re.sub(pattern, replacement.format(name), key)] = third
                break
        else:
            renamed[key] = tensor
    return renamed


def in_transformers(ours: OneFormer, sizes: OneFormerSizes) -> torch.nn.Module:
    """transformers' network with the weights of ours."""
    from transformers import OneFormerConfig, OneFormerForUniversalSegmentation, SwinConfig

    backbone = SwinConfig(
        embed_dim=sizes.swin.width,
        depths=list(sizes.swin.depths),
        num_heads=list(sizes.swin.heads),
        window_size=sizes.swin.window,
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )
    config = OneFormerConfig(
        backbone_config=backbone,
        num_labels=sizes.classes - 1,
        num_queries=sizes.queries,
        hidden_dim=sizes.width,
        mask_dim=sizes.width,
        conv_dim=sizes.width,
        encoder_feedforward_dim=sizes.pixel_inner,
        encoder_layers=sizes.pixel_layers,
        dim_feedforward=sizes.query_inner,
        decoder_layers=sizes.query_layers + 1,
        query_dec_layers=sizes.class_layers,
        task_seq_len=sizes.tokens,
        is_training=False,
    )
    theirs, told = OneFormerForUniversalSegmentation.from_pretrained(
        None, config=config, state_dict=hub_names(ours.state_dict()), output_loading_info=True
    )
    assert not told["unexpected_keys"]
    assert all(key.startswith("criterion.") or "layernorm" in key for key in told["missing_keys"]), told
    return theirs.eval()


def varied(sizes: OneFormerSizes = SMALL) -> OneFormer:
    """Our network with random weights whose queries differ in class and mask."""
    network = OneFormer(sizes).eval()
    randomise(network, 5)
    predictor = network.sem_seg_head.predictor
    seen = {}
    with torch.no_grad():
        predictor.query_embed.weight.mul_(10)
        for last in (predictor.class_embed, predictor.mask_embed.layers[-1]):
            last.register_forward_hook(lambda layer, _, made: seen.update({layer: made[0]}))
        network(pictures(1, 128, 128))
        for last, made in seen.items():
            last._forward_hooks.clear()
            scale = 1 / made.std(dim=0)
            last.weight.mul_(scale[:, None])
            last.bias.sub_(made.mean(dim=0)).mul_(scale)
    return network


def pictures(batch: int, height: int, width: int) -> torch.Tensor:
    """(B,3,h,w) levels of soft spots."""
    spots = torch.rand(batch, 3, 6, 6, generator=torch.Generator().manual_seed(8))
    return 255 * functional.interpolate(spots, size=(height, width), mode="bilinear")


def reference_logits(theirs, levels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """transformers' class and mask logits for levels 0..255."""
    mean, deviation = torch.tensor([123.675, 116.28, 103.53]), torch.tensor([58.395, 57.12, 57.375])
    values = (levels - mean[:, None, None]) / deviation[:, None, None]
    padded = functional.pad(values, (0, -levels.shape[3] % 32, 0, -levels.shape[2] % 32))
    task = torch.tensor([[*TASK, *[0] * (77 - len(TASK))]] * len(levels))
    made = theirs(padded, task_inputs=task)
    return made.class_queries_logits, made.masks_queries_logits


def reference_map(classes: torch.Tensor, masks: torch.Tensor, inner, size) -> torch.Tensor:
    """The formula of the webui: enlarged, cut, resized, then probabilities: (classes,height,width)."""
    padded = [4 * side for side in masks.shape[1:]]
    enlarged = functional.interpolate(masks[None], size=padded, mode="bilinear")[..., : inner[0], : inner[1]]
    inside = functional.interpolate(enlarged, size=size, mode="bilinear")[0].sigmoid()
    return torch.einsum("qc,qhw->chw", classes.softmax(dim=-1)[:, :-1], inside)
