"""Segment Anything: a picture to an embedding, then prompts and the embedding to masks."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from .sam_decoder import SamMasks, SamPrompts
from .sam_parts import below
from .sam_tiny_vit import SamTinyViT
from .sam_vit import SamViT

PATCH = 16
"""Pixels of the network's picture to each side of one place of the embedding, in every published network."""

MEAN = (123.675, 116.28, 103.53)
DEVIATION = (58.395, 57.12, 57.375)


class Sam(nn.Module):
    """One module, two calls. Sizes are those of the file's key -> shape listing.

    `sam(pictures)`: (B,3,h,w) float RGB, whole levels 0..255 -> embeddings (B,C,g,g). The longer side is
    brought to `frame_side(embeddings)`, and zeros fill up the square.
    `sam(prompts, embedding)`: (P,N,3), each x, y in pixels of that square and a label of `sam_decoder`, and
    one picture's embedding (1,C,g,g) -> mask logits (P,4,4g,4g) of the square and their predicted
    IoU (P,4).

    `mobile_sam.pt`, `sam_vit_b_01ec64.pth`, `sam_vit_l_0b3195.pth` and `sam_vit_h_4b8939.pth` hold tensors of
    these names and shapes.

    Source: Kirillov et al. 2023 (Segment Anything);
    facebookresearch/segment-anything: segment_anything/modeling/sam.py, predictor.py.
    """

    def __init__(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        super().__init__()
        listing = dict(shapes)
        encoder = below(listing, "image_encoder")
        self.image_encoder = SamViT(encoder) if "pos_embed" in encoder else SamTinyViT(encoder)
        self.prompt_encoder = SamPrompts(below(listing, "prompt_encoder"))
        self.mask_decoder = SamMasks(below(listing, "mask_decoder"))

    def forward(
        self, batch: torch.Tensor, embedding: torch.Tensor | None = None
    ) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        return self._embedded(batch) if embedding is None else self._masks(batch, embedding)

    def _embedded(self, pictures: torch.Tensor) -> torch.Tensor:
        side = self.image_encoder.side
        levels = torch.stack([_resized(picture, side) for picture in pictures])
        mean, deviation = levels.new_tensor(MEAN), levels.new_tensor(DEVIATION)
        scaled = (levels - mean[:, None, None]) / deviation[:, None, None]
        return self.image_encoder(
            functional.pad(scaled, (0, side - scaled.shape[-1], 0, side - scaled.shape[-2]))
        )

    def _masks(self, prompts: torch.Tensor, embedding: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        places = (prompts[..., :2] + 0.5) / frame_side(embedding)
        tokens = self.prompt_encoder(places, prompts[..., 2].long())
        image = (embedding + self.prompt_encoder.no_mask_embed.weight[..., None, None]).flatten(2)
        grid = self.prompt_encoder.grid(embedding.shape[-1])
        return self.mask_decoder(image.transpose(1, 2), grid, tokens)


def frame_side(embedding: torch.Tensor) -> int:
    """The side in pixels of the square that an embedding (1,C,g,g) was made from."""
    return embedding.shape[-1] * PATCH


def fitted_size(size: tuple[int, int], side: int) -> tuple[int, int]:
    """(height, width) of a picture whose longer side becomes `side`.

    Source: facebookresearch/segment-anything: segment_anything/utils/transforms.py (get_preprocess_shape).
    """
    scale = side / max(size)
    return max(1, int(size[0] * scale + 0.5)), max(1, int(size[1] * scale + 0.5))


def _resized(picture: torch.Tensor, side: int) -> torch.Tensor:
    """(3,h,w) levels -> (3,h',w') whole levels, the longer side `side`, to the pixel as the reference does.

    Pillow works on 8 bit and in steps of its own, which a tensor's interpolation misses by a level here and
    there.
    """
    from PIL import Image

    height, width = fitted_size((picture.shape[1], picture.shape[2]), side)
    array = picture.permute(1, 2, 0).round().to("cpu", torch.uint8).contiguous().numpy()
    made = np.array(Image.fromarray(array).resize((width, height), Image.Resampling.BILINEAR))
    return torch.from_numpy(made).permute(2, 0, 1).to(picture)
