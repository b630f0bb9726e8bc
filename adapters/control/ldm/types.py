"""The types of hints that a Union control net was trained on."""

from collections.abc import Sequence

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
"""The host's name of a type -> its number. Files have the first 6, ProMax files all 8.

Source: xinsir6/ControlNetPlus: README.md; the names of ComfyUI: comfy/cldm/control_types.py.
"""

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
