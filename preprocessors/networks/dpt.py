"""The decoder of dense prediction transformers: features of four sizes, merged from the coarsest up."""

import torch
from torch import nn
from torch.nn import functional


class ResidualUnit(nn.Module):
    """Features (B,C,h,w) -> likewise: two convolutions behind rectifiers, added to what came in."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(features, features, 3, padding=1)
        self.conv2 = nn.Conv2d(features, features, 3, padding=1)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.conv2(self.conv1(features.relu()).relu()) + features


class Fusion(nn.Module):
    """Coarse features (B,C,h,w), finer ones of that size -> both merged and enlarged, by two or to `size`.

    The coarsest block has nothing to merge; published files hold weights for that all the same.

    Source: Ranftl et al. 2021 (Vision transformers for dense prediction), section 3;
    isl-org/MiDaS: midas/blocks.py (FeatureFusionBlock_custom).
    """

    def __init__(self, features: int) -> None:
        super().__init__()
        self.resConfUnit1 = ResidualUnit(features)
        self.resConfUnit2 = ResidualUnit(features)
        self.out_conv = nn.Conv2d(features, features, 1)

    def forward(
        self, coarse: torch.Tensor, fine: torch.Tensor | None = None, size: torch.Size | None = None
    ) -> torch.Tensor:
        if fine is not None:
            coarse = coarse + self.resConfUnit1(fine)
        return self.out_conv(enlarged(self.resConfUnit2(coarse), size))


def enlarged(features: torch.Tensor, size: torch.Size | tuple[int, ...] | None = None) -> torch.Tensor:
    """(B,C,h,w) -> (B,C,2h,2w), or of `size`: bilinear, corners on corners."""
    factor = 2.0 if size is None else None
    return functional.interpolate(
        features, None if size is None else tuple(size), factor, mode="bilinear", align_corners=True
    )
