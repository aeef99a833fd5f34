"""What makes digits an SSN or a card number, and an address somebody's: the validators that rules of PII name.

A validator is called with the text and the span of a match, and says whether that is personal data. The checks of numbers
are python-stdnum's; it is imported when a first number needs it, since most answers hold none.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from types import MappingProxyType

Validator = Callable[[str, int, int], bool]
"""(text, start, end of the match in characters) -> the match is what its pattern looks for."""

_BEFORE = 48
"""How many characters before a number may say what it is."""

_SSN_CONTEXT = re.compile(
    r"\b(?:ssns?|social[\s-]+security|soc\.?[\s-]+sec|ss[\s-]?(?:#|no\b|number)|taxpayer[\s-]+id|itin)", re.IGNORECASE
)
# What a pharmacy numbers that is nobody's identity. The word stands right before the number, "no.", "#", "is" or ":" between.
_OTHER_NUMBER = re.compile(
    r"\b(?:orders?|tracking|shipments?|parcel|package|confirmation|reference|ref|invoice|receipt|transaction|ticket|case|claim|"
    r"rx|prescription|refill|lot|batch|ndc|upc|gtin|ean|isbn|sku|serial|item|product|model|catalog(?:ue)?|hotline|phone|tel|fax|call)"
    r"(?:[\s-]*(?:numbers?|num|nos?\.?|ids?|codes?|#|is|was|are|:|=))*[\s:#=(\"'*_-]*$",
    re.IGNORECASE,
)
_CARD_CONTEXT = re.compile(
    r"\b(?:cards?|credit|debit|visa|mastercard|amex|american express|discover|payment|charged?)\b", re.IGNORECASE
)
# Issuer prefixes with the lengths in use: https://en.wikipedia.org/wiki/Payment_card_number
_CARD = re.compile(
    r"4(?:\d{15}|\d{18})"  # Visa
    r"|(?:5[1-5]\d{14}|2(?:22[1-9]|2[3-9]\d|[3-6]\d\d|7[01]\d|720)\d{12})"  # Mastercard
    r"|3[47]\d{13}"  # American Express
    r"|(?:6011|64[4-9]\d|65\d\d)\d{12}(?:\d{3})?"  # Discover
    r"|3(?:0[0-5]|09|[689]\d)\d{11}(?:\d{2})?"  # Diners Club
    r"|(?:35(?:2[89]|[3-8]\d)\d{12}(?:\d{3})?|(?:1800|2131)\d{11})"  # JCB
    r"|62\d{14,17}"  # UnionPay
    r"|(?:5018|5020|5038|5893|6304|6759|676[1-3])\d{10,15}"  # Maestro
)
# Addresses that an institution publishes for everybody: a public body's, a crisis line's, a desk's.
_PUBLIC_ADDRESS = re.compile(
    r".*@(?:[\w-]+\.)*(?:gov|nhs\.uk|who\.int|samaritans\.org)"
    r"|(?:info(?:rmation)?|help(?:desk|line)?|support|contact(?:us)?|customer[._-]?(?:service|care|support)|service|enquir(?:y|ies)|"
    r"inquir(?:y|ies)|questions|privacy|press|media|admin|office|reception|no[._-]?reply|pharmac(?:y|ist)|refills?|orders?)@.*",
    re.IGNORECASE,
)


def is_ssn(text: str, start: int, end: int) -> bool:
    """Digits that were or may be issued as an SSN; nine bare digits only where the words nearby speak of one."""
    match = text[start:end]
    before = text[max(0, start - _BEFORE) : start]
    digits = re.sub(r"\D", "", match)
    named = bool(_SSN_CONTEXT.search(before) or _SSN_CONTEXT.search(text[end : end + _BEFORE]))
    if not named and (match == digits or _OTHER_NUMBER.search(before)):
        return False
    if _continues(text, start, end):
        return False
    from stdnum.us import ssn

    # The serial is checked here: stdnum also refuses three whole numbers that once stood in advertisements, and
    # whoever tries out a filter types those.
    return bool(ssn.is_valid(digits[:5] + "0001")) and digits[5:] != "0000"


def is_card(text: str, start: int, end: int) -> bool:
    """12 to 19 digits with a right check digit, not named as another number, that are called a card in the words just before,
    or have 14 or more and an issuer's prefix and length: European article numbers have 13 digits as well.
    """
    before = text[max(0, start - _BEFORE) : start]
    digits = re.sub(r"\D", "", text[start:end])
    if _OTHER_NUMBER.search(before) or _continues(text, start, end):
        return False
    if not _CARD_CONTEXT.search(before) and (len(digits) < 14 or not _CARD.fullmatch(digits)):
        return False
    from stdnum import luhn

    return bool(luhn.is_valid(digits))


def is_private_email(text: str, start: int, end: int) -> bool:
    """An e-mail address that is not one that an institution publishes."""
    return not _PUBLIC_ADDRESS.fullmatch(text[start:end])


def _continues(text: str, start: int, end: int) -> bool:
    """The digits go on before or after the match, which then is a part of a longer number."""
    return bool(re.search(r"\d[-.]?$", text[max(0, start - 2) : start]) or re.match(r"[-.]?\d", text[end : end + 2]))


VALIDATORS: Mapping[str, Validator] = MappingProxyType({"ssn": is_ssn, "credit_card": is_card, "private_email": is_private_email})
"""What a rule may name as its `validator`."""
