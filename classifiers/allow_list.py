"""What is nobody's personal data, although it looks so: an administrator's list."""

from __future__ import annotations

import re
from collections.abc import Iterable

from classifiers.pii_context import continues
from classifiers.text import normalize

_NUMBER_BEFORE = re.compile(r"[+(\d][\d ().\-/]*$")
_NUMBER_AFTER = re.compile(r"[ ().\-/]*\d[\d ().\-/]*")
_DOMAIN = re.compile(r"@?(?:[\w-]+\.)+[a-z]{2,24}", re.IGNORECASE)
# What calls an address one, where that is part of the match: "lives at", "her address is".
_CALLED = (
    r"(?:(?:lives?|living|resid(?:es?|ing)|at|on|his|her|your|their|billing|home|postal|mailing|shipping|address|is|was)\W+)*"
)


class AllowList:
    """What is nobody's personal data, as an administrator wrote it down: telephone and other numbers (compared by their digits),
    postal and e-mail addresses, and domains ("pharmacy.example" or "@pharmacy.example", with all below it).
    """

    def __init__(self, entries: Iterable[str] = ()) -> None:
        self.entries = tuple(sorted({entry.strip() for entry in entries} - {""}))
        self._exact = {comparable(entry) for entry in self.entries}
        self._numbers = tuple(each for each in self._exact if each.isdigit() and len(each) >= 7)
        written = [re.findall(r"\w+", normalize(entry).text) for entry in self.entries if "@" not in entry]
        self._streets = tuple(
            re.compile(_CALLED + r"\W+".join(map(re.escape, words)) + r"(?!\w|[-.]\d)", re.IGNORECASE)
            for words in written
            if sum(map(len, words)) >= 8 and not "".join(words).isdigit()
        )
        self._domains = tuple(entry.lower().lstrip("@") for entry in self.entries if _DOMAIN.fullmatch(entry))

    def covers(self, text: str, start: int, end: int) -> bool:
        """What was matched in a normalised text is listed; of a postal address, the listed part may be but its beginning, in
        whole words.
        """
        if not self.entries:
            return False
        matched = text[start:end]
        if "@" in matched:
            domain = matched.lower().rpartition("@")[2]
            return comparable(matched) in self._exact or any(f".{domain}".endswith(f".{each}") for each in self._domains)
        value = comparable(matched)
        if value.isdigit() and len(value) >= 7:
            # A part of a number is compared as the whole that it is a part of: a local number stands under every area code.
            before, after = _NUMBER_BEFORE.search(text[max(0, start - 24) : start]), _NUMBER_AFTER.match(text[end : end + 24])
            value = comparable(f"{before[0] if before else ''}{matched}{after[0] if after else ''}")
            return any(_same_number(each, value) for each in self._numbers)
        if continues(text, start, end):  # "42-12 Oak Avenue" is not at number 12
            return False
        return value in self._exact or any(street.match(text, start) for street in self._streets)


def _same_number(one: str, other: str) -> bool:
    return one == other or (min(len(one), len(other)) >= 9 and (one.endswith(other) or other.endswith(one)))


def comparable(value: str) -> str:
    """The digits of a number without its country's prefix, and letters and digits of anything else."""
    plain = re.sub(r"[^\w@]+", "", value.lower())
    digits = re.sub(r"\D", "", value)
    if len(digits) >= 7 and not re.search(r"[^\W\d]", plain):
        return re.sub(r"^(?:00|0|1(?=\d{10}$))", "", digits)
    return plain
