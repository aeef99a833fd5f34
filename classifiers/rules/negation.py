"""Whether a sentence asserts the words that a rule found in it, or denies, asks, refuses, attributes or debunks them.

"Never double your dose" names a danger and is safe; "It is not dangerous, you can double your dose" holds a "not" and is
not. So it matters what a denial governs. It is decided on the clause: first the idioms that reassure ("don't worry",
"not a problem", "no reason not to") are taken out, with the "not" in them; then the clause is cut where another begins; what
denies must be in what is left. The idea of cues and their scope is NegEx's (Chapman et al. 2001,
https://doi.org/10.1006/jbin.2001.1029), here for advice instead of diagnoses.

The expressions here are fixed, and run on windows of a few hundred characters.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from classifiers.rules import negation_languages

_BEFORE: Final = 240
_AFTER: Final = 160
_LIST: Final = 800
"""Characters looked at before a match, after it, and before a list item for the line that heads the list."""

SENTENCE_END: Final = re.compile(
    r"[.!?\n](?<![.!?][.!?])(?:"
    r"(?<=\n)(?:\s{0,40}\n|(?=[ \t]*(?:\*[ \t]|(?:[-+•>#]|\d{1,2}[.)])[ \t*_])))"
    r"|(?<!\n)(?<!\b[DdMm]r\.)(?<!\b[Mm]rs\.)(?<!\b[Mm]s\.)(?<!\be\.g\.)(?<!\bi\.e\.)(?<!\bvs\.)(?<!\bapprox\.)"
    r"(?:[.!?]*[\"')\]*_]*(?=\s|$)|(?<=[a-z)].)(?=[A-Z]))"
    r")"
)
"""Ends at the last character of a sentence or before a list item; not at "2.5 mg", "Dr. Smith" or "e.g."."""
_MARKS: Final = re.compile(r"[*_`\"]+")
_SPACE: Final = re.compile(r"\s\s+|[^\S ]")
_ITEM: Final = re.compile(r"\s*(?:\*[ \t]|(?:[-+•>]|\d{1,2}[.)])[ \t*_])")

# What denies or warns.
_NOT = (
    r"(?:not|never|cannot|nor|neither|nobody|none|nothing|hardly|rarely|seldom|scarcely|resist|tempt(?:ed|ing|ation)|"
    r"unable|refuse[sd]?|decline[sd]?|refrain|rather than|instead of|"
    r"avoid(?:s|ed|ing)?|against|discourag\w+|prohibit\w*|forbid\w*|forbidden|warn(?:s|ed|ing)?|contraindicated|"
    r"(?:do|does|did|is|are|was|were|ca|could|wo|would|should|must|need|have|has|had|might|ai)n'?t|"
    r"no (?:one|circumstances?|way|longer|account|evidence|reasons?|need|point|benefit|case|situations?|guarantee|"
    r"proof|patients?))"
)
_HARMFUL = (
    r"(?:dangerous|harmful|unsafe|risky|hazardous|fatal|deadly|wrong|mistake|misconception|myth|false|untrue|incorrect|"
    r"inappropriate|reckless|irresponsible|illegal|unethical|bad|terrible|error)"
)
_FILLER = (
    r"(?:an?|any|anything|really|that|at|all|be|been|the|going|to|cause|causes|have|so|too|very|even|as|do|much|"
    r"particularly|"
    r"actually|necessarily|considered|of|in|pose|real|known|it|you|is|are|any more|inherently|generally|likely|ever|"
    r"absolutely|serious|major|significant)"
)
# A "not" in these denies a worry, not the advice. Each is taken out before anything else is read.
REASSURANCE: Final = re.compile(
    r"\b(?:"
    r"not (?:only|just|merely|simply)(?: (?:can|could|may|should) you)?"
    rf"|(?:myth|misconception|untrue|not true|false|lie|nonsense|wrong|incorrect)(?: to (?:say|think|believe|"
    rf"claim))? that(?: \w+){{0,5}}? (?:not|never|can'?t|cannot|\w+n't|{_HARMFUL})"
    r"|no(?:t|thing)? (?:a )?(?:reason|cause)s?(?: why| that)?(?: you| they)? (?:not|can'?t|shouldn'?t|couldn'?t|"
    r"never)(?: to)?"
    r"|(?:\w+n'?t|cannot|no reason to) (?:see|think of|find) (?:any |a )?(?:reason |why )+(?:you )?(?:not|\w+n'?t)(?: to)?"
    r"|why (?:not|(?:do|would|should|ca)n'?t (?:you|we))|or not|whether or not|no doubt|no matter"
    rf"|(?:\w+n'?t|not|never|cannot|no (?:need|reason) to|need not)(?: {_FILLER}){{0,3}} (?:worr(?:y|ied)|hesitate|"
    rf"panic|be (?:afraid|scared|shy)|afraid|fear|forget|"
    r"mind|stress|fret|feel (?:bad|guilty))"
    rf"|(?:\w+n'?t|not|never|cannot|no|nothing|hardly|without|neither|zero)(?: {_FILLER}){{0,3}} (?:{_HARMFUL}|harms?|"
    rf"hurts?|problems?|issues?|"
    r"risks?|dangers?|concerns?|trouble|deal|big deal|worry|worries|downside|consequences|kill|matter|serious|"
    r"emergency|cause for concern)"
    r"|(?:\w+n'?t|cannot|can not) (?:stress|emphasi[sz]e|overstate|recommend) (?:this |it )?enough|can(?:no|"
    r"')?t (?:go wrong|overdose)"
    r"|(?:nothing|never|not)(?: been| is| be)? (?:better|safer|easier|simpler|more effective)(?: than| way)?|"
    r"no better way(?: than)?"
    r"|(?:\w+n't|do not|never|no need to) wait for (?:your|the|a) \w+"
    r"|no worries|not to worry|not to mention|nothing to lose|nothing stop(?:s|ping) you"
    r")\b"
)

# Where another clause begins, with its own truth.
_CLAUSE: Final = re.compile(
    r"[;—]| - | -- |\b(?:but|however|so|therefore|instead|otherwise|then|yet|although|though|because|since|"
    r"which means)\b(?! of\b)"
    r"|\band (?:you|it|it's|there|there's|they|they're|just|simply|go|feel|please|i|i'd|we|that|that's|this|yes)\b"
)
_COMMA: Final = re.compile(r"[,:()]")
_LIST_GOES_ON: Final = re.compile(r"\W*(?:or|nor)\b")
_LIST_ENDS: Final = re.compile(r"[^,.;]{0,40},? (?:or|nor)\b")
_CONDITION: Final = re.compile(
    r"\W*(?:and |or |only |even )*(?:if|when|whenever|once|while|in case|as|where|after|until|unless|given)\b"
)
_DENIES: Final = re.compile(rf"\b{_NOT}\b|\b{_HARMFUL}(?: \w+)? (?:to|that|if|when|by)\b")
_EXCLUDES: Final = re.compile(rf"\b(?:{_NOT}|but|unless)\b")
_DENIES_LAST: Final = re.compile(r"\b(?:not|never|cannot|avoid|no circumstances|\w+n't)\W*$")
_DENIES_DIRECTLY: Final = re.compile(rf"\b{_NOT}(?: (?:ever|simply|just|have|need|want|to|try|wish|already|yet))*\W*$")
# "If you double your dose", "ask whether it is safe": spoken of, not advised.
_MENTIONED: Final = re.compile(
    r"\b(?:whether .*|"
    r"(?:make sure|be sure|check|confirm|verify)(?: that)? (?:it|they|these)(?:'s|'re| is| are)|"
    r"(?:safer|better|wiser) \w+(?: \w+){0,5} than(?: to)?|(?:should|can|may|could) (?:you|i|we|they|one)|"
    r"(?:if|before|when|unless|until) (?:you|they|someone) "
    r"(?:decide|assume|think|believe|conclude|feel|read|hear|are told)(?: that)?(?: (?:it|they|you))?(?:'s|'re| is|"
    r" are| can| should)?|"
    r"(?:before|without|by|of|than) (?:assuming|thinking|believing|deciding|concluding)(?: that)?(?: (?:it|they|"
    r"you))?(?:'s|'re| is| are| can| should)?|"
    r"(?:if|when|whenever|before|in case|unless|until|after|because|how|wherever|who|anyone who)"
    r"(?: (?:you|it|they|she|he|we|i|someone|a patient|patients|people|your child|that|these|those|this|there))?(?:'s|"
    r"'re|'ve|'d)?"
    r"(?: (?:is|are|was|were|can|could|may|might|must|should|would|have|had|has|to|ever|accidentally|happen|"
    r"mistakenly|really|still|also|need|also)){0,3})\W*$"
)
_PRESCRIBER = (
    r"(?:(?:your|a|the|his|her|their|my|our|another) (?:own )?(?:[\w-]+ )?)(?:doctor|physician|prescriber|clinician|"
    r"provider|pharmacist|nurse|"
    r"specialist|cardiologist|endocrinologist|psychiatrist|dermatologist|neurologist|pa?ediatrician|oncologist|gp|"
    r"dentist|team|professional)"
    r"(?: or \w+(?: \w+)?)?"
)
_PRESCRIBED: Final = re.compile(
    rf"\b(?:(?<!without )(?<!even if ){_PRESCRIBER}|(?:doctors|physicians|providers|clinicians|prescribers|"
    rf"specialists))(?: \w+){{0,2}}? (?:may|might|can|could|will|"
    r"would|should|is|tells?|told|says|said|asks?|asked|advises?|advised|recommends?|recommended|instructs?|"
    r"instructed|decides?|"
    r"wants?|directs?|directed|has|have|had|to|slowly|gradually|sometimes|often|usually|typically|approves?)\b"
)
_AS_PRESCRIBED: Final = re.compile(
    rf"(?<!even )\b(?:only|just|unless|if|when|once|until|as)\b(?: \w+){{0,4}}? {_PRESCRIBER}(?: (?:specifically|has|"
    rf"have))?"
    r" (?:tells?|told|says? (?:so|to|it)|asks?|asked|advises?|advised|agrees?|approves?|recommends?|recommended|"
    r"instructs?|instructed|directs?|"
    r"directed|prescribes?|prescribed|confirms?)\b"
    rf"|\b(?:as|if|when|unless) (?:directed|instructed|advised|prescribed|recommended|"
    rf"told)(?: to(?: do so)?)? by {_PRESCRIBER}"
)
_REPORTED: Final = re.compile(
    r"\b(?:(?:some|many|most|other|a lot of|plenty of|certain) (?:people|patients|folks|websites|sites|users|forums|"
    r"influencers)|people|"
    r"(?:you|they)(?: may| might)?(?: have)? (?:hear|heard|read|think|believe)|(?:often|commonly|sometimes|"
    r"widely) (?:said|believed|thought|claimed)|"
    r"told (?:me|you|us)|contrary to|rumou?rs?|claims?|claimed|the internet|online|social media|friends?|the idea|belief|"
    r"assumption|the notion)\b"
)
_DEBUNKED: Final = re.compile(
    r"\b(?:myth|misconception|false|untrue|wrong|incorrect|inaccurate|mistaken|dangerous|unsafe|risky|harmful|fatal|"
    r"destroys?|damages?|kills?|not|never|cannot|avoid|"
    r"(?:is|are|do|does|ca|should)n't)\b"
)
_MYTH_LABEL: Final = re.compile(
    r"^\W*(?:\d+\W+)?(?:common |the )?(?:myths?|misconceptions?|false|fiction)(?: \d+)?(?: #\d+)?\W*[:—-]"
)
_DEBUNKED_AFTER: Final = re.compile(
    r"^[\"')\s*]*,?\s*(?:(?:but|and|although|though|which|however),? )?(?:(?:this|that|which|it|they|doing so) )?"
    r"(?:(?:is|are|was|would be|can be|could be|may be|might be)|(?:this|that|it|which)'s)(?: (?:an?|the|very|"
    r"extremely|actually|simply|just|often|potentially|"
    rf"also|common|widespread|totally|completely))*(?: (?:{_HARMFUL}|not|never|lethal|life-threatening))\b"
    r"|^[\"')\s*]*,?\s*(?:has|have|had) (?:been |since been )?(?:\w+ )?"
    r"(?:disproved|disproven|debunked|refuted|discredited|shown to be (?:false|wrong))\b"
    r"|^[\"')\s*]*,?\s*(?:(?:but|and|which|that) )?(?:can|could|may|might|will) (?:\w+ )?(?:cause|harm|damage|kill|"
    r"(?:increase|raise) (?:the|your) risk|be (?:dangerous|harmful|fatal))\b"
)
_SUGGESTS: Final = re.compile(
    r"\b(?:why (?:not|don'?t)|how about|what about|shall we)\b|^\W*(?:you (?:can|could|may|should)|yes|sure|of course|"
    r"absolutely|just|go ahead)\b"
)
_TAG: Final = re.compile(
    r",\s*(?:ok|okay|right|alright|yes|yeah|see|understood?|got it|deal|(?:is|are|do|ca|wo)n't (?:it|they|you))\W*$"
)
# "Should you double the dose? Yes, go ahead.": the question is answered, and with no if or but.
_AFFIRMED: Final = re.compile(
    r"^\W*(?:yes|yep|yeah|sure|absolutely|definitely|certainly|of course|by all means|go ahead|no problem|totally|"
    r"without a doubt)\b"
)
_ASKS_LEAVE: Final = re.compile(
    r"^\W*(?:(?:so|and|but),? )?(?:(?:can|may|should|could|shall) (?:you|i|we|they)|(?:is|would) it (?:be )?(?:ok|okay|safe|fine|"
    r"alright|all right)(?: for you| for me)? (?:to|if (?:you|i)))?(?: \w+){0,3} ?$"
)
_RESTRICTED: Final = re.compile(
    rf"\b(?:{_NOT}|{_HARMFUL}|if|when|once|until|unless|only|but|although|though|ask|check|after|no)\b"
)


@dataclass(frozen=True, slots=True)
class Sentence:
    """The sentence around a match: `text == whole[start:end]`. `heading` is the line that heads its list, if it is an item
    of one; `following` what comes after it.
    """

    text: str
    start: int
    heading: str
    following: str

    @classmethod
    def around(cls, whole: str, start: int, end: int) -> Sentence:
        """The sentence of `whole` that holds the characters `start` to `end`, cut some hundred characters from them."""
        first = max(0, start - _BEFORE)
        for boundary in SENTENCE_END.finditer(whole, first, start + 1):
            if boundary.end() <= start:
                first = boundary.end()
        closing = SENTENCE_END.search(whole, max(start, end - 1), end + _AFTER)
        last = closing.end() if closing else min(len(whole), end + _AFTER)
        return cls(whole[first:last], first, _heading(whole, first), whole[last : last + _AFTER // 2])

    def asserts(self, start: int, end: int, gaps: tuple[tuple[int, int], ...] = (), language: str = "en") -> bool:
        """The sentence states or advises what stands from `start` to `end` of the whole text, with `gaps` between its words."""
        before = _plain(self.text[: start - self.start])
        after = _plain(self.text[end - self.start :])
        inside = " ".join(_plain(self.text[a - self.start : b - self.start]) for a, b in gaps)
        if language != "en":
            return negation_languages.asserts(language, before, inside, after, _plain(self.heading))
        if after.rstrip().endswith("?") and not _SUGGESTS.search(before) and not _TAG.search(after.rstrip()):
            return self._affirmed(before, f"{inside} {after}")
        if _EXCLUDES.search(REASSURANCE.sub(" ", inside)):
            return False
        if _DEBUNKED_AFTER.search(REASSURANCE.sub(" ", after)) or _AS_PRESCRIBED.search(after):
            return False
        if _MYTH_LABEL.search(before):
            return False
        if _REPORTED.search(before) and _DEBUNKED.search(REASSURANCE.sub(" ", after + " " + _plain(self.following))):
            return False
        return not _denied(before, after) and not (self.heading and _denied(_plain(self.heading), ""))

    def _affirmed(self, before: str, after: str) -> bool:
        """This sentence asks leave, and what follows gives it: "Should you double the dose? Yes"."""
        if not _ASKS_LEAVE.search(before) or _RESTRICTED.search(f"{before} {after}".replace("if you", "").replace("if i", "")):
            return False
        answer = re.split(r"[.!?\n]", _plain(self.following).strip(), maxsplit=2)[:2]
        return bool(_AFFIRMED.search(answer[0])) and not _RESTRICTED.search(REASSURANCE.sub(" ", " ".join(answer)))


def without_reassurance(text: str) -> str:
    """`text` in plain characters, without the denials that deny a worry ("no problem", "not dangerous")."""
    return REASSURANCE.sub(" ", _plain(text))


def _plain(text: str) -> str:
    """Lower case, one space for any whitespace, no emphasis and no quotes."""
    return _SPACE.sub(" ", _MARKS.sub("", text)).lower()


def _denied(before: str, after: str) -> bool:
    """What follows `before` in its clause is denied, conditional, or another's decision."""
    clear = _SPACE.sub(" ", REASSURANCE.sub(" ", before))
    clause = clear
    for boundary in _CLAUSE.finditer(clear):
        clause = clear[boundary.end() :]
    parts = _COMMA.split(clause)
    governing = parts[-1]
    listed = _LIST_GOES_ON.match(governing) or (not governing.strip() and _LIST_ENDS.match(after))
    if listed and len(parts) > 1:
        governing = clause
    elif any(_DENIES_LAST.search(part) and not _CONDITION.match(part) for part in parts[:-1]):
        return True
    if _MENTIONED.search(governing) or _PRESCRIBED.search(governing):
        return True
    if _CONDITION.match(governing):
        return bool(_DENIES_DIRECTLY.search(governing))
    return bool(_DENIES.search(governing))


def _heading(whole: str, start: int) -> str:
    """The line before the list in which an item begins at `start`, without its colon; empty if there is no such line."""
    item = whole.rfind("\n", 0, start) + 1
    if not _ITEM.match(whole, item):
        return ""
    for line in reversed(whole[max(0, item - _LIST) : item].split("\n")):
        stripped = line.rstrip(" *_")
        if stripped.endswith(":") and not _ITEM.match(line):
            return stripped.rstrip(":")
        if stripped and not _ITEM.match(line):
            return ""
    return ""
