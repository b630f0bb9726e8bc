"""Thinning and ridge selection: small drawings whose result can be read off, and cv2 as a second opinion."""

import cv2
import numpy as np
import pytest
from tiller.preprocessors.thin import MAX_ROUNDS, ridges, thin


def drawing(*rows: str) -> np.ndarray:
    return np.array([[cell == "#" for cell in row] for row in rows])


def thin_with_opencv(lines: np.ndarray, prune: bool) -> np.ndarray:
    """The published algorithm said again with cv2's own hit-or-miss."""
    wings = [[[-1, -1, -1], [0, 1, 0], [1, 1, 1]], [[0, -1, -1], [1, 1, -1], [0, 1, 0]]]
    ends = [[[-1, -1, -1], [-1, 1, -1], [0, 0, -1]], [[-1, -1, -1], [-1, 1, -1], [-1, 0, 0]]]
    levels = lines.astype(np.uint8) * 255

    def strip(kernels: list) -> bool:
        changed = False
        for turns in range(4):
            for kernel in kernels:
                turned = np.ascontiguousarray(np.rot90(np.array(kernel, dtype=np.int32), turns))
                hits = cv2.morphologyEx(levels, cv2.MORPH_HITMISS, turned) > 0
                levels[hits] = 0
                changed |= bool(hits.any())
        return changed

    for _ in range(MAX_ROUNDS):
        if not strip(wings):
            break
    if prune:
        strip(ends)
    return levels > 0


def test_a_thick_bar_becomes_one_pixel_wide():
    bar = np.zeros((11, 30), dtype=bool)
    bar[3:8, 5:25] = True
    result = thin(bar, prune=False)
    assert (result[:, 9:21].sum(axis=0) == 1).all()
    assert (result <= bar).all()


def test_a_one_pixel_line_is_left_alone():
    line = np.zeros((9, 20), dtype=bool)
    line[4, 3:17] = True
    assert (thin(line, prune=False) == line).all()


def test_pruning_removes_single_pixels_and_only_when_asked():
    dot = drawing(".....", ".....", "..#..", ".....", ".....")
    assert thin(dot, prune=False).sum() == 1
    assert thin(dot, prune=True).sum() == 0


def test_the_input_is_not_written_to():
    bar = np.ones((5, 5), dtype=bool)
    thin(bar, prune=True)
    assert bar.all()


@pytest.mark.parametrize("prune", [False, True])
@pytest.mark.parametrize("size", [(1, 1), (1, 9), (2, 2), (17, 40), (64, 33)])
@pytest.mark.parametrize("density", [0.2, 0.55, 0.9])
def test_thinning_equals_the_algorithm_in_opencv(size, density, prune):
    lines = np.random.default_rng(7).random(size) < density
    assert (thin(lines, prune) == thin_with_opencv(lines, prune)).all()


def test_thinning_stops_after_32_rounds():
    block = np.ones((201, 201), dtype=bool)
    assert (thin(block, prune=False) == thin_with_opencv(block, prune=False)).all()
    assert thin(block, prune=False).sum() > 1000


def test_ridges_keep_a_maximum_along_any_direction():
    levels = np.array([[9, 0, 0, 0], [0, 5, 3, 0], [0, 0, 1, 2]], dtype=np.uint8)
    expected = np.zeros_like(levels)
    kernels = [np.eye(3), np.eye(3)[::-1], np.outer([0, 1, 0], [1, 1, 1]), np.outer([1, 1, 1], [0, 1, 0])]
    for kernel in kernels:
        peak = cv2.dilate(levels, np.ascontiguousarray(kernel).astype(np.uint8)) == levels
        expected[peak] = levels[peak]
    assert (ridges(levels) == expected).all()
    assert ridges(levels)[0, 0] == 9


def test_ridges_drop_a_slope():
    slope = np.add.outer(np.arange(7) * 3, np.arange(9)).astype(np.uint8)
    kept = ridges(slope)
    assert not kept[1:-1, 1:-1].any()
    assert kept[-1, -1] == slope[-1, -1]


def test_ridges_keep_the_type_and_shape():
    result = ridges(np.zeros((1, 3), dtype=np.uint8))
    assert result.dtype == np.uint8
    assert result.shape == (1, 3)
