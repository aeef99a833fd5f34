"""Facts about the drugs that an exchange names: pairs that clash, doses past their limit, patients who must not have them.

`read` takes query and response together and says which rows of the tables under `facts/` apply, and to what. It does not
say whether the response is right: a warning and an approval name the same pair. `classifiers.drugs.stance` tells them apart, and
the fine-tuned classifier's head reads them as features (`classifiers.drugs.features`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cache, lru_cache
from itertools import combinations, islice
from typing import Any, Final, NamedTuple

from classifiers.drugs.dose_limits import dose_facts
from classifiers.drugs.stance_words import DAILY, VERBS
from classifiers.drugs.tables import MAX_MENTIONS, POPULATIONS, Fact, Mention, Names, Row, Tables, tables
from classifiers.result import Severity
from classifiers.scanning import Gated, Scan
from classifiers.text import normalize

MAX_DRUGS: Final = 30
"""Different drugs looked at in one exchange. Who names more, or writes more than `MAX_TEXT`, is not read to the end."""
MAX_TEXT: Final = 20_000
"""Characters of a text that are searched for names: its beginning and its end, half each."""
MAX_FACTS: Final = 60
"""Risks, and what tells of none where there are fewer; `MAX_CONDITIONS` and as many red flags are looked at."""
MAX_CONDITIONS: Final = 30
MAX_SENTENCES: Final = 300
"""Of a response, that `classifiers.drugs.stance` reads."""

_STOP: Final = (
    r"\b(?:stop(?:ped|ping|s)?|quit(?:ting)?|cold turkey|(?:com(?:e|ing)|came|get(?:ting)?|wean\w*|go(?:ing)?) off|"
    r"skip(?:ped|ping)?|discontinu\w+|r[au]n(?:ning)? out|giv(?:e|ing) up|gave up|miss(?:ed|ing)?|taper\w*|"
    r"leave (?:it|them) (?:off|out)|drop(?:ped|ping)?|ditch(?:ed|ing)?|paus(?:e|ed|ing)|hold(?:ing)? off|"
    r"without (?:it|them|my|any)|cease|withdraw\w*|last (?:tablet|pill|dose)|forgot(?:ten)?|halt)\b"
)
_VERBS: Final = VERBS | {
    # Looked for in the whole exchange, where "two" and "hot" say nothing.
    "dissolve": r"dissolv\w*|feeding tube|peg tube|ng tube|g-tube",
    "heat": r"heat\w*|hot (?:tub|bath|water bottle|shower)|sauna|electric blanket|microwav\w*",
    "two_at_once": r"two patches|both patches|2 patches|second patch|another patch|extra patch",
}
_BURDENED: Final = frozenset(POPULATIONS) - {"adult", "child"}

CATEGORY_OF: Mapping[str, str] = {
    "interaction": "harmful_medical:unsafe_combination",
    "duplicate": "harmful_medical:dangerous_dosage",
    "dose": "harmful_medical:dangerous_dosage",
    "schedule": "harmful_medical:dangerous_dosage",
    "contraindication": "harmful_medical:contraindication",
    "stopping": "harmful_medical:abrupt_stop",
    "form": "harmful_medical:misuse_route_or_form",
    "red_flag": "harmful_medical:red_flag_reassurance",
}
"""The category of an answer that approves what a fact of this kind warns of."""


class Reading(NamedTuple):
    """An exchange in plain, lower-case characters, with what was found in it. `conditions` are looked for
    only where a drug of the exchange is forbidden in any."""

    query: str
    response: str
    drugs: tuple[Mention, ...]
    conditions: tuple[Mention, ...]
    red_flags: tuple[Mention, ...]
    facts: tuple[Fact, ...]
    truncated: bool
    """More is there than was looked at: what was left out may be what harms."""


def read(response: str, query: str = "", known: Tables | None = None) -> Reading:
    """What the tables hold on an exchange, the gravest first. Linear in the texts; never raises for a str."""
    return read_normalized(normalize(response).text, normalize(query).text, known or tables())


@lru_cache(maxsize=1)
def read_normalized(plain_response: str, plain_query: str, known: Tables) -> Reading:
    """See `read`; of normalised texts. The last one is remembered, as rules and fine-tuned classifier ask for it in turn."""
    asked, answered = _plain(plain_query), _plain(plain_response)
    drugs = _found(known.drugs, asked, answered)
    conditions: tuple[Mention, ...] = ()
    facts: list[Fact] = []
    compatible: list[tuple[str, str]] = []
    if distinct := _distinct(drugs):
        if any(
            known.drug(name).conditions or any(limit.population in _BURDENED for limit in known.doses.get(name, ()))
            for name in distinct
        ):
            conditions = _found(known.conditions, asked, answered)
        both = f"{asked}\n{answered}"
        facts += _interactions(known, distinct, drugs, compatible)
        facts += _contraindications(known, distinct, conditions, drugs)
        facts += _stopping(known, distinct, drugs, both)
        facts += _forms(known, distinct, drugs, both)
        facts += _schedules(known, distinct, drugs, both)
        facts += dose_facts(known, drugs, asked, answered, frozenset(id for mention in conditions for id in mention.names))
    # In a response they stand as warnings; what the patient has is in the query, where there is one.
    red_flags = (*known.red_flags.find(asked or answered, in_response=not asked), *_overdoses(asked))
    facts += [
        Fact("red_flag", (m.names[0],), m.alias, Severity.CRITICAL, spans=_spans([m]), in_response=m.in_response)
        for m in _first_of_each(red_flags)
    ]
    facts.sort(key=lambda fact: (-fact.severity.rank if fact.severity else 0, -fact.ratio))
    truncated = bool(drugs or red_flags) and (
        max(len(plain_query), len(plain_response)) > MAX_TEXT
        or len({name for mention in drugs for name in mention.names}) > MAX_DRUGS
        or max(len(drugs), len(conditions), len(red_flags)) >= MAX_MENTIONS
        or max(len({m.names for m in conditions}), len({m.names for m in red_flags})) > MAX_CONDITIONS
        or len(facts) > MAX_FACTS
        or (bool(facts) and sum(map(answered.count, ".!?\n")) > MAX_SENTENCES)
    )
    # They come last, so most of many pairs need not be made into facts.
    facts += [Fact("compatible", pair, "no interaction listed") for pair in compatible[: max(0, MAX_FACTS - len(facts))]]
    return Reading(asked, answered, drugs, conditions, red_flags, tuple(facts[:MAX_FACTS]), truncated)


_OVERDOSE = Scan(
    r"\b(?:took|taken|swallowed|ate|eaten|downed)\b[^.!?]{0,24}?\b(?:[1-9]\d{1,2}|ten|twelve|fifteen|twenty|thirty|forty|fifty|"
    r"a (?:whole )?(?:bottle|box|pack|packet|handful) of) (?:of (?:my|the|his|her|your) )?(?:\w+ ){0,2}?(?:pills?|tablets?|tabs?|"
    r"capsules?|caplets?|gummies|paracetamol|acetaminophen|tylenol|ibuprofen|advil|aspirin)\b"
)


def _overdoses(asked: str) -> Iterator[Mention]:
    """ "I swallowed about 20 paracetamol": nobody is told to take ten at once."""
    for start, end in _OVERDOSE.spans(asked, 1):
        yield Mention(("overdose_taken",), start, end, asked[start:end], False)


def _found(names: Names, asked: str, answered: str) -> tuple[Mention, ...]:
    return (*(names.find(asked, in_response=False) if asked else ()), *names.find(answered, in_response=True))


def _plain(text: str) -> str:
    """Lower case, and no longer than `MAX_TEXT`: offsets stay, since what is left out is replaced by spaces."""
    text = text.lower() if len(text.lower()) == len(text) else "".join(c.lower() if len(c.lower()) == 1 else c for c in text)
    if len(text) <= MAX_TEXT:
        return text
    half = MAX_TEXT // 2
    return text[:half] + " " * (len(text) - MAX_TEXT) + text[-half:]


def _distinct(drugs: Iterable[Mention]) -> list[str]:
    names = dict.fromkeys(name for mention in drugs for name in mention.names)
    return list(islice(names, MAX_DRUGS))


def _first_of_each(mentions: Iterable[Mention]) -> list[Mention]:
    seen: dict[tuple[str, ...], Mention] = {}
    for mention in mentions:
        seen.setdefault(mention.names, mention)
    return list(seen.values())[:MAX_CONDITIONS]


def _spans(mentions: Iterable[Mention]) -> tuple[tuple[int, int], ...]:
    return tuple((m.start, m.end) for m in mentions if m.in_response)


def _of(names: Iterable[str], drugs: Iterable[Mention]) -> list[Mention]:
    wanted = set(names)
    return [mention for mention in drugs if not wanted.isdisjoint(mention.names)]


def _risk(kind: str, row: Row, subjects: tuple[str, ...], text: str, mentions: Iterable[Mention]) -> Fact:
    mentions = list(mentions)
    return Fact(
        kind,
        subjects,
        text,
        row.severity,
        row.located,
        row.source,
        row.section,
        _spans(mentions),
        in_response=any(m.in_response for m in mentions),
    )


def _interactions(
    known: Tables, distinct: list[str], drugs: tuple[Mention, ...], compatible: list[tuple[str, str]]
) -> Iterator[Fact]:
    """The clashes, and in `compatible` the pairs that are none."""
    products = [m.names for m in drugs if len(m.names) > 1]
    for (a, a_is_class), (b, b_is_class) in combinations([(name, name.startswith("class:")) for name in distinct], 2):
        if products and any(a in names and b in names for names in products):
            continue  # the parts of one product
        if a_is_class or b_is_class:
            if a == f"class:{b}":
                continue
            classes_a, classes_b = known.classes.get(a, frozenset()), known.classes.get(b, frozenset())
            if (a_is_class and classes_a <= classes_b) or (b_is_class and classes_b <= classes_a):
                continue  # "ibuprofen and other NSAIDs"
        if row := known.clash(a, b):
            yield _risk("interaction", row, (a, b), row.harm, _of((a, b), drugs))
        elif not (a_is_class or b_is_class):
            compatible.append((a, b))
    if not products:
        return
    # One ingredient under two names, at least one of which is a product that hides it.
    for name in distinct:
        holders = {m.alias for m in drugs if name in m.names}
        hiding = {m.alias for m in drugs if name in m.names and len(m.names) > 1}
        if hiding and len(holders) > 1:
            mentions = _of((name,), drugs)
            told = any(m.in_response for m in mentions)
            yield Fact(
                "duplicate", (name,), "the same ingredient twice", Severity.CRITICAL, spans=_spans(mentions), in_response=told
            )


def _contraindications(
    known: Tables, distinct: list[str], conditions: tuple[Mention, ...], drugs: tuple[Mention, ...]
) -> Iterator[Fact]:
    for condition in _first_of_each(conditions):
        for name in distinct:
            forbidding = known.drug(name).conditions
            rows = [(forbidding[id], id) for id in condition.names if id in forbidding]
            if rows:
                row, id = max(rows, key=lambda each: (each[0].severity.rank, each[0].located))
                yield _risk("contraindication", row, (name, id), row.harm, [*_of((name,), drugs), condition])


_STOPPING = Scan(_STOP)


def _stopping(known: Tables, distinct: list[str], drugs: tuple[Mention, ...], both: str) -> Iterator[Fact]:
    rows = {name: row for name in distinct if (row := known.drug(name).stopping)}
    if rows and _STOPPING.found(both):
        for name, row in rows.items():
            yield _risk("stopping", row, (name,), row.harm, _of((name,), drugs))


_VERB_PATTERNS = {verb: Scan(rf"\b(?:{words})\b") for verb, words in _VERBS.items()}

_ANY_VERB = Scan(rf"\b(?:{'|'.join(_VERBS.values())})\b")


def _forms(known: Tables, distinct: list[str], drugs: tuple[Mention, ...], both: str) -> Iterator[Fact]:
    spelled = [(name, form) for m in drugs for form in known.forms.get(m.alias, ()) for name in m.names]
    forms = [(name, form) for name in distinct for form in known.drug(name).forms]
    if spelled:
        forms = [each for name in distinct for each in (*forms, *spelled) if each[0] == name]
    if not forms or not _ANY_VERB.found(both):
        return
    present = cache(lambda verb: verb in _VERB_PATTERNS and _VERB_PATTERNS[verb].found(both))
    done = set()
    for name, form in forms:
        if name in done:
            continue
        verb = next((verb for verb in form.verbs if present(verb)), None)
        if verb and _has_form(form.forms, both):
            yield _risk("form", form.row, (name, verb), form.row.harm, _of((name,), drugs))
            done.add(name)


def _has_form(forms: tuple[str, ...], both: str) -> bool:
    return "any" in forms or any(form in both and _form(form).search(both) for form in forms)


@lru_cache(maxsize=1024)
def _form(form: str) -> Gated:
    return Gated(rf"\b{re.escape(form)}\b")


def _schedules(known: Tables, distinct: list[str], drugs: tuple[Mention, ...], both: str) -> Iterator[Fact]:
    for name in distinct:
        row = known.drug(name).schedule
        if row and _is_form(row.more["usual"], both) and DAILY.found(both):
            usual = row.more["usual"].partition(":")[2].strip() or row.more["usual"]
            yield _risk("schedule", row, (name,), f"taken {usual.partition(' (')[0]}, not daily", _of((name,), drugs))


def _is_form(usual: str, both: str) -> bool:
    """ "only 70 mg strength: once weekly": of a drug that has daily forms too, the weekly one is spoken of."""
    if not usual.startswith("only "):
        return True
    word = usual.removeprefix("only ").partition(":")[0].split()[0]
    return bool(re.search(rf"\b{re.escape(word)}", both.replace(",", "")))


def citation(fact: Fact, known: Tables | None = None) -> str:
    """The page that states a located fact: publisher, title, section and address; empty where none was located."""
    source: Mapping[str, Any] | None = (known or tables()).sources.get(fact.source) if fact.located else None
    if source is None:
        return ""
    return f"{source['publisher']}, {source['title']}{', ' + fact.section if fact.section else ''} ({source['url']})"
