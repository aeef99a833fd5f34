"""Stated doses held against the limits of the drug that they are of."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from classifiers.drugs.dosing import Dose, parse_doses
from classifiers.drugs.tables import Fact, Mention, Tables
from classifiers.result import Severity
from classifiers.scanning import Gated

TOLERANCE: Final = 1.05
"""Of a limit: 4,000 mg is not exceeded by a rounding."""
FARFETCHED: Final = 40
"""Times its limit: where several drugs are named, such a dose is another's, unless it stands `_BESIDE` its drug."""
_BESIDE: Final = 15
_NEAR: Final = 120
"""Characters between a drug and its dose."""
_MASSES: Final = ("mg", "mcg", "g")
_FACTORS: Final = {"mcg": 0.001, "g": 1000.0}
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
_CHILD = Gated(
    r"\b(?:(?P<months>\d{1,2})[- ]?(?:months?|mo|mths?)\b(?:[- ]old)?|(?P<weeks>\d{1,2})[- ]?(?:weeks?|wks?)[- ]old|"
    r"(?P<years>\d{1,2})[- ]?(?:years?[- ]old|yrs?[- ]old|y/?o|yo|year old)|newborn|infant|baby|toddler|bub|"
    r"(?:my|our|a|the) (?:\w+ )?(?:kid|child|son|daughter|little one|grandson|granddaughter|boy|girl)"
    r"(?: is| who is|, who is|,)? (?:aged? )?(?P<age>\d{1,2})\b|child(?:ren)?'s)\b"
)
_WEIGHT_ANYWHERE: Final = r"\b(\d{1,3}(?:\.\d)?)\s?-?(kg|kgs|kilos?|kilograms?|lb|lbs|pounds?)\b"
_WEIGHT = Gated(_WEIGHT_ANYWHERE + r"(?!\s?(?:/|per))", _WEIGHT_ANYWHERE)


def dose_facts(known: Tables, drugs: tuple[Mention, ...], asked: str, answered: str) -> Iterator[Fact]:
    if not any(name in known.doses for mention in drugs for name in mention.names):
        return
    in_query, in_response = parse_doses(asked), parse_doses(answered)
    if not (in_query or in_response):
        return
    child, weight = _child(asked) or _child(answered), _weight(asked) or _weight(answered)
    strengths = [dose.amount for dose in (*in_query, *in_response) if dose.unit == "mg" and dose.amount <= 2000]
    text = f"{asked}\n{answered}"
    limits: dict[str, list[dict[str, str]]] = {}
    several = len({m.names for m in drugs}) > 1
    best: dict[str, Fact] = {}
    for doses, is_response in ((in_response, True), (in_query, False)):
        for dose in doses:
            if dose.weekly:
                continue  # the limits are a day's
            for name in _drug_of(dose, drugs, is_response):
                if name not in limits:
                    limits[name] = _by_route(known.doses.get(name, []), text)
                for fact in _against_limits(limits[name], name, dose, child, weight, strengths, is_response):
                    if several and fact.ratio > FARFETCHED and not _beside(dose, name, drugs, is_response):
                        continue
                    known_so_far = best.get(name)
                    if known_so_far is None or (fact.is_risk, fact.ratio) > (known_so_far.is_risk, known_so_far.ratio):
                        best[name] = fact
    yield from best.values()


def beyond(known: Tables, drugs: frozenset[str], text: str, factor: float, *, otherwise: bool = False) -> bool:
    """The first dose in `text` is more than `factor` times every adult limit that the tables hold for `drugs`, in any route.

    `otherwise` is the answer where the dose or the limits are not in milligrams.
    """
    limits = [
        max(_limit(row[column], _FACTORS.get(row["unit"].lower(), 1.0)) or 0.0 for column in ("max_daily", "max_single"))
        for drug in drugs
        for row in known.doses.get(drug, ())
        if row["unit"].lower() in _MASSES and row["population"] == "adult"
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
    rows: list[dict[str, str]],
    name: str,
    dose: Dose,
    child: float | None,
    weight: float | None,
    strengths: list[float],
    in_response: bool,
) -> Iterator[Fact]:
    for row in rows:
        unit = row["unit"].lower()
        amount, daily = dose.amount, dose.daily
        if dose.unit == "pieces" and unit in _MASSES:
            if len(set(strengths)) != 1:
                continue
            amount, daily = amount * strengths[0], daily and daily * strengths[0]
            given = "mg"
        else:
            given = dose.unit
        factor = _FACTORS.get(unit, 1.0)
        if unit == "mg/kg":
            if child is None or given != "mg" or not (dose.per_kg or weight):
                continue
            share = 1.0 if dose.per_kg else 1 / (weight or 1)
            amount, daily = amount * share, daily and daily * share
        elif dose.per_kg or row["population"] != ("adult" if child is None else "child") or not _comparable(given, unit):
            continue
        single_limit, daily_limit = (_limit(row[column], factor) for column in ("max_single", "max_daily"))
        # A day's total is told from a single amount by its words alone; what is neither is compared with the day's limit.
        pairs = [(daily, daily_limit, "a day")]
        if not dose.per_day:
            pairs.append((amount, single_limit or daily_limit, "at once"))
        ratios = [(value / limit, value, limit, per) for value, limit, per in pairs if value and limit]
        if not ratios:
            continue
        ratio, value, limit, per = max(ratios)
        over = ratio > TOLERANCE
        shown = "mg" if unit in _MASSES else unit
        yield Fact(
            "dose" if over else "dose_within",
            (name,),
            f"{value:g} {shown} {per}, limit {limit:g}" if over else f"{value:g} {shown} {per} is within {limit:g}",
            (Severity.CRITICAL if ratio >= 1.5 else Severity.MAJOR) if over else None,
            row["located"] == "yes" if over else False,
            row["source"],
            row["section"],
            ((dose.start, dose.end),) if in_response else (),
            ratio,
            in_response,
        )


def _by_route(rows: list[dict[str, str]], text: str) -> list[dict[str, str]]:
    """The limits of the route that the exchange speaks of: by mouth, unless another one's word stands in it."""
    other = [row for row in rows if row["route"] in _ROUTES and _ROUTES[row["route"]].search(text)]
    return other or [row for row in rows if row["route"] not in _ROUTES]


def _comparable(given: str, unit: str) -> bool:
    return given == unit or (given == "mg" and unit in _MASSES) or (given == "pieces" and unit == "tablets")


def _limit(cell: str, factor: float) -> float | None:
    try:
        return float(cell.replace(",", "")) * factor
    except ValueError:
        return None


def _child(text: str) -> float | None:
    """The age in years of a child under 12 that is spoken of, 1 if it is only called a baby; None if there is none."""
    match = _CHILD.search(text)
    if not match:
        return None
    if match["months"] or match["weeks"]:
        return float(match["months"]) / 12 if match["months"] else float(match["weeks"]) / 52
    years = match["years"] or match["age"]
    if years:
        return float(years) if float(years) < 12 else None
    return 1.0


def _weight(text: str) -> float | None:
    match = _WEIGHT.search(text)
    if not match:
        return None
    kilograms = float(match[1]) * (0.4536 if match[2].startswith(("lb", "pound")) else 1)
    return kilograms if 2 <= kilograms <= 200 else None
