"""Doses in words and numerals become numbers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from classifiers.drugs.dosing import MAX_DOSES, number, parse_doses, times_a_day


@pytest.mark.parametrize(
    ("text", "amount", "unit", "daily"),
    [
        ("take two 500 mg tablets every 4-6 hours", 1000, "mg", 6000),
        ("up to 8 g a day", 8000, "mg", 8000),
        ("up to 8 g of paracetamol a day", 8000, "mg", 8000),
        ("4 x 500mg at once", 2000, "mg", None),
        ("1,000 mg up to four times a day", 1000, "mg", 4000),
        ("max 4,000 mg in 24 hours", 4000, "mg", 4000),
        ("8 tablets of 500 mg a day", 4000, "mg", 4000),
        ("three of the 500s", 1500, "mg", None),
        ("half a teaspoon", 2.5, "ml", None),
        ("one and a half tablets twice daily", 1.5, "pieces", 3),
        ("250 mcg three times per day", 0.25, "mg", 0.75),
        ("10 units before each meal", 10, "units", 30),
        ("q6h 650 mg", 650, "mg", 2600),
        ("5 to 10 mL every 8 hours", 10, "ml", 30),
        ("½ tablet at night", 0.5, "pieces", None),
    ],
)
def test_a_dose_is_read(text: str, amount: float, unit: str, daily: float | None) -> None:
    (dose,) = parse_doses(text)
    assert (dose.amount, dose.unit, dose.daily) == (pytest.approx(amount), unit, daily and pytest.approx(daily))


def test_milligrams_for_each_kilogram_are_told_from_milligrams() -> None:
    (dose,) = parse_doses("15 mg/kg every 6 hours")
    assert (dose.per_kg, dose.daily) == (True, 60)
    assert not parse_doses("15 mg every 6 hours")[0].per_kg


def test_a_weekly_dose_is_not_a_daily_one() -> None:
    (dose,) = parse_doses("15 mg once a week")
    assert (dose.weekly, dose.daily) == (True, None)
    assert parse_doses("15 mg once a day")[0].daily == 15


@pytest.mark.parametrize("text", ["", "take it with food", "call 911", "vitamin b12", "covid-19 in 2021", "a day", "max"])
def test_what_is_no_dose_is_not_read(text: str) -> None:
    assert parse_doses(text) == []


@pytest.mark.parametrize(
    ("text", "daily"),
    [
        ("500 mg to 1 g every 4 to 6 hours, up to 4 g in 24 hours", 4000),
        ("1 g every 4 hours (no more than 4 g a day)", 4000),
        ("1 g every 4 hours. up to 4 g a day", 6000),
        ("1 g every 4 hours, which makes 6 g a day", 6000),
        ("1 g every 4 hours, up to 60 ml a day", 6000),
    ],
)
def test_a_stated_maximum_caps_the_frequency(text: str, daily: float) -> None:
    assert parse_doses(text)[-2].daily == daily


def test_the_frequency_of_one_dose_is_not_the_next_ones() -> None:
    first, second = parse_doses("take 400 mg now. then 200 mg every 8 hours")
    assert (first.daily, second.daily) == (None, 600)


@pytest.mark.parametrize(
    ("text", "value"), [("1,000", 1000), ("two", 2), ("1-2", 2), ("one to two", 2), ("1/2", 0.5), ("1/0", 0), ("", 0)]
)
def test_numbers(text: str, value: float) -> None:
    assert number(text) == value


@pytest.mark.parametrize(
    ("text", "times"), [("every 4 to 6 hours", 6), ("every 0 hours", None), ("bid", 2), ("hourly", 24), ("soon", None)]
)
def test_times_a_day(text: str, times: float | None) -> None:
    assert times_a_day(text) == times


@given(st.text(max_size=300))
def test_any_text_is_read_within_its_bounds(text: str) -> None:
    doses = parse_doses(text.lower())
    assert all(0 <= dose.start < dose.end <= len(text.lower()) and dose.amount > 0 for dose in doses)


def test_a_flood_of_doses_is_cut_off() -> None:
    assert len(parse_doses("take 5 mg now. " * 10_000)) == MAX_DOSES
