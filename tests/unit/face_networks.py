"""Packs of ONNX files in the published interfaces whose results can be worked out by hand."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from tiller.adapters.faces.networks import InsightFaceNetworks
from tiller.adapters.faces.packs import Pack, find_pack

from devtools.face_standins import ANCHORS, GRID, POINTS, STRIDES, Graph, recogniser, recogniser_numbers

WINDOW = 9
"""Cells across which a blob is weighed."""

SMALLEST, LARGEST = 1.0, 50.0
"""Areas in cells that count as a face."""

Box = tuple[float, float, float, float]


def blob_detector() -> Any:
    """SCRFD's nine arrays: the finest grid sees red squares, the next green ones, the coarsest blue ones.

    A square of n x n cells (1 <= n <= 7) on gray, black or white gives its own box, the points of POINTS in
    it, and the score 0.6 + n² / 100, all exactly when its edges lie on the grid. Gray is never seen. The face
    comes from the second anchor of the cell that holds the square's centre.
    """
    g = Graph()
    outputs: dict[str, dict[int, str]] = {"score": {}, "box": {}, "points": {}}
    for stride, channel in zip(STRIDES, range(3), strict=True):
        area, right, down = _weigh(g, stride, channel)
        side = g.node("Sqrt", [area])
        half = g.node("Mul", [side, g.number(0.5)])
        centre = [g.node("Add", [offset, g.number(0.5)]) for offset in (right, down)]
        score = _score(g, area, right, down)
        box = [g.node("Sub", [half, one]) for one in centre] + [g.node("Add", [half, one]) for one in centre]
        points = [
            g.node("Add", [centre[axis], g.node("Mul", [side, g.number(place[axis])])])
            for place in POINTS
            for axis in (0, 1)
        ]
        for kind, values in (("score", [score]), ("box", box), ("points", points)):
            outputs[kind][stride] = _second_anchor(g, f"{kind}_{stride}", values)
    names = {outputs[kind][stride]: width for kind, width in (("score", 1), ("box", 4), ("points", 10))
             for stride in STRIDES}  # fmt: skip
    return g.model({"input": (1, 3, "?", "?")}, {name: (None, width) for name, width in names.items()})


def _weigh(g: Graph, stride: int, channel: int) -> tuple[str, str, str]:
    """How much of one colour is around each cell, in cells, and where its centre is from the cell's."""
    weights = np.full((1, 3, 1, 1), -0.25, np.float32)
    weights[0, channel] = 0.5
    colour = g.node("Conv", ["input", g.constant(weights * np.float32(128 / 127.5))])
    cells = g.node("AveragePool", [g.node("Relu", [colour])], kernel_shape=[stride] * 2, strides=[stride] * 2)
    ramp = np.arange(WINDOW, dtype=np.float32) - WINDOW // 2
    ones = np.ones(WINDOW, np.float32)

    def weighed(kernel: np.ndarray) -> str:
        return g.node("Conv", [cells, g.constant(kernel[None, None])], pads=[WINDOW // 2] * 4)

    area = weighed(np.outer(ones, ones))
    safe = g.node("Max", [area, g.number(1e-3)])
    right = g.node("Div", [weighed(np.outer(ones, ramp)), safe])
    return area, right, g.node("Div", [weighed(np.outer(ramp, ones)), safe])


def _score(g: Graph, area: str, right: str, down: str) -> str:
    """0.6 + area / 100 in the cells that hold the centre of a square, elsewhere 0."""
    limits = [("Greater", area, SMALLEST - 0.01), ("Less", area, LARGEST)]
    limits += [
        (kind, one, sign * 0.501) for one in (right, down) for kind, sign in (("Less", 1), ("Greater", -1))
    ]
    score = g.node("Add", [g.node("Mul", [area, g.number(0.01)]), g.number(0.6)])
    for kind, value, limit in limits:
        held = g.node("Cast", [g.node(kind, [value, g.number(limit)])], to=1)
        score = g.node("Mul", [score, held])
    return score


def _second_anchor(g: Graph, name: str, values: list[str]) -> str:
    """Maps (1,1,h,w) as rows (h*w*2, n): zeros for a cell's first anchor, the values for its second."""
    nothing = [g.node("Mul", [one, g.number(0.0)]) for one in values]
    both = g.node("Concat", [*nothing, *values], axis=1)
    last = g.node("Transpose", [both], perm=[0, 2, 3, 1])
    assert ANCHORS == 2
    return g.node("Reshape", [last, g.constant(np.array([-1, len(values)]))], name=name)


def constant_detector(box: Box, points: Sequence[Sequence[float]], score: float = 0.9) -> Any:
    """A detector that sees one face at the same place, in its own pixels, whatever it is shown."""
    g = Graph()
    x0, y0, x1, y1 = box
    rows = {
        "box": g.row([g.number(one) for one in (-x0, -y0, x1, y1)], STRIDES[0]),
        "points": g.row([g.number(float(one)) for point in points for one in point], STRIDES[0]),
        "score": g.constant(np.array([[score]], np.float32)),
    }
    names = g.scrfd_outputs(rows)
    return g.model({"input": (1, 3, "?", "?")}, {name: (None, width) for name, width in names.items()})


def plain(shape: tuple[Any, ...], outputs: Sequence[tuple[Any, ...]], extra_input: bool = False) -> Any:
    """A network of these lengths that gives zeros; for telling what a file is."""
    g = Graph()
    for number, lengths in enumerate(outputs):
        zeros = np.zeros([one if isinstance(one, int) else 1 for one in lengths], np.float32)
        g.node("Identity", [g.constant(zeros)], name=f"out_{number}")
    inputs = {"input": shape} | ({"other": (1, 512)} if extra_input else {})
    return g.model(inputs, {f"out_{number}": lengths for number, lengths in enumerate(outputs)})


def write(folder: Path, **networks: Any) -> Path:
    """Write networks by the name of their file into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, network in networks.items():
        (folder / f"{name}.onnx").write_bytes(network.SerializeToString())
    return folder


def blob_pack(root: Path, name: str = "blobs") -> Pack:
    """A pack with the detector of coloured squares."""
    write(root / "models" / name, det=blob_detector(), rec=recogniser())
    return find_pack(name, [root])


def one_thread() -> Any:
    """Options of a session that leaves the other processors alone."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return options


def opened(pack: Pack, before_each: Callable[[], None] = lambda: None) -> InsightFaceNetworks:
    """The networks of a pack on one thread of the processor."""
    options = one_thread()
    sessions = [
        onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        for path in (pack.detector, pack.recogniser)
    ]
    return InsightFaceNetworks(pack, sessions[0], sessions[1], before_each)


def expected_vector(crop: np.ndarray) -> np.ndarray:
    """What the stand-in recogniser says of an upright face (112,112,3) uint8 RGB, worked out by hand."""
    part = 112 // GRID
    levels = (crop.astype(np.float64) - 127.5) / 127.5
    means = levels.reshape(GRID, part, GRID, part, 3).mean((1, 3)).transpose(2, 0, 1)
    mixture, shift = recogniser_numbers()
    return means.reshape(-1) @ mixture.astype(np.float64) + shift
