"""The rules of the check: each takes what was seen and gives sentences, one per finding."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from ..options import UNION_TYPES
from .hints import look_at, type_of_hint, unfit_look
from .seen import Seen, SeenUnit, Target

SMALL = 0.5
"""Share of the target's sides under which a hint is too small."""

KEPT = 0.85
"""Share of the hint that a centre crop must keep."""

TINY_WINDOW = 0.05
MAX_STRENGTH = 2.0
SAME_ASPECT = 0.05
GRID = 32
COND_ONLY = frozenset({"control", "unbalanced"})


def _nets(seen: Seen) -> list[SeenUnit]:
    return [unit for unit in seen.units if not unit.is_reference]


def families(seen: Seen) -> Iterator[str]:
    """Nets for another model family than the model's."""
    for unit in seen.units:
        known = unit.identified
        if known is None or seen.family is None or seen.family in (known.family, *known.also_for):
            continue
        wanted = " or ".join((known.family, *known.also_for))
        yield (
            f"{unit.name} is for {wanted}, but the model is {seen.family}, so sampling will stop. Take one "
            f"made for {seen.family}, or a {wanted} model."
        )


def union_types(seen: Seen) -> Iterator[str]:
    """Union nets that were told no type, or one that the file does not have."""
    for unit in seen.units:
        count = unit.identified.control_types if unit.identified is not None else 0
        if not count or unit.union_types is None:
            continue
        if not unit.union_types:
            yield (
                f"{unit.name} is a Union net, but was not told what its hint shows. Set union_type in "
                "Control Options, or use SetUnionControlNetType."
            )
        names = {number: name for name, number in UNION_TYPES.items()}
        for number in unit.union_types:
            if number >= count:
                yield (
                    f"{unit.name} was told the hint type {names.get(number, number)}, but its file knows "
                    f"only the first {count}. Choose another type, or load the ProMax file."
                )


def hints(seen: Seen) -> Iterator[str]:
    """Hints that do not look like what the net wants."""
    for unit in _nets(seen):
        if unit.image is None:
            yield f"{unit.name} shows no hint that can be looked at. Connect an image to it."
            continue
        file = unit.identified.file if unit.identified is not None else ""
        unfit = unfit_look(look_at(unit.image), type_of_hint(unit.union_types, file))
        if unfit is not None:
            yield f"{unit.name}: {unfit}"


def sizes(seen: Seen) -> Iterator[str]:
    """Hints much smaller than the picture, or of another shape."""
    for unit in seen.units:
        if seen.target is None or unit.image is None:
            continue
        height, width = unit.image.shape[1:3]
        target = seen.target
        share = max(height / target.height, width / target.width)
        if share < SMALL:
            yield (
                f"{unit.name}: its image has {width} x {height} pixels, much less than the {target.width} x "
                f"{target.height} of the picture. Make it larger: raise resolution in the hint node."
            )
        yield from _shape(unit, (height / width) / (target.height / target.width), target)


def _shape(unit: SeenUnit, ratio: float, target: Target) -> Iterator[str]:
    kept = min(ratio, 1.0 / ratio)
    if kept >= KEPT or unit.resize_mode == "fill":
        return
    if unit.resize_mode == "stretch":
        yield (
            f"{unit.name}: its hint is of another shape than the {target.width} x {target.height} picture "
            "and will be distorted. Set resize_mode to crop or fill."
        )
    else:
        ends = "top and bottom" if ratio > 1 else "left and right"
        yield (
            f"{unit.name}: its image is of another shape than the {target.width} x {target.height} picture, "
            f"so only the middle {round(100 * kept)} % is used; {ends} are cut off. Crop it yourself"
            + ("." if unit.is_reference else ", or set resize_mode to fill.")
        )


def masks(seen: Seen) -> Iterator[str]:
    """Masks that are empty, of another shape, too coarse, or not one per picture."""
    for unit in seen.units:
        if unit.mask is None:
            continue
        if not bool(unit.mask.any()):
            yield f"{unit.name}: its mask is black all over, so it acts nowhere. White is where it acts."
        if seen.target is None:
            continue
        count, height, width = unit.mask.shape
        target = seen.target
        ratio = (height / width) / (target.height / target.width)
        if min(ratio, 1 / ratio) < 1 - SAME_ASPECT:
            yield (
                f"{unit.name}: its mask of {width} x {height} pixels will be distorted to the shape of the "
                f"{target.width} x {target.height} picture. Make it of the same shape."
            )
        elif height * 8 < target.height:
            yield (
                f"{unit.name}: its mask of {width} x {height} pixels is very coarse for a {target.width} x "
                f"{target.height} picture. Make it larger."
            )
        if count not in (1, target.images):
            yield (
                f"{unit.name}: it has {count} masks for {target.images} pictures; they are taken in turn. "
                "Give one, or one per picture."
            )


def windows(seen: Seen) -> Iterator[str]:
    """Windows that cover nothing, or hardly anything."""
    for unit in seen.units:
        if unit.end < unit.start:
            yield (
                f"{unit.name} never acts: it starts at {unit.start:g} and ends at {unit.end:g}. Swap the two."
            )
        elif unit.end - unit.start < TINY_WINDOW:
            yield (
                f"{unit.name} acts from {unit.start:g} to {unit.end:g} only, which may cover no step at all. "
                "Widen the window."
            )


def strengths(seen: Seen) -> Iterator[str]:
    """Strengths that do nothing, or too much."""
    for unit in seen.units:
        if unit.strength == 0:
            yield f"{unit.name} has strength 0 and does nothing. Raise it, or take the unit off."
        elif unit.strength < 0:
            yield f"{unit.name} has the negative strength {unit.strength:g}, which no net was trained for."
        elif unit.strength > MAX_STRENGTH:
            yield (
                f"{unit.name} has strength {unit.strength:g}; above {MAX_STRENGTH:g} pictures usually break. "
                "1 is what nets were trained for."
            )


def vaes(seen: Seen) -> Iterator[str]:
    """Nets that read the hint through a VAE and have none."""
    for unit in seen.units:
        if unit.lacks_vae:
            yield (
                f"{unit.name} reads its hint through a VAE, but has none. Connect the checkpoint's VAE to "
                "vae."
            )


def sides(seen: Seen) -> Iterator[str]:
    """Control on one conditioning alone, which changes its strength and splits the batch."""
    for unit in seen.units:
        if seen.has_negative and len(unit.sides) == 1:
            (side,) = unit.sides
            yield (
                f"{unit.name} is on the {side} conditioning alone, or is not the same object on the other: "
                "the model then runs twice per step, and cfg multiplies the control. Apply it to both in one "
                "node; mode control leaves the negative free."
            )


def modes(seen: Seen) -> Iterator[str]:
    """Modes that need a lower cfg."""
    for unit in seen.units:
        if unit.mode in COND_ONLY and not unit.is_reference:
            yield (
                f"{unit.name} has mode {unit.mode}, under which cfg multiplies the control. With a cfg above "
                "about 4, lower cfg or strength if the picture looks burnt."
            )


def _region(unit: SeenUnit) -> Tensor:
    """Where the unit acts on a coarse grid, (GRID,GRID) in 0..1."""
    if unit.mask is None:
        return torch.ones(GRID, GRID)
    union = unit.mask.detach().float().cpu().amax(0)[None, None]
    return interpolate(union, (GRID, GRID), mode="area")[0, 0].clamp(0, 1)


def overlaps(seen: Seen) -> Iterator[str]:
    """Several units whose strengths add up to more than nets bear, in one place and at one time."""
    units = [unit for unit in _nets(seen) if unit.strength > 0 and unit.start <= unit.end]
    regions = {unit.number: _region(unit) * unit.strength for unit in units}
    worst, crowd = 0.0, []
    for moment in sorted({unit.start for unit in units}):
        active = [unit for unit in units if unit.start <= moment <= unit.end]
        total = torch.stack([regions[unit.number] for unit in active]).sum(0)
        if float(total.max()) > worst:
            worst, place = float(total.max()), int(total.argmax())
            crowd = [unit for unit in active if regions[unit.number].flatten()[place] > 0]
    if worst > MAX_STRENGTH and len(crowd) > 1:
        numbers = " and ".join(str(unit.number) for unit in crowd)
        yield (
            f"Units {numbers} act on one region at the same time, with strengths that sum to {worst:.2g}; "
            f"above {MAX_STRENGTH:g} they usually spoil the picture. Lower them, or give each a mask or "
            "a window."
        )


RULES: tuple[Callable[[Seen], Iterator[str]], ...] = (
    families,
    union_types,
    vaes,
    hints,
    sizes,
    masks,
    windows,
    strengths,
    overlaps,
    sides,
    modes,
)


def warnings(seen: Seen) -> list[str]:
    """One line per finding, units in order within each rule; empty where all is well."""
    if not seen.units:
        return [
            "There is no control on the positive conditioning. Connect the output of Apply Control or of "
            "another control node."
        ]
    return [line for rule in RULES for line in rule(seen)]


def summary(seen: Seen) -> str:
    """One line on what was looked at."""
    parts = []
    for unit in seen.units:
        size = "" if unit.image is None else f", {unit.image.shape[2]} x {unit.image.shape[1]} pixels"
        parts.append(f"{unit.name}{size}, strength {unit.strength:g}, {unit.start:g} to {unit.end:g}")
    count = "1 unit" if len(parts) == 1 else f"{len(parts)} units"
    model = "" if seen.family is None else f" for {seen.family}"
    return f"No problem found: {count}{model}. " + "; ".join(parts) + "."
