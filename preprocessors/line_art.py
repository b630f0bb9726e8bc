"""Line art hints with a network: white lines on black, as the line art control models were trained.

The networks draw dark lines on white; every hint here is inverted, as in Mikubill/sd-webui-controlnet.
Their maps are cut to levels, not rounded, as in the references.
"""

import numpy as np
import torch

from .image import check_image, map_images
from .padded import Network, as_levels, padded_batch

ANIME_MULTIPLE = 256
"""The U-Net halves eight times: a side of another length does not come back to its size."""


def line_art(image: torch.Tensor, network: Network, resolution: int = 512) -> torch.Tensor:
    """IMAGE (B,H,W,C) RGB 0..1 -> IMAGE (B,h,w,3) in 0..1, lines white; realistic or coarse by the network.

    `network` is a `LineArtGenerator`: (B,3,h,w) levels 0..255 -> (B,1,h,w) 0..1.

    Raises:
        ValueError: for an image that is empty, not finite, or of another shape.

    Source: Mikubill/sd-webui-controlnet: scripts/preprocessor/legacy/processor.py (lineart, lineart_coarse).
    """
    check_image(image, "Line art")
    batch = padded_batch(image, resolution)
    lines = network(as_levels(batch.array))[:, 0].numpy()
    return batch.hint(map_images(lambda one, _: 255 - _cut(one * np.float32(255.0)), lines))


def line_art_anime(image: torch.Tensor, network: Network, resolution: int = 512) -> torch.Tensor:
    """IMAGE (B,H,W,C) RGB 0..1 -> IMAGE (B,h,w,3) in 0..1, lines white, in the style of anime drawings.

    `network` is a `LineArtAnimeUNet`: (B,3,h,w) levels 0..255, h and w multiples of 256, -> (B,1,h,w) -1..1.
    The padded picture is stretched to such a size and the map brought back, both cubic, as in the reference.

    Raises:
        ValueError: for an image that is empty, not finite, or of another shape.

    Source: Mikubill/sd-webui-controlnet: annotator/lineart_anime/__init__.py.
    """
    check_image(image, "Anime line art")
    import cv2

    batch = padded_batch(image, resolution)
    height, width = batch.array.shape[1:3]
    stretched = width + -width % ANIME_MULTIPLE, height + -height % ANIME_MULTIPLE

    def wide(picture: np.ndarray, _: int) -> np.ndarray:
        return cv2.resize(picture, stretched, interpolation=cv2.INTER_CUBIC)

    def back(lines: np.ndarray, _: int) -> np.ndarray:
        levels = lines * np.float32(127.5) + np.float32(127.5)
        return 255 - _cut(cv2.resize(levels, (width, height), interpolation=cv2.INTER_CUBIC))

    lines = network(as_levels(map_images(wide, batch.array)))[:, 0].numpy()
    return batch.hint(map_images(back, lines))


def line_art_anime_denoise(image: torch.Tensor, network: Network, resolution: int = 512) -> torch.Tensor:
    """IMAGE (B,H,W,C) RGB 0..1 -> IMAGE (B,h,w,3) in 0..1, lines white, without screen tone and noise.

    `network` is a `MangaLineExtraction`: (B,1,h,w) gray levels 0..255 -> (B,1,h,w) levels.

    Raises:
        ValueError: for an image that is empty, not finite, or of another shape.

    Source: Mikubill/sd-webui-controlnet: annotator/manga_line/__init__.py.
    """
    check_image(image, "Anime line art without noise")
    import cv2

    batch = padded_batch(image, resolution)
    gray = map_images(lambda picture, _: cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), batch.array)
    lines = network(as_levels(gray[..., None]))[:, 0].numpy()
    return batch.hint(map_images(lambda one, _: _cut(np.float32(255.0) - one), lines))


def _cut(levels: np.ndarray) -> np.ndarray:
    return levels.clip(0, 255).astype(np.uint8)
