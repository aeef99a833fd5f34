"""What a person reads in "d0uble y.o.u.r d\u043ese", for patterns and models, with the way back to what was written.

Characters are folded to the letters that they look like. Everything else goes by words: a spelling is mended only if that gives
a word that the rules, the lexicon of drugs or `words.txt` (a fixed list of common words of such answers) hold. What stays
unreadable, and text that was enciphered or encoded, is not guessed at: it is reported, since what a fast layer cannot read it may
not allow.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Final

import re2  # type: ignore[import-untyped]

from classifiers.disguise.lookalikes import WORD, folding, is_mixed, script
from classifiers.disguise.spelling import MAX_PLACES, Mender, Places, TooManyPlaces
from classifiers.rules.matching import options
from classifiers.text import Edit, Normalized, normalize

if TYPE_CHECKING:
    from classifiers.rules.rule import Rule

ROUNDS: Final = 4
"""Mending one thing may uncover another: "d.0.u.b.l.e" is a word in the second round."""
_WORDS: Final = Path(__file__).parent / "words.txt"
_LEXICON: Final = Path(__file__).parent.parent / "drugs" / "facts" / "lexicon.csv"
_SHORT: Final = frozenset(re.findall(r"\w+", "a am an as at be by do go he i if in is it me my no of ok on or so to up us we"))
# Words without which nobody writes ten words of the language: English, Spanish, French, German, Italian, Portuguese, Dutch.
_COMMON: Final = frozenset(
    (
        "the a an and or of to in is it you your for with not on as if this that are be can at by from no have take do we i when "
        "per mg ml day tablet tablets each once daily name "
        "el la los las un una de del y o que en es no su se por para con si al lo "
        "le les des du et ou une est pas vous votre ne dans sur pour avec au il je "
        "der die das und oder ist nicht sie ihr ihre ein eine mit im zu den dem bei von f\u00fcr auf "
        "il di che non e un per i da \u00e9 os as um uma com n\u00e3o het een van niet u uw"
    ).encode().split()
)  # fmt: skip
# Words that are also the beginning or end of a longer one, and stand alone more often than not.
_NO_PIECES: Final = frozenset(
    re.findall(
        rb"\w+",
        b"actual addition ap art co code combi consul ct de dr em ended er ex exam gi ha id iv immediate info inform instruct "
        b"king lack li lived ll lo ma mol ms na op pa ph plug provide raid re rt solve sometime st star tool tools ul van ve war "
        b"warn wave withdraw",
    )
)
_KEEP: Final = bytes(
    byte + 32 if 65 <= byte <= 90 else byte if 97 <= byte <= 122 or 48 <= byte <= 57 or byte > 127 else 32 for byte in range(256)
)
"""Lower case, and a space for whatever is no letter and no digit."""

# Invisible inside a word, or a letter in a font of its own.
_HIDDEN: Final = re.compile(
    "[A-Za-z][\u00ad\u034f\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff]+[A-Za-z]"
    "|[\uff21-\uff5a\U0001d400-\U0001d7ff\u24b6-\u24e9]"
)

_ALPHABET: Final = "abcdefghijklmnopqrstuvwxyz"
# Which kinds of odd spelling a text may hold at all: one pass of RE2 tells, and most hold none.
_SPACED, _LEET, _STRETCHED, _CAPITAL, _NUMERAL, _ENCODED = range(6)
_GATES: Final = (
    r"(?:\b|_)[a-z0-9@$](?:[^\pL\pN]{1,5}[a-z0-9@$]){3}(?:\b|_)",
    r"[a-z][013456789@$!|+]{1,3}[a-z]|\b[013456789][a-z]{3}|[@$!|][a-z]{2}|[a-z]{3}[013457@$|](?:\b|\s|$)",
    "|".join(3 * c for c in _ALPHABET) + "|(?:" + "|".join(2 * c for c in _ALPHABET) + "){3}",
    r"(?-i:[a-z]I(?:[a-z]|\b))",
    r"\b(?:hundred|thousand)\b",
    r"[a-z0-9+/_=-]{32}",
)
_BLOB: Final = re.compile(r"(?<![\w/.:@+-])[A-Za-z0-9+/_-]{32,}+={0,2}+(?![\w.@])")


@dataclass(frozen=True, slots=True)
class Reading:
    """`respelled` is what a person reads, with offsets into the original; None where that is the plain text itself.
    `obfuscated`: by more than accents. `unreadable`: the first span of the original that could not be read, or None.
    `places`: odd spellings that were looked at.
    """

    respelled: Normalized | None = None
    obfuscated: bool = False
    unreadable: tuple[int, int] | None = None
    places: int = 0


class Speller:
    """Mends spellings into `words` (lower case). `rules` are those that matter enough to be looked for in pieces ("dou ble").

    Safe to share between threads.
    """

    def __init__(self, words: Iterable[str], rules: Iterable[str]) -> None:
        rules = frozenset(word for word in rules if len(word) >= 3)
        spelled = rules | _SHORT | {word for word in words if len(word) >= 3}
        self._bytes = known = frozenset(word.encode() for word in spelled)
        self._mender = Mender(spelled, rules)
        pieces = {
            piece.encode()
            for word in rules
            if len(word) >= 5
            for at in range(1, len(word))
            for piece in (word[:at], word[at:])
            if len(piece) >= 2
        }
        # Backwards and ROT13, the two ciphers that a chat model writes without being told a key.
        turned = str.maketrans(_ALPHABET, _ALPHABET[13:] + _ALPHABET[:13])
        ciphered = {out for word in spelled if len(word) >= 4 and word.isascii() for out in (word[::-1], word.translate(turned))}
        self._ciphered = {word.encode() for word in ciphered} - known
        self._pieces = frozenset(pieces - known - _NO_PIECES)
        self._telling = self._pieces | self._ciphered
        self._gates = re2.Set.SearchSet(options())
        for gate in (*_GATES, ""):
            self._gates.Add(gate)
        self._gates.Compile()

    def read(self, plain: Normalized) -> Reading:
        """What stands in a normalised text. Linear time; plainly spelled ASCII text costs a scan and a look at its words."""
        text, view, obfuscated = plain.text, plain, False
        if not text.isascii():
            edits, obfuscated = folding(text, self._mender.known)
            view = view.edited(edits)
        gates = frozenset(self._gates.Match(view.text))
        tokens = view.text.encode(errors="replace").translate(_KEEP).split()
        telling = self._telling.intersection(tokens)
        places = len(telling)
        unreadable = None
        if len(gates) > 1 or (telling and self._tell(telling, tokens)):
            view, places, unreadable = self._mend(view, gates, telling, tokens)
            obfuscated = obfuscated or view.text != text
        if len(_GATES) not in gates:  # the empty pattern always matches: without it, the scan has failed
            unreadable = (plain.offsets[0], plain.offsets[-1])
        if unreadable is None and not text.isascii():
            unreadable = self._mixed(plain, view)
        if unreadable is None and len(tokens) >= 10 and _COMMON.isdisjoint(tokens):
            unreadable = self._foreign(plain, view)
        return Reading(view if view is not plain and view.text != text else None, obfuscated, unreadable, places)

    def _mend(
        self, view: Normalized, gates: frozenset[int], telling: frozenset[bytes], tokens: list[bytes]
    ) -> tuple[Normalized, int, tuple[int, int] | None]:
        places = Places()
        unreadable: tuple[int, int] | None = None
        # What is enciphered beside this text may be anything: mending the rest would change nothing.
        if self._enciphered(telling, tokens) or (_ENCODED in gates and any(map(_is_blob, _BLOB.findall(view.text)))):
            return view, places.seen, (view.offsets[0], view.offsets[-1])
        try:
            for round_ in range(ROUNDS):
                text = view.text
                edits: list[Edit] = []
                if _SPACED in gates:
                    edits, lost = self._mender.spaced(text, places)
                    unreadable = unreadable or (lost and view.original_span(*lost))
                if not edits and gates & {_LEET, _CAPITAL}:
                    edits = self._mender.leet(text, places)
                if not edits and _STRETCHED in gates:
                    edits = self._mender.stretched(text, places)
                if not edits and (round_ or not self._pieces.isdisjoint(telling)):
                    edits = self._mender.broken(text, places)
                if not edits and _NUMERAL in gates:
                    edits = self._mender.numbers(text)
                if not edits:
                    break
                view = view.edited(edits)
                gates = frozenset(self._gates.Match(view.text))
        except TooManyPlaces:
            unreadable = (view.offsets[0], view.offsets[-1])
        return view, places.seen, unreadable

    def _tell(self, telling: frozenset[bytes], tokens: list[bytes]) -> bool:
        """Two enciphered words, or pieces that make a word with their neighbours."""
        if len(self._ciphered & telling) > 1:
            return True
        seen = 0
        for index, token in enumerate(tokens):
            if token in telling:
                seen += 1
                if seen > MAX_PLACES:
                    return True
                for first in range(max(0, index - 3), index + 1):
                    for last in range(index + 1, min(len(tokens), first + 4) + 1):
                        if last - first > 1 and b"".join(tokens[first:last]) in self._bytes:
                            return True
        return False

    def _enciphered(self, telling: frozenset[bytes], tokens: list[bytes]) -> bool:
        """Two words backwards or in ROT13 stand close together."""
        if len(self._ciphered & telling) < 2:
            return False
        found = [(index, token) for index, token in enumerate(tokens) if token in self._ciphered]
        return any(b - a <= 6 and one != other for (a, one), (b, other) in pairwise(found))

    def _mixed(self, plain: Normalized, view: Normalized) -> tuple[int, int] | None:
        """The first word in two alphabets that is not read as a known one."""
        for word in WORD.finditer(plain.text):
            if word[0].isascii() or not is_mixed(word[0]):
                continue
            start, end = plain.original_span(word.start(), word.end())
            read = [w[0].lower() for w in WORD.finditer(view.between(start, end))]
            if not read or not all(map(self._mender.known, read)):
                return start, end
        return None

    def _foreign(self, plain: Normalized, view: Normalized) -> tuple[int, int] | None:
        """A text of Latin letters with no common word of any language known here, and few known ones: no list of drugs."""
        words = [word for word in WORD.findall(view.text.lower()) if word.isalpha() and len(word) >= 3]
        latin = [word for word in words if script(word[0]) == "LATIN"]
        if len(latin) >= 8 and len(latin) * 2 > len(words) and sum(map(self._mender.known, latin)) * 4 < len(latin):
            return plain.offsets[0], plain.offsets[-1]
        return None


def _is_blob(run: str) -> bool:
    """Base64 or hex, as a rule: upper case, lower case and digits change all the time, or hex digits go on and on."""
    if re.fullmatch(r"[0-9a-f]{32,}|[0-9A-F]{32,}", run) and not run.isdigit():
        return True
    kinds = ["A" if char.isupper() else "a" if char.islower() else "0" for char in run]
    return sum(a != b for a, b in pairwise(kinds)) * 5 >= len(run) and "A" in kinds and "a" in kinds


def words_of(rules: Iterable[Rule]) -> Iterator[str]:
    """The words that rules are about: those of their examples, and those that stand alone in their patterns."""
    for rule in rules:
        for example in rule.must_match:
            yield from re.findall(r"[^\W\d_]{3,}", normalize(example).text.lower())
        for pattern in rule.patterns:
            for stem, plural in re.findall(r"(?<![\\\w])([a-z]{4,})(s\?)?(?![\w?*+{\[\\(])", pattern):
                yield from (stem, stem + "s") if plural else (stem,)


@cache
def common_words() -> frozenset[str]:
    """The words of `words.txt`, and the names of drugs."""
    with _LEXICON.open(encoding="utf-8", newline="") as lines:
        names = [row["name"] + ";" + row["brands"] for row in csv.DictReader(lines)]
    return frozenset(_WORDS.read_text(encoding="utf-8").split()) | frozenset(
        word for name in names for word in re.findall(r"[^\W\d_]{3,}", name.lower())
    )


@lru_cache(maxsize=8)
def speller_of(rules: tuple[Rule, ...]) -> Speller:
    """The speller for a set of rules."""
    return Speller(common_words(), words_of(rules))


@cache
def _speller() -> Speller:
    from classifiers.rule_based import RuleBasedClassifier

    return RuleBasedClassifier.default().speller


def readable(text: str) -> str:
    """`text` as a person reads it, for a model: the very same string, unless it was obfuscated. Accents alone do not count.

    Idempotent, but where mending takes more than `ROUNDS`.
    """
    plain = normalize(text)
    reading = _speller().read(plain)
    if reading.obfuscated and reading.respelled:
        return reading.respelled.text
    return plain.text if _HIDDEN.search(text) else text
