"""LaMa: fills holes of a picture. The network is spandrel's, which the host has."""

import torch
from torch import nn

from ...adapters.identify import Shapes

FIRST = "1.ffc.convl2l.weight"
BLOCK = "{}.conv1.ffc.convl2l.weight"


class LaMaGenerator(nn.Sequential):
    """(B,4,h,w) float RGB 0..1, 0 inside the hole, and the hole (1 = fill) -> (B,3,h,w) RGB 0..1.

    Height and width are multiples of 8, 16 at least. Built from the key -> shape listing of the file;
    `ControlNetLama.pth` holds tensors of these names and shapes, behind the prefix `model.`.

    Source: Suvorov et al. 2022 (Resolution-robust Large Mask Inpainting with Fourier Convolutions);
    advimman/lama: saicinpainting/training/modules/ffc.py (FFCResNetGenerator), as in spandrel.
    """

    def __init__(self, shapes: Shapes) -> None:
        from spandrel.architectures.LaMa import LaMa

        with torch.device("meta"):
            published = LaMa(in_nc=4, out_nc=3).model
        depth = sum(BLOCK.format(number) in shapes for number in range(len(shapes)))
        own = nn.ReLU(inplace=True)  # spandrel's default is one layer that all generators share
        generator = type(published)(4, 3, ngf=shapes[FIRST][0], n_blocks=depth, up_activation=own)
        super().__init__(*generator.model)
