"""The U-Net of leres++ that merges a coarse and a fine depth map of one view."""

from ...adapters.identify import Shapes
from .pix2pix import UNet

FIRST = "model.model.0.weight"
WIDTH = 64
HALVINGS = 10
SIDE = 2**HALVINGS
"""The size that the network works at."""


class LeReSMerge(UNet):
    """(B,2,1024,1024) float -1..1, the coarse and the fine map -> (B,1,1024,1024) float -1..1.

    As wide as the file whose key -> shape listing is given. `latest_net_G.pth` holds tensors of these names
    and shapes; it is for academic use only.

    Source: Miangoleh et al. 2021 (Boosting monocular depth estimation models to high-resolution), section 4;
    Mikubill/sd-webui-controlnet: annotator/leres/pix2pix/models/networks.py (UnetGenerator).
    """

    def __init__(self, shapes: Shapes) -> None:
        width = shapes.get(FIRST, (WIDTH,))[0]
        super().__init__(before=2, width=width, halvings=HALVINGS, is_normed=False)
