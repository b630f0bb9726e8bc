"""Depth with more detail than a network sees at once: two sizes and many patches, merged by another network.

Follows Mikubill/sd-webui-controlnet: annotator/leres/leres/depthmap.py (estimateboost), after Miangoleh et
al. 2021 (Boosting monocular depth estimation models to high-resolution via content-adaptive multi-resolution
merging). The numbers are the reference's, rounding and interpolation included; where it would divide by zero
or has no answer, that is said.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch

from .image import MAX_PIXELS
from .padded import Network

BASE = 448
"""Side that the depth network was trained at: it sees a whole square of this size."""

MERGED = 1024
"""Side that the merging network works at."""

CELL = 32
"""The search for the best side works at one pixel per 32."""

LARGEST = 1600
ENLARGED = 3
"""The best side stays below 1600 and three times the picture's longer one."""

UNSEEN = 0.2
"""Share of the picture that may lie farther than half of `BASE` from any edge."""

STRIDE = 0.75
LEAST_FACTOR = 0.2
AT_ONCE = 8
"""Patches that go through the networks together."""

GRAY = np.array([0.2989, 0.5870, 0.1140])
STRIP = 1024

MASK_SIDE = 3000
MASK_MARGIN = 450
MASK_SIGMA = 187

Estimate = Callable[[np.ndarray], np.ndarray]
"""Pictures (B,h,w,3) uint8 RGB, sides of multiples of 32 -> depth (B,h,w) float32."""


class Square(NamedTuple):
    """Left, top and side in pixels."""

    x: int
    y: int
    side: int

    def scaled(self, scale: float) -> "Square":
        return Square(*(round(value * scale) for value in self))

    def of(self, array: np.ndarray) -> np.ndarray:
        """The part (H,W) or (H,W,C) of an array, a view; less than the square at the array's borders."""
        return array[self.y : self.y + self.side, self.x : self.x + self.side]


class Plan(NamedTuple):
    """How a picture is looked at: whole at `side`, then in patches of the picture enlarged to `enlarged`.

    `enlarged` is (height, width), or None where patches would show nothing new.
    """

    side: int
    enlarged: tuple[int, int] | None = None
    patches: tuple[Square, ...] = ()


def boosted_depth(picture: np.ndarray, estimate: Estimate, merge: Network) -> np.ndarray:
    """Picture (H,W,3) uint8 RGB -> depth (H,W) float32, from what `estimate` sees of it at several sizes.

    `merge` is a `LeReSMerge`: (B,2,1024,1024) in -1..1, a coarse and a fine map -> (B,1,1024,1024) in -1..1.

    Raises:
        ValueError: for a picture that would have to be enlarged beyond 2^27 pixels.

    Source: Mikubill/sd-webui-controlnet: annotator/leres/leres/depthmap.py (estimateboost).
    """
    import cv2

    plan = boosting_plan(picture)
    (depth,) = _seen_twice([picture], plan.side, estimate, merge)
    if plan.enlarged is not None:
        depth = _with_patches(picture, plan, depth, estimate, merge)
    return cv2.resize(depth, (picture.shape[1], picture.shape[0]), interpolation=cv2.INTER_CUBIC)


def boosting_plan(picture: np.ndarray) -> Plan:
    """Picture (H,W,3) uint8 RGB -> the best side for the whole, and the patches, the largest first.

    Raises:
        ValueError: for a picture that would have to be enlarged beyond 2^27 pixels.
    """
    import cv2

    height, width = picture.shape[:2]
    side, density = best_side(picture)
    if max(height, width) < side:
        return Plan(side)
    factor = max(min(1.0, 4 * density * side / LARGEST), LEAST_FACTOR)
    longer, shorter = 2 * side, round(2 * side * min(height, width) / max(height, width))
    longer, shorter = max(1, round(longer / factor)), max(1, round(shorter / factor))
    enlarged = (longer, shorter) if height > width else (shorter, longer)
    if longer * shorter > MAX_PIXELS:
        raise ValueError(
            f"The boost needs at most {MAX_PIXELS} pixels after enlarging, got {enlarged[1]} x {enlarged[0]} "
            f"for a picture of {width} x {height}: its detail lies in few places. Lower the resolution, or "
            "turn the boost off."
        )
    large = cv2.resize(picture, enlarged[::-1], interpolation=cv2.INTER_CUBIC)
    return Plan(side, enlarged, _patches(large, int(CELL / factor)))


def best_side(picture: np.ndarray) -> tuple[int, float]:
    """Picture (H,W,3) uint8 RGB -> (side, share of the picture near edges).

    The greatest side at which nearly all of the picture still has an edge within the reach of the network.
    A picture with sides below 160, for which the reference has no answer, gets `BASE`.

    Source: the same file (calculateprocessingres), which asks for other interpolations than it gets: the
    maps are resized bilinearly.
    """
    import cv2

    short = min(picture.shape[:2])
    edges = cv2.resize(_gradients(picture), (short, short))
    low, high = edges.min(), edges.max()
    edges = (edges >= low + 0.4 * (high - low)).astype(np.float64)
    start, limit = BASE // CELL, min(LARGEST, ENLARGED * max(picture.shape[:2])) // CELL
    reach, nearby = np.ones((start, start)), np.ones((start // 4, start // 4))
    best, seen = start, np.zeros((1, 1))
    for cells in range(start, limit, start // 2):
        seen = (cv2.resize(_pooled(edges, short // cells), (cells, cells)) >= 0.5).astype(np.float64)
        if (1 - cv2.dilate(seen, reach)).mean() > UNSEEN:
            break
        best = cells
    return best * CELL, float(cv2.dilate(seen, nearby).mean())


def _pooled(array: np.ndarray, size: int) -> np.ndarray:
    """The maximum of each `size` x `size` block, zeros behind the borders."""
    height, width = array.shape
    padded = np.pad(array, [(0, -height % size), (0, -width % size)])
    blocks = padded.reshape(padded.shape[0] // size, size, padded.shape[1] // size, size)
    return blocks.max(axis=(1, 3))


def _gradients(picture: np.ndarray) -> np.ndarray:
    """Picture (H,W,3) uint8 RGB -> (H,W) float64, how steep its gray is."""
    import cv2

    gray = np.empty(picture.shape[:2])
    for top in range(0, len(gray), STRIP):
        gray[top : top + STRIP] = picture[top : top + STRIP] @ GRAY
    steep = cv2.Sobel(gray, cv2.CV_64F, 0, 1, ksize=3)
    across = cv2.Sobel(gray, cv2.CV_64F, 1, 0, ksize=3)
    np.abs(steep, out=steep)
    steep += np.abs(across, out=across)
    return steep


def _patches(large: np.ndarray, step: int) -> tuple[Square, ...]:
    """The squares of an enlarged picture (H,W,3) that have as many edges as the whole, the largest first.

    A grid of squares; each grows by `step` as long as it stays that rich and within the picture.

    Source: the same file (generatepatchs, adaptiveselection).
    """
    import cv2

    edges = _gradients(large)
    steep = edges[edges > 0]
    if len(steep):
        edges[edges < steep.mean()] = 0
    del steep
    least = edges.sum() / edges.size
    sums = cv2.integral(edges)
    height, width = sums.shape

    def density(square: Square) -> float:
        x, y, side = square
        total = sums[y + side, x + side] - sums[y, x + side] - sums[y + side, x] + sums[y, x]
        return total / side**2

    def grown(square: Square) -> Square:
        while True:
            wider = Square(square.x - step // 2, square.y - step // 2, square.side + step)
            fits = wider.x >= 0 and wider.y >= 0
            fits = fits and wider.x + wider.side < width and wider.y + wider.side < height
            if not fits or density(wider) < least:
                return square
            square = wider

    stride = round(BASE * STRIDE)
    corners = [
        (x, y)
        for x in range(0, large.shape[1] - 2 * BASE, stride)
        for y in range(0, large.shape[0] - 2 * BASE, stride)
    ]
    squares = [Square(x, y, 2 * BASE) for x, y in corners]
    rich = [grown(square) for square in squares if density(square) >= least]
    return tuple(sorted(rich, key=lambda square: square.side, reverse=True))


def _with_patches(
    picture: np.ndarray, plan: Plan, depth: np.ndarray, estimate: Estimate, merge: Network
) -> np.ndarray:
    """Depth (1024,1024) of the whole -> depth (h,w) at about the picture's size, patches merged into it.

    The patches are seen at the picture's own size; only where they lie was found on the enlarged one.
    """
    import cv2

    large = plan.enlarged or picture.shape[:2]
    scale = picture.shape[0] / large[0]
    size = round(large[1] * scale), round(large[0] * scale)
    view = cv2.resize(picture, large[::-1], interpolation=cv2.INTER_CUBIC)
    view = cv2.resize(view, size, interpolation=cv2.INTER_CUBIC)
    base = cv2.resize(depth, size, interpolation=cv2.INTER_CUBIC)
    updated = base.copy()
    squares = [square.scaled(scale) for square in plan.patches]
    for start in range(0, len(squares), AT_ONCE):
        part = squares[start : start + AT_ONCE]
        fine = _seen_twice([square.of(view) for square in part], 2 * BASE, estimate, merge)
        coarse = [_enlarged(square.of(base)) for square in part]
        for square, made, under in zip(part, _merged(coarse, fine, merge), coarse, strict=True):
            _blend(square.of(updated), _fitted(made, under))
    return updated


def _seen_twice(
    pictures: list[np.ndarray], side: int, estimate: Estimate, merge: Network
) -> list[np.ndarray]:
    """Pictures (H,W,3) of any size -> maps (1024,1024) float32 0..1: seen at `BASE` and at `side`, merged."""
    coarse, fine = (_seen(pictures, one, estimate) for one in (BASE, side))
    return [_stretched(made) for made in _merged(coarse, fine, merge)]


def _seen(pictures: list[np.ndarray], side: int, estimate: Estimate) -> list[np.ndarray]:
    """Pictures of any size -> maps (1024,1024): what is seen of each squeezed into a square of `side`."""
    import cv2

    depths = estimate(np.stack([cv2.resize(picture, (side, side)) for picture in pictures]))
    return [
        _enlarged(cv2.resize(depth, picture.shape[1::-1], interpolation=cv2.INTER_CUBIC))
        for picture, depth in zip(pictures, depths, strict=True)
    ]


def _enlarged(depth: np.ndarray) -> np.ndarray:
    import cv2

    return cv2.resize(depth, (MERGED, MERGED), interpolation=cv2.INTER_CUBIC)


def _merged(coarse: list[np.ndarray], fine: list[np.ndarray], merge: Network) -> list[np.ndarray]:
    """Pairs of maps (1024,1024) in any range -> what the merging network makes of each, in 0..1."""
    pairs = [np.stack([_stretched(one) * 2 - 1 for one in pair]) for pair in zip(coarse, fine, strict=True)]
    return list((merge(torch.from_numpy(np.stack(pairs)))[:, 0].numpy() + 1) / 2)


def _stretched(depth: np.ndarray) -> np.ndarray:
    """From its least to its greatest value -> 0..1; all 0 if there is one value, where the reference divides
    by zero."""
    low, high = depth.min(), depth.max()
    return (depth - low) / (high - low) if high > low else np.zeros_like(depth)


def _fitted(depth: np.ndarray, under: np.ndarray) -> np.ndarray:
    """Depth, shifted and scaled to come near `under`, of the same shape.

    Like the reference by numpy's own fit in 32 bit: it takes so large a share of the singular values for
    noise that depths of little variance are only scaled.
    """
    coefficients = np.polyfit(depth.reshape(-1), under.reshape(-1), deg=1, full=True)[0]
    return np.polyval(coefficients, depth)


def _blend(target: np.ndarray, depth: np.ndarray) -> None:
    """Lays a map over the part `target` (h,w) of another: fully in its middle, not at all at its border."""
    import cv2

    height, width = target.shape
    mask = _mask(height, width)
    resized = cv2.resize(depth, (width, height), interpolation=cv2.INTER_CUBIC)
    target[...] = target * (1 - mask) + resized * mask


def _mask(height: int, width: int) -> np.ndarray:
    """(h,w) float32: 1 in the middle, softly 0 towards the border.

    The reference blurs a square of 3000 pixels and resizes that. Both are products of a column and a row.

    Source: the same file (generatemask).
    """
    import cv2

    column = np.zeros((MASK_SIDE, 1), np.float32)
    column[MASK_MARGIN : MASK_SIDE - MASK_MARGIN] = 1
    column = cv2.GaussianBlur(column, (1, 4 * MASK_SIGMA + 1), MASK_SIGMA)
    low, high = float(column.min()) ** 2, float(column.max()) ** 2
    down, across = (cv2.resize(column, (1, side))[:, 0] for side in (height, width))
    return ((np.outer(down, across) - low) / (high - low)).astype(np.float32)
