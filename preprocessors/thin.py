"""Keeps one-pixel drawings one pixel wide after a resize: ridge selection and thinning.

Source: Lvmin Zhang, "High Quality Edge Thinning using Pure Python", 2023;
Mikubill/sd-webui-controlnet: scripts/lvminthin.py.
"""

import numpy as np

MAX_ROUNDS = 32

Pattern = tuple[str, str, str]

# 1: the pixel is set, 0: it is not, dot: either. Outside the picture every pattern matches.
THINNING: tuple[Pattern, ...] = (("000", ".1.", "111"), (".00", "110", ".1."))
PRUNING: tuple[Pattern, ...] = (("000", "010", "..0"), ("000", "010", "0.."))


def ridges(levels: np.ndarray) -> np.ndarray:
    """Array (H,W) uint8 -> the same, with 0 wherever no direction makes the pixel a maximum.

    A pixel stays when neither neighbour along one of the four directions (flat, upright, both
    diagonals) is larger. Neighbours outside the picture count as 0.
    """
    height, width = levels.shape
    framed = np.pad(levels, 1)
    keep = np.zeros(levels.shape, dtype=bool)
    for dy, dx in ((0, 1), (1, 0), (1, 1), (1, -1)):
        before = framed[1 - dy : 1 - dy + height, 1 - dx : 1 - dx + width]
        after = framed[1 + dy : 1 + dy + height, 1 + dx : 1 + dx + width]
        keep |= (levels >= before) & (levels >= after)
    return np.where(keep, levels, 0).astype(levels.dtype)


def thin(drawing: np.ndarray, prune: bool) -> np.ndarray:
    """Array (H,W) bool, True = line -> the same with every line one pixel wide.

    Removes hit-or-miss matches in four rotations until nothing changes, at most 32 rounds. `prune` adds
    one pass that takes off single pixels and the ends of spurs.
    """
    field = _Field(drawing)
    thinning, pruning = _rotations(THINNING), _rotations(PRUNING)
    for _ in range(MAX_ROUNDS):
        removed = [field.remove(pattern) for pattern in thinning]
        if not any(removed):
            break
    if prune:
        for pattern in pruning:
            field.remove(pattern)
    return field.drawing.copy()


class _Field:
    """A drawing inside two frames: one set, one empty, so that patterns match past the border."""

    def __init__(self, drawing: np.ndarray) -> None:
        self.height, self.width = drawing.shape
        self.when_set = np.pad(drawing, 1, constant_values=True)
        self.when_empty = np.pad(drawing, 1, constant_values=False)

    @property
    def drawing(self) -> np.ndarray:
        return self.when_set[1:-1, 1:-1]

    def remove(self, pattern: np.ndarray) -> bool:
        """Clears all matches of one pattern at once; True when there were any."""
        match = self.drawing.copy()
        for (row, column), wanted in np.ndenumerate(pattern):
            if wanted == ".":
                continue
            source = self.when_set if wanted == "1" else self.when_empty
            window = source[row : row + self.height, column : column + self.width]
            match &= window if wanted == "1" else ~window
        if not match.any():
            return False
        self.drawing[match] = False
        self.when_empty[1:-1, 1:-1][match] = False
        return True


def _rotations(patterns: tuple[Pattern, ...]) -> list[np.ndarray]:
    """Both patterns, then both turned left by 90 degrees, and so on: the order decides the result."""
    grids = [np.array([list(row) for row in pattern]) for pattern in patterns]
    return [np.rot90(grid, turns) for turns in range(4) for grid in grids]
