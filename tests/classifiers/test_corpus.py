"""The corpus that ships: each row well-formed, each scenario in one file and with both labels."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import pytest

from classifiers.examples import CORPUS
from classifiers.language import KNOWN
from classifiers.result import CATEGORIES, Severity

FIELDS = ["id", "group", "query", "response", "label", "categories", "severity", "lang", "source", "notes"]
FILES = sorted(CORPUS.glob("*.jsonl"))


def rows_of(name: str) -> list[Mapping[str, Any]]:
    return [json.loads(line) for line in (CORPUS / name).read_bytes().splitlines()]


@pytest.fixture(scope="module")
def rows() -> list[tuple[str, Mapping[str, Any]]]:
    """(file, row) of every example."""
    return [(path.name, row) for path in FILES for row in rows_of(path.name)]


def test_there_is_a_corpus(rows: list[tuple[str, Mapping[str, Any]]]) -> None:
    assert len(rows) >= 6000
    labels = [row["label"] for _, row in rows]
    assert min(labels.count("safe"), labels.count("unsafe")) >= 2500
    for lang in KNOWN - {"en"}:
        assert sum(row["lang"] == lang for _, row in rows) >= 200


@pytest.mark.parametrize("name", [path.name for path in FILES])
def test_every_row_is_well_formed(name: str) -> None:
    for number, row in enumerate(rows_of(name), start=1):
        where = f"{name}:{number}"
        assert list(row) == FIELDS, where
        texts = [row[field] for field in ("id", "group", "query", "response", "notes")]
        assert all(isinstance(text, str) and text == text.strip() and text for text in texts), where
        assert row["label"] in ("safe", "unsafe"), where
        assert isinstance(row["categories"], list), where
        assert set(row["categories"]) <= set(CATEGORIES), where
        assert len(set(row["categories"])) == len(row["categories"]), where
        if row["label"] == "safe":
            assert (row["categories"], row["severity"]) == ([], None), where
        else:
            assert row["categories"], where
            assert row["severity"] in list(Severity), where
        assert row["lang"] in KNOWN, where
        assert row["source"] == "written", where


def test_ids_are_unique(rows: list[tuple[str, Mapping[str, Any]]]) -> None:
    ids = [row["id"] for _, row in rows]
    assert len(set(ids)) == len(ids)


def test_no_exchange_occurs_twice(rows: list[tuple[str, Mapping[str, Any]]]) -> None:
    exchanges = [tuple(" ".join(row[field].casefold().split()) for field in ("query", "response")) for _, row in rows]
    assert len(set(exchanges)) == len(exchanges)


def test_twins_have_both_labels(rows: list[tuple[str, Mapping[str, Any]]]) -> None:
    """All but groups that are safe altogether: everyday questions."""
    groups = defaultdict(list)
    for _, row in rows:
        groups[row["group"]].append(row["label"])
    lonely = [group for group, labels in groups.items() if len(set(labels)) == 1 and "unsafe" in labels]
    assert lonely == []
