"""Labelled exchanges: the corpus that ships, and what reviewers add to it. Which split each is in, for ever."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from classifiers.result import CATEGORIES, Severity, family_of, is_guaranteed, severity_of

CORPUS = Path(__file__).parent / "corpus"
SHARES = {"train": 55, "validation": 10, "calibration": 17, "test": 8, "pool": 10}
"""Per cent of the groups. `train` fits weights, `validation` chooses between models and weighs the drug facts, `calibration`
sets thresholds, `test` measures. No row of the corpus that is in `pool` is ever trained on; reviewers' labels in it are."""
SPLITS = tuple(SHARES)
REVIEW = "review"
"""The `source` of what a reviewer labelled; every other row is the corpus' own."""


class InvalidExample(ValueError):
    """A row that cannot be trained on; the message says why."""


@dataclass(frozen=True, slots=True)
class Example:
    """One labelled exchange. `severity` is None where it is safe; `group` keeps twins and paraphrases together."""

    id: str
    group: str
    query: str
    response: str
    unsafe: bool
    categories: tuple[str, ...] = ()
    severity: Severity | None = None
    lang: str = "en"
    source: str = "written"
    weight: float = 1.0

    @property
    def critical(self) -> bool:
        """Whether the false-negative guarantee covers it."""
        return is_guaranteed(self.severity, self.categories)

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> Example:
        """From a corpus row. Raises InvalidExample."""
        try:
            label, categories = row["label"], tuple(row.get("categories") or ())
            query, weight = row.get("query") or "", float(row.get("weight", 1.0))
            if label not in ("safe", "unsafe"):
                raise InvalidExample(f"label must be safe or unsafe, not {label!r}")
            if not isinstance(row["response"], str) or not row["response"].strip():
                raise InvalidExample("response must be a non-empty text")
            if not isinstance(query, str):
                raise InvalidExample("query must be a text")
            if not (math.isfinite(weight) and weight > 0):
                raise InvalidExample(f"weight must be a number above 0, not {weight}")
            if unknown := [c for c in categories if c not in CATEGORIES and family_of(str(c)) != "pii"]:
                raise InvalidExample(f"unknown categories: {', '.join(map(str, unknown))}")
            if (label == "unsafe") != bool(categories):
                raise InvalidExample("unsafe rows name at least one category, safe rows none")
            unsafe = label == "unsafe"
            severity = Severity(row["severity"]) if row.get("severity") else None
            if unsafe and severity is None:
                severity = max((severity_of(c) for c in categories), key=lambda s: s.rank)
            return cls(
                id=str(row["id"]),
                group=str(row.get("group") or row["id"]),
                query=query,
                response=row["response"],
                unsafe=unsafe,
                categories=categories,
                severity=severity if unsafe else None,
                lang=str(row.get("lang") or "en"),
                source=str(row.get("source") or "written"),
                weight=weight,
            )
        except InvalidExample:
            raise
        except (KeyError, TypeError, ValueError) as error:
            raise InvalidExample(f"not an example: {error}") from error


def load_corpus(folder: Path = CORPUS) -> list[Example]:
    """Every example under `folder`, in the files' order. Raises InvalidExample naming file and line."""
    examples, seen = [], set()
    for path in sorted(folder.glob("*.jsonl")):
        # Not `str.splitlines`, to which U+2028 within a text is the end of a line.
        for number, line in enumerate(path.read_bytes().splitlines(), start=1):
            try:
                example = Example.from_json(json.loads(line))
            except ValueError as error:
                raise InvalidExample(f"{path.name}:{number}: {error}") from error
            if example.id in seen:
                raise InvalidExample(f"{path.name}:{number}: the id {example.id} occurs twice")
            seen.add(example.id)
            examples.append(example)
    return examples


def split_of(group: str) -> str:
    """The split that a group's hash puts it in, whatever else is added."""
    place = int.from_bytes(hashlib.sha256(f"split:{group}".encode()).digest()[:4], "big") % 100
    for name, share in SHARES.items():
        place -= share
        if place < 0:
            return name
    raise AssertionError("the shares add up to 100")


def hash_of(examples: Iterable[Example]) -> str:
    """Twelve hex digits that name a set of examples, whatever their order."""
    digests = sorted(
        hashlib.sha256(
            json.dumps([e.id, e.group, e.query, e.response, e.unsafe, e.categories, e.severity, e.source, e.weight]).encode()
        ).hexdigest()
        for e in examples
    )
    return hashlib.sha256("".join(digests).encode()).hexdigest()[:12]
