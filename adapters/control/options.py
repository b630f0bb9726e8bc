"""What a control unit can be told beyond its widgets."""

from dataclasses import dataclass

import torch

from .curve import Curve, Soft
from .region import check_mask

AUTO = "auto"
UNION_TYPES: dict[str, int] = {
    "openpose": 0,
    "depth": 1,
    "hed/pidi/scribble/ted": 2,
    "canny/lineart/anime_lineart/mlsd": 3,
    "normal": 4,
    "segment": 5,
    "tile": 6,
    "repaint": 7,
}
"""Kind of hint -> its row in a union net's `task_embedding`; the last two are in ProMax files alone.

Source: ComfyUI: comfy/cldm/control_types.py."""


@dataclass(frozen=True, eq=False)
class ControlOptions:
    """Factors over the layers and over the steps, a mask (M,H,W), and a union net's kind of hint.

    `layers` replaces the curve of the unit's mode. `steps` runs over 0..1 as the unit's window does: a
    share of the steps, or the percent of the noise. `union_type` is a key of `UNION_TYPES`, or "auto" for
    what the net came with.

    Raises ValueError for a soft curve over steps, a mask that is none, an unknown type.
    """

    layers: Curve | None = None
    steps: Curve | None = None
    mask: torch.Tensor | None = None
    union_type: str = AUTO

    def __post_init__(self) -> None:
        if isinstance(self.steps, Soft):
            self.steps.at(0.0)
        if self.mask is not None:
            check_mask(self.mask)
        if self.union_type != AUTO and self.union_type not in UNION_TYPES:
            raise ValueError(
                f"Control options need a union_type of {AUTO}, {', '.join(UNION_TYPES)}, "
                f"got {self.union_type!r}."
            )


def check_union_type(union_type: str, types: int, needed_by: str) -> None:
    """Raises ValueError when a net with so many types, 0 for one that is no union net, lacks this one."""
    if union_type == AUTO or UNION_TYPES[union_type] < types:
        return
    if types == 0:
        raise ValueError(
            f"{needed_by} got the union_type {union_type}, which needs a ControlNet-Union, but this control "
            "net is not one. Set union_type to auto, or load a union net."
        )
    known = ", ".join(name for name, number in UNION_TYPES.items() if number < types)
    raise ValueError(
        f"{needed_by} got the union_type {union_type}, but this union net knows {types} types: {known}. "
        "Choose one of them, or load the ProMax file, which knows all."
    )
