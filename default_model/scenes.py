"""The pictures that the default model is trained on, each with the prompt that describes it.

Everything is drawn here: shapes on a background, landscapes, portraits, collages and mosaics. A scene is
a function of its seed alone, so training and evaluation never need stored pictures.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import cv2
import numpy as np

SIDE = 256
FINE = 2
"""Drawn at FINE times the size, then averaged: smooth borders."""

PALETTE: dict[str, tuple[int, int, int]] = {
    "red": (214, 40, 40),
    "orange": (242, 140, 30),
    "yellow": (246, 222, 62),
    "green": (48, 160, 66),
    "cyan": (72, 202, 212),
    "blue": (42, 78, 200),
    "purple": (132, 58, 172),
    "pink": (246, 150, 188),
    "white": (242, 242, 238),
    "black": (30, 30, 34),
}
SHAPES = ("circle", "square", "triangle", "star", "cross", "diamond", "heart", "ring", "moon")
PLACES = {(0, -1): "left", (0, 1): "right", (-1, 0): "top", (1, 0): "bottom", (0, 0): "center"}
FILLERS = ("", "", "", "", "a photo of", "a picture of", "a drawing of", "best quality,", "simple,")
SKIN = ((240, 205, 175), (224, 172, 135), (190, 130, 90), (140, 90, 60), (95, 60, 42))

Colour = tuple[int, int, int]
Numbers = Sequence[float] | np.ndarray


class Scene(NamedTuple):
    """A picture (256, 256, 3) uint8 RGB, its prompt, and its object: colour name and mask (256, 256) bool.

    `colour` is empty and the mask all False where the scene has no single object.
    """

    picture: np.ndarray
    prompt: str
    colour: str
    mask: np.ndarray


class Brush:
    """A canvas at FINE times the size; points and lengths are in final pixels."""

    def __init__(self, random: np.random.Generator) -> None:
        self.random = random
        self.canvas = np.zeros((SIDE * FINE, SIDE * FINE, 3), np.uint8)

    def polygon(self, points: np.ndarray, colour: Colour) -> None:
        cv2.fillPoly(self.canvas, [np.round(np.asarray(points) * FINE).astype(np.int32)], colour)

    def ellipse(self, centre: Numbers, radii: Numbers, colour: Colour, turn: float = 0) -> None:
        self.polygon(round_points(centre, radii, turn), colour)

    def line(self, points: np.ndarray, width: float, colour: Colour) -> None:
        points = np.round(np.asarray(points) * FINE).astype(np.int32)
        cv2.polylines(self.canvas, [points], False, colour, max(1, round(width * FINE)))

    def done(self) -> np.ndarray:
        return cv2.resize(self.canvas, (SIDE, SIDE), interpolation=cv2.INTER_AREA)


def shade(random: np.random.Generator, name: str, spread: int = 14) -> Colour:
    """A colour of that name, a little off."""
    return as_colour(np.clip(np.asarray(PALETTE[name]) + random.integers(-spread, spread + 1, 3), 0, 255))


def as_colour(values: np.ndarray) -> Colour:
    """Three numbers 0..255, cut to whole ones."""
    r, g, b = values
    return int(r), int(g), int(b)


def other_colours(random: np.random.Generator, count: int) -> list[str]:
    return [str(name) for name in random.choice(list(PALETTE), count, replace=False)]


def round_points(centre: Numbers, radii: Numbers, turn: float = 0, n: int = 72) -> np.ndarray:
    angle = np.linspace(0, 2 * np.pi, n, endpoint=False)
    points = np.stack([np.cos(angle) * radii[0], np.sin(angle) * radii[1]], 1)
    return turned(points, turn) + np.asarray(centre, float)


def turned(points: np.ndarray, turn: float) -> np.ndarray:
    c, s = np.cos(turn), np.sin(turn)
    return np.asarray(points, float) @ np.array([[c, s], [-s, c]])


def star_points(n: int, inner: float) -> np.ndarray:
    angle = np.arange(2 * n) * np.pi / n - np.pi / 2
    radius = np.where(np.arange(2 * n) % 2, inner, 1.0)
    return np.stack([np.cos(angle) * radius, np.sin(angle) * radius], 1)


def cross_points(arm: float) -> np.ndarray:
    a = arm
    return np.array(
        [
            (-a, -1),
            (a, -1),
            (a, -a),
            (1, -a),
            (1, a),
            (a, a),
            (a, 1),
            (-a, 1),
            (-a, a),
            (-1, a),
            (-1, -a),
            (-a, -a),
        ]
    )


def heart_points() -> np.ndarray:
    t = np.linspace(0, 2 * np.pi, 72, endpoint=False)
    x = 16 * np.sin(t) ** 3
    y = -(13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t))
    return np.stack([x, y], 1) / 16


def moon_points() -> np.ndarray:
    outer = round_points((0, 0), (1, 1))[9:64]
    inner = round_points((0.45, 0), (0.8, 0.8))[14:59]
    return np.concatenate([outer, inner[::-1]])


OUTLINES: dict[str, Callable[[], np.ndarray]] = {
    "circle": lambda: round_points((0, 0), (1, 1)),
    "ring": lambda: round_points((0, 0), (1, 1)),
    "square": lambda: np.array([(-0.85, -0.85), (0.85, -0.85), (0.85, 0.85), (-0.85, 0.85)]),
    "triangle": lambda: np.array([(0, -1), (0.95, 0.75), (-0.95, 0.75)]),
    "star": lambda: star_points(5, 0.45),
    "cross": lambda: cross_points(0.35),
    "diamond": lambda: np.array([(0, -1), (0.7, 0), (0, 1), (-0.7, 0)]),
    "heart": heart_points,
    "moon": moon_points,
}


def put_shape(
    brush: Brush, shape: str, centre: np.ndarray, radius: float, colour: Colour, hole: Colour
) -> np.ndarray:
    """Draw a shape; returns its mask (256, 256) bool. The ring is open onto `hole`."""
    turn = brush.random.uniform(-0.4, 0.4) if brush.random.random() < 0.6 else 0.0
    points = turned(OUTLINES[shape]() * radius, turn) + centre
    mask = np.zeros((SIDE, SIDE), np.uint8)
    cv2.fillPoly(mask, [np.round(points).astype(np.int32)], (1,))
    brush.polygon(points, colour)
    if shape == "ring":
        inner = (points - centre) * 0.55 + centre
        brush.polygon(inner, hole)
        cv2.fillPoly(mask, [np.round(inner).astype(np.int32)], (0,))
    return mask > 0


def background(brush: Brush, name: str, kind: str) -> tuple[Colour, str]:
    """Fill the canvas; returns its main colour and the words for it."""
    random, canvas = brush.random, brush.canvas
    colour = shade(random, name)
    canvas[:] = colour
    near = np.asarray(colour, float)
    other = near * 0.72 if near.mean() > 90 else near * 0.72 + 70
    if kind == "gradient":
        angle = random.uniform(0, 2 * np.pi)
        y, x = np.mgrid[-1 : 1 : SIDE * FINE * 1j, -1 : 1 : SIDE * FINE * 1j]
        mix = np.clip((x * np.cos(angle) + y * np.sin(angle)) * 0.5 + 0.5, 0, 1)[..., None]
        canvas[:] = (near + (other - near) * 0.8 * mix).astype(np.uint8)
    elif kind == "striped":
        step, angle = random.uniform(24, 48), random.choice([0, np.pi / 2, np.pi / 4])
        y, x = np.mgrid[0 : SIDE * FINE, 0 : SIDE * FINE]
        along = (x * np.cos(angle) + y * np.sin(angle)) / (step * FINE) + random.random()
        canvas[(along % 1) < 0.5] = other.astype(np.uint8)
    elif kind == "dotted":
        step, radius = random.uniform(32, 56), random.uniform(0.18, 0.3)
        for row in np.arange(random.uniform(0, step), SIDE, step):
            for column in np.arange(random.uniform(0, step), SIDE, step):
                brush.ellipse((column, row), (step * radius,) * 2, as_colour(other))
    words = {"gradient": "gradient ", "striped": "striped ", "dotted": "dotted "}.get(kind, "")
    return colour, f"{name} {words}background"


def place_word(centre: np.ndarray) -> str:
    column, row = (int(np.digitize(v, (SIDE * 0.4, SIDE * 0.6))) - 1 for v in centre)
    if row and column:
        return f"{PLACES[(row, 0)]} {PLACES[(0, column)]}"
    return PLACES[(row, column)]


def draw_object(brush: Brush) -> tuple[str, str, np.ndarray]:
    """One shape on a background."""
    random = brush.random
    first, second = other_colours(random, 2)
    kind = str(random.choice(["plain", "plain", "plain", "gradient", "striped", "dotted"]))
    ground, ground_words = background(brush, second, kind)
    radius = random.uniform(34, 92)
    centre = random.uniform(radius * 0.9, SIDE - radius * 0.9, 2)
    shape = str(random.choice(SHAPES))
    mask = put_shape(brush, shape, centre, radius, shade(random, first), ground)
    size = "small " if radius < 48 else "big " if radius > 74 else ""
    size = size if random.random() < 0.6 else ""
    place = f" on the {place_word(centre)}" if random.random() < 0.5 else ""
    if random.random() < 0.25:
        return f"{ground_words}, {size}{first} {shape}{place}", first, mask
    joint = random.choice([" on a ", ", "])
    return f"a {size}{first} {shape}{place}{joint}{ground_words}", first, mask


def draw_pair(brush: Brush) -> tuple[str, str, np.ndarray]:
    """Two shapes beside or above each other."""
    random = brush.random
    first, second, third = other_colours(random, 3)
    ground, ground_words = background(brush, third, str(random.choice(["plain", "plain", "gradient"])))
    names, beside = [], random.random() < 0.6
    for index, colour in enumerate((first, second)):
        along, across = 66 + 124 * index + random.uniform(-10, 10), random.uniform(70, SIDE - 70)
        centre = np.array((along, across) if beside else (across, along))
        shape = str(random.choice(SHAPES))
        put_shape(brush, shape, centre, random.uniform(34, 56), shade(random, colour), ground)
        place = (("left", "right") if beside else ("top", "bottom"))[index]
        names.append(f"a {colour} {shape}" + (f" on the {place}" if random.random() < 0.4 else ""))
    return f"{names[0]} and {names[1]}, {ground_words}", "", np.zeros((SIDE, SIDE), bool)


def hill_line(random: np.random.Generator, height: float, swing: float) -> np.ndarray:
    x = np.linspace(0, SIDE, 65)
    y = height + sum(
        swing / k * np.sin(x / SIDE * 2 * np.pi * k * 0.7 + random.uniform(0, 6.3)) for k in (1, 2, 3)
    )
    return np.concatenate([np.stack([x, y], 1), [(SIDE, SIDE), (0, SIDE)]])


def draw_landscape(brush: Brush) -> tuple[str, str, np.ndarray]:
    """Sky, hills, and perhaps a sun, a house, trees."""
    random = brush.random
    sky, ground, sun, roof = other_colours(random, 4)
    background(brush, sky, "gradient" if random.random() < 0.6 else "plain")
    words = [f"{sky} sky", f"{ground} hills"]
    if random.random() < 0.7:
        where = random.uniform((30, 25), (SIDE - 30, 85))
        brush.ellipse(where, (random.uniform(14, 30),) * 2, shade(random, sun))
        words.append(f"{sun} sun")
    horizon = random.uniform(120, 175)
    base = np.asarray(shade(random, ground), float)
    for layer in range(int(random.integers(1, 4))):
        tone = base * (0.72 + 0.28 * (layer % 2 == 0)) + (0 if base.mean() > 90 else 45 * (layer % 2))
        brush.polygon(hill_line(random, horizon + 34 * layer, random.uniform(4, 18)), as_colour(tone))
    if random.random() < 0.6:
        x, y, s = random.uniform(40, SIDE - 70), horizon + random.uniform(15, 50), random.uniform(18, 34)
        wall = shade(random, "white" if ground != "white" else "black", 8)
        brush.polygon(np.array([(x, y), (x + 2 * s, y), (x + 2 * s, y + 1.3 * s), (x, y + 1.3 * s)]), wall)
        top = np.array([(x - 0.25 * s, y), (x + 2.25 * s, y), (x + s, y - s)])
        brush.polygon(top, shade(random, roof))
        door = np.array([(0.8, 0.5), (1.3, 0.5), (1.3, 1.3), (0.8, 1.3)]) * s + (x, y)
        brush.polygon(door, shade(random, roof))
        words.append(f"a house with a {roof} roof")
    if random.random() < 0.5:
        leaf = "green" if ground != "green" else "orange"
        for _ in range(int(random.integers(1, 4))):
            x, y, s = random.uniform(20, SIDE - 20), horizon + random.uniform(10, 60), random.uniform(12, 24)
            brush.line(np.array([(x, y), (x, y + 2 * s)]), s * 0.35, (96, 62, 40))
            brush.ellipse((x, y), (s, s * 1.2), shade(random, leaf))
        words.append(f"{leaf} trees")
    random.shuffle(words)
    return "a landscape, " + ", ".join(words), "", np.zeros((SIDE, SIDE), bool)


def draw_portrait(brush: Brush) -> tuple[str, str, np.ndarray]:
    """A head with hair and a shirt."""
    random = brush.random
    hair, shirt, ground = other_colours(random, 3)
    _, ground_words = background(brush, ground, str(random.choice(["plain", "gradient", "striped"])))
    skin = as_colour(np.asarray(SKIN[random.integers(len(SKIN))]) + random.integers(-8, 9, 3))
    x, y, s = random.uniform(90, 166), random.uniform(88, 118), random.uniform(32, 50)
    hair_shade, shirt_shade = shade(random, hair), shade(random, shirt)
    if random.random() < 0.5:
        brush.ellipse((x, y + 0.3 * s), (1.35 * s, 1.6 * s), hair_shade)
    else:
        brush.ellipse((x, y - 0.2 * s), (1.15 * s, 1.15 * s), hair_shade)
    width = random.uniform(1.9, 2.6) * s
    body = np.array(
        [(x - 0.5 * s, y + 1.6 * s), (x + 0.5 * s, y + 1.6 * s), (x + width, y + 2.3 * s), (x + width, 300)]
    )
    brush.polygon(np.concatenate([body, [(x - width, 300), (x - width, y + 2.3 * s)]]), shirt_shade)
    brush.polygon(
        np.array([(-0.35, 0.8), (0.35, 0.8), (0.4, 1.75), (0, 2.1), (-0.4, 1.75)]) * s + (x, y), skin
    )
    brush.ellipse((x, y), (0.88 * s, 1.15 * s), skin)
    fringe = round_points((x, y - 0.62 * s), (0.9 * s, 0.62 * s))
    brush.polygon(fringe[fringe[:, 1] < y - 0.5 * s], hair_shade)
    for side in (-1, 1):
        brush.ellipse((x + side * 0.36 * s, y - 0.1 * s), (0.13 * s, 0.09 * s), (245, 245, 245))
        brush.ellipse((x + side * 0.36 * s, y - 0.1 * s), (0.07 * s, 0.08 * s), (30, 30, 34))
    brush.ellipse((x, y + 0.55 * s), (0.3 * s, 0.1 * s), (170, 60, 60))
    brush.line(
        np.array([(x, y), (x - 0.08 * s, y + 0.25 * s), (x + 0.05 * s, y + 0.27 * s)]), 1.5, (90, 60, 45)
    )
    words = [f"{hair} hair", f"{shirt} shirt", ground_words]
    random.shuffle(words)
    return "a portrait, " + ", ".join(words), "", np.zeros((SIDE, SIDE), bool)


def draw_collage(brush: Brush) -> tuple[str, str, np.ndarray]:
    """Many strokes, blobs and pieces in shades of two colours: lines everywhere, as in photographs."""
    random = brush.random
    first, second = other_colours(random, 2)
    background(brush, second, str(random.choice(["plain", "gradient"])))
    count = int(random.integers(10, 46))
    for index in range(count):
        size = random.uniform(8, 64) * (1 - 0.5 * index / count)
        centre = random.uniform(-10, SIDE + 10, 2)
        base = np.asarray(PALETTE[first if random.random() < 0.5 else second], float)
        tone = np.clip(base * random.uniform(0.55, 1.1) + random.uniform(-15, 60), 0, 255)
        colour = as_colour(tone)
        kind = random.integers(4)
        if kind == 0:
            brush.ellipse(centre, size * random.uniform(0.35, 1, 2), colour, random.uniform(0, 3.2))
        elif kind == 1:
            n = int(random.integers(3, 9))
            angle = np.sort(random.uniform(0, 2 * np.pi, n))
            points = np.stack([np.cos(angle), np.sin(angle)], 1) * random.uniform(0.5, 1.1, (n, 1)) * size
            brush.polygon(points + centre, colour)
        elif kind == 2:
            around = np.linspace(0, 2 * np.pi, 73)[:-1]
            waves = [np.sin(k * around + random.uniform(0, 6)) / k for k in (2, 3, 5)]
            radius = size * (1 + 0.3 * np.sum(waves, 0))
            brush.polygon(round_points((0, 0), (1, 1)) * radius[:, None] + centre, colour)
        else:
            steps = random.normal(0, size * 0.5, (6, 2))
            brush.line(centre + np.cumsum(steps, 0), random.uniform(1.5, 9), colour)
    return f"a {first} and {second} collage", "", np.zeros((SIDE, SIDE), bool)


def draw_mosaic(brush: Brush) -> tuple[str, str, np.ndarray]:
    """Cells in two colours, as a code has them: what a brightness hint holds on to."""
    random = brush.random
    first, second = other_colours(random, 2)
    step = int(random.choice([4, 6, 8, 8, 8, 12, 16, 16, 24, 32]))
    n = SIDE // step + 2
    cells = (random.random((n, n)) < random.uniform(0.35, 0.65)).astype(np.uint8)
    tones = np.stack([shade(random, second), shade(random, first)]).astype(np.int32)
    picture = tones[cells] + random.integers(-18, 19, (n, n, 1))
    picture = np.clip(picture, 0, 255).astype(np.uint8)
    picture = cv2.resize(picture, None, fx=step * FINE, fy=step * FINE, interpolation=cv2.INTER_NEAREST)
    y, x = random.integers(0, step, 2) * FINE
    brush.canvas[:] = picture[y : y + SIDE * FINE, x : x + SIDE * FINE]
    return f"a {first} and {second} mosaic", "", np.zeros((SIDE, SIDE), bool)


KINDS: tuple[tuple[Callable[[Brush], tuple[str, str, np.ndarray]], float], ...] = (
    (draw_object, 0.40),
    (draw_pair, 0.12),
    (draw_landscape, 0.13),
    (draw_portrait, 0.13),
    (draw_collage, 0.14),
    (draw_mosaic, 0.08),
)


def draw(seed: int, kind: Callable[[Brush], tuple[str, str, np.ndarray]] | None = None) -> Scene:
    """The scene of a seed; `kind` asks for one kind instead of the mixture."""
    random = np.random.default_rng(seed)
    brush = Brush(random)
    drawn = kind or KINDS[random.choice(len(KINDS), p=[share for _, share in KINDS])][0]
    words, colour, mask = drawn(brush)
    filler = FILLERS[random.integers(len(FILLERS))]
    return Scene(brush.done(), f"{filler} {words}".strip(), colour, mask)


def scribble_of(lines: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """A hand's version of an edge map (256, 256) uint8: pushed about, a part missing, thick."""
    push = cv2.resize(
        random.normal(0, 2.2, (9, 9, 2)).astype(np.float32), (SIDE, SIDE), interpolation=cv2.INTER_CUBIC
    )
    y, x = np.mgrid[0:SIDE, 0:SIDE].astype(np.float32)
    moved = cv2.remap(lines, x + push[..., 0], y + push[..., 1], cv2.INTER_LINEAR)
    kept = cv2.resize(random.random((6, 6)).astype(np.float32), (SIDE, SIDE)) > random.uniform(0, 0.3)
    width = int(random.integers(2, 6))
    thick = cv2.dilate(moved, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (width, width)))
    return np.where(kept & (thick > 80), 255, 0).astype(np.uint8)


def line_hint(picture: np.ndarray, random: np.random.Generator, way: int | None = None) -> np.ndarray:
    """The line hint of a picture, (256, 256) uint8: Canny with varied thresholds, or a scribble.

    `way` 0 is Canny at the usual 100 and 200.
    """
    draw_way = random.random() if way is None else way
    low, high = (
        (100, 200) if draw_way < 0.5 else (int(random.integers(40, 130)), int(random.integers(140, 280)))
    )
    lines = cv2.Canny(picture, low, high)
    return scribble_of(lines, random) if draw_way > 0.75 else lines


def brightness_hint(picture: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """The brightness hint of a picture, (256, 256) uint8: luma, as it is, blurred, or in two levels."""
    grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
    way = random.random()
    if way < 0.25:
        grey = cv2.GaussianBlur(grey, (0, 0), random.uniform(1, 5))
    elif way < 0.5:
        grey = np.where(grey > np.median(grey) // 2 + 60, 255, 0).astype(np.uint8)
    return grey
