"""Which frames of a clip have a picture of their own, in the whole clip and in a window of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

SPREAD = "spread"
ContextAware = Literal["nearest_hint", "off"]
CONTEXT_AWARE: tuple[ContextAware, ...] = get_args(ContextAware)


class Clip(NamedTuple):
    """The frames of one call: their numbers in the whole clip, from 0, and how many that clip has."""

    frames: tuple[int, ...]
    total: int


@dataclass(frozen=True)
class SparseSettings:
    """How a SparseCtrl net acts.

    `key_frames` are the frames of the pictures in order, from 0, negative ones from the end (None: spread
    evenly from the first to the last). `motion_strength` and `motion_scale` are those of its own motion
    modules (strength 0 leaves them out). `key_strength` and `between_strength` multiply the control on
    frames with and without a picture, `mask_strength` the mask that marks the pictures. `context_aware`
    "nearest_hint" moves the nearest picture into a context window that has none.
    """

    key_frames: tuple[int, ...] | None = None
    motion_strength: float = 1.0
    motion_scale: float = 1.0
    key_strength: float = 1.0
    between_strength: float = 1.0
    mask_strength: float = 1.0
    context_aware: ContextAware = "nearest_hint"


def parse_key_frames(text: str) -> tuple[int, ...] | None:
    """The frames of a text such as "0, 8, -1"; None for "spread".

    Raises ValueError that shows where the text stops being whole numbers with commas between them.
    """
    if text.strip().lower() == SPREAD:
        return None
    numbers = []
    for part in text.split(","):
        try:
            numbers.append(int(part))
        except ValueError as error:
            at = "nothing between two commas" if text.strip() and not part.strip() else repr(part.strip())
            raise ValueError(
                "key_frames needs whole numbers with commas between them, such as 0, 8, -1, or the word "
                f"{SPREAD}; got {at} in {text!r}."
            ) from error
    return tuple(numbers)


def key_positions(wanted: Sequence[int] | None, pictures: int, total: int) -> list[int]:
    """Frame of each picture in a clip of `total` frames; None spreads them evenly, first and last included.

    Raises ValueError for other numbers of pictures and frames, frames beyond the clip, a frame twice.

    Source: Kosinkadink/ComfyUI-Advanced-ControlNet: adv_control/control_sparsectrl.py (SparseIndexMethod,
    SparseSpreadMethod), without its habit of leaving out what does not fit.
    """
    if wanted is None:
        if pictures > total:
            raise ValueError(
                f"SparseCtrl needs a frame for each picture, got {pictures} pictures for a clip of {total} "
                "frames. Connect fewer pictures, or make the batch of the latent larger."
            )
        return [index * (total - 1) // max(pictures - 1, 1) for index in range(pictures)]
    if len(wanted) != pictures:
        raise ValueError(
            f"SparseCtrl needs one picture per key frame, got {pictures} pictures and {len(wanted)} key "
            f"frames ({', '.join(map(str, wanted))}). Make the numbers equal."
        )
    positions: list[int] = []
    for frame in wanted:
        position = frame + total if frame < 0 else frame
        if not 0 <= position < total:
            raise ValueError(
                f"SparseCtrl needs key frames from 0 to {total - 1} (or -1 to -{total}, from the end), got "
                f"{frame}: the clip has {total} frames, as many as the batch of the latent."
            )
        if position in positions:
            raise ValueError(
                f"SparseCtrl needs each key frame once, but frame {position} comes twice in "
                f"{', '.join(map(str, wanted))} (negative numbers count from the end)."
            )
        positions.append(position)
    return positions


def _nearest(frame: int, positions: Sequence[int]) -> tuple[int, int]:
    """Distance to the nearest position and the picture there; among equals the first picture."""
    return min((abs(position - frame), picture) for picture, position in enumerate(positions))


def pictures_in(clip: Clip, positions: Sequence[int], context_aware: ContextAware) -> Mapping[int, int]:
    """Place in `clip.frames` -> picture there.

    With "nearest_hint" a window without any key frame gets the nearest one at its nearer end; at equal
    distances one picture goes to the middle, the two nearest of several to both ends.

    Source: the rule of Kosinkadink/ComfyUI-Advanced-ControlNet: adv_control/control_sparsectrl.py
    (SparseMethod.get_indexes).
    """
    inside = {
        clip.frames.index(position): picture
        for picture, position in enumerate(positions)
        if position in clip.frames
    }
    if inside or context_aware == "off" or not positions:
        return inside
    last = len(clip.frames) - 1
    start, end = _nearest(clip.frames[0], positions), _nearest(clip.frames[last], positions)
    if start[0] < end[0]:
        return {0: start[1]}
    if start[0] > end[0]:
        return {last: end[1]}
    return {last // 2: start[1]} if len(positions) == 1 else {0: start[1], last: end[1]}
