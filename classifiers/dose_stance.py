"""Whether a dose that a response advises is past what any route or form of the drug allows."""

from __future__ import annotations

from typing import Final

from classifiers.dosing import parse_doses
from classifiers.drug_tables import Tables

_MASSES: Final = {"mg": 1.0, "mcg": 0.001, "g": 1000.0}


def beyond(known: Tables, drugs: frozenset[str], text: str, factor: float, *, otherwise: bool = False) -> bool:
    """The first dose in `text` is more than `factor` times every adult limit that the tables hold for `drugs`, in any route.

    `otherwise` is the answer where the dose or the limits are not in milligrams.
    """
    limits = [
        max(_number(row["max_daily"]), _number(row["max_single"])) * _MASSES[row["unit"].lower()]
        for drug in drugs
        for row in known.doses.get(drug, ())
        if row["unit"].lower() in _MASSES and row["population"] == "adult"
    ]
    stated = [dose.daily or dose.amount for dose in parse_doses(text)[:1] if dose.unit == "mg"]
    return stated[0] > max(limits) * factor if limits and stated else otherwise


def _number(cell: str) -> float:
    try:
        return float(cell.replace(",", ""))
    except ValueError:
        return 0.0
