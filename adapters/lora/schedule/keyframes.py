"""A window and a curve of strengths as keyframes, as the host's hooks take them."""

from __future__ import annotations

from typing import NamedTuple

from ...control.curve import Constant, Curve

POINTS = 20
"""Keyframes over a window whose strength changes: at each one the host merges the weights anew."""


class Frame(NamedTuple):
    """From `start` (0..1 of the noise, 0 = the first step) the strength is `strength`."""

    start: float
    strength: float


def frames_of(start: float, end: float, curve: Curve) -> list[Frame]:
    """Keyframes of a window from `start` to `end` (0..1) with a curve over it; outside the strength is 0.

    The first one stands at 0; neighbours of one strength are joined. A window without length is empty. A
    changing curve is sampled at the middle of each of POINTS equal parts of the window.

    Raises:
        ValueError: for places outside 0..1, an end before the start, or a curve that is made for layers.
    """
    if not 0.0 <= start <= end <= 1.0:
        raise ValueError(
            f"A window needs a start and an end in 0..1, the start first, got {start:g} to {end:g}. "
            "0 is the first step, 1 the last."
        )
    count = 1 if isinstance(curve, Constant) else POINTS
    length = (end - start) / count
    frames = [Frame(start + i * length, curve.at((i + 0.5) / count)) for i in range(count) if length]
    told = [Frame(0.0, 0.0), *frames, *([Frame(end, 0.0)] if end < 1.0 else [])]
    joined: list[Frame] = []
    for frame in told:
        if joined and joined[-1].start == frame.start:
            joined.pop()
        if not joined or joined[-1].strength != frame.strength:
            joined.append(frame)
    return joined
