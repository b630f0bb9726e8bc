"""What one pass of a Union net and a hint encoded once save: one call of a net of small depth."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from _control_rows_union import nets

TYPES = (3, 1, 0)


class Ratio(NamedTuple):
    """One line: what is held against what, and the goal."""

    what: str
    ours: str
    other: str
    goal: float


RATIOS = (
    Ratio("one hint kept, against the host's encoding at every step", "kept", "core", 1.0),
    Ratio("three hints in one pass, against three of the host's passes", "one pass", "core three", 0.4),
    Ratio("three hints in one pass, against three stacked units", "one pass", "stacked", 0.4),
    Ratio("three hints in one pass, against one hint", "one pass", "kept", 1.05),
)


def variants(real: Any, side: int) -> dict[str, Callable[[], object]]:
    """Name -> one step of the control: two rows, CFG's positive and negative."""
    from tiller.adapters.control.call import Call
    from tiller.adapters.control.ldm.apply import Hint, runner_for

    union, of = nets(), real.family("sdxl")
    net = union.union_for_sampling(8).copy()
    net.set_extra_arg("control_type", [TYPES[0]])
    pictures = {kind: union.hint(kind, size=(side, side)) for kind in TYPES}
    net.set_cond_hint(pictures[TYPES[0]], 1.0, (0.0, 1.0))
    net.pre_run(of.model.model, of.model.model.model_sampling.percent_to_sigma)
    generator = torch.Generator().manual_seed(1)
    cond = {
        "c_crossattn": torch.randn(2, 77, of.text_width, generator=generator),
        "y": torch.randn(2, 2816, generator=generator),
    }
    x = torch.randn(2, 4, side, side, generator=generator)
    call = Call(x, torch.full((2,), 5.0), cond, 2, {})

    def runner(kinds: tuple[int, ...]) -> Any:
        hints = [Hint(lambda size, kind=kind: pictures[kind], 1, kind) for kind in kinds]
        return runner_for(net, hints)

    one, joint, single = runner(TYPES[:1]), runner(TYPES), [runner((kind,)) for kind in TYPES]
    return {
        "core": lambda: net.get_control(*call),
        "kept": lambda: one(call),
        "core three": lambda: [net.get_control(*call) for _ in TYPES],
        "stacked": lambda: [each(call) for each in single],
        "one pass": lambda: joint(call),
    }


def table(side: int, seconds: dict[str, float]) -> list[str]:
    """The lines of the table."""
    lines = [f"ControlNet-Union (SDXL shaped), latent {side} x {side}, one call of the net with two rows"]
    lines += ["", "| what | ours s | other s | ratio | goal |", "|---|---|---|---|---|"]
    for ratio in RATIOS:
        ours, other = seconds[ratio.ours], seconds[ratio.other]
        cells = (ratio.what, f"{ours:.2f}", f"{other:.2f}", f"{ours / other:.2f}", f"{ratio.goal:.2f}")
        lines.append(f"| {' | '.join(cells)} |")
    return [*lines, ""]
