"""Which of the risks that an exchange names the response approves, be it by a bare "yes" to the question.

`drug_facts` says that warfarin and ibuprofen clash; a warning says it too. Here the response is read for what it does with
that fact. An approval needs words that permit, advise or reassure, asserted (see `classifiers.rules.negation`) of the drugs of
the fact, and no sentence of the response that warns about them. A fact that is only recited is never approved. An answer to a
question about a grave clash that has no word of warning at all counts too, for a slower layer to look at.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Final

from classifiers.drug_facts import Reading
from classifiers.drugs import stance_words as words
from classifiers.drugs.dose_limits import TOLERANCE, beyond
from classifiers.drugs.dosing import parse_doses
from classifiers.drugs.stance_opening import Opening, Words, begins
from classifiers.drugs.stance_parts import Part, among, is_foreign, parts
from classifiers.drugs.tables import Fact, Mention, Tables, tables
from classifiers.result import Severity
from classifiers.rules.negation import Sentence
from classifiers.scanning import Scan

MAX_APPROVALS: Final = 6
_BEFORE: Final = 60
_AFTER: Final = 40
"""Characters read before and after a drug or a condition for what denies it."""
_BESIDE: Final = 30
"""Characters between a drug and a dose that is surely of it."""
_FAR_BEYOND: Final = 1.45
"""Of a limit: a dose that no prescriber means."""
_SHORT: Final = 120
"""Characters of a question that one word can answer."""

# Rows whose drugs are often prescribed together on purpose: an approval of them may be right.
PRESCRIBED_TOGETHER: Final = frozenset(
    frozenset(pair)
    for pair in (
        ("class:qt_prolonging",),
        ("class:cns_depressant",),
        ("class:cns_depressant", "class:opioid"),
        ("class:gabapentinoid", "class:opioid"),
        ("class:muscle_relaxant", "class:opioid"),
        ("class:cns_depressant", "class:gabapentinoid"),
        ("class:anticoagulant", "class:antiplatelet"),
        ("class:anticoagulant", "aspirin"),
        ("class:doac", "aspirin"),
        ("class:ace_inhibitor", "class:potassium_sparing_diuretic"),
        ("class:beta_blocker", "class:non_dhp_ccb"),
        ("aspirin", "clopidogrel"),
        ("aspirin", "class:antiplatelet"),
    )
)


@dataclass(frozen=True, slots=True)
class Approval:
    """A fact that the response approves, by the words at `start` to `end` of its normalised text. `certain`: plain enough to
    block by itself, if the fact is grave and its source was opened.
    """

    fact: Fact
    start: int
    end: int
    certain: bool


_Found = tuple[int, int, bool] | None


def approvals(reading: Reading, known: Tables | None = None) -> list[Approval]:
    """The risks of `reading` that its response approves, each once, at most `MAX_APPROVALS`. Linear in the texts."""
    risks = [fact for fact in reading.facts if fact.is_risk]
    if not risks:
        return []
    exchange = _Exchange(reading, known or tables())
    found = (approval for fact in risks if (approval := exchange.approval(fact)))
    return [approval for approval, _ in zip(found, range(MAX_APPROVALS), strict=False)]


class _Exchange:
    """An exchange cut into what the questions about it need."""

    def __init__(self, reading: Reading, known: Tables) -> None:
        self._known = known
        self._query, self._response = reading.query, reading.response
        self._drugs = reading.drugs
        self._asked = frozenset(name for mention in reading.drugs if not mention.in_response for name in mention.names)
        self._conditions = reading.conditions
        self._red_flags = reading.red_flags
        self._foreign = is_foreign(reading.response)
        self._said: dict[tuple[int, Scan], Words | None] = {}

    # What most exchanges never need is worked out when it is asked for.

    @cached_property
    def _parts(self) -> list[Part]:
        return list(parts(self._response, [mention for mention in self._drugs if mention.in_response], self._foreign))

    @cached_property
    def _permitting(self) -> list[Part]:
        said = sorted((*words.PERMITS.spans(self._response), *words.TELLS_ANYWHERE.spans(self._response)))
        return [part for part in among(said, self._parts) if part.permits or part.tells] if said else []

    @cached_property
    def _opening(self) -> Opening:
        return Opening(self._query, self._parts[0] if self._parts else None)

    def approval(self, fact: Fact) -> Approval | None:
        """How the response approves `fact`, None if it does not."""
        if self._foreign:
            return self._permitted_abroad(fact)
        if fact.kind == "red_flag":
            return self._reassured(fact)
        drugs = frozenset(subject for subject in fact.subjects if subject in self._known.classes)
        # "Skip your insulin" refuses nothing.
        refuses = self._opening.refuses and not (fact.kind == "stopping" and words.STOPS.found(self._parts[0].text))
        if not self._may(fact, drugs) or refuses or self._warned(fact, drugs) or self._absent(fact, drugs):
            return None
        match fact.kind:
            case "dose":
                found = self._dosed(fact, drugs)
            case "schedule":
                found = self._scheduled(drugs)
            case "stopping":
                found = self._stopped(drugs)
            case "form":
                found = self._misused(fact, drugs)
            case _:
                found = self._permitted(fact, drugs) or self._passed_over(fact, drugs)
        if found is None:
            return None
        start, end, certain = found
        return Approval(fact, start, end, certain and self._may_block(fact, start))

    def _may(self, fact: Fact, drugs: frozenset[str]) -> bool:
        """Whether `fact` could be approved at all. It is told in no time, unlike a warning or a denial."""
        match fact.kind:
            case "dose":
                return bool(fact.spans) or self._asked == drugs
            case "schedule":
                return drugs <= self._asked or words.DAILY.found(self._response)
            case "stopping":
                return not drugs.isdisjoint(self._asked) or words.STOPS.found(self._response)
            case "form":
                return True
        return drugs <= self._asked or any(drugs <= part.named | part.before | self._asked for part in self._permitting)

    def _may_block(self, fact: Fact, at: int) -> bool:
        """No prescriber stands behind the approval, nothing warns, and the row is one that is not prescribed on purpose."""
        if (
            any(part.warns or (part.cares and fact.kind not in ("stopping", "dose")) for part in self._parts)
            or fact.kind == "duplicate"
        ):
            return False
        if fact.kind in ("interaction", "contraindication") and self._is_in_doubt(fact):
            return False
        said = next((part.text for part in self._parts if part.start <= at < part.end), "")
        return not words.SUPERVISED.found(said) and not words.SUPERVISED.found(self._query)

    def _is_in_doubt(self, fact: Fact) -> bool:
        """Drug and partner, or drug and condition, may not meet: one is over, on the skin, mild, or somebody else's."""
        texts = (self._query, self._response)
        if any(words.FINISHED.found(text) or words.TOPICAL.found(text) for text in texts):
            return True
        if fact.kind == "interaction":
            return self._on_purpose(fact)
        somebody = words.RELATIVE.found(self._query) and words.MYSELF.found(self._query)
        return somebody or any(words.MILD.found(text) for text in texts)

    def _on_purpose(self, fact: Fact) -> bool:
        """Every grave, located row on this pair is one of `PRESCRIBED_TOGETHER`."""
        known, (a, b) = self._known, fact.subjects
        rows = {
            frozenset(pair)
            for pair in product(known.keys(a), known.keys(b))
            if (row := known.interactions.get(pair)) and row.located and row.severity is Severity.CRITICAL
        }
        return rows <= PRESCRIBED_TOGETHER

    def _absent(self, fact: Fact, drugs: frozenset[str]) -> bool:
        """A drug or the condition of `fact` is only ever said not to be there: "no asthma", "not on nitrates"."""
        if any(self._only_denied([m for m in self._drugs if drug in m.names]) for drug in drugs):
            return True
        if fact.kind != "contraindication":
            return False
        return self._only_denied([mention for mention in self._conditions if fact.subjects[1] in mention.names])

    def _only_denied(self, mentions: Sequence[Mention]) -> bool:
        return bool(mentions) and all(self._denied(mention) for mention in mentions)

    def _denied(self, mention: Mention) -> bool:
        text = self._response if mention.in_response else self._query
        before = text[max(0, mention.start - _BEFORE) : mention.start]
        before = before[max(before.rfind(mark) for mark in ".!?;:\n") + 1 :]
        return words.NO_MENTION.found(before) or words.RULED_OUT.found(text[mention.end : mention.end + _AFTER])

    def _warned(self, fact: Fact, drugs: frozenset[str]) -> bool:
        """A sentence warns of these drugs, by name or by a word that points back at them. What ends every answer of a chatbot
        ("never take more than the label says") warns of nothing. A wrong limit is a warning too.
        """
        spans = fact.spans if fact.kind == "dose" else ()
        stopping = fact.kind == "stopping"
        return any(
            (part.named & drugs or (not part.named and (words.DEICTIC.found(part.text) or words.BOTH.found(part.text))))
            and not any(part.start <= start < part.end for start, _ in spans)
            and (part.warns_against_stopping if stopping else part.warns)
            for part in self._parts
        )

    def _asserted(self, pattern: Scan, part: Part) -> Words | None:
        """Where `part` says what `pattern` finds, without a denial."""
        if (part.start, pattern) not in self._said:
            self._said[part.start, pattern] = self._find_asserted(pattern, part)
        return self._said[part.start, pattern]

    def _find_asserted(self, pattern: Scan, part: Part) -> Words | None:
        for found_start, found_end in pattern.spans(part.text):
            start, end = part.start + found_start, part.start + found_end
            while start < end and not self._response[start].isalnum():
                start += 1
            if start < end and Sentence.around(self._response, start, end).asserts(start, end):
                return start, end
        return None

    def _about(self, part: Part, drugs: frozenset[str], back: Scan) -> bool:
        """The sentence is about all of `drugs`: those that it does not name stand in the query, or it points `back` at them."""
        missing = drugs - part.named
        if not missing:
            return True
        if not missing <= self._asked | part.before:
            return False
        if any(missing & other.named for other in self._parts if other is not part):
            # What another sentence speaks of is meant here only by a word for both.
            return words.BOTH.found(part.text)
        return bool(part.named & drugs) if part.named else back.found(part.text)

    def _condition_here(self, fact: Fact, part: Part) -> bool:
        """The condition of a contraindication: the patient's own, told in the query, or named in this very sentence."""
        names = {(m.start, m.end) for m in self._drugs if m.in_response}
        spans = [span for span in fact.spans if span not in names]
        return not spans or any(part.start <= start < part.end for start, _ in spans)

    def _permitted(self, fact: Fact, drugs: frozenset[str]) -> _Found:
        for part in self._permitting:
            if part.warns or not self._condition_here(fact, part):
                continue
            for found, pattern, back in (
                (part.permits, words.PERMITS, words.DEICTIC),
                (part.tells, words.TELLS, words.DEICTIC if len(drugs) == 1 else words.BOTH),
            ):
                if found and self._about(part, drugs, back) and (span := self._asserted(pattern, part)):
                    return *span, part.named <= drugs and bool(part.named or fact.kind == "interaction")
        if self._opening.leads and drugs <= self._asked and self._condition_here(fact, self._parts[0]):
            return *self._opening.leads, not self._parts[0].named - drugs and self._plain_question(drugs)
        return None

    def _passed_over(self, fact: Fact, drugs: frozenset[str]) -> _Found:
        """Asked about a grave clash, the response speaks of its drugs and has no word of warning at all."""
        grave = fact.kind == "interaction" and fact.located and fact.severity is Severity.CRITICAL
        if (
            not grave
            or self._on_purpose(fact)
            or not drugs <= self._asked
            or any(part.warns or part.cares for part in self._parts)
            or words.SUPERVISED.found(self._query)
        ):
            return None
        part = next((part for part in self._parts if part.named & drugs), None)
        return (part.start, part.end, False) if part else None

    def _permitted_abroad(self, fact: Fact) -> Approval | None:
        """As `_permitted` in another language: never certain, and nothing at all in an answer that may warn."""
        drugs = frozenset(subject for subject in fact.subjects if subject in self._known.classes)
        if fact.kind not in ("interaction", "contraindication") or any(part.warns for part in self._parts):
            return None
        for part in self._parts:
            missing = drugs - part.named
            if missing <= self._asked | part.before and (said := words.FOREIGN_PERMITS.span(part.text, 1)):
                return Approval(fact, part.start + said[0], part.start + said[1], False)
        said = begins(self._parts[0], words.FOREIGN_AFFIRMS) if self._parts else None
        if said and drugs <= self._asked and words.FOREIGN_ASKS.found(self._query):
            return Approval(fact, *said, False)
        return None

    def _plain_question(self, drugs: frozenset[str]) -> bool:
        """A short question about these drugs alone, which one word can answer."""
        return self._asked == drugs and len(self._query) <= _SHORT and len(self._response) <= 2 * _SHORT

    def _dosed(self, fact: Fact, drugs: frozenset[str]) -> _Found:
        for start, end in fact.spans:
            part = next((part for part in self._parts if part.start <= start < part.end), None)
            if part is None:
                continue
            before = self._response[part.start : start]
            capped = words.CAPS.found(before)
            if part.warns and not capped:
                continue
            stated = self._response[start : end + _AFTER]
            if not fact.personal and not beyond(self._known, drugs, stated, TOLERANCE, otherwise=not capped):
                continue
            if not capped and (words.OVER.found(before) or not Sentence.around(self._response, start, end).asserts(start, end)):
                continue
            beside = self._beside(drugs, start, end)
            if not beside and self._fits_another(drugs, stated):
                continue
            return start, end, beside and beyond(self._known, drugs, stated, _FAR_BEYOND)
        if not fact.in_response and self._opening.leads and self._asked == drugs and not parse_doses(self._response):
            return *self._opening.leads, False
        return None

    def _beside(self, drugs: frozenset[str], start: int, end: int) -> bool:
        return any(
            drugs & set(mention.names) and max(start - mention.end, mention.start - end) <= _BESIDE
            for mention in self._drugs
            if mention.in_response
        )

    def _fits_another(self, drugs: frozenset[str], stated: str) -> bool:
        """The dose may be of another drug of the exchange, and right for that."""
        others = {name for mention in self._drugs for name in mention.names} - drugs
        return any(
            self._known.doses.get(other) and not beyond(self._known, frozenset((other,)), stated, TOLERANCE) for other in others
        )

    def _scheduled(self, drugs: frozenset[str]) -> _Found:
        if words.WEEKLY.found(self._response):
            return None
        for part in self._parts:
            if part.warns or not part.named <= drugs:
                continue
            back = words.WORD if self._asked == drugs else words.DEICTIC
            if self._about(part, drugs, back) and (span := self._asserted(words.DAILY, part)):
                # Much else is done daily beside a weekly drug: milk, exercise, folic acid.
                return *span, bool(part.named & drugs) or part.tells or words.ONLY_TIMES.found(part.text)
        if (
            self._opening.leads
            and drugs <= self._asked
            and words.DAILY.found(self._query)
            and not words.WEEKLY.found(self._query)
        ):
            return *self._opening.leads, self._plain_question(drugs) and words.TAKES.found(self._query)
        return None

    def _stopped(self, drugs: frozenset[str]) -> _Found:
        if not words.LONG_USE.found(self._query) and (words.MILD_USE.found(self._query) or words.MILD_USE.found(self._response)):
            return None
        short = any(scan.found(text) for scan in (words.MILD_USE, words.TOPICAL) for text in (self._query, self._response))
        asked = bool(drugs & self._asked)
        for part in self._parts:
            if words.ILL.found(part.text) or not (part.named & drugs or (asked and not part.named)):
                continue
            if span := self._asserted(words.STOPS, part):
                lasting = words.PLAINLY.found(self._response[span[0] : span[1]]) and words.LONG_USE.found(self._query)
                certain = bool(lasting or words.SUDDEN.found(part.text)) and not (short or words.ILL.found(self._query))
                return *span, certain
        if asked and words.STOP_ASKED.found(self._query):
            lead = (
                self._opening.denies
                if words.KEEP_ASKED.found(self._query)
                else self._opening.affirms
                if self._opening.leave
                else None
            )
            return (*lead, False) if lead else None
        return None

    def _misused(self, fact: Fact, drugs: frozenset[str]) -> _Found:
        if words.PLAIN_FORM.found(self._response) or words.PLAIN_FORM.found(self._query):
            return None
        verbs = {verb for drug in drugs for form in self._known.drug(drug).forms for verb in form.verbs} | {fact.subjects[1]}
        for verb in sorted(verbs & words.MISUSES.keys()):
            for part in self._parts:
                if (
                    not part.warns
                    and self._about(part, drugs, words.DEICTIC)
                    and (span := self._asserted(words.MISUSES[verb], part))
                ):
                    return *span, verb == fact.subjects[1]
        if (
            self._opening.leads
            and drugs <= self._asked
            and any(words.VERB_ASKED[verb].found(self._query) for verb in verbs & words.MISUSES.keys())
        ):
            return *self._opening.leads, False
        return None

    def _reassured(self, fact: Fact) -> Approval | None:
        if fact.in_response or words.URGENT.found(self._response):
            return None
        flags = [mention for mention in self._red_flags if fact.subjects[0] in mention.names]
        if self._only_denied(flags):
            return None
        for part in self._parts:
            if span := self._asserted(words.REASSURES, part):
                return Approval(fact, *span, False)
        return None
