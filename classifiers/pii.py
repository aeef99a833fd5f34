"""What makes digits an SSN or a card number, and an address somebody's: the validators that rules of PII name.

A validator is called with the text and the span of a match, and says whether that is personal data. The checks of numbers
are python-stdnum's; it is imported when a first number needs it, since most answers hold none.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping
from datetime import date
from types import MappingProxyType

from classifiers.pii_context import NEAR, continues, ends_in_unit, is_labelled, is_other_number, is_private, is_public

Validator = Callable[[str, int, int], bool]
"""(text, start, end of the match in characters) -> the match is what its pattern looks for."""

_BEFORE = 48
"""How many characters before a number may say what it is."""

_SSN_CONTEXT = re.compile(
    r"\b(?:ssns?|social[\s_-]*security|soc\.?[\s-]+sec|ss[\s-]?(?:#|no\b|number)|tax(?:payer)?[\s_-]*id|itin)"
    r"|\bsocial(?: (?:is|was|no\.?|number|on file))*[\s:#=*\"'(]*$"
    r"|\b(?:his|her|your|their) social\b(?!\s+\w)",
    re.IGNORECASE,
)
_SSN_APART = re.compile(r"\d{3}([-. ])\d{2}\1\d{4}")
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
    r"|(?:info(?:rmation)?|help(?:desk|line)?|support|contact(?:us)?|customer[._-]?(?:service|care|support)|service|"
    r"enquir(?:y|ies)|"
    r"inquir(?:y|ies)|questions|privacy|press|media|admin|office|reception|no[._-]?reply|pharmac(?:y|ist)|refills?|"
    r"orders?|feedback|complaints?|returns?|billing|delivery|careers|jobs|newsletter|webmaster|shop|store|bookings?|"
    r"appointments?|vaccines?|prescriptions?|kontakt|apotheke|farmacia|pharmacie|contacto|hello|team|care)@.*",
    re.IGNORECASE,
)

_SPELLED_AT = re.compile(
    r"[(\[{]\s*(?:at|arroba|arobase|\u00e4t)\s*[)\]}]|(?<=\s)(?:at|arroba|arobase|\u00e4t)(?=\s)", re.IGNORECASE
)
_SPELLED_DOT = re.compile(r"[(\[{]\s*(?:dot|punto|point|punkt)\s*[)\]}]|(?<=\s)(?:dot|punto|point|punkt)(?=\s)", re.IGNORECASE)

_LOCAL = tuple(map(ipaddress.ip_network, ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7")))


def is_ssn(text: str, start: int, end: int) -> bool:
    """Digits that were or may be issued as an SSN; nine bare digits only where the words nearby speak of one."""
    match = text[start:end]
    before = text[max(0, start - _BEFORE) : start]
    digits = re.sub(r"\D", "", match)
    named = bool(_SSN_CONTEXT.search(before) or _SSN_CONTEXT.search(text[end : end + _BEFORE]))
    if not named and (match == digits or is_other_number(before) or not _SSN_APART.fullmatch(match)):
        return False
    if continues(text, start, end):
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
    if is_other_number(before) or continues(text, start, end):
        return False
    if not _CARD_CONTEXT.search(before) and (len(digits) < 14 or not _CARD.fullmatch(digits)):
        return False
    from stdnum import luhn

    return bool(luhn.is_valid(digits))


def is_private_email(text: str, start: int, end: int) -> bool:
    """An e-mail address that is not one that an institution publishes."""
    written = _SPELLED_DOT.sub(".", _SPELLED_AT.sub("@", text[start:end]))
    return not _PUBLIC_ADDRESS.fullmatch(re.sub(r"\s+", "", written))


_PHONE_CUE = re.compile(
    r"\b(?:tel|t\u00e9l|(?:tele)?phone(?:_?n(?:o|um|umber))?|(?:cell|mobile)(?:_?n(?:o|um|umber)|_?phone)?|"
    r"call|text|ring|reach|contact|number|dial|home|line|whatsapp|sms|messages?|registered|ext|extension|land ?line|next of kin|"
    r"answers?|reachable|reached|contesta|responde|r\u00e9pond|antwortet|"
    r"mother|father|mum|mom|dad|parents?|wife|husband|partner|sister|brother|daughter|son|carer|caregiver|neighbou?r|"
    r"tel\u00e9fono|m\u00f3vil|ll[a\u00e1]m\w*|n\u00famero|num\u00e9ro|portable|joign\w*|appel\w*|t\u00e9l\u00e9phone|"
    r"telefon\w*|handy\w*|rufnummer|anruf\w*|rufen|unter|erreichbar|mobil\w*)\b",
    re.IGNORECASE,
)
_FREE_AREA = frozenset({"800", "888", "877", "866", "855", "844", "833", "822", "900"})
_NANP = re.compile(r"1?[2-9]\d\d[2-9]\d{6}")
_NANP_GROUPS = re.compile(r"(?:1[ .-]{0,2})?\(?\d{3}(?:\) ?|[ .-]{1,2})\d{3}[ .-]\d{4}")
_REGIONS = ("GB", "FR", "DE", "AU", "ES")
_WITHOUT_ZERO = {"ES": re.compile(r"[6-9]"), "GB": re.compile(r"7\d{9}"), "AU": re.compile(r"4\d{8}")}
"""What a number begins with that is dialled without a leading zero; of a mobile's, a disguise leaves it out."""
_NOT_PRIVATE_KINDS = frozenset({3, 4, 5, 8, 9, 10})
"""`phonenumbers.PhoneNumberType` of what is nobody's: toll-free, premium, shared cost, pager, UAN, voicemail."""
_MADE_UP = re.compile(r"1?\d{3}55501\d\d")
"""Numbers that are kept for fiction: https://en.wikipedia.org/wiki/555_(telephone_number)"""
_EXAMPLE = re.compile(r"(?i)\b(?:for example|for instance|e\.g\.|such as)[\s,:(+]*$")
_LONGER_CODE = re.compile(r"\b[A-Z]{1,4}\d{4,}[ -]$")
"""Letters and digits that the match goes on from: "JD0146000031 8827 5512"."""
_DIGIT_WORDS = {
    **{
        word: str(digit)
        for digit, word in enumerate(["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"])
    },
    **dict.fromkeys(("oh", "o", "nought"), "0"),
}
_DIGIT_WORD = r"(?:(?:double|triple)\s+)?\b(?:" + "|".join(_DIGIT_WORDS) + r")\b"
_SPOKEN = re.compile(rf"{_DIGIT_WORD}(?:[\s,*_\"`-]*{_DIGIT_WORD}){{6,}}", re.IGNORECASE)

_STREET_STOP = re.compile(
    r"\b(?:mg|mcg|ml|g|iu|units?|tablets?|pills?|capsules?|drops?|patch(?:es)?|doses?|puffs?|times?|days?|hours?|hrs?|"
    r"minutes?|weeks?|months?|years?|"
    r"and|or|in|on|is|are|to|for|by|then|with|if|each|every|per|a|an|not|do|your|that|this|as|at|from|before|after|of "
    r"\w+ patients)\b",
    re.IGNORECASE,
)
_STREET_CUE = re.compile(
    r"\b(?:address|lives?|living|resid(?:es?|ing)|home|ship(?:ped|s)?|deliver(?:ed|y)?|mail|street|place is|"
    r"direcci\u00f3n|domicilio|vive|adresse|anschrift|stra(?:\u00df|ss)e|habite|wohnt|wohnhaft|lieferung|postcode|zip|plz)\b"
    r"[^.!?\n]{0,40}$",
    re.IGNORECASE,
)
_STREET_LABEL = re.compile(r"(?:liv|resid|his|her|your|their|billing|home|postal|mailing|shipping)", re.IGNORECASE)
_FOREIGN_STREET = re.compile(r"\b(?:calle|c/|avenida|rue|avenue|place|plaza)\b", re.IGNORECASE)
_CARE_RECORD = re.compile(
    r"(?i)\b(?:n\.?h\.?s|national health|(?:summary )?care record|health record)(?![a-z])\.?"
    r"(?:[^.!?\n]|(?<=no)\.|(?<=num)\.){0,40}$"
)
_INSTITUTION = re.compile(
    r"(?i)\b(?:pharmac\w*|chemists?|clinics?|hospitals?|infirmary|surger(?:y|ies)|stores?|shops?|branch|cent(?:er|re)|"
    r"universit\w+|apotheke\w*|farmacia|exit|junction)\b"
)
_POSTCODE = re.compile(r"\b(?:\d{5}(?:-\d{4})?|[A-Z]{1,2}\d[A-Z\d]? \d[A-Z]{2}|[A-Z]{2,3} \d{4,5})\s*(?:[A-Z\u00c0-\u00dd]\w+)?$")
_NAME_BEFORE = re.compile(r"(?<!Dr )(?<!Dr\. )\b[A-Z][a-z'\u00c0-\u00ff-]+ (?:[A-Z]\. )?[A-Z][a-z'\u00c0-\u00ff-]+,? ?\($")
_NHS_AFTER = re.compile(r"(?i)\W{0,3}(?:is (?:the |her |his |your )?)?nhs\b")
_SEX_AFTER = re.compile(
    r"(?i)\s*[/,;|)-]\s*(?:fem(?:ale|me)|male|[fmw]|weiblich|m\u00e4nnlich|homme|mujer|hombre)\b(?!\.? ?(?:to|through))"
)
_BOUND = re.compile(
    r"(?i)\b(?:before|after|between|since|until|earlier|later|from|avant|apr\u00e8s|depuis|antes|despu\u00e9s|desde|vor|nach|"
    r"seit|format|example)\b"
)
_NDC = re.compile(r"\d{4,5}-\d{3,4}-\d{1,2}")
_VERSION = re.compile(r"\b(?:version|v|ver|section|chapter|release|build|app|firmware|\u00a7)\.?\s*$", re.IGNORECASE)


def is_private_phone(text: str, start: int, end: int) -> bool:
    """A telephone number that reaches a person: none of a pharmacy, a clinic, an insurer or a public line, and none that is free.

    North American ones are known by their form, those with a country's prefix by phonenumbers' tables, and those of Britain,
    France, Germany, Spain and Australia by the tables where the words before speak of a telephone.
    """
    written = text[start:end]
    digits = re.sub(r"\D", "", re.sub(r"\(0\)", "", written))
    before = text[max(0, start - _BEFORE) : start]
    if continues(text, start, end) or ends_in_unit(text, end) or _NDC.fullmatch(written):
        return False
    if is_labelled(before.rstrip("+( ")) or (_MADE_UP.fullmatch(digits) and _EXAMPLE.search(before)):
        return False
    abroad = text[max(0, start - 1) : start] == "+" or written.startswith("00")
    cue = bool(_PHONE_CUE.search(before) or _PHONE_CUE.search(text[end : end + 32]))
    apart = bool(_NANP_GROUPS.fullmatch(written))
    if len(digits) == 7:
        found = bool(re.search(r"\b(?:phone|cell|mobile|tel)\b", before, re.IGNORECASE))
    elif _NANP.fullmatch(digits) and not (abroad and digits[0] != "1"):
        found = digits[-10:-7] not in _FREE_AREA and (apart or cue)
    elif apart and cue and not abroad:  # "555-123-4567", which is never given out, but often made up
        found = True
    else:
        cue = cue and not _LONGER_CODE.search(before)
        found = (abroad or cue) and _is_dialled(digits.removeprefix("00") if abroad else digits, written, abroad=abroad)
    return found and not is_public(text, start, end)


def _spoken(text: str, start: int, end: int) -> tuple[str, int]:
    """The digits that the match ends in as words, "double" and "triple" counted, and where they begin; ("", end) if none."""
    said = _SPOKEN.search(text, start, end)
    if said is None:
        return "", end
    digits, times = "", 1
    for word in re.findall(r"[a-z]+", said[0].lower()):
        if word in _DIGIT_WORDS:
            digits, times = digits + _DIGIT_WORDS[word] * times, 1
        else:
            times = 3 if word == "triple" else 2
    return digits, said.start()


def is_spoken_phone(text: str, start: int, end: int) -> bool:
    """A telephone number in words, ten digits or more, that reaches a person: said to be one, or of a number's form."""
    digits, begin = _spoken(text, start, end)
    before = text[max(0, begin - _BEFORE) : begin]
    if not 10 <= len(digits) <= 15 or "123456789" in digits or digits.removeprefix("1")[:3] in _FREE_AREA:
        return False
    if not (digits[0] == "0" or _NANP.fullmatch(digits) or _PHONE_CUE.search(before)):
        return False
    return not is_labelled(before) and not is_public(text, begin, end)


def is_spoken_card(text: str, start: int, end: int) -> bool:
    """The digits of a card, in words, with a right check digit."""
    from stdnum import luhn

    digits, begin = _spoken(text, start, end)
    return 12 <= len(digits) <= 19 and not is_other_number(text[max(0, begin - _BEFORE) : begin]) and bool(luhn.is_valid(digits))


def _is_dialled(digits: str, written: str, *, abroad: bool) -> bool:
    """phonenumbers takes the digits for a number that a person may have."""
    import phonenumbers

    for region in (None,) if abroad else _REGIONS:
        if region and digits[0] != "0" and not (region in _WITHOUT_ZERO and _WITHOUT_ZERO[region].match(digits)):
            continue
        if region == "GB" and re.match(r"030\D", written):  # Berlin's area code, and in Britain the start of a public number
            continue
        try:
            number = phonenumbers.parse(f"+{digits}" if abroad else digits, region)
        except phonenumbers.NumberParseException:
            continue
        if phonenumbers.number_type(number) in _NOT_PRIVATE_KINDS:
            return False
        if phonenumbers.is_valid_number(number) or (abroad and phonenumbers.is_possible_number(number)):
            return True
    return False


def is_home_address(text: str, start: int, end: int) -> bool:
    """A street with a number, none of an institution. Its name has capitals, or words like "lives at" stand before."""
    written = text[start:end]
    cue = bool(_STREET_CUE.search(text[max(0, start - NEAR) : start]) or _STREET_LABEL.match(written))
    named = [word for word in re.findall(r"[^\W\d_][^\W\d_.'-]*", written) if len(word) > 1]
    if not cue and not any(word[0].isupper() for word in named):
        return False
    name = re.sub(r"^\W*\d+\w?,?\s", "", written).split(",")[0]
    if not cue and _STREET_STOP.search(name) and not _FOREIGN_STREET.search(written):
        return False
    weak = re.search(r"(?i)\b\w+(?:weg|platz|ring|damm|ufer|gasse|allee)\b", written)
    if weak and not cue and not _POSTCODE.search(written):
        return False
    return not ends_in_unit(text, end) and not is_public(text, start, end)


def is_postal_address(text: str, start: int, end: int) -> bool:
    """A number, names and a postcode, none of an institution; without the number, in words about a person."""
    written = text[start:end]
    numbered = bool(re.search(r"\d", _POSTCODE.sub("", written)))
    if _INSTITUTION.search(written) or not (numbered or is_private(text, start)):
        return False
    # The rest of an address with a number is no second one.
    rest = not numbered and re.search(r"\d[A-Za-z]?,? (?:[NSEW]\.? )?$", text[max(0, start - 8) : start])
    return not rest and not is_public(text, start, end)


def is_postcode(text: str, start: int, end: int) -> bool:
    """A postcode that is called one, and no institution's."""
    called = re.search(
        r"(?i)\b(?:post ?code|postal code|c\u00f3digo postal|code postal|plz)\b[^.!?\n]{0,30}$", text[max(0, start - 60) : start]
    )
    return bool(called) and not is_public(text, start, end)


def is_birth_date(text: str, start: int, end: int) -> bool:
    """A date in brackets after a person's first and last name, or before their sex, of three years ago or more."""
    years = re.findall(r"(?:19|20)\d\d", text[start:end])
    if not years or int(years[0]) > date.today().year - 3:
        return False
    return bool(_NAME_BEFORE.search(text[max(0, start - 60) : start]) or _SEX_AFTER.match(text, end))


def is_named_birth_date(text: str, start: int, end: int) -> bool:
    """A date, called one of birth some words before, of three years ago or more; no bound on who was born when."""
    written = text[start:end]
    if _BOUND.search(written):
        return False
    today = date.today().year
    if years := re.findall(r"(?:19|20)\d\d", written):
        return int(years[-1]) <= today - 3
    return (short := re.search(r"\d[-/.]\d{1,2}[-/.](\d\d)\b", written)) is not None and int(short[1]) > today % 100


def is_identifier(text: str, start: int, end: int) -> bool:
    """What ends in four digits or more, and is no date and no amount."""
    last = re.split(r"[\s:#=(]+", text[start:end])
    value = next((part for part in reversed(last) if sum(map(str.isdigit, part)) >= 4), "".join(last[-3:]))
    if sum(map(str.isdigit, value)) < 4 or re.fullmatch(r"(?:19|20)\d\d|\d{1,2}[-./]\d{1,2}[-./](?:19|20)?\d\d", value):
        return False
    return not ends_in_unit(text, end)


def is_nhs_number(text: str, start: int, end: int) -> bool:
    """Ten digits with a right check digit, called an NHS number or that of a care record."""
    if not (_CARE_RECORD.search(text[max(0, start - 60) : start]) or _NHS_AFTER.match(text, end)):
        return False
    from stdnum.gb import nhs

    return bool(nhs.is_valid(text[start:end]))


def is_npi(text: str, start: int, end: int) -> bool:
    """Ten digits with a right check digit: that of a card number that begins with 80840 (45 CFR 162.406)."""
    from stdnum import luhn

    written = re.search(r"\d{10}", text[start:end])
    if written is None or is_labelled(text[max(0, start - _BEFORE) : start + written.start()], others=False):
        return False
    digits = written[0]
    return digits[0] in "12" and bool(luhn.is_valid("80840" + digits))


def is_dea_number(text: str, start: int, end: int) -> bool:
    """Two characters and seven digits, of which the last is the sum of 1, 3, 5 and twice 2, 4, 6, modulo ten."""
    last = text[start:end][-7:]
    if len(last) < 7 or not last.isdecimal() or is_labelled(text[max(0, start - _BEFORE) : start], others=False):
        return False
    digits = [int(char) for char in last]
    return (digits[0] + digits[2] + digits[4] + 2 * (digits[1] + digits[3] + digits[5])) % 10 == digits[6]


def is_medicare_id(text: str, start: int, end: int) -> bool:
    """A Medicare Beneficiary Identifier, whose form says what it is, unless it is called something else."""
    return not is_labelled(text[max(0, start - _BEFORE) : start], others=False)


def is_iban(text: str, start: int, end: int) -> bool:
    """Has the length of its country and right check digits."""
    from stdnum import iban

    # The bank's own check digits are left aside: who invents a number for somebody seldom gets them right.
    return bool(iban.is_valid(text[start:end], check_country=False))


def is_routing_number(text: str, start: int, end: int) -> bool:
    """Nine digits with a right check digit."""
    from stdnum.us import rtn

    return bool(rtn.is_valid(re.sub(r"\D", "", text[start:end])[-9:]))


def is_national_id(text: str, start: int, end: int) -> bool:
    """A Spanish DNI or NIE or a French social security number, by check digits; a Canadian or German number is named as well."""
    from stdnum.ca import sin
    from stdnum.de import idnr
    from stdnum.es import dni, nie
    from stdnum.fr import nir

    written = text[start:end]
    value = re.sub(r"[\s.-]", "", written).upper()
    if re.fullmatch(r"\d{8}[A-Z]", value):
        return bool(dni.is_valid(value))
    if re.fullmatch(r"[XYZ]\d{7}[A-Z]", value):
        return bool(nie.is_valid(value))
    if re.fullmatch(r"\d{15}|[12]\d{4}2[AB]\d{8}", value):
        return bool(nir.is_valid(value))
    digits = re.sub(r"\D", "", written)
    return bool(sin.is_valid(digits)) if len(digits) == 9 else len(digits) == 11 and bool(idnr.is_valid(digits))


def is_ip_address(text: str, start: int, end: int) -> bool:
    """An address that leads to one connection: none of a local network, and no version or section."""
    try:
        address = ipaddress.ip_address(text[start:end])
    except ValueError:
        return False
    if _VERSION.search(text[max(0, start - 20) : start]) or continues(text, start, end):
        return False
    local = address.is_loopback or address.is_unspecified or address.is_link_local or address.is_multicast
    return not local and not any(address in network for network in _LOCAL if network.version == address.version)


VALIDATORS: Mapping[str, Validator] = MappingProxyType(
    {
        "ssn": is_ssn,
        "credit_card": is_card,
        "private_email": is_private_email,
        "private_phone": is_private_phone,
        "spoken_phone": is_spoken_phone,
        "spoken_card": is_spoken_card,
        "home_address": is_home_address,
        "postal_address": is_postal_address,
        "postcode": is_postcode,
        "birth_date": is_birth_date,
        "named_birth_date": is_named_birth_date,
        "identifier": is_identifier,
        "nhs_number": is_nhs_number,
        "npi": is_npi,
        "dea_number": is_dea_number,
        "medicare_id": is_medicare_id,
        "iban": is_iban,
        "routing_number": is_routing_number,
        "national_id": is_national_id,
        "ip_address": is_ip_address,
    }
)
"""What a rule may name as its `validator`."""
