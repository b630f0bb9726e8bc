"""Holes of a picture filled with what is around them, by LaMa."""

import logging

import numpy as np
import torch

from .fit import masks_for
from .image import check_image, from_uint8, map_images, to_uint8
from .padded import Network, as_levels, padded_array

HOLE = 0.5
"""What the network fills: where the mask at the working size is above this."""

logger = logging.getLogger("tiller")


def inpaint_lama(
    image: torch.Tensor, mask: torch.Tensor, network: Network, resolution: int = 256
) -> torch.Tensor:
    """IMAGE (B,H,W,C) RGB 0..1 and MASK (B,h,w), 1 = fill -> IMAGE (B,H,W,3), filled where the mask is.

    `network` is a `LaMaGenerator`: (B,4,h,w) RGB 0..1 without the hole, and the hole -> (B,3,h,w). It works
    at `resolution`; the result is enlarged and laid over the picture by the soft mask, so that what the mask
    leaves out stays as it is, to the bit. One mask serves a whole batch; a mask of another size is stretched.
    A picture with an empty mask is left alone, and the log says so once.

    Raises:
        ValueError: for an image or a mask that is empty, not finite, or of another shape, and for masks
            that are neither one nor as many as the pictures.

    Source: Mikubill/sd-webui-controlnet: scripts/preprocessor/lama_inpaint.py, annotator/lama/__init__.py.
    """
    check_image(image, "LaMa")
    masks = masks_for(image, mask, "LaMa")
    levels = to_uint8(image)
    filled = _colours(image, levels)
    todo = [index for index, one in enumerate(masks) if bool(one.any())]
    if len(todo) < len(masks):
        logger.warning(
            "The mask is empty for %d of %d pictures: LaMa leaves them as they are.",
            len(masks) - len(todo),
            len(masks),
        )
    if not todo:
        return filled
    made = from_uint8(_filled(levels[todo], masks[todo], network, resolution))
    for index, one in zip(todo, made, strict=True):
        alpha = masks[index].unsqueeze(-1)
        filled[index] = one * alpha + filled[index] * (1.0 - alpha)
    return filled


def _filled(levels: np.ndarray, masks: torch.Tensor, network: Network, resolution: int) -> np.ndarray:
    """Pictures (B,H,W,3) uint8 and masks (B,H,W) 0..1 -> (B,H,W,3) uint8: what to lay into the holes."""
    import cv2

    size = levels.shape[2], levels.shape[1]
    holes = to_uint8(masks[..., None])[..., :1]
    batch = padded_array(np.concatenate([levels, holes], axis=3), resolution)
    values = as_levels(batch.array) / 255.0
    hole = (values[:, 3:] > HOLE).float()
    known = values[:, :3] * (1.0 - hole)
    made = network(torch.cat([known, hole], dim=1)) * hole + known * (1.0 - hole)
    small = (made * 255.0).clamp(0, 255).permute(0, 2, 3, 1).numpy().astype(np.uint8)
    small = small[:, : batch.size[0], : batch.size[1]]
    return map_images(lambda one, _: cv2.resize(one, size, interpolation=cv2.INTER_LINEAR), small)


def _colours(image: torch.Tensor, levels: np.ndarray) -> torch.Tensor:
    """(B,H,W,3) float32 0..1 with memory of its own: an RGB picture as it is, any other from its levels."""
    if image.shape[-1] != 3:
        return from_uint8(levels)
    return image.detach().to("cpu", torch.float32, copy=True).clamp_(0.0, 1.0)
