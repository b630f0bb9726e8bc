"""Masks of everything in a picture, or of what points and boxes ask for, with Segment Anything."""

import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.nn import functional

from .image import OnImage, check_image, from_uint8, resize_short_side, to_uint8
from .networks.sam import fitted_size, frame_side
from .networks.sam_decoder import EXCLUDED, FIRST_CORNER, INCLUDED, NO_POINT, SECOND_CORNER
from .padded import as_levels
from .segment_prompts import Prompt

SamNetwork = Callable[..., Any]
"""A `Sam`: the whole batch as CPU float32 -> embeddings; prompts and one embedding -> logits and IoUs."""

POINTS_AT_ONCE = 64
LARGEST_OVERLAP = 0.7
"""Of the boxes of two masks, as intersection over union: of two nearer ones the surer stays."""

STABILITY_OFFSET = 1.0
MASKS_AT_ONCE = 16
"""How many are enlarged together: it bounds memory."""

logger = logging.getLogger("tiller")


class MaskRules(NamedTuple):
    """What automatic masks are looked for with, and which of them stay.

    `points_per_side`: of the grid of points. `iou`: predicted quality that a mask must pass. `stability`:
    least IoU of the masks cut a little above and a little below; 0 for either lets every mask through.
    """

    points_per_side: int = 32
    iou: float = 0.88
    stability: float = 0.95


def automatic_masks(
    image: torch.Tensor,
    network: SamNetwork,
    rules: MaskRules | None = None,
    resolution: int = 512,
    on_image: OnImage | None = None,
) -> list[torch.Tensor]:
    """IMAGE (B,H,W,C) RGB 0..1 -> for each picture its masks (N,h,w) bool, the largest first.

    `network` is a `Sam`. The pictures' shorter side becomes `resolution` first (0 keeps the size). A picture
    without a mask gives (0,h,w), and the log says so once. `on_image(done, total)` is called after every 64
    points; an exception in it stops the work.

    Raises:
        ValueError: for an image that is empty, not finite, or of another shape.

    Source: facebookresearch/segment-anything: segment_anything/automatic_mask_generator.py.
    """
    rules = rules or MaskRules()
    size, embeddings = _embedded(image, network, resolution)
    grid = _grid(rules.points_per_side)
    steps = -(-len(grid) // POINTS_AT_ONCE)
    found = []
    for index, embedding in enumerate(embeddings):
        kept = _Kept(size)
        for step, points in enumerate(grid.split(POINTS_AT_ONCE)):
            logits, ious = network(_grid_prompts(points, size, embedding), embedding)
            kept.add(logits[:, 1:].flatten(0, 1), ious[:, 1:].flatten(), embedding, rules)
            if on_image is not None:
                on_image(index * steps + step + 1, len(embeddings) * steps)
        found.append(kept.masks())
    _tell_empty(found, rules)
    return found


def masks_of_prompts(
    image: torch.Tensor,
    network: SamNetwork,
    prompts: Sequence[Sequence[Prompt]],
    resolution: int = 512,
    on_image: OnImage | None = None,
) -> list[torch.Tensor]:
    """IMAGE (B,H,W,C) RGB 0..1, the prompts of each picture -> its masks (N,h,w) bool, in their order.

    `prompts` are in pixels of the image as it came; the masks have the working size. A point alone gets the
    surest of the network's three masks for doubtful prompts, all others its mask for prompts without doubt.
    A picture without prompts gives (0,h,w), and the log says so once.

    Raises:
        ValueError: for an image that is empty, not finite, or of another shape.

    Source: facebookresearch/segment-anything: segment_anything/predictor.py (predict).
    """
    size, embeddings = _embedded(image, network, resolution)
    given = (image.shape[1], image.shape[2])
    total, done = sum(map(len, prompts)), 0
    found = []
    for embedding, asked in zip(embeddings, prompts, strict=True):
        masks = torch.zeros(len(asked), *size, dtype=torch.bool)
        for mask, prompt in zip(masks, asked, strict=True):
            logits, ious = network(_prompt_rows(prompt, given, embedding), embedding)
            alone = prompt.box is None and len(prompt.points) == 1
            best = 1 + int(ious[0, 1:].argmax()) if alone else 0
            mask[...] = _at_size(logits[0, best : best + 1], embedding, size)[0] > 0
            done += 1
            if on_image is not None:
                on_image(done, total)
        found.append(masks)
    empty = sum(not asked for asked in prompts)
    if empty:
        logger.warning(
            "No point and no box for %d of %d pictures: their maps are black. Give points or boxes, or "
            "disconnect the bounding boxes to find the masks of everything.",
            empty,
            len(prompts),
        )
    return found


def largest_first(masks: torch.Tensor) -> torch.Tensor:
    """Masks (N,h,w) bool -> the same by their area; equally large ones keep their order."""
    areas = masks.flatten(1).sum(1)
    return masks[areas.argsort(descending=True, stable=True)]


def random_colours(count: int, seed: int) -> np.ndarray:
    """(count,3) uint8: colours in a seeded order, so that the first ones are the same for any count."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 255, (count, 3), generator=generator, dtype=torch.uint8).numpy()


def colour_map(masks: torch.Tensor, colours: np.ndarray) -> np.ndarray:
    """Masks (N,h,w) bool, colours (N,3) uint8 -> (h,w,3) uint8: each mask over the ones before, on black."""
    painted = np.zeros((*masks.shape[1:], 3), np.uint8)
    for mask, colour in zip(masks.numpy(), colours, strict=True):
        painted[mask] = colour
    return painted


def colour_hint(masks: Sequence[torch.Tensor], seed: int) -> torch.Tensor:
    """Masks (N,h,w) bool of each picture -> IMAGE (B,h,w,3): painted largest first, in random colours.

    The same seed gives the largest mask of every picture the same colour, the second largest the next one,
    and so on.

    Source: huggingface/controlnet_aux: src/controlnet_aux/segment_anything/__init__.py (show_anns).
    """
    maps = [colour_map(largest_first(one), random_colours(len(one), seed)) for one in masks]
    return from_uint8(np.stack(maps))


def mask_batch(masks: Sequence[torch.Tensor]) -> torch.Tensor:
    """Masks (N,h,w) bool of each picture -> MASK (all,h,w) float32, 0 or 1; an empty one for none at all."""
    every = torch.cat(list(masks)).float()
    return every if len(every) else torch.zeros(1, *every.shape[1:])


def _embedded(
    image: torch.Tensor, network: SamNetwork, resolution: int
) -> tuple[tuple[int, int], tuple[torch.Tensor, ...]]:
    """The working size (height, width), and the embedding (1,C,g,g) of each picture."""
    check_image(image, "Segment Anything")
    pictures = resize_short_side(to_uint8(image), resolution)
    return (pictures.shape[1], pictures.shape[2]), network(as_levels(pictures)).split(1)


def _grid(side: int) -> torch.Tensor:
    """(side*side,2) float64: x and y of evenly spaced points, as shares of the picture, row by row."""
    places = (torch.arange(side, dtype=torch.float64) + 0.5) / side
    rows, columns = torch.meshgrid(places, places, indexing="ij")
    return torch.stack((columns, rows), dim=-1).reshape(-1, 2)


def _fitted(size: tuple[int, int], embedding: torch.Tensor) -> tuple[int, int]:
    return fitted_size(size, frame_side(embedding))


def _grid_prompts(points: torch.Tensor, size: tuple[int, int], embedding: torch.Tensor) -> torch.Tensor:
    """Points (P,2) as shares of the picture -> prompts (P,2,3): one to include, and one that is none."""
    height, width = _fitted(size, embedding)
    prompts = torch.zeros(len(points), 2, 3)
    prompts[:, 0, :2] = (points * points.new_tensor((width, height))).float()
    prompts[:, 0, 2], prompts[:, 1, 2] = INCLUDED, NO_POINT
    return prompts


def _prompt_rows(prompt: Prompt, size: tuple[int, int], embedding: torch.Tensor) -> torch.Tensor:
    """A prompt on a picture of (height, width) -> (1,N,3) in pixels of the network's square."""
    rows = [(point.x, point.y, INCLUDED if point.included else EXCLUDED) for point in prompt.points]
    if prompt.box is None:
        rows.append((0.0, 0.0, NO_POINT))
    else:
        rows += [(*prompt.box[:2], FIRST_CORNER), (*prompt.box[2:], SECOND_CORNER)]
    height, width = _fitted(size, embedding)
    made = torch.tensor([rows], dtype=torch.float64)
    made[..., 0] *= width / size[1]
    made[..., 1] *= height / size[0]
    return made.float()


def _at_size(logits: torch.Tensor, embedding: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Logits (N,s,s) of the square -> (N,h,w) of the picture: enlarged, the fill cut off, resized."""
    side = frame_side(embedding)
    height, width = fitted_size(size, side)
    square = functional.interpolate(logits[:, None], (side, side), mode="bilinear", align_corners=False)
    filled = square[..., :height, :width]
    return functional.interpolate(filled, size, mode="bilinear", align_corners=False)[:, 0]


class _Kept:
    """The masks of one picture that pass the rules, as bits, with their boxes and IoUs."""

    def __init__(self, size: tuple[int, int]) -> None:
        self._size = size
        self._bits: list[np.ndarray] = []
        self._boxes: list[torch.Tensor] = [torch.zeros(0, 4)]
        self._ious: list[torch.Tensor] = [torch.zeros(0)]

    def add(
        self, logits: torch.Tensor, ious: torch.Tensor, embedding: torch.Tensor, rules: MaskRules
    ) -> None:
        """Takes over what passes of the logits (N,s,s) and their predicted IoUs (N,)."""
        sure = ious > rules.iou if rules.iou > 0 else torch.ones_like(ious, dtype=torch.bool)
        for some, iou in _pieces(logits[sure], ious[sure]):
            values = _at_size(some, embedding, self._size)
            masks = values > 0
            passing = masks.flatten(1).any(1)
            if rules.stability > 0:
                passing &= stability(values) >= rules.stability
            self._bits.extend(np.packbits(masks[passing].numpy(), axis=2))
            self._boxes.append(boxes_around(masks[passing]))
            self._ious.append(iou[passing])

    def masks(self) -> torch.Tensor:
        """(N,h,w) bool, the largest first: of masks with much the same box the surest stays."""
        from torchvision.ops import nms

        chosen = nms(torch.cat(self._boxes), torch.cat(self._ious), LARGEST_OVERLAP)
        masks = torch.zeros(len(chosen), *self._size, dtype=torch.bool)
        for mask, index in zip(masks, chosen.tolist(), strict=True):
            bits = np.unpackbits(self._bits[index], axis=1, count=self._size[1])
            mask[...] = torch.from_numpy(bits.astype(bool))
        return largest_first(masks)


def _pieces(logits: torch.Tensor, ious: torch.Tensor) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    yield from zip(logits.split(MASKS_AT_ONCE), ious.split(MASKS_AT_ONCE), strict=True)


def stability(logits: torch.Tensor) -> torch.Tensor:
    """Logits (N,h,w) -> (N,) 0..1: IoU of the masks above 1 and above -1; NaN where both are empty.

    Source: facebookresearch/segment-anything: segment_anything/utils/amg.py (calculate_stability_score).
    """
    inner, outer = ((logits > cut).flatten(1).sum(1) for cut in (STABILITY_OFFSET, -STABILITY_OFFSET))
    return inner / outer


def boxes_around(masks: torch.Tensor) -> torch.Tensor:
    """Masks (N,h,w) bool, none empty -> (N,4) float: first column and row, last column and row."""
    across, down = masks.any(1), masks.any(2)
    ends = [
        edge
        for flags in (across, down)
        for edge in (flags.int().argmax(1), flags.shape[1] - 1 - flags.flip(1).int().argmax(1))
    ]
    return torch.stack([ends[0], ends[2], ends[1], ends[3]], dim=1).float()


def _tell_empty(found: Sequence[torch.Tensor], rules: MaskRules) -> None:
    empty = sum(len(masks) == 0 for masks in found)
    if empty:
        logger.warning(
            "No mask in %d of %d pictures: their maps are black. Lower the IoU threshold (%g) or the "
            "stability threshold (%g) to keep less certain masks.",
            empty,
            len(found),
            rules.iou,
            rules.stability,
        )
