"""HED: soft edges from five depths of one VGG-like trunk."""

from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional

STAGES = ((3, 64, 2), (64, 128, 2), (128, 256, 3), (256, 512, 3), (512, 512, 3))
"""Channels before and after each stage, and how many convolutions it has."""


class HED(nn.Module):
    """(B,3,h,w) float RGB levels 0..255 -> (B,1,h,w) edge logits, the mean of the five stages'.

    `ControlNetHED.pth` holds tensors of these names and shapes. Any size from 16 x 16 on.

    Source: Xie, Tu 2015 (Holistically-Nested Edge Detection);
    lllyasviel/ControlNet-v1-1-nightly: annotator/hed/__init__.py.
    """

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.Parameter(torch.zeros(1, 3, 1, 1))
        for number, (before, after, count) in enumerate(STAGES, start=1):
            self.add_module(f"block{number}", _Stage(before, after, count))

    def forward(self, levels: torch.Tensor) -> torch.Tensor:
        size = levels.shape[-2:]
        features = levels - self.norm
        total = torch.zeros((), device=levels.device)
        for number, stage in enumerate(self.children()):
            if number:
                features = functional.max_pool2d(features, 2)
            features, edges = stage(features)
            total = total + functional.interpolate(edges, size, mode="bilinear", align_corners=False)
        return total / len(STAGES)


class _Stage(nn.Module):
    """Convolutions of one size, and a map of edges read from the last of them."""

    def __init__(self, before: int, after: int, count: int) -> None:
        super().__init__()
        widths = [before] + [after] * count
        self.convs = nn.ModuleList(nn.Conv2d(into, out, 3, padding=1) for into, out in pairwise(widths))
        self.projection = nn.Conv2d(after, 1, 1)

    def forward(self, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        for conv in self.convs:
            features = conv(features).relu_()
        return features, self.projection(features)
