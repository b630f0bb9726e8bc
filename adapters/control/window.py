"""Which sampling steps a control acts in.

The host measures a window by noise level: percent p is the noise at training time (1 - p), so how many
steps it covers depends on the scheduler. sd-webui-controlnet counts steps: a window of 0.2 to 0.8 is
always the middle three fifths of them.
"""

from bisect import bisect_left
from collections.abc import Callable, Sequence

from torch import Tensor

SAME_NOISE = 1e-4
"""Relative difference under which two noise levels are one: far below the gap of neighbouring steps,
far above the rounding of samplers that recompute a level through logarithms."""

SAME_SHARE = 1e-6
"""Rounding allowed when a share of the steps is compared with a percent."""

BISECTIONS = 24
"""How often the range of percents is halved: what is left is 6e-8 of it."""


def step_index(sigma: float, sigmas: Sequence[float]) -> int:
    """Index of the step that `sigma` belongs to, 0 .. len(sigmas) - 2.

    `sigmas` holds the noise level at which each step starts and, last, the one where sampling ends. A
    level between two steps belongs to the earlier one (samplers that look half-way), a level at which a
    step starts belongs to that step (samplers that look ahead), levels outside the range to the nearest
    step. The order may be falling or, when noise is added back, rising.

    Raises ValueError for fewer than two levels.
    """
    if len(sigmas) < 2:
        raise ValueError(
            f"Counting steps needs at least 2 noise levels, got {len(sigmas)}. Sample at least one step."
        )
    starts = sigmas[:-1]
    nearest = min(range(len(starts)), key=lambda index: abs(starts[index] - sigma))
    if abs(starts[nearest] - sigma) <= SAME_NOISE * max(abs(starts[nearest]), abs(sigma)):
        return nearest
    direction = -1.0 if sigmas[0] > sigmas[-1] else 1.0
    place = bisect_left(starts, direction * sigma, key=lambda level: direction * level)
    return max(0, place - 1)


def is_step_active(index: int, total: int, start: float, end: float) -> bool:
    """Whether step `index` of `total` lies in the window: start <= index / total <= end, both inclusive.

    Source: Mikubill/sd-webui-controlnet: scripts/hook.py (guidance_schedule_handler).
    """
    share = index / total
    return start - SAME_SHARE <= share <= end + SAME_SHARE


def is_outside(t: Tensor, window: Sequence[float] | None) -> bool:
    """Whether the noise levels `t` (rows,) of a call lie outside those of start and end; None: never.

    Compared in the precision of `t`, as the host's own nets do: a step at the very edge is inside for both.

    Source: ComfyUI: comfy/controlnet.py (ControlNet.get_control).
    """
    return window is not None and bool(t[0] > window[0] or t[0] < window[1])


def active_steps(total: int, start: float, end: float) -> list[int]:
    """The steps of `total` that a window counted in steps covers, in order; empty if it covers none."""
    return [index for index in range(total) if is_step_active(index, total, start, end)]


def percent_of_noise(sigma: float, noise_at: Callable[[float], float]) -> float:
    """The place in 0..1 whose noise level is `sigma`; 0 = the most noise.

    `noise_at` is the host's percent_to_sigma, which falls from percent 0 to percent 1.
    """
    low, high = 0.0, 1.0
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        if noise_at(middle) > sigma:
            low = middle
        else:
            high = middle
    return low
