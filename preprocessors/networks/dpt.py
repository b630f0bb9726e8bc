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


class Merging(nn.Module):
    """The part `scratch` of a file: maps of four sizes, brought to `features` channels and merged."""

    def __init__(self, channels: tuple[int, ...], features: int) -> None:
        super().__init__()
        for number, before in enumerate(channels, start=1):
            self.add_module(f"layer{number}_rn", nn.Conv2d(before, features, 3, padding=1, bias=False))
            self.add_module(f"refinenet{number}", Fusion(features))

    def merged(self, maps: list[torch.Tensor]) -> torch.Tensor:
        """Four maps (B,C,h,w), the finest first -> (B,features,h,w) of twice the size of the first."""
        fine = [self.get_submodule(f"layer{number}_rn")(one) for number, one in enumerate(maps, start=1)]
        merged = self.get_submodule("refinenet4")(fine[3], size=fine[2].shape[-2:])
        merged = self.get_submodule("refinenet3")(merged, fine[2], fine[1].shape[-2:])
        merged = self.get_submodule("refinenet2")(merged, fine[1], fine[0].shape[-2:])
        return self.get_submodule("refinenet1")(merged, fine[0])


def enlarged(features: torch.Tensor, size: torch.Size | tuple[int, ...] | None = None) -> torch.Tensor:
    """(B,C,h,w) -> (B,C,2h,2w), or of `size`: bilinear, corners on corners."""
    factor = 2.0 if size is None else None
    return functional.interpolate(
        features, None if size is None else tuple(size), factor, mode="bilinear", align_corners=True
    )
