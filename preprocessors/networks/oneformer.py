"""OneFormer with a Swin backbone, for the task "semantic": which of its classes each pixel belongs to."""

import torch
from torch import nn
from torch.nn import functional

from .oneformer_pixels import PixelDecoder, Size
from .oneformer_queries import Perceptron, QueryDecoder
from .oneformer_sizes import OneFormerSizes, Shapes, oneformer_sizes
from .oneformer_swin import Swin

MEAN = (123.675, 116.28, 103.53)
DEVIATION = (58.395, 57.12, 57.375)
MULTIPLE = 32
STRIDE = 4
TASK = (49406, 518, 10549, 533, 29119, 1550, 49407)
"""The sentence "The task is semantic" in the tokens of CLIP: its start, the, task, is, semant, ic, its end.

Zeros fill it up to the length that the network was trained with. A test asks the host's tokenizer.
"""

BAND_VALUES = 1 << 24
"""How many numbers one band of the map takes while its classes are found."""


class OneFormer(nn.Module):
    """(B,3,h,w) float RGB levels 0..255 -> class logits (B,Q,classes + 1), the last of them "nothing", and
    mask logits (B,Q,h/4,w/4) of Q queries. `semantic_map` makes one map of both.

    The masks cover the picture and its pad to multiples of 32, on the right and at the bottom.

    `250_16_swin_l_oneformer_ade20k_160k.pth` and `150_16_swin_l_oneformer_coco_100ep.pth` hold tensors of
    these names and shapes, beside those of the text encoder, which only training needs.

    Source: Jain et al. 2023 (OneFormer: one transformer to rule universal image segmentation);
    Mikubill/sd-webui-controlnet: annotator/oneformer/oneformer/oneformer_model.py.
    """

    def __init__(self, sizes: OneFormerSizes) -> None:
        super().__init__()
        self.tokens = sizes.tokens
        self.backbone = Swin(sizes.swin)
        self.sem_seg_head = _Head(sizes)
        self.task_mlp = Perceptron(sizes.tokens, sizes.width, sizes.width, 2)

    @classmethod
    def from_shapes(cls, shapes: Shapes) -> "OneFormer":
        """The network of a file's key -> shape listing."""
        return cls(oneformer_sizes(shapes))

    def forward(self, levels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        mean, deviation = (levels.new_tensor(of).view(3, 1, 1) for of in (MEAN, DEVIATION))
        height, width = levels.shape[2:]
        picture = functional.pad((levels - mean) / deviation, (0, -width % MULTIPLE, 0, -height % MULTIPLE))
        words = levels.new_tensor([*TASK, *[0] * (self.tokens - len(TASK))])
        task = self.task_mlp(words).expand(len(levels), -1)
        return self.sem_seg_head(self.backbone(picture), task)


class _Head(nn.Module):
    def __init__(self, sizes: OneFormerSizes) -> None:
        super().__init__()
        self.pixel_decoder = PixelDecoder(sizes)
        self.predictor = QueryDecoder(sizes)

    def forward(self, maps: list[torch.Tensor], task: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        features, levels = self.pixel_decoder(maps)
        return self.predictor(levels, features, task)


def semantic_map(classes: torch.Tensor, masks: torch.Tensor, inner: Size, size: Size) -> torch.Tensor:
    """Class logits (Q,classes + 1) and mask logits (Q,h,w) of one picture -> (height,width) int64 classes.

    The masks are four times coarser than the picture with its pad, `inner` is the size of the picture in it,
    `size` that of the map. As in the reference, logits are enlarged to the picture with its pad, cut to the
    picture, brought to the map's size, and only then made probabilities. Bilinear resizing is linear in rows
    and columns, so both steps are one matrix on each side; rows go in bands, which bounds the memory.
    """
    probabilities = classes.softmax(dim=-1)[:, :-1].t()
    down, right = (
        _resizing(masks, length, cut, target)
        for length, cut, target in zip(masks.shape[1:], inner, size, strict=True)
    )
    rows = max(1, BAND_VALUES // (size[1] * (len(masks) + len(probabilities))))
    bands = []
    for band in down.split(rows):
        inside = (band @ masks @ right.t()).sigmoid()
        bands.append((probabilities @ inside.flatten(1)).argmax(dim=0).view(len(band), size[1]))
    return torch.cat(bands)


def _resizing(like: torch.Tensor, length: int, cut: int, target: int) -> torch.Tensor:
    """(target,length): enlarges a row of `length` four times, cuts it to `cut`, brings it to `target`."""
    single = torch.eye(length, dtype=like.dtype, device=like.device)[None]
    enlarged = functional.interpolate(single, size=STRIDE * length, mode="linear")[..., :cut]
    return functional.interpolate(enlarged, size=target, mode="linear")[0].t()
