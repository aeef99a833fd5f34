"""Which column of a file is which field, and how its words are read: guessed, shown, changed, and then applied to each row."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from django.conf import settings

from classifiers.result import CATEGORIES, Severity, severity_of
from guardreview.learning.import_files import DELIMITERS, ENCODINGS, FileForm, RawRow

FIELDS: Mapping[str, tuple[str, ...]] = {
    "response": ("response", "answer", "output", "completion", "assistant", "reply", "text", "content"),
    "label": ("label", "is_safe", "safe", "is_unsafe", "unsafe", "harmful", "is_harmful", "toxic", "flagged", "truth", "class"),
    "query": ("query", "question", "prompt", "user", "input", "instruction", "message"),
    "categories": ("categories", "category", "subcategory", "harm", "harm_category", "type", "topic"),
    "severity": ("severity",),
    "lang": ("lang", "language", "locale"),
    "group": ("group", "group_id", "cluster", "twin"),
    "id": ("id", "uuid", "exchange", "key"),
}
"""Each field with the names that its column often has."""
NEEDED = ("response", "label")
SAFE_WORDS = frozenset({"safe", "ok", "allow", "allowed", "good", "harmless", "benign", "pass", "negative"})
UNSAFE_WORDS = frozenset({"unsafe", "block", "blocked", "bad", "harmful", "dangerous", "fail", "positive", "toxic", "flagged"})
TRUE_WORDS, FALSE_WORDS = frozenset({"1", "true", "yes", "y", "t"}), frozenset({"0", "false", "no", "n", "f"})
MAX_WORDS = 60
"""Different words of one column that can be mapped."""
MAX_WORD = 60
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
_SEPARATOR = re.compile(r"[;|,]")

REASONS: Mapping[str, str] = {
    "unreadable": "The line cannot be read, or has not as many cells as the header",
    "no_response": "There is no response",
    "too_long": "A text is too long",
    "unstorable": "A text holds characters that cannot be stored",
    "label": "The word of its label is not mapped",
    "category": "A category is not mapped",
    "no_category": "Unsafe, and in no category",
    "twice": "The same exchange stands further up",
    "contradicts": "The same exchange stands here with another label",
    "earlier_set": "An earlier label set has it",
    "settled": "Pharmacists have settled it here",
    "corpus": "The corpus that ships has it",
    "measured": "The classifier is measured on it, or on nearly the same",
    "known_case": "Pharmacists are measured on it, or on nearly the same",
}


class Refused(Exception):
    """A row that is not taken; `reason` is a key of REASONS."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.detail = detail


class InvalidMapping(ValueError):
    """A mapping by which no row could be read; the message says why."""


@dataclass(frozen=True, slots=True)
class ReadRow:
    """A row as it is understood."""

    number: int
    query: str
    response: str
    value: str
    categories: tuple[str, ...]
    severity: str
    language: str
    group: str
    id: str


@dataclass(frozen=True, slots=True)
class ImportMapping:
    """`columns`: field to column. `labels`: word to safe or unsafe. `categories`: word to category; an empty one is not mapped.

    `default_category`: of unsafe rows that name none.
    """

    form: FileForm
    columns: Mapping[str, str]
    labels: Mapping[str, str] = field(default_factory=dict)
    categories: Mapping[str, str] = field(default_factory=dict)
    default_category: str = ""

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, given: Any) -> ImportMapping:
        """Raises InvalidMapping."""
        try:
            columns, labels, categories = (dict(given.get(name) or {}) for name in ("columns", "labels", "categories"))
            made = cls(FileForm(**given["form"]), columns, labels, categories, str(given.get("default_category") or ""))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InvalidMapping("A mapping is an object with form, columns, labels and categories.") from error
        return made.checked()

    def checked(self) -> ImportMapping:
        """Itself. Raises InvalidMapping."""
        if self.form.kind == "csv" and (self.form.encoding not in ENCODINGS or self.form.delimiter not in DELIMITERS):
            raise InvalidMapping("The file cannot be read in this encoding, or with this between its cells.")
        if self.form.kind == "jsonl" and self.form.encoding not in ENCODINGS:
            raise InvalidMapping("The file cannot be read in this encoding.")
        if missing := [name for name in NEEDED if not self.columns.get(name)]:
            raise InvalidMapping(f"Say which column is the {' and which the '.join(missing)}.")
        if set(self.columns) - set(FIELDS):
            raise InvalidMapping(f"Only these can be columns: {', '.join(FIELDS)}.")
        if not set(self.labels.values()) <= {"", "safe", "unsafe"}:
            raise InvalidMapping("A label is safe or unsafe.")
        if unknown := {*self.categories.values(), self.default_category} - {"", *CATEGORIES}:
            raise InvalidMapping(f"{sorted(unknown)[0][:60]!r} is no category.")
        return self

    def read(self, row: RawRow) -> ReadRow:
        """Raises Refused."""
        if row.cells is None:
            raise Refused("unreadable")
        query, response = self._text(row.cells, "query"), self._text(row.cells, "response")
        if not response.strip():
            raise Refused("no_response")
        value = self.labels.get(word_of(self._cell(row.cells, "label")), "")
        if not value:
            raise Refused("label")
        categories = self._categories(row.cells) if value == "unsafe" else ()
        severity = word_of(self._cell(row.cells, "severity"))
        if value == "unsafe" and severity not in set(Severity):
            severity = max((severity_of(category) for category in categories), key=lambda each: each.rank).value
        language = word_of(self._cell(row.cells, "lang"))[:8]
        return ReadRow(
            number=row.number,
            query=query,
            response=response,
            value=value,
            categories=categories,
            severity=severity if value == "unsafe" else "",
            language=language if re.fullmatch("[a-z]{2,3}(-[a-z]+)?", language) else "en",
            group=_plain(self._cell(row.cells, "group"))[:100],
            id=_plain(self._cell(row.cells, "id"))[:100],
        )

    def _cell(self, cells: Mapping[str, Any], name: str) -> Any:
        return cells.get(self.columns.get(name, ""))

    def _text(self, cells: Mapping[str, Any], name: str) -> str:
        text = _plain(self._cell(cells, name))
        if len(text) > settings.MAX_TEXT_CHARS:
            raise Refused("too_long")
        if _UNSTORABLE.search(text):
            raise Refused("unstorable")
        return text

    def _categories(self, cells: Mapping[str, Any]) -> tuple[str, ...]:
        found = []
        for word in words_of(self._cell(cells, "categories")):
            if not (category := self.categories.get(word, "")):
                raise Refused("category")
            found.append(category)
        if not found and not self.default_category:
            raise Refused("no_category")
        return tuple(dict.fromkeys(found or [self.default_category]))


def guessed(form: FileForm, rows: Sequence[RawRow]) -> ImportMapping:
    """From the names of the columns, and from the words in `rows`."""
    names = list(dict.fromkeys(name for row in rows for name in (row.cells or ())))
    columns: dict[str, str] = {}
    for part, known in FIELDS.items():
        free = {_folded(name): name for name in reversed(names) if name not in columns.values()}
        if match := next((free[each] for each in known if each in free), None):
            columns[part] = match
    return with_words(ImportMapping(form, columns), rows)


def with_words(mapping: ImportMapping, rows: Sequence[RawRow]) -> ImportMapping:
    """The mapping with the words that stand in `rows`, those that it does not have read as they are guessed."""
    labels = seen_words(rows, mapping.columns.get("label"))
    categories = seen_words(rows, mapping.columns.get("categories"), several=True)
    turned = _folded(mapping.columns.get("label", "")) in ("safe", "is_safe")
    return replace(
        mapping,
        labels={word: mapping.labels.get(word, _label_of(word, turned=turned)) for word in labels},
        categories={word: mapping.categories.get(word, _category_of(word)) for word in categories},
    )


def seen_words(rows: Iterable[RawRow], column: str | None, *, several: bool = False) -> list[str]:
    """The different words in a column, at most MAX_WORDS, as they occur first."""
    found: dict[str, None] = {}
    for row in rows if column else ():
        cell = (row.cells or {}).get(column or "")
        for word in words_of(cell) if several else [word_of(cell)]:
            if word and len(found) < MAX_WORDS:
                found.setdefault(word)
    return list(found)


def word_of(cell: Any) -> str:
    """A cell as one word to be mapped: a number without needless zeros, in lower case."""
    if isinstance(cell, float) and math.isfinite(cell) and cell == int(cell):
        cell = int(cell)
    return "" if cell is None or isinstance(cell, dict) else str(cell).strip().casefold()[:MAX_WORD]


def words_of(cell: Any) -> list[str]:
    """A cell with several: a list, or a text with `;`, `,` or `|` between them."""
    if isinstance(cell, str):
        cell = _SEPARATOR.split(cell.strip().strip("[]").replace('"', "").replace("'", ""))
    return [word for each in (cell if isinstance(cell, list) else [cell]) if (word := word_of(each))][:20]


def _plain(cell: Any) -> str:
    return cell if isinstance(cell, str) else "" if cell is None or isinstance(cell, dict | list) else str(cell)


def _folded(name: str) -> str:
    return re.sub(r"[^a-z]+", "_", name.casefold()).strip("_")


def _label_of(word: str, *, turned: bool) -> str:
    if word in SAFE_WORDS or word in UNSAFE_WORDS:
        return "safe" if word in SAFE_WORDS else "unsafe"
    if word in TRUE_WORDS or word in FALSE_WORDS:
        return "safe" if (word in TRUE_WORDS) == turned else "unsafe"
    return ""


def _category_of(word: str) -> str:
    known = {category: category for category in CATEGORIES}
    known |= {category.partition(":")[2]: category for category in CATEGORIES if ":" in category}
    return known.get(word) or known.get(word.replace(" ", "_").replace("-", "_")) or ""
