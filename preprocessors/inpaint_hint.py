"""The hint of inpaint control nets: the picture, with what shall be repainted marked in it."""

from typing import Literal, get_args

import torch

from .fit import HOLE, masks_for
from .image import check_image

MaskColor = Literal["-1", "0"]
MASK_COLORS: tuple[MaskColor, ...] = get_args(MaskColor)

MASKED_ABOVE = 0.5


def inpaint_hint(image: torch.Tensor, mask: torch.Tensor, masked: MaskColor = "-1") -> torch.Tensor:
    """IMAGE (B,H,W,C) RGB 0..1 and MASK (1 or B,h,w), 1 = repaint -> IMAGE (B,H,W,3), marked where > 0.5.

    Marked pixels are -1 in every channel ("-1", ControlNet v1.1) or black ("0", Union ProMax and other nets
    for SDXL), all others keep their bits. A mask of another size is stretched.

    Raises:
        ValueError: for an image or a mask that is empty, not finite, or of another shape, masks that are
            neither one nor as many as the pictures, or another mark.

    Source: lllyasviel/ControlNet-v1-1-nightly: gradio_inpaint.py; Mikubill/sd-webui-controlnet:
    scripts/hook.py; xinsir6/ControlNetPlus: promax/controlnet_union_test_inpainting.py.
    """
    check_image(image, "Inpaint hint")
    if masked not in MASK_COLORS:
        raise ValueError(
            f'Inpaint hint needs masked to be one of {", ".join(MASK_COLORS)}, got {masked!r}. Choose "-1" '
            'for ControlNet v1.1 inpaint, "0" for Union ProMax.'
        )
    hole = (masks_for(image, mask, "Inpaint hint") > MASKED_ABOVE).to(image.device).unsqueeze(-1)
    colours = image.detach().float().clamp(0.0, 1.0)
    if colours.shape[-1] == 4:
        colours = colours[..., :3] * colours[..., 3:] + (1.0 - colours[..., 3:])
    return torch.where(hole, HOLE if masked == "-1" else 0.0, colours.expand(-1, -1, -1, 3))
