"""Says in words what a loaded control net is and how it will be applied."""

from collections.abc import Sequence
from dataclasses import dataclass

from ...identify import Identified
from ..options import UNION_TYPES
from .pooling import Pooling

FEATURES = "features of the hint, computed once and added in the model's encoder"
APPLICATION = {
    "ControlNet-LLLite": "inside the model's attention layers",
    "ControlNet-XS": "inside the model, two networks side by side",
    "ControlNeXt": "inside the model at one place, normalised to what it finds there",
    "SparseCtrl": "residuals for every frame of an animation; needs a motion module on the model",
    "T2I-Adapter": FEATURES,
    "T2I-Adapter (light)": FEATURES,
    "T2I-Adapter (diffusers layout)": FEATURES,
    "T2I-Adapter (light, diffusers layout)": FEATURES,
    "Control-LoRA": "residuals of a network built from the model's own weights",
}
RESIDUALS = "residuals, added to the model's layers at every step"


@dataclass(frozen=True)
class About:
    """What is known of a loaded net beyond its kind: pooling, mask input, modes of a Flux Union net."""

    found: Identified
    pooling: Pooling
    takes_mask: bool = False
    modes: int = 0
    colours: int = 3


def _lines(about: About) -> Sequence[str]:
    found = about.found
    families = " or ".join((found.family, *found.also_for))
    lines = [
        f"File: {found.file}",
        f"Kind: {found.kind}",
        f"Base model: {families}",
        f"Acts by: {APPLICATION.get(found.kind, RESIDUALS)}",
        f"VAE: {'needed, the hint is read through it' if found.needs_vae else 'not needed'}",
    ]
    if found.control_types:
        known = dict(enumerate(UNION_TYPES))
        names = ", ".join(f"{number} {known.get(number, 'unnamed')}" for number in range(found.control_types))
        lines.append(f"Union: {found.control_types} hint types ({names}); set the type of the hint")
    if about.modes:
        lines.append(f"Union: {about.modes} hint types, numbered as on the file's page; the type must be set")
    if about.takes_mask:
        lines.append("Inpainting: reads a mask besides the hint (ControlNet Inpainting AliMama Apply)")
    if about.colours != 3:
        lines.append(f"Hint: {about.colours} channel{'' if about.colours == 1 else 's'}")
    state = "on" if about.pooling.on else "off"
    lines.append(f"Global average pooling: {state}, by {about.pooling.because}")
    return lines


def describe(about: About) -> str:
    """A few lines of text, one fact in each."""
    return "\n".join(_lines(about))
