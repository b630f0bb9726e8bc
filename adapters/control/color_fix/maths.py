"""The colours of one latent under the detail of another."""

import torch
import torch.nn.functional as F


def box_blur(latent: torch.Tensor, radius: int) -> torch.Tensor:
    """(B,C,h,w) -> (B,C,h,w), means over squares of 2 * radius + 1; the border is continued outwards.

    Source: Mikubill/sd-webui-controlnet: scripts/hook.py (blur).
    """
    padded = F.pad(latent, (radius,) * 4, mode="replicate")
    return F.avg_pool2d(padded, 2 * radius + 1, stride=1)


def color_fixed(denoised: torch.Tensor, original: torch.Tensor, radius: int) -> torch.Tensor:
    """Denoised and original latent (B,C,h,w) -> (B,C,h,w): the original's colours, the denoised detail.

    Colours are what `box_blur` keeps, detail is what it takes away.

    Source: Mikubill/sd-webui-controlnet: scripts/hook.py (tile_colorfix).
    """
    return denoised - box_blur(denoised, radius) + box_blur(original, radius)


def blunted(latent: torch.Tensor, radius: int, share: float) -> torch.Tensor:
    """(B,C,h,w) -> (B,C,h,w), mixed with its blur by `share` in 0..1.

    On the negative prediction alone this sharpens: the guidance goes away from what is blurred.

    Source: Mikubill/sd-webui-controlnet: scripts/hook.py (tile_colorfix+sharp).
    """
    return share * box_blur(latent, radius) + (1.0 - share) * latent
