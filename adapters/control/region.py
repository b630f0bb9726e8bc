"""The region of the picture that a unit acts in."""

import torch
from torch.nn.functional import interpolate


def check_mask(mask: torch.Tensor) -> None:
    """Raises ValueError for something that is no mask (M,H,W) or (H,W) of finite values."""
    if mask.ndim not in (2, 3):
        raise ValueError(
            f"A control mask needs the shape (M,H,W), got {tuple(mask.shape)}. Connect a MASK output."
        )
    if mask.numel() == 0:
        count, (height, width) = mask.shape[0] if mask.ndim == 3 else 1, mask.shape[-2:]
        raise ValueError(
            f"A control mask needs at least one mask of 1 x 1 pixel, got {count} of {width} x {height}. "
            "Look at the node that made it."
        )
    if not bool(torch.isfinite(mask).all()):
        raise ValueError(
            "A control mask needs finite values, got NaN or infinite ones. Look at the node that made it."
        )


class Region:
    """A MASK (M,H,W) of a unit: 1 = the control acts, 0 = it does not; resized bilinearly to each layer.

    Image i of a batch has mask i modulo M. Like the hint, the mask belongs to the whole latent of a call:
    where the conditioning has an area, the host hands the net that part of the latent, and hint and mask
    are both resized to it, not cut.

    Source: Mikubill/sd-webui-controlnet: scripts/hook.py (apply_effective_region_mask).
    """

    def __init__(self, mask: torch.Tensor) -> None:
        self.masks = (mask if mask.ndim == 3 else mask[None]).float()[:, None]
        self._fitted: dict[tuple[int, ...], torch.Tensor] = {}

    def _per_image(self, images: int) -> torch.Tensor:
        """(images,1,H,W), or (1,1,H,W) where there is one mask for all."""
        count = self.masks.shape[0]
        if count == 1:
            return self.masks
        return self.masks[torch.arange(images) % count]

    def is_empty(self, images: int) -> bool:
        """Whether the control acts nowhere in a batch of so many images."""
        return not bool(self._per_image(images).any())

    def is_whole(self, images: int) -> bool:
        """Whether the control acts everywhere, fully, in a batch of so many images."""
        return bool((self._per_image(images) == 1).all())

    def rows(self, images: int, chunks: int) -> torch.Tensor:
        """(images * chunks,1,H,W) as the rows of a call are, or (1,1,H,W) where there is one mask."""
        own = self._per_image(images)
        return own if own.shape[0] == 1 else own.repeat(chunks, 1, 1, 1)

    def fit(self, images: int, chunks: int, height: int, width: int) -> torch.Tensor:
        """The rows at height x width, (n,1,height,width); a mask of ones stays exactly that."""
        key = (images, chunks, height, width)
        if key not in self._fitted:
            rows = self.rows(images, chunks)
            fitted = interpolate(rows, (height, width), mode="bilinear")
            whole = (rows == 1).all(dim=(-1, -2), keepdim=True) if rows.numel() else rows
            self._fitted[key] = torch.where(whole, torch.ones_like(fitted), fitted)
        return self._fitted[key]
