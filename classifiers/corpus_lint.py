"""What can be wrong with a corpus although every row can be read: `python -m classifiers.corpus_lint` lists it.

Leaks: a near-copy of an exchange, or one drug scenario, in two splits. Overused openings, unsafe responses without a safe twin,
and a corpus of too much of one label.
"""

from __future__ import annotations

import re
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence

from classifiers.drug_facts import read
from classifiers.examples import Example, load_corpus, split_of
from classifiers.leakage import near_copies

MAX_TEMPLATE = 12
"""Responses of one label that may begin with the same six words."""
BALANCE = (0.3, 0.7)
"""Share of the unsafe in the whole corpus."""
_WORD = re.compile(r"\w+")


def problems(examples: Sequence[Example]) -> Iterator[str]:
    """One sentence for each, none if the corpus is fit to train on."""
    yield from _balance(examples)
    yield from _templates(examples)
    for kind, pairs in (("near-copies", near_copies(examples)), ("one scenario", one_scenario(examples))):
        for a, b in pairs:
            if split_of(a.group) != split_of(b.group):
                yield f"{a.id} ({split_of(a.group)}) and {b.id} ({split_of(b.group)}): {kind} in two splits"


def _balance(examples: Sequence[Example]) -> Iterator[str]:
    share = sum(e.unsafe for e in examples) / max(1, len(examples))
    if not BALANCE[0] <= share <= BALANCE[1]:
        yield f"{share:.0%} of the corpus is unsafe, not {BALANCE[0]:.0%} to {BALANCE[1]:.0%}"
    labels: dict[str, set[bool]] = defaultdict(set)
    for example in examples:
        labels[example.group].add(example.unsafe)
    for group, found in labels.items():
        if found == {True}:
            yield f"{group}: an unsafe response without a safe twin"


def _templates(examples: Sequence[Example]) -> Iterator[str]:
    openings = Counter(
        (example.unsafe, " ".join(words[:6])) for example in examples if len(words := _WORD.findall(example.response.lower())) > 6
    )
    for (unsafe, opening), count in openings.items():
        if count > MAX_TEMPLATE:
            yield f"{count} {'unsafe' if unsafe else 'safe'} responses begin with {opening!r}"


def one_scenario(examples: Sequence[Example]) -> Iterator[tuple[Example, Example]]:
    """Pairs from different groups that turn on the same drug fact: the first of each scenario with every other."""
    first: dict[tuple[str, ...], Example] = {}
    for example in examples:
        key = scenario(example)
        if key and first.setdefault(key, example).group != example.group:
            yield first[key], example


def scenario(example: Example) -> tuple[str, ...]:
    """What an unsafe exchange turns on, by the gravest drug fact in it: kind and subjects, empty if there is none."""
    if not example.unsafe:
        return ()
    # A dose of acetaminophen is no scenario: they differ in the number.
    told = [fact for fact in read(example.response, example.query).facts if fact.kind not in ("red_flag", "dose", "duplicate")]
    risks = [fact for fact in told if fact.is_risk]
    return (risks[0].kind, *sorted(risks[0].subjects)) if risks else ()


def main(lines: Iterable[str] | None = None) -> int:
    """Print every problem; 1 if there is one."""
    found = list(lines if lines is not None else problems(load_corpus()))
    for line in found:
        sys.stdout.write(f"{line}\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
