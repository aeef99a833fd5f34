"""Mends spellings into known words: letters that stand apart, digits for letters, stretched and broken words, numbers in words.

What is changed becomes a known word by it: "5 mg", "B12", "1st", "co-codamol" and "book-keeping" stay as they are.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise, product
from typing import Final

from classifiers.text import Edit

MAX_PLACES: Final = 1_500
"""Odd spellings looked at in one text; one with more is unreadable."""
MAX_RUN: Final = 600
"""Letters of one run that are told apart into words."""
_MAX_WORD: Final = 60
_MAX_SPELLINGS: Final = 32

_CONTRACTED: Final = {
    f"{verb}nt": f"{verb}n't"
    for verb in ("do", "does", "did", "is", "are", "was", "ca", "wo", "should", "would", "could", "need", "have")
} | {"theres": "there's", "youre": "you're"}
_CONTRACTIONS: Final = frozenset(_CONTRACTED.values())
_PIECE: Final = re.compile(r"[^\W_]+(?:'(?:s|t|re|ll|ve|d|m)(?![^\W_]))?")
_SPACED_RUN: Final = re.compile(r"(?<![^\W_])[A-Za-z0-9@$](?:[\W_]{1,5}[A-Za-z0-9@$](?![^\W_])){3,}")
_DIGIT_RUN: Final = re.compile(r"\d(?:[\W_]{1,5}\d){8,}")
_LEET_WORD: Final = re.compile(
    r"(?<![^\s\"'(\[*_-])(?=[A-Za-z']{0,30}[013456789@$!|+I])[A-Za-z0-9@$!|+]++(?:'[A-Za-z0-9@$]{1,2})?+(?![.,/:%-]?\d)"
)
_COUNTED: Final = re.compile(
    r"\s?-?(?:mg|mcg|ml|g|iu|units?|tab\w*|pills?|cap\w*|doses?|h|hours?|days?|weeks?|times|x|%|years?)\b", re.IGNORECASE
)
_LEET_OF: Final = {"0": "o", "1": "il", "3": "e", "4": "a", "5": "s", "6": "g", "7": "t", "8": "b", "9": "g",
                   "@": "a", "$": "s", "!": "il", "|": "li", "+": "t", "I": "il"}  # fmt: skip
_STRETCHED_WORD: Final = re.compile(r"(?<![^\W_])[A-Za-z']{0,30}?([A-Za-z])(?i:\1)[A-Za-z']+(?![^\W_])")
_REPEATED: Final = re.compile(r"(.)\1+", re.IGNORECASE)
_BELOW_TWENTY: Final = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"),
    *("thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"),
)
_TENS: Final = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_NUMBER_WORDS: Final = {word: value for value, word in enumerate(_BELOW_TWENTY)} | {
    word: 10 * tens for tens, word in enumerate(_TENS, 2)
}
_NUMERALS: Final = "|".join(sorted(_NUMBER_WORDS, key=len, reverse=True))
_NUMBER_PHRASE: Final = re.compile(
    rf"\b(?:a|(?:{_NUMERALS})(?:[ -](?:{_NUMERALS}))?)(?:[ -](?:hundred|thousand|and|{_NUMERALS})){{1,7}}"
    r"(?=[ -](?:mg|mgs|mcg|g|ml|iu|milligrams?|micrograms?|grams?|millilit(?:er|re)s?|units?|tablets?|pills?|capsules?)\b)",
    re.IGNORECASE,
)


class TooManyPlaces(Exception):
    """A text holds more odd spellings than `MAX_PLACES`."""


class Places:
    """Counts what is looked at. Raises TooManyPlaces."""

    def __init__(self) -> None:
        self.seen = 0

    def add(self, places: int = 1) -> None:
        self.seen += places
        if self.seen > MAX_PLACES:
            raise TooManyPlaces


class Mender:
    """Mends into `words`, all lower case; those of `likely` are preferred where a run can be told apart in several ways.

    Each method takes a text and gives edits, from left to right. All raise TooManyPlaces.
    """

    def __init__(self, words: frozenset[str], likely: frozenset[str]) -> None:
        self._words = words
        self._likely = likely
        self._longest = max(map(len, words), default=0)

    def spaced(self, text: str, places: Places) -> tuple[list[Edit], tuple[int, int] | None]:
        """Letters that stand one by one: the words that they make, and the first run that makes none."""
        edits: list[Edit] = []
        lost: tuple[int, int] | None = None
        for run in _SPACED_RUN.finditer(text):
            apostrophe = "" if run[0].count("'") * 4 > len(run[0]) // 2 else "'"
            letters = [at for at in range(*run.span()) if text[at].isalnum() or text[at] in f"@${apostrophe}"]
            places.add(len(letters) // 4)
            gaps = [text[a + 1 : b] for a, b in pairwise(letters)]
            if sum(text[at].isalpha() for at in letters) * 2 < len(letters):
                if digits := _DIGIT_RUN.search(run[0]):
                    start, end = digits.span()
                    edits.append((run.start() + start, run.start() + end, re.sub(r"\D", "", digits[0])))
                continue
            usual = max(set(gaps), key=gaps.count)
            words: list[list[int]] = [[letters[0]]]
            for at, gap in zip(letters[1:], gaps, strict=True):
                if gap != usual:
                    words.append([])
                words[-1].append(at)
            if len(words) > 1 and sum(map(len, words)) < 3 * len(words):
                words = [letters]  # gaps of all kinds: they tell nothing
            mended = [self._told_apart(text, word) for word in words]
            known = sum(b - a for word in mended for a, b, spelled in word if self.known(spelled))
            long = any(len(spelled) >= 4 and self.known(spelled) for word in mended for _, _, spelled in word)
            if long and known * 10 >= len(letters) * 6:
                edits += self._written(text, letters, mended)
            elif len(letters) >= 12 and not _is_list(text, letters):
                lost = lost or run.span()
        return edits, lost

    def _told_apart(self, text: str, letters: list[int]) -> list[tuple[int, int, str]]:
        """The words in a run: (index of the first letter in `letters`, after the last, spelling)."""
        spelled = "".join(text[at] for at in letters)
        if whole := self._spelling(spelled.lower()):
            return [(0, len(letters), whole)]
        if len(letters) > MAX_RUN:
            return [(0, len(letters), spelled)]
        plain = "".join(_LEET_OF.get(char, char)[0] for char in spelled.lower())
        best: list[tuple[float, int]] = [(0.0, 0)]
        for end in range(1, len(plain) + 1):
            best.append(
                min((best[start][0] + self._cost(plain[start:end]), start) for start in range(max(0, end - self._longest), end))
            )
        words: list[tuple[int, int, str]] = []
        end = len(plain)
        while end:
            start = best[end][1]
            words.append((start, end, _CONTRACTED.get(plain[start:end], plain[start:end])))
            end = start
        return words[::-1]

    def _cost(self, word: str) -> float:
        if word in self._likely:
            return 1.0
        if self.known(word) or word in _CONTRACTED:
            return 1.2 if len(word) == 2 else 1.5
        return 4.0 * len(word)

    def _written(self, text: str, letters: list[int], runs: list[list[tuple[int, int, str]]]) -> Iterator[Edit]:
        """The edits that write words where the letters stood, a space apart."""
        first = 0
        for run in runs:
            for start, end, spelled in run:
                begin, last = letters[first + start], letters[first + end - 1]
                yield begin, last + 1, spelled
                if first + end < len(letters):
                    gap = text[last + 1 : letters[first + end]]
                    if not gap.isspace():
                        yield last + 1, letters[first + end], " "
            first += run[-1][1]

    def leet(self, text: str, places: Places) -> list[Edit]:
        """Words with digits or signs for letters. Short ones count only where a longer one was found: "T4" and "1st" are none."""
        long: list[Edit] = []
        short: list[Edit] = []
        for match in _LEET_WORD.finditer(text):
            written = match[0]
            if len(written) > _MAX_WORD:
                continue
            places.add()
            for word in dict.fromkeys((written, written.rstrip("!|+"), written.lstrip("$"))):
                if (spelled := self._spelling(word)) and spelled != word.lower():
                    start = match.start() + written.index(word)
                    enough = len(word) >= 4 and any(char.isalpha() for char in word)
                    (long if enough else short).append((start, start + len(word), spelled))
                    break
        # Digits alone are a number, unless nearly everything is written so, and nothing follows that is counted.
        numbers = {edit for edit in short if text[edit[0] : edit[1]].isdigit()}
        short = [edit for edit in short if edit not in numbers or (len(long) >= 3 and not _COUNTED.match(text, edit[1]))]
        return sorted(long + short) if long else []

    def stretched(self, text: str, places: Places) -> list[Edit]:
        edits: list[Edit] = []
        for match in _STRETCHED_WORD.finditer(text):
            word = match[0].lower()
            if len(word) > _MAX_WORD or self.known(word):
                continue
            places.add()
            runs = [run[0] for run in _REPEATED.finditer(word)]
            if len(runs) > 5 or (max(map(len, runs)) < 3 and len(runs) < 3):
                continue
            for widths in product((1, 2), repeat=len(runs)):
                kept = iter(widths)
                spelled = _REPEATED.sub(lambda run, kept=kept: run[1] * next(kept), word)  # type: ignore[misc]
                if len(spelled) > 2 and self.known(spelled):
                    edits.append((match.start(), match.end(), spelled))
                    break
        return edits

    def broken(self, text: str, places: Places) -> list[Edit]:
        """Words in two to four pieces, at least one of which is no word."""
        edits: list[Edit] = []
        pieces = [(match.start(), match.end(), match[0].lower()) for match in _PIECE.finditer(text)]
        index = 0
        while index < len(pieces):
            joined = self._joined(text, pieces, index, places)
            if joined:
                spelled = "".join(piece[2] for piece in pieces[index : index + joined])
                edits.append((pieces[index][0], pieces[index + joined - 1][1], spelled))
            index += joined or 1
        return edits

    def _joined(self, text: str, pieces: list[tuple[int, int, str]], index: int, places: Places) -> int:
        """How many pieces from `index` on make one word; 0 if none do."""
        first = pieces[index][2]
        odd = not self.known(first)
        if not odd and (index + 1 == len(pieces) or self.known(pieces[index + 1][2])):
            return 0
        places.add()
        whole = len(first) > 2 and not odd
        spelled = first
        for count in range(2, min(5, len(pieces) - index + 1)):
            start, _, piece = pieces[index + count - 1]
            gap = text[pieces[index + count - 2][1] : start]
            if len(gap) > 3:
                return 0
            known = self.known(piece)
            odd = odd or not known
            whole = whole or (known and len(piece) > 2)
            if whole and gap == "-":  # "co-codamol", "re-start"
                return 0
            spelled += piece
            if odd and len(spelled) >= 4 and self.known(spelled):
                return count
        return 0

    def _spelling(self, word: str) -> str:
        """The known word that `word` is read as; empty if there is none."""
        if self.known(word.lower()):
            return word.lower()
        choices = [_LEET_OF.get(char) or char.lower() for char in word]
        count = 1
        for each in choices:
            count *= len(each)
        if count > _MAX_SPELLINGS:
            choices = [each[0] for each in choices]
        for letters in product(*choices):
            spelled = "".join(letters)
            if self.known(spelled):
                return spelled
            if spelled in _CONTRACTED:
                return _CONTRACTED[spelled]
        return ""

    def known(self, word: str) -> bool:
        return word in self._words or word.removesuffix("'s") in self._words or word in _CONTRACTIONS

    def numbers(self, text: str) -> list[Edit]:
        """Numbers of a hundred or more that are written in words before a unit."""
        return [(match.start(), match.end(), str(_number(match[0]))) for match in _NUMBER_PHRASE.finditer(text)]


def _is_list(text: str, letters: list[int]) -> bool:
    """The alphabet, or the same few letters again and again."""
    spelled = "".join(text[at] for at in letters).lower()
    return len(set(spelled)) <= 5 or all(ord(b) - ord(a) == 1 for a, b in pairwise(spelled))


def _number(phrase: str) -> int:
    """ "eight thousand" -> 8000, "two hundred and fifty" -> 250."""
    total, part = 0, 0
    for word in re.split(r"[ -]", phrase.lower()):
        if word == "thousand":
            total, part = total + max(part, 1) * 1000, 0
        elif word == "hundred":
            part = max(part, 1) * 100
        else:
            part += _NUMBER_WORDS.get(word, 0)
    return total + part
