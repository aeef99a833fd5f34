"""The tables of drug facts (`facts/*.csv`), indexed, and what finds the names in them in a text."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache, lru_cache
from itertools import product
from pathlib import Path
from typing import Final, NamedTuple, TypeVar

import re2  # type: ignore[import-untyped]

from classifiers.result import Severity
from classifiers.rules.matching import options
from classifiers.scanning import Scan
from classifiers.text import normalize

FACTS: Final = Path(__file__).parent / "facts"
MAX_MENTIONS: Final = 60
"""Names looked at in one text: no answer to a patient speaks of more."""
_MEMORY: Final = 64 << 20
_T = TypeVar("_T")


class Mention(NamedTuple):
    """A drug, class, condition or symptom that stands at `start` to `end` of the normalised text of the query or response.

    `names`: a generic name, the ingredients of a combination, or the id of a class, a condition or a symptom.
    """

    names: tuple[str, ...]
    start: int
    end: int
    alias: str
    in_response: bool


class Fact(NamedTuple):
    """A row of the tables that applies: `kind` of fact, the `subjects` it is about, what it says, and where that stands.

    `kind`: interaction, duplicate, dose, schedule, contraindication, stopping, form, red_flag; or `compatible` and
    `dose_within`, which say that the tables hold nothing against it. `located`: its source was opened and states it.
    `spans`: of the response, normalised characters. `personal`: a dose within what other patients may take.
    """

    kind: str
    subjects: tuple[str, ...]
    text: str
    severity: Severity | None = None
    located: bool = False
    source: str = ""
    section: str = ""
    spans: tuple[tuple[int, int], ...] = ()
    ratio: float = 0.0
    in_response: bool = False
    personal: bool = False

    @property
    def is_risk(self) -> bool:
        return self.severity is not None


class Names:
    """Finds any of many names in a text, the longest at each place, on whole words."""

    def __init__(self, aliases: Mapping[str, tuple[str, ...]]) -> None:
        self._aliases = aliases
        chosen = options()
        chosen.longest_match = True
        chosen.max_mem = _MEMORY
        words = "|".join(re2.escape(alias) for alias in sorted(aliases))
        # Hyphens and spaces are written one for the other; a plural s hangs on brands too.
        self._names = Scan(r"\b(?:" + re.sub(r"(?:\\ |\\-| |-)", r"[ -]", words) + r")(?:'?s)?\b", chosen)

    def find(self, text: str, *, in_response: bool) -> list[Mention]:
        found = []
        for start, end in self._names.spans(text, MAX_MENTIONS):
            alias = text[start:end]
            names = self._aliases.get(alias) or self._lookup(alias)
            if names:
                found.append(Mention(names, start, end, alias, in_response))
        return found

    def _lookup(self, alias: str) -> tuple[str, ...] | None:
        for spelled in (alias, alias.removesuffix("s"), alias.removesuffix("'s")):
            for written in (spelled, spelled.replace("-", " "), spelled.replace(" ", "-")):
                if found := self._aliases.get(written):
                    return found
        return None


@dataclass(frozen=True, slots=True)
class Row:
    """What the rows of most tables share."""

    harm: str
    severity: Severity
    source: str
    section: str
    located: bool
    more: Mapping[str, str] = field(default_factory=dict)


class Form(NamedTuple):
    """A row on what must not be done to some `forms` of a drug ("any": all of them), by the names of the `verbs`."""

    row: Row
    verbs: tuple[str, ...]
    forms: tuple[str, ...]


POPULATIONS: Final = ("adult", "child", "elderly", "renal", "hepatic")
_UNITS: Final = {
    **{unit: (unit, 1.0) for unit in ("mg", "mg/kg", "ml", "units", "tablets", "")},
    **{"mcg": ("mg", 0.001), "g": ("mg", 1000.0)},
}


class Limit(NamedTuple):
    """The most of a drug at once (`single`) and in a day (`daily`), in `unit`, for one of `POPULATIONS`; None: not stated."""

    population: str
    route: str
    single: float | None
    daily: float | None
    unit: str
    source: str
    section: str
    located: bool


class Drug(NamedTuple):
    """What the tables hold on a drug or class under any of its `keys`: its name and its classes'. `partners`: the keys that it
    clashes with. `conditions`: the gravest row on each that forbids it.
    """

    keys: tuple[str, ...]
    partners: frozenset[str]
    conditions: Mapping[str, Row]
    stopping: Row | None
    schedule: Row | None
    forms: tuple[Form, ...]


class Tables:
    """The tables, indexed. Raises ValueError naming file and line where a row cannot be meant."""

    def __init__(self, folder: Path = FACTS) -> None:
        aliases: dict[str, tuple[str, ...]] = {}
        self.classes: dict[str, frozenset[str]] = {}
        for row in _rows(folder / "lexicon.csv", dict):
            name = row["name"]
            names = tuple(name.split("/")) if row["kind"] == "combination" else (name,)
            if row["kind"] != "combination":
                self.classes[name] = frozenset(cells(row["classes"]))
            for alias in (name, *cells(row["brands"]), *cells(row["misspellings"])):
                aliases.setdefault(normalize(alias).text.lower(), names)
        for row in _rows(folder / "classes.csv", dict):
            for phrase in cells(row["phrases"]):
                aliases.setdefault(phrase, (f"class:{row['id']}",))
            self.classes[f"class:{row['id']}"] = frozenset((row["id"],))
        self._aliases = aliases
        self.drugs = Names(aliases)
        self.conditions = Names(_phrases(folder / "conditions.csv"))
        self._keys = {name: (name, *(f"class:{each}" for each in sorted(ids))) for name, ids in self.classes.items()}
        self.red_flags = Names(_phrases(folder / "red_flags.csv"))
        generic = self._generic
        self.interactions: dict[tuple[str, str], Row] = {}
        for a, b, fact in _rows(folder / "interactions.csv", lambda row: (generic(row["a"]), generic(row["b"]), _row(row))):
            self.interactions[a, b] = self.interactions[b, a] = fact
        self.contraindications = dict(
            _rows(folder / "contraindications.csv", lambda row: ((generic(row["drug"]), row["condition"]), _row(row)))
        )
        self.stopping = dict(_rows(folder / "stopping.csv", lambda row: (generic(row["drug"]), _row(row))))
        self.schedules = dict(
            _rows(
                folder / "schedules.csv",
                lambda row: (generic(row["drug"]), _row(row | {"harm": row["harm_if_daily"], "severity": "critical"})),
            )
        )
        self.forms: dict[str, list[Form]] = {}
        for row, form in _rows(folder / "forms.csv", lambda row: (row, _form(row))):
            for key in {row["drug"], generic(row["drug"])} if row["forms"] == "any" else {generic(row["drug"])}:
                self.forms.setdefault(key, []).append(form)
        self.doses: dict[str, list[Limit]] = {}
        for drug, limit in _rows(folder / "doses.csv", lambda row: (generic(row["drug"]), _limit(row))):
            self.doses.setdefault(drug, []).append(limit)
        self.sources = {row["id"]: row for row in _rows(folder / "sources.csv", dict)}
        self._partners: dict[str, set[str]] = {}
        for a, b in self.interactions:
            self._partners.setdefault(a, set()).add(b)
        self._conditions: dict[str, list[str]] = {}
        for drug, condition in self.contraindications:
            self._conditions.setdefault(drug, []).append(condition)
        self._drugs: dict[str, Drug] = {}
        self.clash = lru_cache(maxsize=4096)(self._clash)

    def _generic(self, drug: str) -> str:
        """The generic name of a table's drug cell, which may be a brand; a combination and a class stay as they are."""
        names = self._aliases.get(drug, (drug,))
        return names[0] if len(names) == 1 else drug

    def keys(self, name: str) -> tuple[str, ...]:
        """The names under which a table may hold a drug: its own first, then its classes'."""
        keys = self._keys.get(name)
        return keys if keys is not None else (name,)

    def _clash(self, a: str, b: str) -> Row | None:
        """The gravest row on two names or their classes."""
        drug, other = self.drug(a), self.drug(b)
        if drug.partners.isdisjoint(other.keys):
            return None
        return _gravest(self.interactions, product(drug.keys, other.keys))

    def drug(self, name: str) -> Drug:
        """Of a name that a `Mention` gives. Remembered: there are no more of them than the tables have rows."""
        drug = self._drugs.get(name)
        if drug is None:
            keys = self.keys(name)
            forbidding = {condition for key in keys for condition in self._conditions.get(key, ())}
            drug = self._drugs[name] = Drug(
                keys,
                frozenset(partner for key in keys for partner in self._partners.get(key, ())),
                # What is said of the drug itself outweighs what is said of its class.
                {
                    each: self.contraindications.get((name, each)) or _gravest(self.contraindications, product(keys, (each,)))
                    for each in forbidding
                },
                next((self.stopping[key] for key in reversed(keys) if key in self.stopping), None),
                next((self.schedules[key] for key in keys if key in self.schedules), None),
                tuple(form for key in keys for form in self.forms.get(key, ())),
            )
        return drug


def _rows(path: Path, read: Callable[[dict[str, str]], _T]) -> list[_T]:
    """What `read` makes of each row. Raises ValueError naming file and line where it cannot."""
    found = []
    with path.open(encoding="utf-8", newline="") as file:
        for number, row in enumerate(csv.DictReader(file), start=2):
            try:
                if None in row or None in row.values():
                    raise ValueError("a row with another number of columns than the header")
                found.append(read({key: value.strip() for key, value in row.items()}))
            except ValueError as error:
                raise ValueError(f"{path.name}:{number}: {error}") from error
    return found


def cells(cell: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in cell.split(";") if part.strip())


def _phrases(path: Path) -> dict[str, tuple[str, ...]]:
    """Each phrase with every id that it stands under: "4 year old" is under 6, under 12 and under 18."""
    found: dict[str, tuple[str, ...]] = {}
    for row in _rows(path, dict):
        for phrase in cells(row["phrases"]):
            key = normalize(phrase).text.lower()
            found[key] = (*found.get(key, ()), row["id"])
    return found


def _gravest(rows: Mapping[tuple[str, str], Row], pairs: Iterable[tuple[str, str]]) -> Row:
    """The most severe of the rows on `pairs`, among equals one whose source was opened. Raises ValueError on none."""
    return max((row for pair in pairs if (row := rows.get(pair))), key=lambda row: (row.severity.rank, row.located))


def _row(row: Mapping[str, str]) -> Row:
    return Row(row["harm"], Severity(row["severity"]), row["source"], row["section"], row["located"] == "yes", row)


def _form(row: Mapping[str, str]) -> Form:
    return Form(_row({**row, "severity": "critical"}), cells(row["must_not"]), cells(row["forms"].lower()))


def _limit(row: Mapping[str, str]) -> Limit:
    unit, population = row["unit"].lower(), row["population"]
    if unit not in _UNITS or population not in POPULATIONS:
        raise ValueError(f"unknown unit {unit!r} or population {population!r}")
    named, factor = _UNITS[unit]
    single, daily = (
        float(row[column].replace(",", "")) * factor if row[column] else None for column in ("max_single", "max_daily")
    )
    return Limit(population, row["route"], single, daily, named, row["source"], row["section"], row["located"] == "yes")


@cache
def tables() -> Tables:
    """The tables that ship, read at the first call."""
    return Tables()
