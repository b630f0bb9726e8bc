"""Image tokens: what a projector makes of embeddings, and what an injection reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch


@dataclass(frozen=True, eq=False)
class Tokens:
    """Tokens for the positive and the negative conditioning: `cond` and `uncond`, both (N,T,X).

    N is 1, or one set per picture of the batch; T tokens of width X, the model's text width.

    Raises ValueError when the two differ in shape or are not three-dimensional.
    """

    cond: torch.Tensor
    uncond: torch.Tensor

    def __post_init__(self) -> None:
        if self.cond.ndim != 3 or self.cond.shape != self.uncond.shape:
            raise ValueError(
                "Image tokens need the same shape (sets, tokens, width) for the positive and the negative "
                f"side, got {tuple(self.cond.shape)} and {tuple(self.uncond.shape)}."
            )


def concatenate(sets: Sequence[Tokens]) -> Tokens:
    """Several token sets as one with all their tokens; sets for a batch of one serve every picture.

    Raises ValueError for no set, for different widths, and for batches of different sizes.
    """
    if not sets:
        raise ValueError("Image tokens of at least one picture are needed, got none.")
    sizes = sorted({len(one.cond) for one in sets} - {1})
    widths = sorted({one.cond.shape[-1] for one in sets})
    if len(sizes) > 1 or len(widths) > 1:
        raise ValueError(
            "Image tokens can be joined when all have one width and the same number of pictures, or one "
            f"picture; got widths {widths} and numbers of pictures {sizes}."
        )
    size = sizes[0] if sizes else 1

    def joined(side: str) -> torch.Tensor:
        return torch.cat([getattr(one, side).expand(size, -1, -1) for one in sets], dim=1)

    return Tokens(joined("cond"), joined("uncond"))
