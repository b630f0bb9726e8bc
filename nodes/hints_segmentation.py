"""Hint nodes that colour each pixel by what it shows."""

from typing import Any

import torch
from comfy_api.latest import io

from ..preprocessors import segmentation
from ..preprocessors._host import network
from ..preprocessors.networks.oneformer import OneFormer
from ..preprocessors.networks.uniformer import UniFormer
from .hint_inputs import CATEGORY, hint_output, image_input, resolution_input, weights_input


class TillerSegmentOneFormer(io.ComfyNode):
    """Segmentation by OneFormer."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TillerSegmentOneFormer",
            display_name="OneFormer Segmentation",
            category=CATEGORY,
            description="What each part of the picture shows, in flat colours of the ADE20K or COCO classes, "
            "for segmentation control nets. Needs 250_16_swin_l_oneformer_ade20k_160k.pth or "
            "150_16_swin_l_oneformer_coco_100ep.pth.",
            search_aliases=[
                "segmentation",
                "seg_ofade20k",
                "seg_ofcoco",
                "oneformer_ade20k",
                "oneformer_coco",
                "OneFormer-ADE20K-SemSegPreprocessor",
                "OneFormer-COCO-SemSegPreprocessor",
                "OneFormer ADE20K Segmentor",
                "OneFormer COCO Segmentor",
            ],
            inputs=[
                image_input(),
                io.Combo.Input(
                    "dataset",
                    display_name="dataset",
                    options=list(segmentation.ONEFORMER),
                    default="ade20k",
                    tooltip="The classes to tell apart; each set has a weight file of its own. ade20k: 150 "
                    "classes, rooms and landscapes in detail. coco: 133, objects and animals in detail.",
                ),
                resolution_input(),
                weights_input(),
            ],
            outputs=[hint_output("Each pixel in the colour of its class, flat.")],
        )

    @classmethod
    def execute(cls, image: torch.Tensor, dataset: str, resolution: int, weights: str) -> io.NodeOutput:
        loaded: Any = network(f"oneformer_{dataset}", OneFormer.from_shapes, weights, by_shapes=True)
        return io.NodeOutput(segmentation.segments_oneformer(image, loaded, dataset, resolution))


class TillerSegmentUniFormer(io.ComfyNode):
    """Segmentation by UniFormer."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TillerSegmentUniFormer",
            display_name="UniFormer Segmentation",
            category=CATEGORY,
            description="What each part of the picture shows, in flat colours of the ADE20K classes, for "
            "segmentation control nets; smaller and older than OneFormer. Needs upernet_global_small.pth.",
            search_aliases=[
                "segmentation",
                "seg_ufade20k",
                "uniformer",
                "UniFormer-SemSegPreprocessor",
                "SemSegPreprocessor",
                "UniFormer Segmentor",
            ],
            inputs=[image_input(), resolution_input(), weights_input()],
            outputs=[hint_output("Each pixel in the colour of its ADE20K class, flat.")],
        )

    @classmethod
    def execute(cls, image: torch.Tensor, resolution: int, weights: str) -> io.NodeOutput:
        loaded = network("uniformer", UniFormer.from_shapes, weights, by_shapes=True)
        return io.NodeOutput(segmentation.segments_uniformer(image, loaded, resolution))


HINTS = (("oneformer", TillerSegmentOneFormer), ("uniformer", TillerSegmentUniFormer))
"""Name in the all-in-one node -> its node. TillerHint is made from these lists."""
