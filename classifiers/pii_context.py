"""What the words around a number or an address say of it: that it is something else, whose it is, that it is an amount."""

from __future__ import annotations

import re

NEAR = 90
"""How many characters before, and half as many after, may say whose a number or an address is."""
_IS = (
    r"(?:[\s-]*(?:(?:numbers?|codes?) (?:of|for|on) (?:the|your|this|our) [a-z]+|on (?:file|record)|still|recorded as|reads|"
    r"numbers?|num|n[uo]s?\.?|n\u00ba|n\u00b0|ids?|codes?|#|is|was|are|es|est|ist|:|=))*[\s:#=(\"'*_-]*$"
)
"""What may stand between a number and its name: "no.", "#", "is", ":", "number of the pump is"."""
# What a pharmacy numbers that is nobody's identity.
_OTHER_NUMBER = re.compile(
    r"\b(?:orders?|tracking|track it with|shipments?|parcel|package|confirmation|reference|ref|invoice|receipt|"
    r"transaction|ticket|case|claim|"
    r"part|article|rx|prescription|refill|lot|batch|"
    r"ndc|upc|gtin|ean|isbn|sku|serial|s/n|item|product|model|catalog(?:ue)?|coupon|"
    r"locker|queue|version|"
    r"pzn|cip|cas|pmid|doi|nct|eudract|isrctn|ctis|trial|study|protocol|patent|fedex|ups|usps|ch\.-b\.|bin|pcn|"
    r"pedidos?|seguimiento|env[i\u00ed]o|factura|receta|lote|commande|suivi|colis|facture|ordonnance|"
    r"bestell(?:ung|nummer)|sendungs(?:nummer|verfolgung)|auftrags?(?:nummer)?|rechnungs(?:nummer)?|charge(?:nnummer)?|"
    r"rezept(?:nummer)?)" + _IS,
    re.IGNORECASE,
)
_TELEPHONE = re.compile(r"\b(?:hotline|phone|tel|fax|call)" + _IS, re.IGNORECASE)
# Numbers that another rule knows by their name, and that are written like a telephone's.
_OTHER_ID = re.compile(
    r"\b(?:nhs|ssn|social\s+security|sin|npi|dea|mrn|record|chart|patient (?:id|no|number)|member|policy|subscriber|insurance|"
    r"medicare|medicaid|account|routing|aba|iban|passport|licen[cs]e|id|steuer-id|dni|nie|s\u00e9curit\u00e9 sociale)"
    r"(?:[\s-]*(?:numbers?|num|no\.?|ids?|#|is|was|card|:|=|\())*[\s:#=(\"'*_-]*$",
    re.IGNORECASE,
)
# Whose a number or an address is: the nearest of these words says so.
_PUBLIC = re.compile(
    r"\b(?:pharmac\w*|chemist(?:'s|s)?|(?:gp|doctor's|doctors'?) surgery|"
    r"(?:'s|the|gp|medical|dental) practice|apothecary|veterinary|vet|animal hospital|"
    r"apotheke\w*|farmacia|drug ?store|clinics?|cl\u00ednica|"
    r"hospital|h\u00f4pital|klinik|krankenhaus|"
    r"offices?|stores?|shops?|nearest|locations?|walk-in|drive-(?:thru|through)|depot|warehouse|branch|hot ?line|help ?line|"
    r"(?:crisis|nurse|advice|information|info|quit|support|warm|life|care) ?line|"
    r"(?<!personal )(?<!private )(?<!direct )(?<!home )line|poisons?|gift(?:notruf|information)\w*|antipoison|"
    r"toxicol[o\u00f3]g\w+|intoxic\w+|emergency(?! contact)|notruf\w*|"
    r"urgences|samaritans|customer (?:service|care|support)|kunden(?:service|dienst)|bereitschaftsdienst|service client|"
    r"atenci\u00f3n al cliente|l\u00ednea|centro|(?:member|patient|health|social) services?|services?|"
    r"support|insur(?:er|ance)(?:'s)?|"
    r"manufacturer|maker|switchboard|fax|walgreens|cvs|boots|rite aid|costco|walmart|medicare|medicaid|fda|cdc|nih|"
    r"medwatch|our|us|we(?:'re| are)(?: \w+)? (?:at|in|on)|"
    r"(?-i:[A-Z]\w+ Drugs?)|open(?:s|ing)?(?= (?:hours|till?|until|daily|from|at|\d))|"
    r"ltd|inc|llc|gmbh|plc|pharmaceuticals?|(?:authori[sz]ation|ma) holder|"
    r"nuestr[ao]s?|notre|nos|unsere[rnm]?|uns|cent(?:er|re)s?|institutes?|clearinghouse|foundation|society|association|"
    r"agency|department|"
    r"desk|reception|lab(?:oratory)?|headquarters|university|school|drop box|located|visit|tty|tdd|toll[- ]free|"
    r"samaritans|nhs 111)\b",
    re.IGNORECASE,
)
_PRIVATE = re.compile(
    r"\b(?:your|yours|his|her|hers|their|my|mine|him|them|mr|mrs|ms|mme|monsieur|madame|herrn?|frau|se\u00f1ora?|sra?|"
    r"don|do\u00f1a|su|sus|votre|vos|"
    r"son|sa|elle|ihr|ihre[rnm]?|seine?|patients?|patient's|previous customer(?:'s)?|mom(?:'s)?|mum(?:'s)?|dad(?:'s)?|"
    r"wife|husband|daughter|"
    r"neighbou?rs?|colleague(?:'s)?|friend(?:'s)?|cell|mobile|m\u00f3vil|portable|handy\w*|private|home|on file|profile|"
    r"contact|lives?|living|"
    r"resid(?:es?|ing)|habite|vive|wohnt|domicilio|adresse|lieferung an|ships?|shipped|deliver(?:ed|y|s)?|mail(?:ed)? "
    r"it|billing|"
    r"(?:text|call|reach|ring|phone) (?:you|him|her|them)|we have for|i have|i see)\b",
    re.IGNORECASE,
)
# Of an institution's number, too, it is said that it is on file.
_ON_FILE = re.compile(
    r"(\b(?:pharmacy|clinic|hospital|store|doctor|practice)(?:'s)?(?: [a-z]+){0,3}) (?:on (?:file|record)|i have)\b",
    re.IGNORECASE,
)
_SENTENCE = re.compile(r"[.!?](?=\s+[A-Z\u00c0-\u00dd])|\n\s*\n")


def is_public(text: str, start: int, end: int) -> bool:
    """The nearest word that says whose it is, in the sentence before or else after, names an institution."""
    sentences = _SENTENCE.split(text[max(0, start - 2 * NEAR) : start])
    before = _ON_FILE.sub(r"\1", sentences[-1][-NEAR:])
    public, private = _last(_PUBLIC, before), _last(_PRIVATE, before)
    if public < 0 and private < 0 and len(sentences) > 1:  # "Elm Pharmacy, 5 Church Street. Phone:"
        public, private = _last(_PUBLIC, sentences[-2]), _last(_PRIVATE, sentences[-2])
    if public < 0 and private < 0:
        after = _SENTENCE.split(text[end : end + NEAR // 2])[0]
        first, other = _PUBLIC.search(after), _PRIVATE.search(after)
        return bool(first) and not (other and first and other.start() < first.start())
    return public > private


def is_private(text: str, start: int) -> bool:
    """The nearest word in the sentence before that says whose it is speaks of a person."""
    before = _SENTENCE.split(text[max(0, start - NEAR) : start])[-1]
    return _last(_PRIVATE, before) > _last(_PUBLIC, before)


def _last(pattern: re.Pattern[str], text: str) -> int:
    return max((match.end() for match in pattern.finditer(text)), default=-1)


def is_other_number(before: str) -> bool:
    """The words right before name a number of an order, a parcel, a package or a telephone."""
    return bool(_OTHER_NUMBER.search(before) or _TELEPHONE.search(before))


def is_labelled(before: str, *, others: bool = True) -> bool:
    """The words right before name a number that is something else, and no telephone's."""
    return bool(_OTHER_NUMBER.search(before) or (others and _OTHER_ID.search(before)))


def ends_in_unit(text: str, end: int) -> bool:
    return bool(re.match(r"\s?(?:mg|mcg|ml|g|kg|iu|units?|tablets?|%|mmol|/\s?[mk]?l)\b", text[end : end + 10], re.IGNORECASE))


def continues(text: str, start: int, end: int) -> bool:
    """The digits go on before or after the match, which then is a part of a longer number."""
    return bool(re.search(r"\d[-.]?$", text[max(0, start - 2) : start]) or re.match(r"[-.]?\d", text[end : end + 2]))
