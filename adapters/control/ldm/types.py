"""Which types of hints a Union control net can take."""

from collections.abc import Sequence

from ..options import UNION_TYPES

PROMAX = "diffusion_pytorch_model_promax.safetensors of xinsir/controlnet-union-sdxl-1.0"


def check_types(types: Sequence[int], count: int) -> None:
    """Raises ValueError for a type that a Union net of `count` types does not have."""
    for kind in types:
        if not 0 <= kind < count:
            name = next((name for name, number in UNION_TYPES.items() if number == kind), "unknown")
            raise ValueError(
                f"A Union control net with the type {name} ({kind}) is needed, but this one has {count} "
                f"types, 0 to {count - 1}. Load the ProMax net ({PROMAX}), which has 8, or set another type."
            )
