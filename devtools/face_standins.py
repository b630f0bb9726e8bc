"""A small pack of face models in the interfaces of the published ones, made and not trained.

Its detector (SCRFD: nine outputs, strides 8, 16 and 32, two anchors) sees exactly one face in the middle of
any picture, half as wide as its shorter side. Its recogniser (ArcFace: 112 x 112 in, 512 numbers out) takes a
fixed mixture of 48 mean colours of the face, so that another picture is another person.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from .models import shipped_prompts, wanted_packs
from .onnx_standins import onnx_model

FOLDER = "insightface"
NAME = "tiller_standin_faces"
VERSION = "1"
"""Rises when a network below changes, so that an older pack is written anew."""

STRIDES = (8, 16, 32)
ANCHORS = 2
SURE = 0.9
PART = 0.5
"""Side of the face as a part of the picture's shorter side."""

POINTS = ((-0.16, -0.04), (0.16, -0.04), (0.0, 0.14), (-0.13, 0.32), (0.13, 0.32))
"""Eyes, nose and corners of the mouth, from the middle of the face, in its sides; as ArcFace lays them."""

GRID = 4
"""The recogniser looks at the mean colours of GRID x GRID parts."""


def ensure(models_dir: Path, names: Iterable[str] = (NAME,)) -> Path:
    """Write the packs that are missing below models_dir/insightface and return that folder."""
    folder = models_dir / FOLDER
    for name in names:
        pack = folder / "models" / name
        pack.mkdir(parents=True, exist_ok=True)
        mark = pack / "version"
        if mark.is_file() and mark.read_text(encoding="utf-8") == VERSION:
            continue
        for file, network in (("det_middle.onnx", middle_detector), ("mean_colours.onnx", recogniser)):
            part = pack / f"{file}.{os.getpid()}.part"
            try:
                part.write_bytes(network().SerializeToString())
                part.replace(pack / file)
            finally:
                part.unlink(missing_ok=True)
        mark.write_text(VERSION, encoding="utf-8")
    return folder


def ensure_for_recipes(models_dir: Path, root: Path) -> Path:
    """The pack under its own name and under those that the recipes shipped below `root` use."""
    return ensure(models_dir, {NAME, *wanted_packs(shipped_prompts(root).values())})


def middle_detector() -> Any:
    """(1,3,H,W) -> SCRFD's nine arrays: one face in the middle of the part that is not black at the edge.

    insightface lays the picture into the upper left corner of a black square, so the last row and column that
    are not black are the picture's; an all black picture counts as the whole square.
    """
    import numpy as np

    g = Graph()
    sides = {"x": g.extent("input", across=True), "y": g.extent("input", across=False)}
    half = g.node("Mul", [g.node("Min", [sides["x"], sides["y"]]), g.number(PART / 2)])
    middle = {axis: g.node("Mul", [side, g.number(0.5)]) for axis, side in sides.items()}
    low = [g.node("Sub", [half, middle[axis]]) for axis in "xy"]
    high = [g.node("Add", [half, middle[axis]]) for axis in "xy"]
    points = [
        g.node("Add", [middle[axis], g.node("Mul", [half, g.number(2 * place)])])
        for x, y in POINTS
        for axis, place in (("x", x), ("y", y))
    ]
    rows = {"box": g.row([*low, *high], STRIDES[0]), "points": g.row(points, STRIDES[0])}
    rows["score"] = g.constant(np.array([[SURE]], np.float32))
    names = g.scrfd_outputs(rows)
    outputs = {name: (None, width) for name, width in names.items()}
    return g.model({"input": (1, 3, "?", "?")}, outputs)


def recogniser() -> Any:
    """(B,3,112,112) in -1..1 -> (B,512): a fixed mixture of the mean colours of a grid of parts."""
    import numpy as np

    g = Graph()
    mixture, shift = recogniser_numbers()
    pooled = g.node("AveragePool", ["input"], kernel_shape=[112 // GRID] * 2, strides=[112 // GRID] * 2)
    flat = g.node("Reshape", [pooled, g.constant(np.array([-1, 3 * GRID * GRID]))])
    g.node(
        "Add",
        [g.node("MatMul", [flat, g.constant(mixture)]), g.constant(shift)],
        name="embedding",
    )
    return g.model({"input": ("batch", 3, 112, 112)}, {"embedding": ("batch", 512)})


def recogniser_numbers() -> tuple[Any, Any]:
    """The mixture (48,512) and the shift (512,) of `recogniser`: colours (channel, row, column) to vector."""
    import numpy as np

    random = np.random.default_rng(20)
    mixture = random.normal(0.0, 1.0, (3 * GRID * GRID, 512)).astype(np.float32)
    return mixture, random.normal(0.0, 0.5, 512).astype(np.float32)


class Graph:
    """ONNX nodes and constants as they are added; each gets a name of its own."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def node(self, kind: str, inputs: list[str], name: str = "", **attributes: Any) -> str:
        """Add a node with one output and return the name of it."""
        from onnx import helper

        name = name or f"{kind.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [name], **attributes))
        return name

    def constant(self, array: Any) -> str:
        """Add an array and return its name."""
        from onnx import numpy_helper

        name = f"held_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(array, name))
        return name

    def number(self, value: float) -> str:
        """Add a float32 of shape (1,)."""
        import numpy as np

        return self.constant(np.array([value], np.float32))

    def extent(self, picture: str, across: bool) -> str:
        """The width (`across`) or height of what is not black in the upper left corner, (1,) in pixels."""
        import numpy as np

        line = self.node("ReduceMax", [picture], axes=[0, 1, 2 if across else 3], keepdims=0)
        lit = self.node("Cast", [self.node("Greater", [line, self.number(-0.99)])], to=1)
        zeros = self.node("Mul", [line, self.number(0.0)])
        ones = self.node("Add", [zeros, self.number(1.0)])
        places = self.node("CumSum", [ones, self.constant(np.array(0))])
        last = self.node("ReduceMax", [self.node("Mul", [places, lit])], axes=[0], keepdims=1)
        whole = self.node("ReduceMax", [places], axes=[0], keepdims=1)
        is_black = self.node("Less", [last, self.number(0.5)])
        return self.node("Where", [is_black, whole, last])

    def row(self, values: list[str], stride: int) -> str:
        """Numbers (1,) in pixels as one row (1,n) in strides."""
        import numpy as np

        pixels = self.node("Concat", values, axis=0)
        scaled = self.node("Mul", [pixels, self.number(1 / stride)])
        return self.node("Reshape", [scaled, self.constant(np.array([1, -1]))])

    def scrfd_outputs(self, first: dict[str, str]) -> dict[str, int]:
        """The nine arrays, zero but for the rows of the first anchor of the finest grid; name -> width."""
        import numpy as np

        widths = {"score": 1, "box": 4, "points": 10}
        shape = self.node("Shape", ["input"])
        sides = self.node("Slice", [shape, self.constant(np.array([2])), self.constant(np.array([4]))])
        area = self.node("ReduceProd", [sides], axes=[0], keepdims=1)
        names: dict[str, int] = {}
        for kind, width in widths.items():
            for stride in STRIDES:
                cells = self.node("Div", [area, self.constant(np.array([stride**2]))])
                count = self.node("Mul", [cells, self.constant(np.array([ANCHORS]))])
                has_row = stride == STRIDES[0]
                left = self.node("Sub", [count, self.constant(np.array([int(has_row)]))])
                size = self.node("Concat", [left, self.constant(np.array([width]))], axis=0)
                name = f"{kind}_{stride}"
                if has_row:
                    empty = self.node("ConstantOfShape", [size])
                    self.node("Concat", [first[kind], empty], name=name, axis=0)
                else:
                    self.node("ConstantOfShape", [size], name=name)
                names[name] = width
        return names

    def model(self, inputs: dict[str, Any], outputs: dict[str, Any]) -> Any:
        """The checked model."""
        return onnx_model(self.nodes, inputs, outputs, self.constants)
