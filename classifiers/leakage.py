"""Near-copies of exchanges: what must not lie in two splits, nor be trained on while its copy measures.

A set-similarity join on word triples with prefix filtering (Chaudhuri et al., ICDE 2006; Bayardo et al., WWW 2007): exact,
where MinHash would only estimate, and fast, since rows are found by their rarest triples alone: what all of them say, a
disclaimer of the chatbot's, say, finds none. Twins that differ in one fact count as near-copies once they are long.
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain

from classifiers.examples import Example, split_of

NEAR = 0.8
"""Share of common word triples (Jaccard) from which two exchanges are near-copies."""
LONG = 20
"""An exchange of so many triples is also known again within a longer one that has `NEAR` of them: with a greeting, say."""
TRAINABLE = ("train", "pool")
"""Splits of the corpus whose near-copies may be trained on. Nothing is measured on the pool: it is there to be labelled anew."""
GOLD = "gold item"
"""The reason of what is like an item whose truth is known to us and not to those who are asked."""
_WORD = re.compile(r"\w+")

Triples = frozenset[int]
"""The hashes of word triples: as good as the words within one process, in which alone they mean anything, and faster."""


def triples_of(query: str, response: str) -> Triples:
    """Each three words in a row; of fewer than three, those that there are."""
    words = _WORD.findall(f"{query} {response}".casefold())
    return frozenset(map(hash, zip(words, words[1:], words[2:], strict=False))) or frozenset([hash(tuple(words))])


class NearIndex:
    """Exchanges, to which near-copies are found. `frequent`: how often triples occur in all rows that will be added, so that rare
    ones are looked up first. The same is found with any other, or none; but then a phrase in all rows makes it quadratic.
    """

    def __init__(self, frequent: Mapping[int, int] | None = None) -> None:
        self._frequent = frequent or {}
        self._rows: list[Triples] = []
        self._holders: dict[int, list[int]] = defaultdict(list)

    @classmethod
    def of(cls, rows: Sequence[Triples]) -> NearIndex:
        """An index of these rows."""
        index = cls(frequencies(rows))
        for row in rows:
            index.add(row)
        return index

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, triples: Triples) -> None:
        """The next row. What shares `NEAR` of it shares one of its rarest triples."""
        frequent = self._frequent
        rare_first = sorted((frequent.get(triple, 0), triple) for triple in triples)
        for _, triple in rare_first[: len(triples) - math.ceil(NEAR * len(triples)) + 1]:
            self._holders[triple].append(len(self._rows))
        self._rows.append(triples)

    def near(self, triples: Triples) -> list[int]:
        """The places of all rows that this is a near-copy of, or that it contains, the first added first."""
        return [place for place in self._candidates(triples) if self._is_near(self._rows[place], triples)]

    def near_groups(self, triples: Triples, groups: Sequence[str | None]) -> list[int]:
        """As `near`, of the rows of one group the first alone: a hundred copies of one answer say no more than one does."""
        found: dict[str | None, int] = {}
        for place in self._candidates(triples):
            if groups[place] not in found and self._is_near(self._rows[place], triples):
                found[groups[place]] = place
        return list(found.values())

    def _candidates(self, triples: Triples) -> list[int]:
        shared = triples & self._holders.keys()
        return sorted({place for triple in shared for place in self._holders[triple]})

    @staticmethod
    def _is_near(row: Triples, triples: Triples) -> bool:
        both = len(row & triples)
        return both >= NEAR * (len(row) if len(row) >= LONG else len(row) + len(triples) - both)


def frequencies(rows: Iterable[Triples]) -> Counter[int]:
    """In how many rows each triple occurs."""
    return Counter(chain.from_iterable(rows))


def near_copies(examples: Sequence[Example]) -> list[tuple[Example, Example]]:
    """Pairs from different groups of which neither merely contains the other."""
    rows = [triples_of(e.query, e.response) for e in examples]
    index = NearIndex(frequencies(rows))
    pairs = []
    for place, row in enumerate(rows):
        for other in index.near(row):
            alike = len(row & rows[other]) >= NEAR * len(row | rows[other])
            if alike and examples[other].group != examples[place].group:
                pairs.append((examples[other], examples[place]))
        index.add(row)
    return pairs


@dataclass(frozen=True, slots=True)
class Guarded:
    """What may be trained and measured on, each in the group that it belongs to, and how many were left out, by reason."""

    kept: list[Example]
    left_out: Counter[str] = field(default_factory=Counter)


def guard(
    labels: Iterable[tuple[Example, str]],
    corpus: Sequence[Example],
    gold: Iterable[tuple[str, str]] = (),
    progress: Callable[[int, int], None] = lambda step, steps: None,
) -> Guarded:
    """Give each label its group, and leave out what would leak. Labels come in the order in which they became known: each is
    compared with the corpus and with those before it alone, so that it stays in its split whatever comes later.

    `labels`: with the reason to leave it out that is known already, or ""; such a one still gives its group to what is like it.
    `gold`: (query, response) of items whose truth is known. `progress`: told with each row, of how many.

    A near-copy of a corpus row that is measured on is left out; of one that is not, it takes the group, as it does of an earlier
    label. What is like two of different splits is left out.
    """
    asked = list(labels)
    texts = [*gold, *((e.query, e.response) for e in chain(corpus, (label for label, _ in asked)))]
    steps, rows = 2 * len(texts), list[Triples]()
    for query, response in texts:
        progress(len(rows), steps)
        rows.append(triples_of(query, response))
    # Of all of them, the labels too: what each says, a disclaimer, say, is rare in the corpus and would find all.
    index = NearIndex(frequencies(rows))
    given = len(rows) - len(asked)
    groups: list[str | None] = [*(None for _ in range(given - len(corpus))), *(e.group for e in corpus)]
    for row in rows[:given]:
        index.add(row)
    own: dict[str, str] = {}
    kept: list[Example] = []
    left_out: Counter[str] = Counter()
    for place, (label, known) in enumerate(asked, start=given):
        progress(len(rows) + place, steps)
        near = index.near_groups(rows[place], groups)
        like = [each for found in near if (each := groups[found]) is not None]
        group = own.setdefault(label.group, like[0] if like else label.group)
        reason = known or _reason(near, groups, given, group)
        if reason:
            left_out[reason] += 1
        else:
            kept.append(_in_group(label, group))
        groups.append(group)
        index.add(rows[place])
    progress(steps, steps)
    return Guarded(kept, left_out)


def _reason(near: Sequence[int], groups: Sequence[str | None], given: int, group: str) -> str:
    """Why a label that is near these may not be used; "" if it may. The first `given` are gold items and the corpus."""
    if any(groups[place] is None for place in near):
        return GOLD
    splits = {split_of(each) for place in near if place < given and (each := groups[place]) is not None}
    if measured := sorted(splits - set(TRAINABLE)):
        return f"like the corpus' {measured[0]} split"
    sides = {_side(each) for place in near if (each := groups[place]) is not None}
    return "like items of two splits" if sides - {_side(group)} else ""


def _side(group: str) -> str:
    split = split_of(group)
    return TRAINABLE[0] if split in TRAINABLE else split


def _in_group(example: Example, group: str) -> Example:
    return example if example.group == group else replace(example, group=group)
