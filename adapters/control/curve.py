"""Curves: factors over a net's layers or over the sampling steps, with one text form that a person can type.

0.8                       the same factor everywhere
soft .825                 the web UI's soft weights: each shallower layer weaker by the base (layers only)
soft .825 webui           the same with the web UI's own numbers for nets of fewer than 13 layers
1, 1, .5, .25             one factor for each layer, shallowest first, the middle last
0:1 .5:.3 1:0             points over the range from 0 to 1, with straight lines between them
0:1 1:0 ease-in-out       with another way between the points: linear, ease-in, ease-out, ease-in-out, hold
"""

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, get_args

Ease = Literal["linear", "ease-in", "ease-out", "ease-in-out", "hold"]
EASES: tuple[Ease, ...] = get_args(Ease)

EASE_FORMULAS: dict[Ease, Callable[[float], float]] = {
    "linear": lambda share: share,
    "ease-in": lambda share: share**2,
    "ease-out": lambda share: 1.0 - (1.0 - share) ** 2,
    "ease-in-out": lambda share: (1.0 - math.cos(math.pi * share)) / 2.0,
    "hold": lambda share: 0.0,
}
"""Share of the way between two points -> share of the difference of their factors.

Source: Kosinkadink/ComfyUI-Advanced-ControlNet: adv_control/utils.py (StrengthInterpolation)."""

SOFT_BASE = 0.825
WEBUI_LAYERS = 13
"""Length of the web UI's list of soft weights; a net of fewer layers takes its first entries."""

SAME_PLACE = 1e-6
"""Rounding allowed where a place meets the border of a list's span."""


class CurveError(ValueError):
    """A text is no curve; `position` counts characters from 0, and is the text's length at its end."""

    def __init__(self, text: str, position: int, expected: str) -> None:
        self.text, self.position, self.expected = text, position, expected
        rest = re.split(r"[\s,]", text[position:], maxsplit=1)[0] or text[position : position + 1]
        got = f"'{rest}'" if rest else "the end"
        shown = "".join(letter if letter.isprintable() else " " for letter in text)
        super().__init__(
            f"A curve needs {expected} at character {position + 1}, got {got}.\n"
            f"    {shown}\n    {' ' * position}^\n"
            'Write for example "0.8", "soft .825", "1, 1, .5, .25" or "0:1 .5:.3 1:0 ease-in-out".'
        )


class Curve(ABC):
    """Factors of 0 or more over a net's layers or over the steps; `str` gives the text form."""

    @abstractmethod
    def layers(self, count: int) -> tuple[float, ...]:
        """`count` factors: index 0 for the shallowest layer, then deeper, the middle last.

        Raises ValueError when the curve is made for another number of layers.
        """

    @abstractmethod
    def at(self, place: float) -> float:
        """The factor at a place in 0..1 (0 = the start).

        Raises ValueError for a curve that only layers can have.
        """


def _check(name: str, value: float, high: float = math.inf) -> None:
    if not (math.isfinite(value) and 0.0 <= value <= high):
        limit = "0 or more" if high == math.inf else f"0 to {high:g}"
        raise ValueError(f"A curve needs a {name} of {limit}, got {value}. 1 leaves things as they are.")


def _number(value: float) -> str:
    return repr(float(value)).removesuffix(".0")


@dataclass(frozen=True)
class Constant(Curve):
    """The same factor everywhere."""

    value: float

    def __post_init__(self) -> None:
        _check("factor", self.value)

    def layers(self, count: int) -> tuple[float, ...]:
        return (self.value,) * count

    def at(self, place: float) -> float:
        return self.value

    def __str__(self) -> str:
        return _number(self.value)


@dataclass(frozen=True)
class Soft(Curve):
    """base ** k for the layer k places before the middle, which has 1.

    With `webui` a net of fewer layers takes the first entries of the list for 13, as the web UI does: on
    SDXL (10 layers) all factors are base ** 3 times smaller. A net of more than 13 layers, which the web
    UI does not know, spreads the 13 over its depth.

    Source: Mikubill/sd-webui-controlnet: scripts/hook.py (soft_injection); normalised as in
    Kosinkadink/ComfyUI-Advanced-ControlNet: adv_control/nodes_weight.py (Scaled Soft).
    """

    base: float = SOFT_BASE
    webui: bool = False

    def __post_init__(self) -> None:
        _check("base", self.base, 1.0)

    def layers(self, count: int) -> tuple[float, ...]:
        if count > WEBUI_LAYERS:
            if self.webui:
                raise ValueError(
                    f"The web UI's soft weights are for up to {WEBUI_LAYERS} layers, but this control net "
                    f'has {count}. Write "soft {_number(self.base)}" without webui.'
                )
            stretch = (WEBUI_LAYERS - 1) / (count - 1)
            return tuple(self.base ** ((count - 1 - index) * stretch) for index in range(count))
        last = (WEBUI_LAYERS if self.webui else count) - 1
        return tuple(self.base ** float(last - index) for index in range(count))

    def at(self, place: float) -> float:
        raise ValueError(
            "A soft curve is for layers, but it was given for steps. Write for example "
            '"0:1 1:0 ease-in-out" for control that fades over the steps.'
        )

    def __str__(self) -> str:
        return f"soft {_number(self.base)}" + (" webui" if self.webui else "")


@dataclass(frozen=True)
class Listed(Curve):
    """One factor for each layer; over the steps, each factor holds for an equal share of the range."""

    values: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.values) < 2:
            raise ValueError(
                f"A list of factors needs at least 2 of them, got {len(self.values)}. Use a constant."
            )
        for value in self.values:
            _check("factor", value)

    def layers(self, count: int) -> tuple[float, ...]:
        if len(self.values) != count:
            raise ValueError(
                f"This control net has {count} layers (the middle included), but the list has "
                f"{len(self.values)} factors. Write {count} numbers, shallowest layer first, or a curve "
                'that fits every net, such as "soft .825" or "0:.2 1:1".'
            )
        return self.values

    def at(self, place: float) -> float:
        index = int(place * len(self.values) + SAME_PLACE)
        return self.values[min(max(index, 0), len(self.values) - 1)]

    def __str__(self) -> str:
        return ", ".join(_number(value) for value in self.values)


class Point(NamedTuple):
    """A factor at a place in 0..1."""

    place: float
    factor: float


@dataclass(frozen=True)
class Points(Curve):
    """Factors at rising places, interpolated by `ease`; before the first and after the last they hold."""

    points: tuple[Point, ...]
    ease: Ease = field(default="linear")

    def __post_init__(self) -> None:
        if not self.points or self.ease not in EASES:
            raise ValueError(
                f"A curve of points needs a point and an ease of {', '.join(EASES)}, got "
                f"{len(self.points)} points and {self.ease!r}."
            )
        for place, factor in self.points:
            _check("place", place, 1.0)
            _check("factor", factor)
        places = [point.place for point in self.points]
        if sorted(set(places)) != places:
            raise ValueError(f"A curve of points needs rising places, got {places}. Put them in order.")

    def layers(self, count: int) -> tuple[float, ...]:
        return tuple(self.at(index / (count - 1) if count > 1 else 1.0) for index in range(count))

    def at(self, place: float) -> float:
        before = [point for point in self.points if point.place <= place]
        after = [point for point in self.points if point.place > place]
        if not before:
            return after[0].factor
        if not after:
            return before[-1].factor
        (start, low), (end, high) = before[-1], after[0]
        return low + (high - low) * EASE_FORMULAS[self.ease]((place - start) / (end - start))

    def __str__(self) -> str:
        pairs = " ".join(f"{_number(place)}:{_number(factor)}" for place, factor in self.points)
        return pairs if self.ease == "linear" else f"{pairs} {self.ease}"


class _Word(NamedTuple):
    text: str
    start: int


NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
EMPTY_PLACE = re.compile(r"(?:^|,)\s*(?=,)|,\s*$")
FIRST_WORD = 'a number, "soft", or points such as 0:1'


def _read_number(text: str, word: _Word, expected: str, high: float = math.inf) -> float:
    limit = "0 or more" if high == math.inf else f"0 to {high:g}"
    if not NUMBER.fullmatch(word.text):
        raise CurveError(text, word.start, expected)
    value = float(word.text)
    if not (math.isfinite(value) and 0.0 <= value <= high):
        raise CurveError(text, word.start, f"a number of {limit}")
    return value + 0.0


def _read_soft(text: str, words: list[_Word]) -> Soft:
    rest = words[1:]
    base = SOFT_BASE
    if rest and rest[0].text.lower() != "webui":
        base = _read_number(text, rest.pop(0), 'a base such as .825 or the word "webui"', 1.0)
    webui = bool(rest) and rest[0].text.lower() == "webui"
    if rest[webui:]:
        expected = "nothing more" if webui else 'the word "webui" or nothing more'
        raise CurveError(text, rest[int(webui)].start, expected)
    return Soft(base, webui)


def _read_points(text: str, words: list[_Word]) -> Points:
    points: list[Point] = []
    ease: Ease = "linear"
    for index, word in enumerate(words):
        place_text, colon, factor_text = word.text.partition(":")
        if not colon:
            named: list[Ease] = [name for name in EASES if name == word.text.lower()]
            if not named or not points:
                raise CurveError(text, word.start, f"a point such as .5:1 or one of {', '.join(EASES)}")
            if index + 1 < len(words):
                raise CurveError(text, words[index + 1].start, f"nothing more after {named[0]}")
            ease = named[0]
            continue
        place = _read_number(text, _Word(place_text, word.start), "a place from 0 to 1", 1.0)
        factor_word = _Word(factor_text, word.start + len(place_text) + 1)
        factor = _read_number(text, factor_word, "the factor of the point, a number,")
        if points and place <= points[-1].place:
            raise CurveError(text, word.start, f"a place above {_number(points[-1].place)}")
        points.append(Point(place, factor))
    return Points(tuple(points), ease)


def parse_curve(text: str) -> Curve:
    """The curve that a text says; the forms are at the top of this file.

    Raises CurveError, which points at the character.
    """
    words = [_Word(match.group(), match.start()) for match in re.finditer(r"[^\s,]+", text)]
    hole = EMPTY_PLACE.search(text)
    if not words:
        raise CurveError(text, len(text), FIRST_WORD)
    if hole:
        raise CurveError(text, hole.end(), "a number")
    if words[0].text.lower() == "soft":
        return _read_soft(text, words)
    if any(":" in word.text for word in words):
        return _read_points(text, words)
    values = [
        _read_number(text, word, "a number" if index or len(words) > 1 else FIRST_WORD)
        for index, word in enumerate(words)
    ]
    return Constant(values[0]) if len(values) == 1 else Listed(tuple(values))


def read_curve(text: str) -> Curve | None:
    """The curve that a text says, or None for an empty one (`parse_curve`)."""
    return parse_curve(text) if text.strip() else None
