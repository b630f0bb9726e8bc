"""From OpenPose's maps to people: peaks, limbs between them, persons of limbs; hands and faces.

The order of operations is the reference's, in float64, so that equal maps give equal points.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

Planes = Callable[[int], np.ndarray]
"""Channel -> map (h,w) of the picture's size, made when it is asked for: all of them at once fill memory."""

POINTS, HAND_POINTS = 18, 21
LIMBS = (
    (1, 2), (1, 5), (2, 3), (3, 4), (5, 6), (6, 7), (1, 8), (8, 9), (9, 10), (1, 11), (11, 12), (12, 13),
    (1, 0), (0, 14), (14, 16), (0, 15), (15, 17), (2, 16), (5, 17),
)  # fmt: skip
"""Pairs of body points in the order in which persons grow."""
LIMB_CHANNELS = (12, 20, 14, 16, 22, 24, 0, 2, 4, 6, 8, 10, 28, 30, 34, 32, 36, 18, 26)
"""Where each limb's direction lies in the limb maps: x here, y in the next channel."""
STARTING_LIMBS = 17
"""A shoulder with an ear alone, the last two limbs, starts no person."""

PEAK_SIGMA = 3.0
PEAK_LEVEL = 0.1
MOST_PEAKS = 512
"""Of one point in one picture; more are noise, and all pairs of them would take minutes."""
SAMPLES, LIMB_LEVEL, LIMB_SHARE = 10, 0.05, 0.8
FEWEST_POINTS, LOWEST_MEAN = 4, 0.4
HAND_LEVEL, FACE_LEVEL = 0.05, 0.05


class Peak(NamedTuple):
    """A local maximum of a heat map, in pixels."""

    x: int
    y: int
    score: float


class _Link(NamedTuple):
    """Limb from peak `start` to peak `end` of their points, and how well the maps bear it out."""

    start: int
    end: int
    score: float


@dataclass(eq=False)
class _Body:
    """A person growing limb by limb: the peak of each point (-1: none yet), the sum of scores, the count."""

    peaks: list[int] = field(default_factory=lambda: [-1] * POINTS)
    score: float = 0.0
    count: int = 0


def find_bodies(heat: Planes, limbs: Planes) -> list[tuple[Peak | None, ...]]:
    """18 heat maps and 38 limb maps (h,w) float -> the 18 points of each person, None: not seen.

    A peak is a local maximum above 0.1 after smoothing. A limb joins two peaks where the limb maps point
    along it, above 0.05 in more than 8 of 10 samples; the best come first, each peak is used once. Persons
    with fewer than 4 points or a mean score below 0.4 are dropped.

    Source: Cao et al. 2017 (Realtime multi-person 2D pose estimation), section 2.3 and 2.4;
    Mikubill/sd-webui-controlnet: annotator/openpose/body.py (Body).
    """
    peaks = [_peaks(heat(part).astype(float)) for part in range(POINTS)]
    bodies: list[_Body] = []
    for index, (limb, channel) in enumerate(zip(LIMBS, LIMB_CHANNELS, strict=True)):
        start, end = limb
        if not peaks[start] or not peaks[end]:
            continue
        for link in _links(peaks[start], peaks[end], np.stack([limbs(channel), limbs(channel + 1)])):
            _grow(bodies, link, limb, peaks, starts=index < STARTING_LIMBS)
    return [
        tuple(peaks[part][peak] if peak >= 0 else None for part, peak in enumerate(body.peaks))
        for body in bodies
        if body.count >= FEWEST_POINTS and body.score / body.count >= LOWEST_MEAN
    ]


def hand_points(heat: np.ndarray) -> list[tuple[int, int] | None]:
    """Heat maps (21 or more,h,w) float64 -> x, y of 21 points in pixels of the map, None: not seen.

    Of the smoothed map above 0.05 the connected region with the largest sum counts; the point is the
    maximum of the map within it.

    Source: Mikubill/sd-webui-controlnet: annotator/openpose/hand.py (Hand).
    """
    from scipy.ndimage import gaussian_filter, label

    points: list[tuple[int, int] | None] = []
    for heat_map in heat[:HAND_POINTS]:
        regions = np.zeros(heat_map.shape, np.int32)
        seen = gaussian_filter(heat_map, sigma=PEAK_SIGMA) > HAND_LEVEL
        count = int(label(seen, np.ones((3, 3)), output=regions))  # pyright: ignore[reportArgumentType]
        if not count:
            points.append(None)
            continue
        sums = [heat_map[regions == region].sum() for region in range(1, count + 1)]
        within = np.where(regions == int(np.argmax(sums)) + 1, heat_map, 0.0)
        y, x = divmod(int(within.argmax()), within.shape[1])
        points.append((x, y))
    return points


def face_points(heat: np.ndarray) -> list[tuple[int, int] | None]:
    """Heat maps (n,h,w) -> x, y of the maximum of each map, None where nothing is above 0.05.

    Source: Mikubill/sd-webui-controlnet: annotator/openpose/face.py (Face).
    """
    places = heat.reshape(len(heat), -1).argmax(1)
    values = heat.reshape(len(heat), -1).max(1)
    width = heat.shape[2]
    return [
        (int(place) % width, int(place) // width) if value > FACE_LEVEL else None
        for place, value in zip(places, values, strict=True)
    ]


def _peaks(heat_map: np.ndarray) -> list[Peak]:
    """Pixels above 0.1 that none of their four neighbours passes, after smoothing, row by row."""
    from scipy.ndimage import gaussian_filter

    smooth = gaussian_filter(heat_map, sigma=PEAK_SIGMA)
    framed = np.pad(smooth, 1)
    height, width = heat_map.shape[0], heat_map.shape[1]
    is_peak = smooth > PEAK_LEVEL
    for down, across in ((0, 1), (2, 1), (1, 0), (1, 2)):
        is_peak &= smooth >= framed[down : down + height, across : across + width]
    rows, columns = np.nonzero(is_peak)
    if len(rows) > MOST_PEAKS:
        best = np.sort(np.argsort(-heat_map[rows, columns], kind="stable")[:MOST_PEAKS])
        rows, columns = rows[best], columns[best]
    return [Peak(int(x), int(y), float(heat_map[y, x])) for y, x in zip(rows, columns, strict=True)]


def _links(starts: Sequence[Peak], ends: Sequence[Peak], direction: np.ndarray) -> list[_Link]:
    """The limbs between two points' peaks, best first, no peak used twice."""
    scores, borne_out = _limb_scores(starts, ends, direction)
    rows, columns = np.nonzero(borne_out & (scores > 0))
    order = np.argsort(-scores[rows, columns], kind="stable")
    links: list[_Link] = []
    used_starts: set[int] = set()
    used_ends: set[int] = set()
    for start, end in zip(rows[order].tolist(), columns[order].tolist(), strict=True):
        if start not in used_starts and end not in used_ends:
            links.append(_Link(start, end, float(scores[start, end])))
            used_starts.add(start)
            used_ends.add(end)
    return links


def _limb_scores(
    starts: Sequence[Peak], ends: Sequence[Peak], direction: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Scores of all pairs (starts, ends), and whether enough samples bear each of them out.

    The mean of the samples, less a penalty for limbs longer than half the picture's height.
    """
    a = np.array([peak[:2] for peak in starts])[:, None]
    b = np.array([peak[:2] for peak in ends])[None]
    way = b - a
    lengths = np.maximum(
        0.001, np.sqrt((way[..., 0] * way[..., 0] + way[..., 1] * way[..., 1]).astype(float))
    )
    along = way / lengths[..., None]
    step = way / (SAMPLES - 1)
    total = np.zeros(lengths.shape)
    good = np.zeros(lengths.shape, int)
    for index in range(SAMPLES):
        place = b + np.zeros_like(a) if index == SAMPLES - 1 else index * step + a
        x, y = np.rint(place).astype(int).transpose(2, 0, 1)
        value = direction[0, y, x] * along[..., 0] + direction[1, y, x] * along[..., 1]
        total = total + value
        good += value > LIMB_LEVEL
    scores = total / SAMPLES + np.minimum(0.5 * direction.shape[1] / lengths - 1, 0)
    return scores, good > LIMB_SHARE * SAMPLES


def _grow(
    bodies: list[_Body], link: _Link, limb: tuple[int, int], peaks: list[list[Peak]], starts: bool
) -> None:
    """Puts a limb where it belongs: onto a person, between two that are one, or as a new person."""
    start, end = limb
    end_score = peaks[end][link.end].score
    owners = [body for body in bodies if body.peaks[start] == link.start or body.peaks[end] == link.end]
    if len(owners) >= 2:
        first, second = owners[:2]
        if not any(a >= 0 and b >= 0 for a, b in zip(first.peaks, second.peaks, strict=True)):
            first.peaks = [max(pair) for pair in zip(first.peaks, second.peaks, strict=True)]
            first.count += second.count
            first.score = first.score + second.score + link.score
            bodies.remove(second)
            return
    elif not owners:
        if starts:
            new = _Body(score=peaks[start][link.start].score + end_score + link.score, count=2)
            new.peaks[start], new.peaks[end] = link.start, link.end
            bodies.append(new)
        return
    elif owners[0].peaks[end] == link.end:
        return
    owners[0].peaks[end] = link.end
    owners[0].count += 1
    owners[0].score += end_score + link.score
