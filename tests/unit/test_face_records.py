"""The record of found faces, and the choice of one among several."""

import numpy as np
import pytest
import torch
from tiller.adapters.faces.align import crop_face
from tiller.adapters.faces.choose import CHOICES, choose, from_left_to_right
from tiller.adapters.faces.records import Faces
from tiller.tests.unit.face_people import face, faces, vector

SIZE = (100, 200)
THREE = from_left_to_right(
    [
        face(150, 20, side=30, score=0.8),
        face(30, 60, side=20, score=0.9),
        face(90, 45, side=25, score=0.7),
    ]
)


def test_faces_stand_from_left_to_right():
    assert [one.score for one in THREE] == [0.9, 0.7, 0.8]


@pytest.mark.parametrize(
    ("choice", "expected"), [("largest", 2), ("left", 0), ("right", 2), ("centre", 1), ("surest", 0)]
)
def test_each_way_to_choose(choice, expected):
    assert choose(THREE, choice, size=SIZE) == expected


def test_an_index_counts_from_the_left_or_from_the_right():
    assert [choose(THREE, "index", index) for index in (0, 1, 2, -1, -3)] == [0, 1, 2, 2, 0]


@pytest.mark.parametrize(("index", "least"), [(3, 4), (-4, 4), (7, 8)])
def test_an_index_out_of_range_says_how_many_faces_there_are(index, least):
    expected = rf"Face {index} needs at least {least} faces in picture 5, got 3. Choose an index from -3 to 2"
    with pytest.raises(ValueError, match=expected):
        choose(THREE, "index", index, picture=5)


@pytest.mark.parametrize("choice", [choice for choice in CHOICES if choice != "index"])
def test_of_equal_faces_the_first_from_the_left_and_top_is_chosen(choice):
    twins = from_left_to_right([face(100, 30), face(100, 70)])
    assert choose(twins, choice, size=SIZE) == 0
    assert twins[0].box[1] < twins[1].box[1]


def test_choosing_among_nobody_or_in_an_unknown_way_is_refused():
    with pytest.raises(ValueError, match="in picture 4 to be chosen, got none"):
        choose([], "largest", picture=4)
    with pytest.raises(ValueError, match=r"chosen by largest, .*, got 'nicest'"):
        choose(THREE, "nicest")  # pyright: ignore[reportArgumentType]


def test_one_picture_gives_its_own_vector_to_the_bit():
    one = faces(3)
    torch.testing.assert_close(one.embedding(False), vector(3)[None], rtol=0, atol=0)
    torch.testing.assert_close(one.embedding(True), one.embeddings(True), rtol=0, atol=0)
    torch.testing.assert_close(one.embedding(True), vector(3)[None] / vector(3).norm())


def test_several_pictures_give_the_mean_raw_or_of_length_one():
    several = faces(1, 2, 3)
    raw = torch.stack([vector(seed) for seed in (1, 2, 3)])
    units = raw / raw.norm(dim=1, keepdim=True)
    torch.testing.assert_close(several.embeddings(False), raw, rtol=0, atol=0)
    torch.testing.assert_close(several.embeddings(True), units)
    torch.testing.assert_close(several.embedding(False), raw.mean(0, keepdim=True))
    mean = units.mean(0, keepdim=True)
    torch.testing.assert_close(several.embedding(True), mean / mean.norm())
    assert several.embedding(True).norm().item() == pytest.approx(1.0, abs=1e-6)


def test_faces_that_cancel_each_other_out_are_refused():
    one = faces(1, 1)
    turned = face(40, 30, seed=1)
    opposite = type(turned)(turned.box, turned.points, turned.score, -turned.embedding)
    both = Faces(one.pictures, (one.found[0], (opposite,)), (0, 0), "buffalo_l")
    with pytest.raises(ValueError, match="they cancel each other out: they are not one person"):
        both.embedding(True)


def test_crops_are_those_of_the_chosen_faces():
    record = faces(1, 2)
    crops = record.crops(112)
    assert crops.shape == (2, 112, 112, 3)
    assert crops.dtype == torch.float32
    for picture, chosen, crop in zip(record.pictures, record.faces, crops, strict=True):
        levels = (picture * 255).round().to(torch.uint8).numpy()
        expected = crop_face(levels, chosen.points.numpy(), 112)
        np.testing.assert_array_equal((crop * 255).round().to(torch.uint8).numpy(), expected)
    assert record.crops(256, "FFHQ").shape == (2, 256, 256, 3)


def test_the_chosen_face_counts_not_the_first():
    people = (face(20, 30, seed=1), face(60, 30, seed=2))
    record = Faces(torch.rand(1, 60, 80, 3), (people,), (1,), "buffalo_l")
    torch.testing.assert_close(record.embedding(False), vector(2)[None], rtol=0, atol=0)


@pytest.mark.parametrize(
    ("found", "chosen", "words"),
    [
        (((face(9, 9),),), (1,), "got face 1 of the 1 in picture 1"),
        (((),), (0,), "got face 0 of the 0 in picture 1"),
        (((face(9, 9),),) * 2, (0,), "got 1 pictures, faces of 2 and 1 choices"),
        ((), (), "got 1 pictures, faces of 0 and 0 choices"),
    ],
)
def test_a_record_that_does_not_fit_together_is_refused(found, chosen, words):
    with pytest.raises(ValueError, match=words):
        Faces(torch.zeros(1, 8, 8, 3), found, chosen, "buffalo_l")
