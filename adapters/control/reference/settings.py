"""How a reference acts."""

from dataclasses import dataclass
from typing import Literal, get_args

ReferenceKind = Literal["reference_only", "reference_adain", "reference_adain+attn"]
ReferenceMode = Literal["balanced", "prompt", "control"]

REFERENCE_KINDS: tuple[ReferenceKind, ...] = get_args(ReferenceKind)
REFERENCE_MODES: tuple[ReferenceMode, ...] = get_args(ReferenceMode)


@dataclass(frozen=True)
class ReferenceSettings:
    """What of the picture is taken over, and by which rows of the batch.

    `kind` is self-attention ("reference_only"), statistics of the channels ("reference_adain") or both.
    `style_fidelity` in 0..1 is the share of the negative rows that stays without the picture; `mode`
    "control" makes it 1 and "prompt" 0. `seed` is that of the noise put on the picture.

    Raises ValueError for unknown kinds and modes and for a fidelity out of range.
    """

    kind: ReferenceKind
    style_fidelity: float = 0.5
    mode: ReferenceMode = "balanced"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.kind not in REFERENCE_KINDS:
            raise ValueError(f"Reference needs a kind of {', '.join(REFERENCE_KINDS)}, got {self.kind!r}.")
        if self.mode not in REFERENCE_MODES:
            raise ValueError(f"Reference needs a mode of {', '.join(REFERENCE_MODES)}, got {self.mode!r}.")
        if not 0.0 <= self.style_fidelity <= 1.0:
            raise ValueError(
                f"Reference needs a style_fidelity from 0 to 1, got {self.style_fidelity}. 0.5 is usual."
            )

    @property
    def attention(self) -> bool:
        return self.kind != "reference_adain"

    @property
    def adain(self) -> bool:
        return self.kind != "reference_only"

    def fidelity(self, is_sdxl: bool) -> float:
        """The style fidelity that acts, in 0..1: for SDXL the cube of what was set.

        Source: Mikubill/sd-webui-controlnet: scripts/hook.py (current_style_fidelity).
        """
        if self.mode != "balanced":
            return 1.0 if self.mode == "control" else 0.0
        return self.style_fidelity**3 if is_sdxl else self.style_fidelity
