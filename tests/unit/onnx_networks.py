"""ONNX files in DWPose's published interface, small enough to be worked out by hand."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from tiller.preprocessors.pose.dwpose import KINDS
from tiller.preprocessors.pose.onnx_session import OnnxKind, OnnxSession

STRIDES = (8, 16, 32)


def save(
    path: Path, nodes: list[Any], inputs: dict[str, Any], outputs: dict[str, Any], **constants: Any
) -> Path:
    """Write a model; inputs and outputs are name -> shape."""

    def said(values):
        return [helper.make_tensor_value_info(k, TensorProto.FLOAT, list(v)) for k, v in values.items()]

    held = [numpy_helper.from_array(np.asarray(value), key) for key, value in constants.items()]
    graph = helper.make_graph(nodes, "test", said(inputs), said(outputs), held)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    path.write_bytes(model.SerializeToString())
    return path


def constant(path: Path, shape: tuple[Any, ...] = (1, 3, 640, 640), **outputs: np.ndarray) -> Path:
    """A network that gives these arrays whatever it sees."""
    nodes = [helper.make_node("Identity", [f"held_{name}"], [name]) for name in outputs]
    held = {f"held_{name}": array.astype(np.float32) for name, array in outputs.items()}
    return save(path, nodes, {"images": shape}, {k: v.shape for k, v in outputs.items()}, **held)


def detections(*boxes: Any, size: tuple[int, int] = (640, 640), classes: int = 80) -> np.ndarray:
    """(1,n,85) as YOLOX gives it for boxes (x0, y0, x1, y1, objectness, class, score) in its own pixels.

    Each box is told by the cell of the next finer stride in turn under its centre.
    """
    sides = [(size[0] // stride, size[1] // stride) for stride in STRIDES]
    starts = np.cumsum([0] + [rows * columns for rows, columns in sides])
    found = np.zeros((1, starts[-1], 5 + classes), np.float32)
    for number, (x0, y0, x1, y1, objectness, kind, score) in enumerate(boxes):
        level = number % len(STRIDES)
        stride, columns = STRIDES[level], sides[level][1]
        x, y = (x0 + x1) / 2 / stride, (y0 + y1) / 2 / stride
        row = found[0, starts[level] + int(y) * columns + int(x)]
        row[:5] = (
            x - int(x),
            y - int(y),
            math.log((x1 - x0) / stride),
            math.log((y1 - y0) / stride),
            objectness,
        )
        row[5 + kind] = score
    return found


def brightest(path: Path, size: tuple[int, int] = (384, 288), batch: Any = "batch") -> Path:
    """A pose network all of whose points lie at the brightest row and column of the cut.

    The score is the normalised brightness there, 2.2 to 2.6 for white and about -2 for black.
    """
    height, width = size
    nodes = []
    constants: dict[str, Any] = {"points": np.array([1, 133, 1])}
    for name, side, others in (("x", width, [1, 2]), ("y", height, [1, 3])):
        constants |= {f"upright_{name}": np.array([-1, side, 1]), f"flat_{name}": np.array([-1, 1, 2 * side])}
        constants["twice"] = np.array([1, 1, 2])
        nodes += [
            helper.make_node("ReduceMax", ["input"], [f"a{name}"], axes=others, keepdims=0),
            helper.make_node("Reshape", [f"a{name}", f"upright_{name}"], [f"b{name}"]),
            helper.make_node("Tile", [f"b{name}", "twice"], [f"c{name}"]),
            helper.make_node("Reshape", [f"c{name}", f"flat_{name}"], [f"d{name}"]),
            helper.make_node("Tile", [f"d{name}", "points"], [f"simcc_{name}"]),
        ]
    outputs = {"simcc_x": (batch, 133, 2 * width), "simcc_y": (batch, 133, 2 * height)}
    return save(path, nodes, {"input": (batch, 3, height, width)}, outputs, **constants)


def opened(path: Path, kind: OnnxKind) -> OnnxSession:
    """The file in onnxruntime on one thread of the processor."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return OnnxSession(session, kind, path.name, KINDS)
