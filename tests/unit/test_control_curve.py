"""Curves say what their text says, and a text that is none is pointed at."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiller.adapters.control.curve import (
    EASES,
    Constant,
    Curve,
    CurveError,
    Listed,
    Point,
    Points,
    Soft,
    parse_curve,
    read_curve,
)


@pytest.mark.parametrize(
    ("text", "curve"),
    [
        ("0.8", Constant(0.8)),
        (" 1 ", Constant(1.0)),
        ("1e-3", Constant(0.001)),
        ("soft", Soft(0.825)),
        ("Soft .7", Soft(0.7)),
        ("soft .825 webui", Soft(0.825, webui=True)),
        ("soft WEBUI", Soft(0.825, webui=True)),
        ("1, 1, .5", Listed((1.0, 1.0, 0.5))),
        ("1 1 .5", Listed((1.0, 1.0, 0.5))),
        ("1,0", Listed((1.0, 0.0))),
        ("0:1 .5:.3 1:0", Points((Point(0, 1), Point(0.5, 0.3), Point(1, 0)))),
        ("0:1, 1:0 ease-in-out", Points((Point(0, 1), Point(1, 0)), "ease-in-out")),
        (".5:2 HOLD", Points((Point(0.5, 2),), "hold")),
    ],
)
def test_texts_and_their_curves(text, curve):
    assert parse_curve(text) == curve


@pytest.mark.parametrize(
    ("text", "position", "expected"),
    [
        ("", 0, 'a number, "soft", or points such as 0:1'),
        ("   ", 3, 'a number, "soft", or points such as 0:1'),
        ("sfot .8", 0, "a number"),
        ("bright", 0, 'a number, "soft", or points such as 0:1'),
        ("1, 1, x", 6, "a number"),
        ("1,, 1", 2, "a number"),
        (", 1", 0, "a number"),
        ("1, ", 3, "a number"),
        ("1, -1", 3, "a number of 0 or more"),
        ("1, 1e999", 3, "a number of 0 or more"),
        ("1, nan", 3, "a number"),
        ("1_0", 0, "a number"),
        ("soft x", 5, 'a base such as .825 or the word "webui"'),
        ("soft 1.5", 5, "a number of 0 to 1"),
        ("soft .8 sdxl", 8, 'the word "webui" or nothing more'),
        ("soft .8 webui 1", 14, "nothing more"),
        ("0:1 .5", 4, "a point such as .5:1 or one of linear"),
        ("ease-in 0:1", 0, "a point such as .5:1"),
        ("0:1 ease-in 1:0", 12, "nothing more after ease-in"),
        ("0:1 2:0", 4, "a number of 0 to 1"),
        ("0:1 x:0", 4, "a place from 0 to 1"),
        ("0:1 .5:x", 7, "the factor of the point"),
        ("0:1 1:", 6, "the factor of the point"),
        ("0:1 .5:0 .5:1", 9, "a place above 0.5"),
    ],
)
def test_the_error_points_at_the_character(text, position, expected):
    with pytest.raises(CurveError) as caught:
        parse_curve(text)
    error = caught.value
    assert (error.position, error.text) == (position, text)
    assert error.expected.startswith(expected)
    first, shown, caret, advice = str(error).split("\n")
    assert f"at character {position + 1}" in first
    assert shown == f"    {text}"
    assert caret == " " * (4 + position) + "^"
    assert advice.startswith("Write for example")


def test_the_whole_sentence():
    with pytest.raises(CurveError) as caught:
        parse_curve("1, 1, x, 1")
    assert str(caught.value) == (
        "A curve needs a number at character 7, got 'x'.\n"
        "    1, 1, x, 1\n"
        "          ^\n"
        'Write for example "0.8", "soft .825", "1, 1, .5, .25" or "0:1 .5:.3 1:0 ease-in-out".'
    )
    with pytest.raises(CurveError, match="A curve needs a number at character 3, got the end"):
        parse_curve("1,")


def test_an_empty_text_is_no_curve():
    assert read_curve(" ") is None
    assert read_curve("0.5") == Constant(0.5)


def check_text(text: str) -> None:
    wrong = None
    try:
        curve = parse_curve(text)
        assert parse_curve(str(curve)) == curve
    except CurveError as error:
        wrong = error
    if wrong is not None:
        assert wrong.text == text
        assert 0 <= wrong.position <= len(text)
        assert wrong.expected in str(wrong)


@settings(deadline=None)
@given(st.text())
def test_any_text_is_a_curve_or_an_error_inside_it(text):
    check_text(text)


@settings(deadline=None)
@given(st.text(alphabet="0159.:, -+esoftwbuihlda\n\t", max_size=30))
def test_any_text_of_the_letters_of_curves_is_a_curve_or_an_error_inside_it(text):
    check_text(text)


FACTORS = st.floats(0, 1e300)
CURVES = st.one_of(
    st.builds(Constant, FACTORS),
    st.builds(Soft, st.floats(0, 1), st.booleans()),
    st.builds(Listed, st.lists(FACTORS, min_size=2, max_size=20).map(tuple)),
    st.builds(
        Points,
        st.dictionaries(st.floats(0, 1), FACTORS, min_size=1, max_size=8).map(
            lambda found: tuple(Point(place, found[place]) for place in sorted(found))
        ),
        st.sampled_from(EASES),
    ),
)


@settings(deadline=None)
@given(CURVES)
def test_the_text_form_is_read_back(curve):
    assert parse_curve(str(curve)) == curve


@settings(deadline=None)
@given(CURVES.filter(lambda curve: not isinstance(curve, Soft)), st.floats(0, 1))
def test_factors_stay_between_those_that_were_given(curve: Curve, place):
    given_values = {
        Constant: lambda: (curve.value,),
        Listed: lambda: curve.values,
        Points: lambda: tuple(point.factor for point in curve.points),
    }[type(curve)]()
    assert min(given_values) <= curve.at(place) * (1 + 1e-9)
    assert curve.at(place) <= max(given_values) * (1 + 1e-9)


@pytest.mark.parametrize("count", [13, 10, 5])
def test_soft_factors_end_at_one_in_the_middle(count):
    factors = Soft(0.825).layers(count)
    assert factors == tuple(0.825 ** float(count - 1 - index) for index in range(count))
    assert factors[-1] == 1.0


def test_the_web_uis_soft_factors_are_the_first_of_thirteen():
    thirteen = [0.825 ** float(12 - index) for index in range(13)]
    assert list(Soft(webui=True).layers(13)) == thirteen == list(Soft().layers(13))
    assert list(Soft(webui=True).layers(10)) == thirteen[:10]
    assert Soft(webui=True).layers(10)[-1] == pytest.approx(0.5615, abs=1e-4)


def test_a_deep_net_spreads_the_thirteen_and_the_web_ui_has_none():
    factors = Soft(0.825).layers(57)
    assert factors[0] == pytest.approx(0.825**12)
    assert factors[-1] == 1.0
    assert list(factors) == sorted(factors)
    with pytest.raises(
        ValueError, match=r'up to 13 layers, but this control net has 57\. Write "soft 0\.825"'
    ):
        Soft(webui=True).layers(57)


def test_a_list_of_another_length_is_refused_with_both_numbers():
    assert Listed((1.0, 0.5)).layers(2) == (1.0, 0.5)
    with pytest.raises(
        ValueError, match=r"net has 13 layers .* but the list has 2 factors\. Write 13 numbers"
    ):
        Listed((1.0, 0.5)).layers(13)


def test_a_list_over_steps_holds_each_factor_for_its_share():
    curve = Listed((1.0, 0.5, 0.0))
    assert [curve.at(index / 6) for index in range(6)] == [1.0, 1.0, 0.5, 0.5, 0.0, 0.0]
    assert [curve.at(index / 3) for index in range(3)] == [1.0, 0.5, 0.0]
    assert curve.at(1.0) == 0.0
    many = Listed(tuple(map(float, range(49))))  # 1 / 49 * 49 is a little less than 1
    assert [many.at(index / 49) for index in range(49)] == list(many.values)


def test_points_run_from_the_shallowest_layer_to_the_middle():
    assert parse_curve("0:0 1:1").layers(5) == (0.0, 0.25, 0.5, 0.75, 1.0)
    assert parse_curve("0:0 1:1").layers(1) == (1.0,)
    assert parse_curve(".25:.5 .5:1").layers(5) == (0.5, 0.5, 1.0, 1.0, 1.0)


@pytest.mark.parametrize(
    ("ease", "formula"),
    [
        ("linear", lambda t: t),
        ("ease-in", lambda t: t * t),
        ("ease-out", lambda t: 1 - (1 - t) ** 2),
        ("ease-in-out", lambda t: (1 - math.cos(math.pi * t)) / 2),
        ("hold", lambda t: 0.0),
    ],
)
def test_eases(ease, formula):
    curve = parse_curve(f".2:1 .7:3 {ease}")
    for share in (0.0, 0.1, 0.5, 0.9):
        assert curve.at(0.2 + 0.5 * share) == pytest.approx(1 + 2 * formula(share))
    assert curve.at(0.7) == 3.0


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: Constant(-1.0), "a factor of 0 or more, got -1.0"),
        (lambda: Constant(math.nan), "a factor of 0 or more, got nan"),
        (lambda: Soft(1.5), "a base of 0 to 1, got 1.5"),
        (lambda: Listed((1.0,)), "at least 2 of them, got 1"),
        (lambda: Listed((1.0, math.inf)), "a factor of 0 or more, got inf"),
        (lambda: Points(()), "needs a point and an ease"),
        (lambda: Points((Point(0, 1),), "bounce"), "got 1 points and 'bounce'"),
        (lambda: Points((Point(2, 1),)), "a place of 0 to 1, got 2"),
        (lambda: Points((Point(0.5, 1), Point(0.5, 2))), r"rising places, got \[0.5, 0.5\]"),
        (lambda: Soft().at(0.5), "A soft curve is for layers, but it was given for steps"),
    ],
)
def test_curves_that_cannot_be_are_refused(make, text):
    with pytest.raises(ValueError, match=text):
        make()
