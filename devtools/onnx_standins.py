"""Small networks under the names and with the interfaces of DWPose's ONNX files.

They are made, not random: the detector sees one or two people in every picture and the other network gives
them points that stand roughly as a body does, both moved about by what is in the picture.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

FOLDER = "controlnet_aux"
VERSION = "1"
"""Rises when a file below changes, so that an older one of the same name is written anew."""

OPSET, IR = 13, 8
SIDE, HEIGHT, WIDTH = 640, 384, 288
STRIDES = (8, 16, 32)
CHANNELS, POINTS = 85, 133
ALWAYS, SOMETIMES = (6, 3), (7, 9)
"""Cells of the coarsest grid, row and column, that hold the two people."""

BODY = (
    (0.50, 0.10), (0.53, 0.08), (0.47, 0.08), (0.57, 0.09), (0.43, 0.09), (0.62, 0.24), (0.38, 0.24),
    (0.70, 0.38), (0.30, 0.38), (0.74, 0.52), (0.26, 0.52), (0.57, 0.54), (0.43, 0.54), (0.59, 0.73),
    (0.41, 0.73), (0.60, 0.92), (0.40, 0.92),
)  # fmt: skip
"""Where the first 17 points stand, as fractions of the cut."""


def ensure(models_dir: Path) -> Path:
    """Write the files that are missing into models_dir/controlnet_aux and return that folder."""
    folder = models_dir / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    for name, made in FILES.items():
        path, mark = folder / name, folder / f"{name}.version"
        if path.is_file() and mark.is_file() and mark.read_text(encoding="utf-8") == VERSION:
            continue
        part = path.with_name(f"{name}.{os.getpid()}.part")
        try:
            part.write_bytes(made().SerializeToString())
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
        mark.write_text(VERSION, encoding="utf-8")
    return folder


def _detector() -> Any:
    """(1,3,640,640) levels -> (1,8400,85): the columns of people's boxes follow the picture's brightness."""
    import numpy as np
    from onnx import helper, numpy_helper

    cells = [SIDE // stride for stride in STRIDES]
    finest = cells[0] ** 2 + cells[1] ** 2
    base = np.zeros((1, sum(side**2 for side in cells), CHANNELS), np.float32)
    moves = np.zeros_like(base)
    for (row, column), sure in ((ALWAYS, 0.9), (SOMETIMES, 0.0)):
        index = finest + row * cells[2] + column
        base[0, index, :6] = (0.0, 0.0, np.log(7.0), np.log(10.0), sure, 0.9)
        moves[0, index, 0] = 2.0
    moves[0, finest + SOMETIMES[0] * cells[2] + SOMETIMES[1], 4] = 0.9
    constants = {"base": base, "moves": moves, "level": np.array(255.0, np.float32)}
    nodes = [
        helper.make_node("Slice", ["images", "starts", "ends", "axes"], ["corner"]),
        helper.make_node("ReduceMean", ["corner"], ["mean"], axes=[0, 1, 2, 3], keepdims=0),
        helper.make_node("Div", ["mean", "level"], ["brightness"]),
        helper.make_node("Mul", ["moves", "brightness"], ["moved"]),
        helper.make_node("Add", ["base", "moved"], ["output"]),
    ]
    constants |= {
        "starts": np.array([0, 0]),
        "ends": np.array([SIDE // 4, SIDE // 4]),
        "axes": np.array([2, 3]),
    }
    inputs, outputs = {"images": (1, 3, SIDE, SIDE)}, {"output": base.shape}
    return onnx_model(nodes, inputs, outputs, [numpy_helper.from_array(v, k) for k, v in constants.items()])


def _pose() -> Any:
    """(B,3,384,288) normalised -> (B,133,576), (B,133,768): bumps where a body stands, moved about."""
    import numpy as np
    from onnx import helper, numpy_helper

    places = np.random.default_rng(0).uniform(0.3, 0.7, (POINTS, 2))
    places[: len(BODY)] = BODY
    nodes, constants = [], {"pictures": np.array([0.1], np.float32), "fold": np.array([0, 1, -1])}
    constants["twice"] = np.array([1, 1, 2])
    for axis, (name, side, others) in enumerate((("x", WIDTH, [1, 2]), ("y", HEIGHT, [1, 3]))):
        bins = np.arange(2 * side)[None]
        bumps = np.exp(-(((bins - places[:, axis : axis + 1] * 2 * side) / 40.0) ** 2))
        constants[f"bumps_{name}"] = bumps[None].astype(np.float32)
        constants[f"columns_{name}"] = np.array([0, side, 1])
        nodes += [
            helper.make_node("ReduceMean", ["input"], [f"mean_{name}"], axes=others, keepdims=0),
            helper.make_node("Reshape", [f"mean_{name}", f"columns_{name}"], [f"upright_{name}"]),
            helper.make_node("Tile", [f"upright_{name}", "twice"], [f"doubled_{name}"]),
            helper.make_node("Reshape", [f"doubled_{name}", "fold"], [f"flat_{name}"]),
            helper.make_node("Mul", [f"flat_{name}", "pictures"], [f"said_{name}"]),
            helper.make_node("Add", [f"said_{name}", f"bumps_{name}"], [f"simcc_{name}"]),
        ]
    inputs = {"input": ("batch", 3, HEIGHT, WIDTH)}
    outputs = {"simcc_x": ("batch", POINTS, 2 * WIDTH), "simcc_y": ("batch", POINTS, 2 * HEIGHT)}
    return onnx_model(nodes, inputs, outputs, [numpy_helper.from_array(v, k) for k, v in constants.items()])


def onnx_model(
    nodes: list[Any], inputs: dict[str, Any], outputs: dict[str, Any], constants: list[Any]
) -> Any:
    from onnx import TensorProto, checker, helper

    def said(values: dict[str, Any]) -> list[Any]:
        return [helper.make_tensor_value_info(k, TensorProto.FLOAT, list(v)) for k, v in values.items()]

    graph = helper.make_graph(nodes, "standin", said(inputs), said(outputs), constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR)
    checker.check_model(model)
    return model


FILES: dict[str, Callable[[], Any]] = {"yolox_l.onnx": _detector, "dw-ll_ucoco_384.onnx": _pose}
"""Published name -> what makes the network."""
