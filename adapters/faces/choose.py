"""Which of several faces in a picture is meant."""

from collections.abc import Sequence
from typing import Literal, get_args

from .records import Face

Choice = Literal["largest", "left", "right", "centre", "surest", "index"]
CHOICES: tuple[Choice, ...] = get_args(Choice)


def from_left_to_right(faces: Sequence[Face]) -> tuple[Face, ...]:
    """Faces in the order of their centres from left to right, then from top to bottom."""
    return tuple(sorted(faces, key=lambda face: (*_centre(face), -face.score)))


def choose(
    faces: Sequence[Face], choice: Choice, index: int = 0, size: tuple[int, int] = (0, 0), picture: int = 1
) -> int:
    """The index of the chosen one among faces that stand from left to right; of equals the first.

    `size` is the (height, width) of the picture, for "centre". "index" counts from the left, from 0, and a
    negative one from the right. `picture` is the number that an error names.

    Raises ValueError for an index beyond the faces, or when there is none.
    """
    if not faces:
        raise ValueError(f"A face must be in picture {picture} to be chosen, got none.")
    if choice == "index":
        if not -len(faces) <= index < len(faces):
            raise ValueError(
                f"Face {index} needs at least {index + 1 if index >= 0 else -index} faces in picture "
                f"{picture}, got {len(faces)}. Choose an index from {-len(faces)} to {len(faces) - 1}, "
                "or another way to choose; Preview Faces shows the numbers."
            )
        return index % len(faces)
    height, width = size
    ranks = {
        "largest": lambda face: -face.area,
        "left": lambda face: _centre(face)[0],
        "right": lambda face: -_centre(face)[0],
        "centre": lambda face: (_centre(face)[0] - width / 2) ** 2 + (_centre(face)[1] - height / 2) ** 2,
        "surest": lambda face: -face.score,
    }
    if choice not in ranks:
        raise ValueError(f"A face is chosen by {', '.join(CHOICES)}, got {choice!r}.")
    return min(range(len(faces)), key=lambda number: ranks[choice](faces[number]))


def _centre(face: Face) -> tuple[float, float]:
    """Of the box, in pixels from the left and from the top."""
    x0, y0, x1, y1 = face.box.tolist()
    return (x0 + x1) / 2, (y0 + y1) / 2
