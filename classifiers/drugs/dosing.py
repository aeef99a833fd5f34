"""Doses as patients and chatbots write them: "two 500 mg tablets every 4-6 hours", "half a teaspoon", "15 mg/kg", "weekly".

`parse_doses` turns each into numbers: how much at once, how much in a day, how often. A range counts as its upper end, since
a limit must hold for whoever follows the advice to the letter.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise
from typing import Final, NamedTuple

from classifiers.scanning import Scan

_WORDS: Final = {
    **{"half": 0.5, "a half": 0.5, "half a": 0.5, "half of a": 0.5, "one and a half": 1.5, "a quarter": 0.25, "a": 1, "an": 1},
    **{"one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9, "ten": 10},
    **{"eleven": 11, "twelve": 12, "fifteen": 15, "sixteen": 16, "twenty": 20, "thirty": 30, "forty": 40, "fifty": 50},
    **{"sixty": 60, "hundred": 100, "a hundred": 100, "a couple of": 2, "a couple": 2, "once": 1, "twice": 2, "thrice": 3},
    **{"½": 0.5, "¼": 0.25},
}
_WORD: Final = r"(?:\b(?:" + "|".join(sorted(filter(str.isascii, _WORDS), key=len, reverse=True)) + r")\b|[½¼])"
_DIGITS: Final = r"(?:\d{1,3}(?:,\d{3})+|\d{1,7})(?:\.\d{1,4})?(?:/\d)?"
_NUMBER: Final = rf"(?:{_DIGITS}|{_WORD})"
_RANGE: Final = rf"{_NUMBER}(?:\s?(?:-|–|to|or)\s?{_NUMBER})?"
MASSES: Final = {
    **dict.fromkeys(("mg", "mgs", "milligram", "milligrams", "milligramme", "milligrammes"), ("mg", 1.0)),
    **dict.fromkeys(("g", "gm", "gms", "gram", "grams", "gramme", "grammes"), ("mg", 1000.0)),
    **dict.fromkeys(("mcg", "µg", "μg", "ug", "microgram", "micrograms", "microgramme", "microgrammes"), ("mg", 0.001)),
    **dict.fromkeys(("ml", "mls", "cc", "milliliter", "milliliters", "millilitre", "millilitres"), ("ml", 1.0)),
    **dict.fromkeys(("tsp", "tsps", "teaspoon", "teaspoons", "teaspoonful", "teaspoonfuls"), ("ml", 5.0)),
    **dict.fromkeys(("tbsp", "tablespoon", "tablespoons"), ("ml", 15.0)),
    **dict.fromkeys(("unit", "units", "iu", "international units"), ("units", 1.0)),
}
_PIECES: Final = (
    r"(?:tablets?|tabs?|pills?|capsules?|caps?|caplets?|gelcaps?|softgels?|lozenges?|patch(?:es)?|puffs?|sprays?|drops?|doses?|"
    r"suppositor(?:y|ies)|sachets?|packets?|gummies|gummy)"
)
_MASS: Final = "(?:" + "|".join(sorted(map(re.escape, MASSES), key=len, reverse=True)) + ")"
_DOSE: Final = (
    rf"(?P<count>{_RANGE})(?:\s?[x×]\s?|\s(?:{_PIECES} )?(?:of (?:the |your |those |my |these )?|extra[- ]strength "
    rf"|regular |standard )?)"
    rf"(?P<strength>{_DIGITS})(?:[\s-]?(?P<strength_unit>{_MASS})\b|(?P<plural>s)\b)(?:[\s-]{_PIECES})?"
    rf"|(?P<amount>{_RANGE})[\s-]?(?P<unit>{_MASS})\b(?P<per_kg>\s?(?:/|per )\s?(?:kg|kilo(?:gram)?s?)\b)?"
    rf"|(?P<pieces>{_RANGE}) (?:\w+ ){{0,2}}?{_PIECES}\b"
)
_AMOUNT: Final = Scan(_DOSE)
# The same without groups: RE2 is many times faster where it need not say what stands in which.
_ANY_AMOUNT: Final = Scan(re.sub(r"\(\?P<\w+>", "(?:", _DOSE))
_HOURLY: Final = (
    rf"\b(?:every|each|q)\s?(?P<hours>{_NUMBER})(?:\s?(?:-|–|to|or)\s?{_NUMBER})?\s?-?(?:hours?|hrs?|hr|h)\b"
    rf"|\b(?P<hourly>hourly|every hour)\b"
)
_DAILY_TIMES: Final = (
    rf"\b(?:(?P<times>{_RANGE})(?:\s?x| times)|(?P<often>twice|thrice)|(?P<single>once))\s?(?:/|(?:a|per|each"
    rf"|every)\s|in a\s)?(?:day|daily|24 hours)\b"
    r"|\b(?P<four>qid|q\.i\.d|with (?:each|every) meal and at bedtime)\b|\b(?P<three>tid|t\.i\.d|(?:with|after"
    r"|before) (?:each|every) meal|three meals)\b"
    r"|\b(?P<two>bid|b\.i\.d|morning and (?:evening|night|bedtime)|am and pm|every morning and)\b"
)
_HOURS: Final = Scan(_HOURLY)
_TIMES: Final = Scan(_DAILY_TIMES)
_HOURS_OR_TIMES: Final = Scan(f"{_HOURLY}|{_DAILY_TIMES}")
_DAY: Final = Scan(
    r"\b(?:(?:a|per|each|every|in one|in a|within|over|total (?:for the )?)\s?-?(?:day|24[- ]?hours?)|daily|/\s?day"
    r"|in 24 hours|every (?:morning|night|evening))\b"
)
_WEEK: Final = Scan(
    r"\b(?:(?:once |one time |one day |1 day )?(?:a|per|each|every) week|(?:once[- ])?weekly|every (?:7|seven) days"
    r"|once every week|on (?:mondays|sundays|fridays))\b"
)
_STOP: Final = re.compile(r"[.!?;](?:\s|$)|\n")
_AFTER: Final = 70
"""Characters after an amount in which its frequency is looked for."""
_BEFORE: Final = 30
_UP_TO: Final = Scan(
    r"\b(?:up to|(?:no|not|never) (?:\w+ ){0,2}more than|not exceed(?:ing)?|at most|max(?:imum)?|limit)(?: (?:of|is|a|the|total|"
    r"maximum|doses?|day)){0,3}\W{0,3}$"
)
_OTHER_MATTER: Final = re.compile(
    r"\s?(?:of )?(?:fast[- ]acting )?(?:sugar|carb\w*|glucose|protein|fib(?:er|re)|fat|salt|sodium|water|juice|milk)\b"
)
"""What else is weighed and measured in answers to patients."""
MAX_DOSES: Final = 60
"""Read in one text: no answer to a patient states more."""


class Dose(NamedTuple):
    """One stated amount, at `start` to `end` of the text.

    `amount` at once, in `unit` (mg, ml, units, pieces). `times` a day,
    None if not said. `per_day`: the amount is a day's total. `weekly`: said to be taken once a week. `per_kg`: for each
    kilogram of body weight.
    """

    start: int
    end: int
    amount: float
    unit: str
    times: float | None = None
    per_day: bool = False
    weekly: bool = False
    per_kg: bool = False

    @property
    def daily(self) -> float | None:
        """In a day, None where it is not said."""
        if self.per_day:
            return self.amount
        return None if self.times is None else self.amount * self.times


def number(text: str) -> float:
    """ "1,000" -> 1000, "two" -> 2, "1-2" or "one to two" -> 2, "1/2" -> 0.5; 0 for what is none."""
    values = [_value(part) for part in re.split(r"\s?(?:-|–|\bto\b|\bor\b)\s?", text.strip().lower()) if part]
    return max(values, default=0.0)


def _value(part: str) -> float:
    part = part.strip()
    if part in _WORDS:
        return float(_WORDS[part])
    top, _, bottom = part.replace(",", "").partition("/")
    try:
        return float(top) / float(bottom) if bottom else float(top)
    except (ValueError, ZeroDivisionError):
        return 0.0


def parse_doses(text: str) -> list[Dose]:
    """The doses in a normalised, lower-case text, from left to right, at most `MAX_DOSES`."""
    return _capped(text, list(_doses(text)))


def _capped(text: str, doses: list[Dose]) -> list[Dose]:
    """ "1 g every 4 to 6 hours, up to 4 g a day": who follows it takes 4 g, not 6."""
    for index, (dose, following) in enumerate(pairwise(doses)):
        between = text[dose.end : following.start]
        if (
            dose.times is not None
            and following.per_day
            and following.unit == dose.unit
            and not _STOP.search(between)
            and _UP_TO.found(between)
        ):
            doses[index] = dose._replace(times=max(1.0, min(dose.times, following.amount / dose.amount)))
    return doses


def _doses(text: str) -> Iterator[Dose]:
    matches = _ANY_AMOUNT.spans(text, MAX_DOSES)
    end_before = 0
    for index, (start, end) in enumerate(matches):
        if start and (text[start - 1].isalnum() or text[start - 1] in ".,"):
            continue
        following = matches[index + 1][0] if index + 1 < len(matches) else len(text)
        after = text[end : min(end + _AFTER, following)]
        stop = _STOP.search(after)
        after = after[: stop.start()] if stop else after
        if not (groups := _AMOUNT.groups(text[start:end])):
            continue
        if groups["strength"]:
            unit, factor = MASSES[(groups["strength_unit"] or "mg").lower()]  # "two of the 500s"
            amount = number(groups["count"]) * number(groups["strength"]) * factor
        elif groups["amount"]:
            unit, factor = MASSES[groups["unit"].lower()]
            amount = number(groups["amount"]) * factor
        else:
            unit, amount = "pieces", number(groups["pieces"])
        if amount <= 0:
            continue
        times = times_a_day(after)
        per_day = times is None and _DAY.found(after[:40])
        if times is None and not per_day:
            before = text[max(end_before, start - _BEFORE) : start]
            times = times_a_day(before[max(before.rfind(mark) for mark in ".!?;\n") + 1 :])
        end_before = end
        weekly = times is None and _WEEK.found(after)
        if weekly:
            per_day = False
        if not _OTHER_MATTER.match(after):
            yield Dose(start, end, amount, unit, times, per_day, weekly, bool(groups["per_kg"]))


def times_a_day(text: str) -> float | None:
    """How often in a day, None if it is not said: "every 4 to 6 hours" -> 6, "twice a day" -> 2."""
    if not _HOURS_OR_TIMES.found(text):
        return None
    if hours := _HOURS.groups(text):
        every = 1.0 if hours["hourly"] else _value(hours["hours"])
        return 24 / every if every else None
    if times := _TIMES.groups(text):
        for name, count in (("four", 4.0), ("three", 3.0), ("two", 2.0), ("single", 1.0)):
            if times[name]:
                return count
        return number(times["times"] or times["often"]) or None
    return None
