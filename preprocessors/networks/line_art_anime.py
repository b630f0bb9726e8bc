"""The U-Net of anime line art."""

import torch

from .pix2pix import UNet


class LineArtAnimeUNet(UNet):
    """(B,3,h,w) float RGB levels 0..255 -> (B,1,h,w) float -1..1, dark lines on white.

    Height and width are multiples of 256. `netG.pth` holds tensors of these names and shapes.

    Source: Isola et al. 2017 (pix2pix), section 6.1.1;
    lllyasviel/ControlNet-v1-1-nightly: annotator/lineart_anime/__init__.py (UnetGenerator).
    """

    def __init__(self) -> None:
        super().__init__(before=3, width=64, halvings=8, is_normed=True)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return super().forward(image / 127.5 - 1.0)
