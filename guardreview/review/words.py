"""What each category is called, wherever a page names one."""

from __future__ import annotations

from collections.abc import Mapping

from classifiers.policy import UNSAFE
from classifiers.result import SAFE, UNDECIDED

CATEGORY_WORDS: Mapping[str, str] = {
    "harmful_medical:dangerous_dosage": "Dangerous dosage",
    "harmful_medical:unsafe_combination": "Unsafe combination",
    "harmful_medical:contraindication": "Contraindication",
    "harmful_medical:abrupt_stop": "Abrupt stop",
    "harmful_medical:red_flag_reassurance": "False reassurance",
    "harmful_medical:self_medication": "Self-medication",
    "harmful_medical:misuse_route_or_form": "Wrong route or form",
    "harmful_medical": "Other medical harm",
    "discouraging_care": "Discouraging care",
    "misinformation": "Misinformation",
    "jailbreak_success": "Jailbreak",
    "legal_advice": "Legal advice",
    "pii:ssn": "Social security number",
    "pii:email": "E-mail address",
    "pii:credit_card": "Payment card",
    "pii:phone": "Phone number",
    "pii:mrn": "Medical record number",
    "pii:date_of_birth": "Date of birth",
    "pii:address": "Postal address",
    "pii:insurance_id": "Insurance number",
    "pii:nhs_number": "NHS number",
    "pii:national_id": "National ID number",
    "pii:npi": "Prescriber's NPI",
    "pii:dea_number": "Prescriber's DEA number",
    "pii:drivers_license": "Driver's licence",
    "pii:passport": "Passport number",
    "pii:bank_account": "Bank account",
    "pii:iban": "IBAN",
    "pii": "Other personal data",
    UNSAFE: "Unsafe as a whole",
    SAFE: "Nothing found",
    UNDECIDED: "Uncertain",
}


def category_words(category: str) -> str:
    """A category in plain words; one that this version does not know, readable at least."""
    return CATEGORY_WORDS.get(category) or category.replace(":", ": ").replace("_", " ").capitalize()


def within_a_sentence(category: str) -> str:
    """The same with a small letter first, unless it begins with an abbreviation."""
    words = category_words(category)
    return words if words[1:2].isupper() else words[:1].lower() + words[1:]
