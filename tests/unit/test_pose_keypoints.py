"""Key points of people: every common spelling is read, and what is written can be read anywhere."""

import json

import pytest
from tiller.preprocessors.pose.keypoints import (
    BODY_25,
    Frame,
    Keypoint,
    Person,
    Writing,
    hands_by_wrist,
    read_either,
    read_json,
    read_keypoints,
    write_json,
    write_keypoints,
)
from tiller.tests.unit.pose_people import body, entry, random_frame, standing


def first_body(value, **options):
    return read_keypoints(value, **options)[0].people[0].body


def test_pixels_are_read_as_they_are():
    points = first_body([entry([{"pose_keypoints_2d": body((50, 20, 1), (51.5, 40, 0.5))}])])
    assert points[:3] == (Keypoint(50, 20, 1), Keypoint(51.5, 40, 0.5), None)
    assert len(points) == 18


def test_fractions_of_the_canvas_become_pixels():
    points = first_body([entry([{"pose_keypoints_2d": body((0.5, 0.25, 1), (1.0, 1.01, 1))}])])
    assert points[0] == Keypoint(50, 50)
    assert points[1] == Keypoint(100, 202)


def test_a_person_in_the_corner_of_a_picture_in_pixels_stays_there():
    corner, far = body((0.5, 0.5, 1), (1, 1, 1)), body((60, 80, 1))
    people = read_keypoints([entry([{"pose_keypoints_2d": corner}, {"pose_keypoints_2d": far}])])[0].people
    assert people[0].body[0] == Keypoint(0.5, 0.5)
    assert people[1].body[0] == Keypoint(60, 80)


def test_unsure_points_are_dropped_and_zero_never_counts():
    value = [entry([{"pose_keypoints_2d": body((50, 20, 0.2), (50, 40, 0.9), (9, 9, 0))}])]
    assert [point is None for point in first_body(value)[:3]] == [True, False, True]
    assert [point is None for point in first_body(value, min_score=0.0)[:3]] == [False, False, True]


@pytest.mark.parametrize("nothing", [None, []])
def test_parts_that_were_not_looked_for_are_empty(nothing):
    person = {"pose_keypoints_2d": body((5, 5, 1)), "face_keypoints_2d": nothing}
    assert read_keypoints([entry([person])])[0].people[0].face == ()


def test_nobody_is_an_empty_frame():
    assert read_keypoints([entry([])]) == (Frame((), 200, 100),)


def test_one_entry_stands_for_a_list_of_one():
    value = entry([{"pose_keypoints_2d": body((50, 20, 1))}])
    assert read_keypoints(value) == read_keypoints([value]) == read_json(json.dumps(value))


def test_25_body_points_become_18_and_6_feet():
    numbers = [float(number) for i in range(25) for number in (10 + i, 100 + i, 1)]
    person = read_keypoints([entry([{"pose_keypoints_2d": numbers}])])[0].people[0]
    assert [point.x - 10 for point in person.body] == list(BODY_25)
    assert 8 not in BODY_25, "the middle of the hips is not among the 18"
    assert [point.x - 10 for point in person.feet] == [19, 20, 21, 22, 23, 24]


def test_faces_may_have_any_number_of_points():
    for count in (68, 70, 71, 12):
        face = body((5, 5, 1), count=count)
        assert len(read_keypoints([entry([{"face_keypoints_2d": face}])])[0].people[0].face) == count


@pytest.mark.parametrize("unit", ["pixels", "fractions"])
def test_what_is_written_is_read_back(unit):
    frames = (random_frame(1, 200, 100), Frame((), 64, 64))
    again = read_json(write_json(frames, Writing(unit)))
    assert [(frame.height, frame.width) for frame in again] == [(200, 100), (64, 64)]
    for mine, theirs in zip(frames[0].people, again[0].people, strict=True):
        for one, other in zip(mine.parts(), theirs.parts(), strict=True):
            assert [point is None for point in one] == [point is None for point in other]
            for a, b in zip(one, other, strict=True):
                assert a == b if unit == "pixels" else a is None or a == pytest.approx(b)


def test_every_part_is_written_in_full_with_zeros():
    (written,) = write_keypoints([Frame((Person(standing().body, face=(Keypoint(1, 2),) * 71),), 140, 100)])
    (person,) = written["people"]
    assert {key: len(numbers) for key, numbers in person.items()} == {
        "pose_keypoints_2d": 54,
        "face_keypoints_2d": 210,
        "hand_left_keypoints_2d": 63,
        "hand_right_keypoints_2d": 63,
    }
    assert not any(person["hand_left_keypoints_2d"])
    assert (written["canvas_width"], written["canvas_height"]) == (100, 140)


def test_scores_are_ones_unless_they_are_kept():
    frame = Frame((Person((Keypoint(3, 4, 0.5), *(None,) * 17)),), 10, 10)
    ones, kept = (write_keypoints([frame], Writing(keep_scores=keep)) for keep in (False, True))
    assert ones[0]["people"][0]["pose_keypoints_2d"][:6] == [3, 4, 1, 0, 0, 0]
    assert kept[0]["people"][0]["pose_keypoints_2d"][:6] == [3, 4, 0.5, 0, 0, 0]


def test_the_host_draws_what_is_written():
    """Its reader reshapes flat lists to 18, 70 and 21 points without asking."""
    (written,) = write_keypoints([Frame((standing(),), 140, 100)])
    for key, count in (("pose", 18), ("face", 70), ("hand_left", 21), ("hand_right", 21)):
        assert len(written["people"][0][f"{key}_keypoints_2d"]) == 3 * count


def hands(left_at, right_at):
    person = standing()
    parts = [
        tuple(Keypoint(at[0] + i, at[1] + i) for i in range(21)) if at else () for at in (left_at, right_at)
    ]
    return Frame((Person(person.body, parts[0], parts[1]),), 140, 100)


RIGHT_WRIST, LEFT_WRIST = (26, 70), (74, 70)


def test_hands_named_the_wrong_way_round_change_sides():
    swapped = hands_by_wrist(hands(RIGHT_WRIST, LEFT_WRIST))
    assert swapped == hands(LEFT_WRIST, RIGHT_WRIST)
    assert hands_by_wrist(swapped) == swapped


def test_hands_equally_far_keep_their_names():
    frame = hands((50, 60), (50, 80))
    assert hands_by_wrist(frame) == frame


@pytest.mark.parametrize(("left", "right"), [(RIGHT_WRIST, None), (None, LEFT_WRIST)])
def test_a_single_hand_goes_to_its_wrist(left, right):
    assert hands_by_wrist(hands(left, right)) == hands(right, left)


def test_hands_stay_where_a_wrist_is_missing():
    frame = hands(RIGHT_WRIST, LEFT_WRIST)
    body_points = tuple(None if i == 4 else point for i, point in enumerate(frame.people[0].body))
    person = Person(body_points, frame.people[0].left_hand, frame.people[0].right_hand)
    assert hands_by_wrist(Frame((person,), 140, 100)).people[0] == person
    nobody = Person((), frame.people[0].left_hand)
    assert hands_by_wrist(Frame((nobody,), 140, 100)).people[0] == nobody


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (None, r"need a list with one entry per picture, got nothing\. Connect"),
        ([], "got a list of 0"),
        ("text", "got str 'text'"),
        ([3], r"need people, canvas_width and canvas_height, got int 3 in entry 0\. Add"),
        ([{"people": []}], "got a dict of people in entry 0"),
        ([{"animals": [], "version": "ap10k"}], "animals are another format"),
        ([entry([], width=0, height=0)], r"1 x 1 to \d+ pixels, got 0 x 0 \(width x height\)"),
        ([entry([], width=10**9, height=10**9)], "got 1000000000 x 1000000000"),
        ([entry([], width=float("nan"))], "got nan x 200"),
        ([entry([], width="wide")], "got wide x 200"),
        ([entry({"a": 1})], "need people as a list, got a dict of a in entry 0"),
        ([entry([]), entry([5])], "need a dict per person, got int 5 in entry 1, person 0"),
        ([entry([{"pose_keypoints_2d": [1.0, 2.0]}])], "got a list of 2 for the pose of entry 0, person 0"),
        ([entry([{"pose_keypoints_2d": [1.0] * 51}])], "18 or 25 points, got 17 for the pose"),
        ([entry([{"hand_left_keypoints_2d": [1.0] * 60}])], "need 21 points, got 20 for the hand_left"),
        ([entry([{"face_keypoints_2d": [1, float("nan"), 1]}])], r"\(no NaN\) .* list of 3 with nan"),
        ([entry([{"face_keypoints_2d": [1, 10**400, 1]}])], "list of 3 with 1000"),
        ([entry([{"face_keypoints_2d": [1, "2", 1]}])], "with '2' for the face"),
        ([entry([{"face_keypoints_2d": {"x": 1}}])], "got a dict of x for the face"),
    ],
)
def test_spoiled_key_points_are_named(value, said):
    with pytest.raises(ValueError, match=said):
        read_keypoints(value)


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, '{"people": [}', "9" * 5000])
def test_text_that_is_no_json_is_refused(text):
    with pytest.raises(ValueError, match="Key points need"):
        read_json(text)


def test_an_unknown_unit_is_refused():
    with pytest.raises(ValueError, match="written in pixels or fractions, got 'inches'"):
        write_keypoints([Frame((), 8, 8)], Writing("inches"))


def test_either_a_connection_or_a_text_is_read():
    value = [entry([{"pose_keypoints_2d": body((50, 20, 1))}])]
    assert read_either(value, " ") == read_either(None, json.dumps(value)) == read_keypoints(value)
    with pytest.raises(ValueError, match=r"need a connection or JSON text, got both\. Connect"):
        read_either(value, json.dumps(value))
    with pytest.raises(ValueError, match="got neither"):
        read_either(None, " \n")
