"""The sheet of hints: where each tile lies, what it shows, and notes in place of missing ones."""

import numpy as np
import pytest
import torch
from tiller.preprocessors.contact_sheet import EMPTY, GAP, LABEL, Tile, contact_sheet

SIDE = 96


def flat(level, height=48, width=48):
    return torch.full((1, height, width, 3), level)


def square(sheet, row, column):
    """(SIDE,SIDE,3) of one tile."""
    top, left = GAP + row * (SIDE + LABEL + GAP), GAP + column * (SIDE + GAP)
    return sheet[0, top : top + SIDE, left : left + SIDE]


def test_tiles_lie_row_by_row():
    sheet = contact_sheet([Tile(str(i), flat(i / 10)) for i in range(5)], columns=2, side=SIDE)
    assert sheet.shape == (1, GAP + 3 * (SIDE + LABEL + GAP), GAP + 2 * (SIDE + GAP), 3)
    for i in range(5):
        assert square(sheet, i // 2, i % 2).mean() == pytest.approx(i / 10, abs=0.003)


def test_a_wide_picture_keeps_its_aspect_in_the_middle_of_its_square():
    shown = square(contact_sheet([Tile("wide", flat(0.0, 20, 80))], side=SIDE), 0, 0)
    rows = (shown.amax((1, 2)) == 0).nonzero().flatten()
    assert (int(rows[0]), int(rows[-1])) == (36, 59)


def test_every_name_is_written_below_its_square():
    sheet = contact_sheet([Tile("hed", flat(1.0)), Tile("", flat(1.0))], side=SIDE)
    below = sheet[0, GAP + SIDE : GAP + SIDE + LABEL]
    assert below[:, GAP : GAP + SIDE].min() < 0.5
    assert below[:, 2 * GAP + SIDE :].min() == 1.0


def test_a_missing_hint_shows_its_note_inside_its_square():
    long = "needs a_file_whose_name_is_much_longer_than_a_tile.pth " * 3
    sheet = contact_sheet([Tile("a", None, long), Tile("b", None, "short")], side=SIDE)
    ground = np.array(EMPTY) / 255
    inked = [float((np.abs(square(sheet, 0, i).numpy() - ground).max(-1) > 0.2).mean()) for i in range(2)]
    assert inked[0] > 2 * inked[1] > 0
    edge = square(sheet, 0, 0)[:, -GAP + 2 :]
    np.testing.assert_allclose(edge, np.broadcast_to(ground, edge.shape), atol=0.003)


def test_a_sheet_of_nothing_is_refused():
    with pytest.raises(ValueError, match=r"needs at least one hint, got none"):
        contact_sheet([])
