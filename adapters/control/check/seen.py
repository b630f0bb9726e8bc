"""What a check knows of the control on a conditioning: plain records, whoever made the control."""

from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from ...identify import Identified


class Target(NamedTuple):
    """Size in pixels of the picture to be sampled, and how many pictures one batch has."""

    height: int
    width: int
    images: int


@dataclass(frozen=True, eq=False)
class SeenUnit:
    """One control object of a chain.

    `image` is the hint (B,H,W,C), None where none could be seen. `resize_mode` is the unit's, "core" for
    control of the host. `union_types` are the numbers that were set, None where the net takes none. `mask`
    is (M,H,W). `sides` names the conditionings it is on: "positive", "negative".
    """

    number: int
    kind: str
    identified: Identified | None = None
    image: Tensor | None = None
    strength: float = 1.0
    start: float = 0.0
    end: float = 1.0
    resize_mode: str = "core"
    mode: str = "balanced"
    mask: Tensor | None = None
    union_types: tuple[int, ...] | None = None
    lacks_vae: bool = False
    is_reference: bool = False
    sides: frozenset[str] = frozenset({"positive"})

    @property
    def name(self) -> str:
        """ "Unit 2 (ControlNet, canny.safetensors)" """
        file = self.identified.file if self.identified is not None else ""
        return f"Unit {self.number} ({', '.join(dict.fromkeys(filter(None, (self.kind, file))))})"


@dataclass(frozen=True, eq=False)
class Seen:
    """All control of a positive conditioning, in the order it acts in, and what it is used with.

    `family` is that of the model, None where it is not known; `target` None where no latent was given.
    `has_negative` says that a negative conditioning was given, too.
    """

    units: tuple[SeenUnit, ...]
    family: str | None = None
    target: Target | None = None
    has_negative: bool = False
