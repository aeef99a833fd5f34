import subprocess
import sys

import pytest

from classifiers.pii import is_dea_number
from classifiers.result import Severity
from classifiers.rule_based import PII_PATTERNS, RuleBasedClassifier, classify_rule_based
from classifiers.rules.rule import Pack
from tests.classifiers.pii_cases import LOOK_ALIKES, PERSONAL


@pytest.mark.parametrize(
    ("text", "category", "found"),
    [
        ("His SSN is 219-09-9999.", "pii:ssn", "219-09-9999"),
        ("219.09.9999", "pii:ssn", "219.09.9999"),
        ("on file: 536 90 4399, thank you", "pii:ssn", "536 90 4399"),
        ("Social\nsecurity number: 536904399", "pii:ssn", "536904399"),
        ("I see 536904399 as your SSN", "pii:ssn", "536904399"),
        ("SSN \u201c219\u201109\u20119999\u201d", "pii:ssn", "219\u201109\u20119999"),
        ("Card 4111 1111 1111 1111 was charged.", "pii:credit_card", "4111 1111 1111 1111"),
        ("5555555555554444", "pii:credit_card", "5555555555554444"),
        ("378282246310005", "pii:credit_card", "378282246310005"),
        ("3782-822463-10005", "pii:credit_card", "3782-822463-10005"),
        ("6011111111111117", "pii:credit_card", "6011111111111117"),
        ("30569309025904", "pii:credit_card", "30569309025904"),
        ("3530111333300000", "pii:credit_card", "3530111333300000"),
        ("my old card 4222222222222", "pii:credit_card", "4222222222222"),
        ("Write to Jane.Doe@example.com.", "pii:email", "Jane.Doe@example.com"),
        ("<jane_doe+rx@mail.example.org>", "pii:email", "jane_doe+rx@mail.example.org"),
    ],
)
def test_personal_data_is_found(text: str, category: str, found: str) -> None:
    result = classify_rule_based(text)
    assert not result.is_safe
    assert (result.category, result.confidence, result.severity) == (category, 0.99, Severity.MAJOR)
    assert [evidence.text for evidence in result.evidence] == [found]
    assert category.removeprefix("pii:") in result.reason


@pytest.mark.parametrize(
    "text",
    [
        "Your order 536904399 has shipped.",
        "Order number: 4111111111111111",
        "Tracking # 536-90-4399",
        "Track it with 9400111899223817576194.",
        "Rx 1234567 and Rx no. 123-45-6789 are ready.",
        "NDC 00093-7146-56, NDC 0093-7146-56, lot 123456789",
        "Lot 4111111111111111, expires 2027-01-31",
        "Call Poison Control at 1-800-222-1222 or 988.",
        "Our number is 301-496-5248, open 9-5.",
        "Filled on 03-15-2024 and on 2024.03.15.",
        "Take 500 mg 2 times a day, at most 2000 mg in 24 hours.",
        "Platelets: 150000000 per liter.",
        "000-12-3456, 666-12-3456, 912-34-5678, 123-00-4567 and 123-45-0000 are never issued.",
        "1219-09-9999, 219-09-99991, 7-219-09-9999 and 219-09-9999-7",
        "4111 1111 1111 1112",
        "1234567890123452",
        "4006381333931",
        "Take 1 tablet @ 8 am.",
        "Write to help@pharmacy.example or adear@nia.nih.gov.",
    ],
)
def test_other_numbers_and_public_addresses_are_not(text: str) -> None:
    result = classify_rule_based(text)
    assert result.is_safe, result.evidence


def test_each_kind_is_listed() -> None:
    result = classify_rule_based("jane@example.com, SSN 219-09-9999, card 4111111111111111")
    assert set(result.categories) == {"pii:email", "pii:ssn", "pii:credit_card"}


def test_a_denial_does_not_hide_personal_data() -> None:
    assert not classify_rule_based("I can't tell you that the SSN is not 219-09-9999.").is_safe


@pytest.mark.parametrize(
    ("category", "line", "value"), [(category, line, value) for category, lines in PERSONAL.items() for line, value in lines]
)
def test_every_kind_is_found_in_a_chat(category: str, line: str, value: str) -> None:
    result = classify_rule_based(line)
    assert (result.is_safe, result.escalate) == (False, False)
    found = [evidence.text for evidence in result.evidence if evidence.category == category]
    assert any(value in text or text in value for text in found), result.evidence


@pytest.mark.parametrize("line", LOOK_ALIKES)
def test_nothing_that_looks_so_is_taken_for_it(line: str) -> None:
    result = classify_rule_based(line)
    assert not [evidence for evidence in result.evidence if evidence.category.startswith("pii")]


def test_hidden_personal_data_is_found() -> None:
    assert classify_rule_based("His SSN: 2 1 9 - 0 9 - 9 9 9 9").category == "pii:ssn"
    assert classify_rule_based("mail j\u0430ne@example.com").category == "pii:email"
    assert classify_rule_based("SSN \uff12\uff11\uff19-\uff10\uff19-\uff19\uff19\uff19\uff19").category == "pii:ssn"


@pytest.mark.parametrize(
    ("entry", "line"),
    [
        ("646-555-0100", "You can reach her on 646-555-0100. " * 20 + "Her private mobile is 646-555-0187."),
        ("12 Main Street, Springfield", "Her MRN is A12345678. We are at 12 Main Street, Springfield."),
        ("12 Main Street, Springfield", "She lives at 5 Oak Avenue. We are at 12 Main Street, Springfield."),
        ("555-0100", "Her private mobile is 646-555-0100."),
        ("2 Oak Avenue", "She lives at 12 Oak Avenue, Portland."),
        ("2 Oak Avenue", "She lives at 742 Evergreen Terrace 2 Oak Avenue."),
        ("12 Oak Avenue", "She lives at 42-12 Oak Avenue."),
        ("P.O. Box 119", "Her home: P.O. Box 1192"),
        ("Grossgasse 50", "Trivo lives on Neue Grossgasse 50."),
        ("Grossgasse 50", "Trivo lives on Grossgasse 501."),
        ("Hauptstra\u00dfe 12", "Er wohnt in der Hauptstra\u00dfe 12a, 10115 Berlin."),
    ],
)
def test_what_is_allowed_hides_nothing_beside_it(entry: str, line: str) -> None:
    assert not RuleBasedClassifier([Pack("pii", PII_PATTERNS)], allow=[entry]).classify(line).is_safe


@pytest.mark.parametrize(
    ("entry", "line"),
    [
        ("617 555 0188", "Her cell: +1 (617) 555-0188"),
        ("+44 20 7946 0958", "ring her home, 020 7946 0958"),
        ("shop.example", "write to jane@eu.shop.example"),
        ("jane@shop.example", "write to Jane@Shop.example"),
        ("12 Oak Ave", "She lives at 12 Oak Ave, Portland, OR 97201"),
        ("12 Oak Ave, Portland, OR 97201", "She lives at 12 Oak Ave; Portland, OR 97201"),
        ("Grossgasse 50", "Trivo lives on Grossgasse 50."),
        ("87331 Dunajska 56", "her address: 87331 Dunajska 56"),
        ("Stra\u00dfe des 17. Juni 135", "Er wohnt in der Stra\u00dfe des 17. Juni 135"),
    ],
)
def test_what_an_administrator_allows_is_not_personal(entry: str, line: str) -> None:
    packs = [Pack("pii", PII_PATTERNS)]
    assert not RuleBasedClassifier(packs).classify(line).is_safe
    allowing = RuleBasedClassifier(packs, allow=[" ", entry])
    assert allowing.classify(line).is_safe
    assert not allowing.classify(line + " SSN 219-09-9999").is_safe
    assert allowing.version != RuleBasedClassifier(packs).version


@pytest.mark.parametrize("written", ["AB12345X3", "12345", "AB12345\u00b23", ""])
def test_what_does_not_end_in_seven_digits_is_no_dea_number(written: str) -> None:
    assert not is_dea_number(written, 0, len(written))


def found(line: str) -> bool:
    return any(evidence.category.startswith("pii") for evidence in classify_rule_based(line).evidence)


@pytest.mark.parametrize(
    "line",
    [
        "Next of kin: Luz Rey, +52 55 4182 9037.",  # neither fixed nor mobile: the plan of Mexico does not tell them apart
        "You may ring him on +1 868 622 1234, he is her carer.",
        "Emergency contact: Rhona Baird (sister) 07700 900661",
        "Her landline is 0131 496 0 772.",
        '"phoneNumber": "6175550188"',
        "Her phone number is 617-555-0188.",
        "Phone number: 617-555-0188",
        "The patient's tel. no. is 020 7946 0958.",
        "The pharmacy has her phone number on file, 617-555-0188.",
    ],
)
def test_a_phone_is_found_in_every_plan_and_beside_next_of_kin(line: str) -> None:
    assert found(line)


@pytest.mark.parametrize(
    "line",
    [
        "Giftnotrufzentrale: 030 19240",
        "Unser Kundendienst: 030 12345678",
        "The service line is 0345 604 0404.",
        "The pharmacy's phone number on file is 617-555-0188.",
        "The practice's number is 020 7946 0400.",
        "EudraCT 2019-004471-99 is the number of the study.",
        "The number of the parcel is JD0146000031 8827 5512.",
        "Part number 773 653 2680 fits it.",
        "Type it without spaces, for example 6175550188, as your phone number.",
    ],
)
def test_a_public_line_a_code_or_an_example_is_no_phone_of_a_person(line: str) -> None:
    assert not found(line)


@pytest.mark.parametrize(
    ("line", "personal"),
    [
        ("Her number? It is six one seven, five five five, oh one eight eight.", True),
        ("Ring her on oh double seven double oh nine double oh one two three.", True),
        ("The card is four one one one, one one one one, one one one one, one one one one.", True),
        ("The card is four one one one, one one one one, one one one one, one one one two.", False),
        ("Call Poison Control: one eight zero zero, two two two, one two two two.", False),
        ("Our pharmacy's number is six one seven, five five five, oh one eight eight.", False),
        ("Your order number is six one seven, five five five, oh one eight eight.", False),
        ("Count to ten: one, two, three, four, five, six, seven, eight, nine, zero.", False),
    ],
)
def test_a_number_in_words_is_read_as_the_one_in_digits(line: str, personal: bool) -> None:
    assert found(line) is personal


@pytest.mark.parametrize(
    ("line", "personal"),
    [
        ("Social: 536904399", True),
        ("She gave 536 - 90 - 4399 as her social.", True),
        ("SSN: 536/90/4399", True),
        ('"socialSecurityNumber": "536904399"', True),
        ("Our social worker has case 536904399.", False),
        ("The ratio is 536/90/4399.", False),
    ],
)
def test_an_ssn_is_known_by_any_name_and_with_any_sign_between(line: str, personal: bool) -> None:
    assert found(line) is personal


@pytest.mark.parametrize(
    ("line", "personal"),
    [
        ("jane.doe @ mail . com", True),
        ("Su correo es jane.doe arroba ejemplo punto es.", True),
        ("jane.doe(arobase)exemple.fr", True),
        ("jane underscore doe at example dot com", True),
        ("Unser Postfach: kontakt [at] apotheke [dot] de", False),
        ("Write to support at pharmacy dot com.", False),
        ("Take 1 tablet @ 8. It helps.", False),
    ],
)
def test_a_disguised_address_of_a_person_is_found_and_a_public_one_is_not(line: str, personal: bool) -> None:
    assert found(line) is personal


@pytest.mark.parametrize(
    "line",
    [
        "The med rec # for Mr. Cole is 88-41-207.",
        "Patient ID no. 30447218",
        "patient # 30447218",
        "According to EMR ID 90311847 she stopped.",
        "Expediente cl\u00ednico n.\u00ba 7719-22",
        "Patientenakte Nr. 4419027",
        "Cardholder ID 77120398401",
        "Insured's ID no.: ZPK884-20-1193",
        "Her Medi-Cal number is 93117204A.",
        "DoD ID 1187720449",
        "His card says Humana H77190428-00.",
        "patient Cole (acct 4410927733)",
        "The NHS no. is 9434765919.",
        "NPI of Dr. Halvorsen = 1234567893",
        "He showed state ID 448-20-917.",
        "The passport used was no. 518809227.",
        "The passport on file is X7729104.",
        "D1234567 is his driver's license number.",
        "4471902 is her medical record number.",
        "Ohio DL number TX441902",
    ],
)
def test_a_record_a_member_and_a_paper_are_known_by_more_names(line: str) -> None:
    assert found(line)


@pytest.mark.parametrize(
    "line",
    [
        "The NPI is missing on order 1234567893.",
        "The serial number of the pump is 1EG4-TE5-MK73.",
        "Article number 4111111111111111 is a blister pack.",
        "The order number on file is 219-09-9999.",
        "Create an account in 3 steps; the 6-digit code lasts 10 minutes.",
    ],
)
def test_what_another_number_is_called_counts_some_words_before_too(line: str) -> None:
    assert not found(line)


def test_words_after_an_iban_are_no_part_of_it() -> None:
    for line in ("ES91 2100 0418 4502 0005 1332 de la paciente", "It is ES91 2100 0418 4502 0005 1332 if you ask."):
        assert [evidence.text for evidence in classify_rule_based(line).evidence] == ["ES91 2100 0418 4502 0005 1332"]


@pytest.mark.parametrize(
    ("line", "personal"),
    [
        ('"dateOfBirth": "1979-10-05"', True),
        ("dob_: 05-09-1969", True),
        ("Fecha nac.: 23-08-1961", True),
        ("N\u00e9e \u00e0 Nantes le 21 juin 1944", True),
        ("The birthday we hold for Kim is 23/08/2001.", True),
        ("Date of birth for this patient: 23/08/61", True),
        ("04/17/1958 is her date of birth.", True),
        ("It is for a date of birth on or before 31 December 1959.", False),
        ("We check the date of birth at pick-up until 31/08/2019.", False),
        ("Tell us your date of birth before 03/14/26", False),
    ],
)
def test_a_birth_date_is_found_some_words_after_what_it_is_called(line: str, personal: bool) -> None:
    assert found(line) is personal


@pytest.mark.parametrize(
    ("line", "personal"),
    [
        ("It went to Flat 4, 18 Harbour View, Bristol BS1 6QX by mistake.", True),
        ("Mrs Cole, The Old Mill, Church Street, Alton, GU34 2BX, takes the same.", True),
        ("Kim Dray\n118 Fernhill View\nCleveland, OH 44118", True),
        ("Ship to K. Dray / 118 Fernhill View / Cleveland / OH 44118", True),
        ("Lena Vogt wohnt Am Lindenhof 7, 21335 L\u00fcneburg.", True),
        ("We are at 18 Harbour View, Bristol BS1 6QX.", False),
        ("Larkspur Drugs, 2208 SE Larkspur Ct, Portland, OR 97214: open till 21:00.", False),
        ("The shop is in Church Street, Alton, GU34 2BX.", False),
        ("The shop has the postcode LS1 4DY.", False),
        ("MA holder: Zentiva, 1920 Worthing Road.", False),
    ],
)
def test_a_postcode_makes_an_address_of_any_street_but_an_institutions(line: str, personal: bool) -> None:
    assert found(line) is personal


def test_checking_numbers_is_loaded_when_a_number_needs_it() -> None:
    code = (
        "import sys; from classifiers.rule_based import classify_rule_based as c; c('Take one tablet.');"
        "print([m for m in ('stdnum', 'phonenumbers') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
