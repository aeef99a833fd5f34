"""Which rows of a labelled file are known already: in the file, in earlier sets, among settled labels, in the corpus.

Near-copies of what the classifier, or a pharmacist, is measured on are refused too: what was learnt by heart measures nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from uuid import UUID

from classifiers.examples import Example, load_corpus, split_of
from classifiers.leakage import TRAINABLE, NearIndex, triples_of
from guardreview.learning.import_mapping import ReadRow, Refused
from guardreview.learning.models import ImportedLabel
from guardreview.learning.texts import text_digest
from guardreview.learning.training_data import group_of
from guardreview.review.models import Calibration, Label

CHUNK = 500
EXPORTED_IMPORT = "imported-"
"""Before the key of an imported label, in the id that an export gives it."""


@lru_cache(maxsize=1)
def _corpus() -> tuple[list[Example], dict[str, Example], NearIndex]:
    """Its exchanges, the same by digest, and for near-copies."""
    examples = load_corpus()
    triples = [triples_of(e.query, e.response) for e in examples]
    return examples, {text_digest(e.query, e.response): e for e in examples}, NearIndex.of(triples)


@dataclass(frozen=True, slots=True)
class NewRow:
    """A row that is taken, with its digest and its group."""

    row: ReadRow
    digest: str
    group: str


class Checks:
    """Refuses the rows of one file that are known. `rows`: all of the file, which is bounded, as they were read."""

    def __init__(self, rows: Sequence[ReadRow]) -> None:
        self._digests = [text_digest(row.query, row.response) for row in rows]
        self._first: dict[str, ReadRow] = {}
        self._contradicted: set[str] = set()
        for row, digest in zip(rows, self._digests, strict=True):
            first = self._first.setdefault(digest, row)
            if (first.value, first.categories) != (row.value, row.categories):
                self._contradicted.add(digest)
        self._in_sets = self._found_in_sets(rows)
        self._settled = self._found_settled(rows)
        cases = Calibration.objects.values_list("item__exchange__query", "item__exchange__response")
        self._cases = NearIndex.of([triples_of(query, response) for query, response in cases])
        self._corpus, self._corpus_digests, self._near = _corpus()

    def _found_in_sets(self, rows: Sequence[ReadRow]) -> dict[str, int]:
        """Digests of the file, and ids that an export gave to imported labels, with the set in force that has them."""
        found: dict[str, int] = {}
        in_force = ImportedLabel.objects.filter(is_withdrawn=False)
        for some in _chunks(self._first):
            found.update(in_force.filter(digest__in=some).values_list("digest", "label_set"))
        keys = {row.id.removeprefix(EXPORTED_IMPORT) for row in rows if row.id.startswith(EXPORTED_IMPORT)}
        for some in _chunks(key for key in keys if key.isdecimal() and len(key) < 19):
            known = in_force.filter(pk__in=map(int, some)).values_list("pk", "label_set")
            found.update((f"{EXPORTED_IMPORT}{key}", label_set) for key, label_set in known)
        return found

    def _found_settled(self, rows: Sequence[ReadRow]) -> set[str]:
        """Digests and ids of the file that settled labels have: by its id what was exported is known again, even redacted."""
        found: set[str] = set()
        for some in _chunks({row.id for row in rows if _is_uuid(row.id)}):
            labels = Label.objects.filter(exchange__in=[UUID(each) for each in some], is_current=True)
            found.update(map(str, labels.values_list("exchange", flat=True)))
        texts = Label.objects.filter(is_current=True).values_list("exchange__query", "exchange__response")
        for query, response in texts.iterator(chunk_size=CHUNK):
            if (digest := text_digest(query, response)) in self._first:
                found.add(digest)
        return found

    def check(self, place: int, row: ReadRow) -> NewRow:
        """The row at that place of the file. Raises Refused."""
        digest = self._digests[place]
        if digest in self._contradicted:
            raise Refused("contradicts")
        if (first := self._first[digest]) is not row:
            raise Refused("twice", f"row {first.number}")
        if known := self._in_sets.get(digest) or self._in_sets.get(row.id):
            raise Refused("earlier_set", f"set {known}")
        if digest in self._settled or row.id.casefold() in self._settled:
            raise Refused("settled")
        triples = triples_of(row.query, row.response)
        alike = [self._corpus[found] for found in self._near.near(triples)]
        if measured := next((example for example in alike if split_of(example.group) not in TRAINABLE), None):
            raise Refused("measured", measured.id)
        if digest in self._corpus_digests:
            raise Refused("corpus", self._corpus_digests[digest].id)
        if self._cases.near(triples):
            raise Refused("known_case")
        # A near-copy of what is trained on goes where that is: into no split that measures.
        own = group_of("import", row.group) if row.group else group_of(row.query, row.response)
        return NewRow(row, digest, alike[0].group if alike else own)


def _chunks(texts: Iterable[str]) -> Iterator[list[str]]:
    """As many at once as a query takes."""
    listed = list(texts)
    for start in range(0, len(listed), CHUNK):
        yield listed[start : start + CHUNK]


def _is_uuid(text: str) -> bool:
    try:
        UUID(text)
    except ValueError:
        return False
    return len(text) == 36
