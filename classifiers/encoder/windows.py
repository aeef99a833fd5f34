"""What the encoder reads of an exchange: the query beside the response, which is cut into overlapping windows."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MAX_QUERY_TOKENS = 160
"""Of a longer query the beginning and the end are read, half each: people tell the story first and ask last. It counts as not
read."""
WINDOW_TOKENS = 288
WINDOW_OVERLAP = 48
MAX_WINDOWS = 128
"""Of one response, its beginning and its end: 100,000 characters of English, a second of work. The rest counts as not read."""
SCRIPTS = ("LATIN", "GREEK", "MICRO", "MODIFIER", "MASCULINE", "FEMININE")
"""How the Unicode names of letters begin that occur in languages which the encoder was taught."""


class UnreadableTokenizer(ValueError):
    """A tokenizer.json without the tokens that frame a pair."""


@dataclass(frozen=True, slots=True)
class Window:
    """A part of one response with its query: token ids and segment ids, and the span in the response's characters.

    `known_word`: there is a word of the response that the encoder can read. `unknown_word`: there is one, or one of the
    query, that it cannot, so that it stands for nothing, or for something else; or query or response is too long to be read.
    """

    text: int
    ids: list[int]
    segments: list[int]
    start: int = 0
    end: int = 0
    known_word: bool = False
    unknown_word: bool = False


class WindowReader:
    """Cuts exchanges into windows with a WordPiece tokenizer. Raises UnreadableTokenizer."""

    def __init__(self, tokenizer_json: Path) -> None:
        from tokenizers import Tokenizer

        self._tokenizer: Any = Tokenizer.from_file(str(tokenizer_json))
        self._tokenizer.encode_special_tokens = True  # a "[SEP]" in a text is four tokens of text
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self.cls, self.sep, self._unk = map(self._special_token, ("[CLS]", "[SEP]", "[UNK]"))
        vocabulary = self._tokenizer.get_vocab()
        self._words = frozenset(id for word, id in vocabulary.items() if id != self._unk and any(map(str.isalnum, word)))

    def empty(self) -> Window:
        """A window on nothing."""
        return Window(0, [self.cls, self.sep], [0, 0])

    def windows(self, texts: Sequence[str], queries: Sequence[str] | None = None) -> list[Window]:
        """Every response as one or more overlapping windows, each with its query."""
        pairs = zip(texts, queries if queries is not None else [""] * len(texts), strict=True)
        return [window for row, (text, query) in enumerate(pairs) for window in self._windows(row, text, query)]

    def _windows(self, row: int, text: str, query: str) -> Iterator[Window]:
        asked, _, _, unknown_asked = self._tokens(query)
        unread = len(asked) > MAX_QUERY_TOKENS
        if len(asked) > MAX_QUERY_TOKENS:
            half = MAX_QUERY_TOKENS // 2
            asked, unknown_asked = [*asked[:half], *asked[-half:]], [*unknown_asked[:half], *unknown_asked[-half:]]
        ids, offsets, known, unknown = self._tokens(text)
        prefix = [self.cls, *asked, self.sep]
        room = WINDOW_TOKENS - len(prefix) - 1
        begins: Sequence[int] = range(0, max(1, len(ids) - WINDOW_OVERLAP), room - WINDOW_OVERLAP)
        if len(begins) > MAX_WINDOWS:
            unread = True
            begins = [*begins[: MAX_WINDOWS // 2], *begins[-MAX_WINDOWS // 2 :]]
        for begin in begins:
            part = slice(begin, begin + room)
            spans = offsets[part]
            yield Window(
                row,
                [*prefix, *ids[part], self.sep],
                [0] * len(prefix) + [1] * (len(spans) + 1),
                start=spans[0][0] if spans else 0,
                end=spans[-1][1] if spans else 0,
                known_word=any(known[part]),
                unknown_word=any(unknown[part]) or any(unknown_asked) or unread,
            )

    def _special_token(self, name: str) -> int:
        token: int | None = self._tokenizer.token_to_id(name)
        if token is None:
            raise UnreadableTokenizer(f"the tokenizer has no {name}")
        return token

    def _tokens(self, text: str) -> tuple[list[int], list[tuple[int, int]], list[bool], list[bool]]:
        """Of each token: id, span in characters of the text, whether it is (of) a word that is known, or one that is unknown."""
        text = text.encode("utf-8", "replace").decode()  # the tokenizer refuses lone surrogates; each becomes one "?"
        encoding = self._tokenizer.encode(text, add_special_tokens=False)
        if text.isascii():
            ids = encoding.ids
            unknown = [id == self._unk for id in ids] if self._unk in ids else [False] * len(ids)
            return ids, encoding.offsets, [id in self._words for id in ids], unknown
        spelled = [text[start:end] for start, end in encoding.offsets]
        words = [any(map(str.isalnum, spelling)) for spelling in spelled]
        strange = [id == self._unk or _is_foreign(word) for id, word in zip(encoding.ids, spelled, strict=True)]
        known = [word and not odd for word, odd in zip(words, strange, strict=True)]
        unknown = [word and odd for word, odd in zip(words, strange, strict=True)]
        return encoding.ids, encoding.offsets, known, unknown


def _is_foreign(word: str) -> bool:
    """Whether a letter or digit is of a script that the encoder was not taught, though its vocabulary has single letters."""
    return not word.isascii() and any(
        (char.isalpha() or char.isdecimal()) and not unicodedata.name(char, "").startswith(SCRIPTS)
        for char in word
        if not char.isascii()
    )
