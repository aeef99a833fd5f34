"""Stated doses held against the limits of the drug that they are of."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

from classifiers.drugs.dosing import Dose, parse_doses
from classifiers.drugs.tables import Fact, Limit, Mention, Tables
from classifiers.result import Severity
from classifiers.scanning import Gated

TOLERANCE: Final = 1.05
"""Of a limit: 4,000 mg is not exceeded by a rounding."""
FARFETCHED: Final = 40
"""Times its limit: where several drugs are named, such a dose is another's, unless it stands `_BESIDE` its drug."""
_BESIDE: Final = 15
_NEAR: Final = 120
"""Characters between a drug and its dose."""
_ROUTES: Final = {
    "inhaled": Gated(r"inhal|puff|nebuli"),
    "nasal": Gated(r"nasal|nose|nostril|spray"),
    "patch": Gated(r"patch"),
    "rectal": Gated(r"suppositor|rectal"),
    "subcutaneous": Gated(r"inject|syringe|subcutaneous|autoinjector|\bpen\b"),
    "sublingual": Gated(r"under (?:the|your|my) tongue|sublingual"),
    "topical": Gated(r"cream|ointment|\bgel\b|lotion|topical|\brub"),
    "gum": Gated(r"\bgum\b"),
    "lozenge": Gated(r"lozenge"),
}
_YOUNG: Final = r"(?:baby|infant|newborn|toddler|bub|kid|child|son|daughter|grandson|granddaughter|little one|boy|girl|twins?)"
_CHILD = Gated(
    r"\b(?:(?P<months>\d{1,2})[- ]?(?:months?|mths?|mo)[- ]old|(?P<weeks>\d{1,2})[- ]?(?:weeks?|wks?)[- ]old|"
    rf"{_YOUNG}(?:'s| is| who is|, who is|,)? (?:only |just |now |about |aged? )?(?P<aged_months>\d{{1,2}})[- ]?"
    r"(?:months?|mths?|mo)\b|"
    r"(?P<months_of>\d{1,2})[- ]?(?:months?|mths?|mo) (?:baby|infant|boy|girl|son|daughter)\b|"
    r"(?P<years>\d{1,2})[- ]?(?:years?[- ]old|yrs?[- ]old|y/?o|yo|year old)|newborn|infant|baby|toddler|bub|"
    rf"(?:my|our|a|the) (?:\w+ )?{_YOUNG}(?: is| who is|, who is|,)? (?:aged? )?(?P<age>\d{{1,2}})\b|child(?:ren)?'s)\b"
)
"""A bare "6 months" is how long something has lasted."""
_OLDER = Gated(r"\b(?:6[5-9]|[7-9]\d|1[01]\d)[- ]?(?:years?|yrs?|y/?o|yo)\b")
_BURDENS: Final = {
    "elderly": frozenset({"elderly"}),
    "renal": frozenset({"kidney_disease", "kidney_failure"}),
    "hepatic": frozenset({"liver_disease", "cirrhosis", "alcohol_use_disorder"}),
}
"""The conditions of a patient to whom a limit of that population applies."""
_WEIGHT_ANYWHERE: Final = r"\b(\d{1,3}(?:\.\d)?)\s?-?(kg|kgs|kilos?|kilograms?|lb|lbs|pounds?)\b"
_WEIGHT = Gated(_WEIGHT_ANYWHERE + r"(?!\s?(?:/|per))", _WEIGHT_ANYWHERE)


def dose_facts(
    known: Tables, drugs: tuple[Mention, ...], asked: str, answered: str, conditions: frozenset[str]
) -> Iterator[Fact]:
    """The doses over a limit, and those within one: of each drug the worst. `conditions`: the ids of those that are spoken of."""
    if not any(name in known.doses for mention in drugs for name in mention.names):
        return
    in_query, in_response = parse_doses(asked), parse_doses(answered)
    if not (in_query or in_response):
        return
    patient = _Patient.of(asked, answered, conditions)
    strengths = [dose.amount for dose in (*in_query, *in_response) if dose.unit == "mg" and dose.amount <= 2000]
    text = f"{asked}\n{answered}"
    limits: dict[str, list[Limit]] = {}
    several = len({m.names for m in drugs}) > 1
    best: dict[str, Fact] = {}
    for doses, is_response in ((in_response, True), (in_query, False)):
        for dose in doses:
            if dose.weekly:
                continue  # the limits are a day's
            for name in _drug_of(dose, drugs, is_response):
                if name not in limits:
                    limits[name] = _by_route(known.doses.get(name, []), text)
                for fact in _against_limits(limits[name], name, dose, patient, strengths, is_response):
                    if several and fact.ratio > FARFETCHED and not _beside(dose, name, drugs, is_response):
                        continue
                    known_so_far = best.get(name)
                    if known_so_far is None or (fact.is_risk, fact.ratio) > (known_so_far.is_risk, known_so_far.ratio):
                        best[name] = fact
    yield from best.values()


class _Patient(NamedTuple):
    """`child`: age in years of the youngest child under 12, None if there is none. `weight` in kilograms. `burdens`: which of the
    populations with limits of their own they belong to.
    """

    child: float | None
    weight: float | None
    burdens: frozenset[str]

    @classmethod
    def of(cls, asked: str, answered: str, conditions: frozenset[str]) -> _Patient:
        child = _child(asked)
        older = _OLDER.search(asked) or _OLDER.search(answered)
        burdens = {name for name, ids in _BURDENS.items() if not ids.isdisjoint(conditions)} | ({"elderly"} if older else set())
        return cls(_child(answered) if child is None else child, _weight(asked) or _weight(answered), frozenset(burdens))

    def is_of(self, population: str) -> bool:
        # More than an adult may take is too much for anybody.
        return population == "adult" or population in self.burdens or (population == "child" and self.child is not None)


def beyond(known: Tables, drugs: frozenset[str], text: str, factor: float, *, otherwise: bool = False) -> bool:
    """The first dose in `text` is more than `factor` times every adult limit that the tables hold for `drugs`, in any route.

    `otherwise` is the answer where the dose or the limits are not in milligrams.
    """
    limits = [
        max(limit.daily or 0.0, limit.single or 0.0)
        for drug in drugs
        for limit in known.doses.get(drug, ())
        if limit.unit == "mg" and limit.population == "adult"
    ]
    stated = [dose.daily or dose.amount for dose in parse_doses(text)[:1] if dose.unit == "mg"]
    return stated[0] > max(limits) * factor if limits and stated else otherwise


def _beside(dose: Dose, name: str, drugs: tuple[Mention, ...], in_response: bool) -> bool:
    return any(
        m.in_response is in_response and name in m.names and max(dose.start - m.end, m.start - dose.end) <= _BESIDE for m in drugs
    )


def _drug_of(dose: Dose, drugs: tuple[Mention, ...], in_response: bool) -> tuple[str, ...]:
    """The drug that a dose is of: the last one named before it, else the next one, else the only one there is."""
    here = [m for m in drugs if m.in_response is in_response]
    before = [m for m in here if m.end <= dose.start and dose.start - m.end <= _NEAR]
    after = [m for m in here if m.start >= dose.end - 1 and m.start - dose.end <= 30]
    if after and (not before or after[0].start - dose.end <= 6):
        return after[0].names
    if before:
        return before[-1].names
    inside = [m for m in here if dose.start <= m.start <= dose.end]
    if inside:
        return inside[0].names
    every = {m.names for m in drugs}
    return next(iter(every)) if len(every) == 1 else ()


def _against_limits(
    limits: list[Limit], name: str, dose: Dose, patient: _Patient, strengths: list[float], in_response: bool
) -> Iterator[Fact]:
    for limit in limits:
        if not patient.is_of(limit.population):
            continue
        amount, daily, given = dose.amount, dose.daily, dose.unit
        if given == "pieces" and limit.unit in ("mg", "mg/kg"):
            if len(set(strengths)) != 1:
                continue
            amount, daily, given = amount * strengths[0], daily and daily * strengths[0], "mg"
        if limit.unit == "mg/kg":
            if given != "mg" or not (dose.per_kg or patient.weight):
                continue
            share = 1.0 if dose.per_kg else 1 / (patient.weight or 1)
            amount, daily = amount * share, daily and daily * share
        elif dose.per_kg or not (given == limit.unit or (given == "pieces" and limit.unit == "tablets")):
            continue
        # A day's total is told from a single amount by its words alone; what is neither is compared with the day's limit.
        pairs = [(daily, limit.daily, "a day")]
        if not dose.per_day:
            pairs.append((amount, limit.single or limit.daily, "at once"))
        ratios = [(value / most, value, most, per) for value, most, per in pairs if value and most]
        if not ratios:
            continue
        ratio, value, most, per = max(ratios)
        over = ratio > TOLERANCE
        if not over and limit.population == "adult" and patient.child is not None:
            continue  # says nothing of a child
        whose = _WHOSE.get(limit.population, "")
        yield Fact(
            "dose" if over else "dose_within",
            (name,),
            f"{value:g} {limit.unit} {per}, limit {most:g}{whose}"
            if over
            else f"{value:g} {limit.unit} {per} is within {most:g}",
            (Severity.CRITICAL if ratio >= 1.5 else Severity.MAJOR) if over else None,
            limit.located if over else False,
            limit.source,
            limit.section,
            ((dose.start, dose.end),) if in_response else (),
            ratio,
            in_response,
            personal=limit.unit == "mg/kg" or limit.population != "adult",
        )


_WHOSE: Final = {
    "elderly": " for the elderly",
    "renal": " with kidney disease",
    "hepatic": " with liver disease",
    "child": " for a child",
}


def _by_route(limits: list[Limit], text: str) -> list[Limit]:
    """The limits of the route that the exchange speaks of: by mouth, unless another one's word stands in it."""
    other = [limit for limit in limits if limit.route in _ROUTES and _ROUTES[limit.route].search(text)]
    return other or [limit for limit in limits if limit.route not in _ROUTES]


def _child(text: str) -> float | None:
    """The age in years of the youngest child under 12 that is spoken of, 1 if it is only called a baby; None if there is none."""
    ages = [age for match in _CHILD.all(text) if (age := _age(match)) is not None and age < 12]
    return min(ages, default=None)


def _age(match: re.Match[str]) -> float:
    if months := match["months"] or match["aged_months"] or match["months_of"]:
        return float(months) / 12
    if match["weeks"]:
        return float(match["weeks"]) / 52
    years = match["years"] or match["age"]
    return float(years) if years else 1.0


def _weight(text: str) -> float | None:
    match = _WEIGHT.search(text)
    if not match:
        return None
    kilograms = float(match[1]) * (0.4536 if match[2].startswith(("lb", "pound")) else 1)
    return kilograms if 2 <= kilograms <= 200 else None
