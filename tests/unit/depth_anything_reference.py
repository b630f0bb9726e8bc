"""Depth Anything V2 by its authors: transformers' network, and what the authors do before and after it."""

import cv2
import numpy as np
import torch
from tiller.preprocessors.networks.depth_anything import DepthAnythingSizes
from torch.nn import functional

TO_HUB = (
    ("pretrained.cls_token", "backbone.embeddings.cls_token"),
    ("pretrained.mask_token", "backbone.embeddings.mask_token"),
    ("pretrained.pos_embed", "backbone.embeddings.position_embeddings"),
    ("pretrained.patch_embed.proj", "backbone.embeddings.patch_embeddings.projection"),
    ("pretrained.norm", "backbone.layernorm"),
    ("pretrained.blocks", "backbone.encoder.layer"),
    (".attn.proj.", ".attention.output.dense."),
    (".ls1.gamma", ".layer_scale1.lambda1"),
    (".ls2.gamma", ".layer_scale2.lambda1"),
    ("depth_head.scratch.output_conv1", "head.conv1"),
    ("depth_head.scratch.output_conv2.0", "head.conv2"),
    ("depth_head.scratch.output_conv2.2", "head.conv3"),
    ("resConfUnit", "residual_layer"),
    (".conv1.", ".convolution1."),
    (".conv2.", ".convolution2."),
    ("head.convolution", "head.conv"),
    (".out_conv.", ".projection."),
    *((f"depth_head.projects.{n}", f"neck.reassemble_stage.layers.{n}.projection") for n in range(4)),
    *((f"depth_head.resize_layers.{n}", f"neck.reassemble_stage.layers.{n}.resize") for n in range(4)),
    *((f"depth_head.scratch.layer{n + 1}_rn", f"neck.convs.{n}") for n in range(4)),
    *((f"depth_head.scratch.refinenet{4 - n}", f"neck.fusion_stage.layers.{n}") for n in range(4)),
)
"""Parts of the published names -> those of the files that transformers reads, one after the other."""


def hub_state(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    named = {}
    for name, tensor in state.items():
        for part, other in TO_HUB:
            name = name.replace(part, other)
        if ".attn.qkv." in name:
            for one, third in zip(("query", "key", "value"), tensor.chunk(3), strict=True):
                named[name.replace(".attn.qkv.", f".attention.attention.{one}.")] = third
        else:
            named[name] = tensor
    return named


def places_as_published(embeddings, _, height: int, width: int) -> torch.Tensor:
    """dinov2.py (interpolate_pos_encoding): transformers leaves out the tenth of a square."""
    places = embeddings.position_embeddings
    grid = places[:, 1:].reshape(1, 37, 37, -1).permute(0, 3, 1, 2)
    factors = ((height // 14 + 0.1) / 37, (width // 14 + 0.1) / 37)
    spread = functional.interpolate(grid, scale_factor=factors, mode="bicubic")
    spread = spread.permute(0, 2, 3, 1).flatten(1, 2) if (height, width) != (518, 518) else places[:, 1:]
    return torch.cat((places[:, :1], spread), dim=1)


def reference_network(sizes: DepthAnythingSizes, state: dict[str, torch.Tensor]) -> torch.nn.Module:
    """transformers' network with these tensors, named as in the published files."""
    from transformers import DepthAnythingConfig, DepthAnythingForDepthEstimation, Dinov2Config

    backbone = Dinov2Config(
        hidden_size=sizes.width,
        num_hidden_layers=sizes.blocks,
        num_attention_heads=sizes.width // 64,
        mlp_ratio=sizes.wide // sizes.width,
        image_size=518,
        patch_size=14,
        out_indices=[tap + 1 for tap in sizes.taps],
        reshape_hidden_states=False,
    )
    config = DepthAnythingConfig(
        backbone_config=backbone,
        reassemble_hidden_size=sizes.width,
        neck_hidden_sizes=list(sizes.channels),
        fusion_hidden_size=sizes.features,
    )
    theirs, told = DepthAnythingForDepthEstimation.from_pretrained(
        None, config=config, state_dict=hub_state(state), output_loading_info=True
    )
    if told["missing_keys"]:
        raise ValueError(f"The reference needs {told['missing_keys'][:3]}, and no tensor was named so.")
    places = theirs.backbone.embeddings
    places.interpolate_pos_encoding = places_as_published.__get__(places)
    return theirs.eval()


def seen_by_the_authors(array: np.ndarray) -> np.ndarray:
    """The picture as infer_image hands it to the network: Resize with lower_bound, NormalizeImage."""
    scale = max(518 / array.shape[0], 518 / array.shape[1])
    sides = [max(518, int(np.round(side * scale / 14) * 14)) for side in array.shape[:2]]
    resized = cv2.resize(array / 255.0, (sides[1], sides[0]), interpolation=cv2.INTER_CUBIC)
    return ((resized - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]).astype(np.float32)


def depth_by_the_authors(network, array: np.ndarray) -> np.ndarray:
    seen = torch.from_numpy(seen_by_the_authors(array)).permute(2, 0, 1)[None]
    depth = network(seen).predicted_depth[:, None]
    depth = functional.interpolate(depth, array.shape[:2], mode="bilinear", align_corners=True)[0, 0].numpy()
    return ((depth - depth.min()) / (depth.max() - depth.min()) * 255.0).astype(np.uint8)
