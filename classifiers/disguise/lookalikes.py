"""The plain letter that a character looks like: homoglyphs, fonts, accents.

Most are read off Unicode's own data: what a character decomposes to, and its name ("LATIN SMALL LETTER O WITH STROKE",
"NEGATIVE SQUARED LATIN CAPITAL LETTER D"). The table holds what that does not say: letters of other scripts that are drawn
alike, as in Unicode's confusables (https://www.unicode.org/reports/tr39/).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from functools import lru_cache
from typing import Final

from classifiers.text import Edit

_DRAWN_ALIKE: Final = {
    "a": "аᎪαΑᗅꓮ⍺ɑɐᴀΛⱥ",
    "b": "ВЬвҌҍᏏᏴᖯƄʙΒβᗷꓐъ",
    "c": "сСϲϹⅽⅭᏟꓚᑕⲥⲤƈᴄ",
    "d": "ԁԀⅾⅮᎠᗪꓓɗɖᴅժδ",
    "e": "еЕεΕҽҾΣєЄ℮Ꭼꓰⴹᗴᴇɛəǝξ",
    "f": "ϝϜſᖴꓝғƒꜰ",
    "g": "ɡցԌԍᏀᎶꓖɢɠ",
    "h": "һҺНнΗηᎻᏂᕼꓧհʜћђ",
    "i": "іІιⅰⅠӀᎥꓲɩɪı",
    "j": "јЈϳͿᎫᒍꓙյᴊɟ",
    "k": "кКκΚᏦꓗⲔⲕᴋƙқҚ",
    "l": "ӏⅼⅬᏞꓡᒪʟɭŀ",
    "m": "мМΜⅿⅯᎷꓟᗰᴍɱ",
    "n": "ոռпПΝᑎꓠɴŋɲήиИղ",
    "o": "оОοΟσօՕߋⲟⲞᎾꓳᴏⵔθϴө",
    "p": "рРρΡᏢᑭꓑⲣⲢᴘþ",
    "q": "ԛԚգզᑫ",
    "r": "гᴦⲅᎡᖇꓣʀɾɼЯя",
    "s": "ѕЅՏᏚᏕꓢꜱʂƨ",
    "t": "тТτΤᎢꓔᴛŧƭ",
    "u": "υսՍᑌꓴᴜʋʊцЦ",
    "v": "ѵѴνᏙᐯꓦᴠⅴⅤ",
    "w": "ԝԜᎳꓪωѡшШաᴡɯ",
    "x": "хХχΧⅹⅩ᙭ꓫ",
    "y": "уУүҮγΥᎩꓬʏƴɣϒ¥ㄚ",
    "I": "ΙǀƖ",
    "z": "ᏃꓜᴢʐƶΖ",
}  # fmt: skip
_NAMED: Final = re.compile(
    r"(?:(?:CROSSED )?(?:NEGATIVE )?(?:CIRCLED|SQUARED) |REGIONAL INDICATOR SYMBOL |MODIFIER |COMBINING )*(?:LATIN )?"
    r"(?:SUBSCRIPT |SUPERSCRIPT )?(?:LETTER )?(?:SMALL CAPITAL |SMALL |CAPITAL |MODIFIER )?LETTER "
    r"(?:(?:SMALL CAPITAL|SMALL|CAPITAL|SCRIPT|DOTLESS|TURNED|REVERSED|SIDEWAYS|OPEN|INVERTED|BLACKLETTER|VOLAPUK) )*"
    r"([A-Z])(?: WITH .*| ROTUNDA| DIGRAPH)?"
)
_DIGIT: Final = re.compile(
    r"(?:NEGATIVE CIRCLED|DINGBAT (?:NEGATIVE )?CIRCLED(?: SANS-SERIF)?|DOUBLE CIRCLED) (?:SANS-SERIF )?DIGIT (\w+)"
)
_DIGITS: Final = ("ZERO", "ONE", "TWO", "THREE", "FOUR", "FIVE", "SIX", "SEVEN", "EIGHT", "NINE")
_TABLE: Final = {alike: letter for letter, drawn in _DRAWN_ALIKE.items() for alike in drawn}
_SCRIPTS: Final = frozenset(
    {"LATIN", "CYRILLIC", "GREEK", "COPTIC", "ARMENIAN", "CHEROKEE", "LISU", "CANADIAN", "DESERET", "GEORGIAN"}
)
# Letters of alphabets that have look-alikes, marks, and letters that are symbols.
_ODD_LETTER: Final = (
    "\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u036f\u0370-\u0588\u0e3f\u10a0-\u10ff\u13a0-\u167f\u1ab0-\u1aff\u1d00-\u1dff\u1e00-\u1fff"
    "\u2070-\u209f\u20d0-\u20ff\u2100-\u218f\u2460-\u24ff\u2776-\u2793\u2c00-\u2dff\ua4d0-\ua4ff\ua640-\ua69f\ua720-\ua7ff\uab30-\uabbf"
    "\ufe20-\ufe2f\U00010400-\U0001044f\U0001f100-\U0001f1ff"
)
_ODD: Final = re.compile(f"[{_ODD_LETTER}]+")
_FOREIGN: Final = re.compile("[\u0370-\u052f\u0531-\u0588\u10a0-\u10ff]")
_ACCENTED: Final = re.compile("[\u00c0-\u00ff\u0100-\u017f]")
WORD: Final = re.compile(r"[^\W_]+")
"""Letters and digits in a row."""


@lru_cache(maxsize=8192)
def fold(char: str) -> str:
    """What a non-ASCII character is read as: a letter or digit of ASCII, nothing for a mark, else itself. ASCII stays."""
    if char.isascii():
        return char
    if char in _TABLE:
        return _TABLE[char]
    parts = unicodedata.normalize("NFKD", char)
    letters = "".join(_TABLE.get(part, part) for part in parts if not unicodedata.category(part).startswith("M"))
    if not letters or (letters.isascii() and letters != char):
        return letters
    name = unicodedata.name(char, "")
    if match := _NAMED.fullmatch(name):
        return match[1].lower()
    if (match := _DIGIT.fullmatch(name)) and match[1] in _DIGITS:
        return str(_DIGITS.index(match[1]))
    return letters


@lru_cache(maxsize=8192)
def script(char: str) -> str:
    """The alphabet of a letter, of those whose letters are drawn alike; empty for any other character."""
    if char.isascii():
        return "LATIN" if char.isalpha() else ""
    first = unicodedata.name(char, "").partition(" ")[0]
    return first if first in _SCRIPTS else ""


def is_mixed(word: str) -> bool:
    """In two alphabets, and no term of science: a Greek letter at either end or beside a capital is of one ("NF\u03baB")."""
    if len(word) < 2:
        return False
    scripts = {script(char) for char in word if char.isalpha()} - {""}
    if len(scripts) < 2:
        return False
    if scripts != {"LATIN", "GREEK"}:
        return True
    return any(
        script(char) == "GREEK" and 0 < at < len(word) - 1 and word[at - 1].islower() and word[at + 1].islower()
        for at, char in enumerate(word)
    )


def folding(text: str, known: Callable[[str], bool]) -> tuple[list[Edit], bool]:
    """What folding changes, and whether it uncovers a known word or one in two alphabets. A text in a foreign alphabet stays."""
    words = [word for word in WORD.finditer(text) if not word[0].isascii()]
    mixed = any(is_mixed(word[0]) for word in words)
    if not mixed and 2 * sum(len(word[0]) for word in words if _FOREIGN.match(word[0])) > sum(map(str.isalpha, text)):
        return [], False
    edits: list[Edit] = []
    stylised = False
    for run in _ODD.finditer(text):
        for at, char in enumerate(run[0], run.start()):
            letter = fold(char)
            if letter != char:
                edits.append((at, at + 1, letter))
                stylised = stylised or not (char.isalpha() or letter.isdigit())
    if mixed or stylised:
        return edits, True
    folded = ("".join(map(fold, word[0])).lower() for word in words if not all(map(_ordinary, word[0])))
    return edits, any(len(word) > 2 and known(word) for word in folded)


def _ordinary(char: str) -> bool:
    return char.isascii() or bool(_ACCENTED.match(char))
