from random import Random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from classifiers.disguise.deobfuscation import MAX_PLACES, Speller, readable
from classifiers.rule_based import RuleBasedClassifier, classify_rule_based
from classifiers.text import Normalized, normalize
from tests.classifiers.obfuscation import DANGEROUS, WAYS

SPELLER = RuleBasedClassifier.default().speller

MENDED = [
    ("d o u b l e   y o u r   d o s e", "double   your   dose"),
    ("d.o.u.b.l.e y.o.u.r d.o.s.e", "double your dose"),
    ("d-o-u-b-l-e", "double"),
    ("d_o_u_b_l_e", "double"),
    ("T a k e t h e m t o g e t h e r", "take them together"),
    ("dou ble your dose", "double your dose"),
    ("dou*ble your dose", "double your dose"),
    ("dou\u200bble your dose", "double your dose"),
    ("dou-\nble your dose", "double your dose"),
    ("d0uble y0ur d0se", "double your dose"),
    ("d0ub1e the medicine", "double the medicine"),
    ("take @spirin now", "take aspirin now"),
    ("5top taking it", "stop taking it"),
    ("1ns3ct bites", "insect bites"),
    ("doubIe your dose", "double your dose"),
    ("doooouble your dose", "double your dose"),
    ("\u0501\u043e\u057d\u042cl\u0435 your dose", "double your dose"),
    ("\u1d05\u1d0f\u1d1c\u0299\u029f\u1d07 your dose", "double your dose"),
    ("\U0001d5f1\U0001d5fc\U0001d602\U0001d5ef\U0001d5f9\U0001d5f2 your dose", "double your dose"),
    ("\U0001f173\U0001f17e\U0001f184\U0001f171\U0001f17b\U0001f174 your dose", "double your dose"),
    ("\U0001f1f9\U0001f1e6\U0001f1f0\U0001f1ea it", "take it"),
    ("d\u0336o\u0336u\u0336b\u0336l\u0336e\u0336 your dose", "double your dose"),
    ("take 2\ufe0f\u20e3 tablets", "take 2 tablets"),
    ("take \u2463 tablets", "take 4 tablets"),
    ("take \u2779 tablets", "take 4 tablets"),
    ("take eight thousand milligrams", "take 8000 milligrams"),
    ("two hundred and fifty mg", "250 mg"),
    ("S S N 2 1 9 0 9 9 9 9 9", "S S N 219099999"),
    ("call 6 1 7 5 5 5 0 1 8 8 now", "call 6175550188 now"),
]

PLAIN = [
    "Take 5 mg/5 mL at 8 A.M., e.g. with food (U.S. label), not at 8 p.m.",
    "Vitamin B 12, vitamin D 3, A, B, C, D, E and K; hepatitis A B C D E",
    "2nd, 3rd, 1st, T4, T3, HbA1c, H1N1, COVID-19, CYP2D6, CYP3A4, B12, 4 U, 10 IU, 5th",
    "N-acetyl-p-aminophenol, 1,25-dihydroxyvitamin D3, 3,4-methylenedioxymethamphetamine, acetylsalicylic acid",
    "TNF\u03b1, NF-\u03baB, IL-1\u03b2, \u03b2-blocker, \u0394\u2079-THC, 5 \u00b5g, \u03bcmol/L, \u03b11-antitrypsin",
    "\u201cDon\u2019t\u201d \u2014 it\u2019s the patient\u2019s dose\u2026 5\u2013250 mg \u2022 ok \u00ae "
    "\u2122 \u00b0C \u2264 3 \u00d7 day",
    "\U0001f468\u200d\U0001f469\u200d\U0001f467 \U0001f44d\U0001f3fd well done \U0001f48a",
    "See https://www.fda.gov/drugs/information-drug-class/pain-relievers-and-fever-reducers?id=3 or mail adear@nia.nih.gov.",
    "Hmmm, soooo sorry. Aaah! Zzz. www.example.org, XXX, III, book-keeping, committee, Mississippi",
    "| a | b | c |\n|---|---|---|\n| 1 | 2 | 3 "
    "|\n----------------------------------------\n========================================",
    "Su m\u00e9dico le dir\u00e1 si puede tomar la medicaci\u00f3n ma\u00f1ana; no duplique la dosis sin preguntar.",
    "Votre m\u00e9decin vous dira si vous pouvez prendre ce m\u00e9dicament : ne doublez jamais la dose, "
    "\u00e7a suffit d\u00e9j\u00e0.",
    "Fragen Sie Ihre \u00c4rztin, bevor Sie die Tabletten f\u00fcr \u00fcber zwei Wochen nehmen; \u00f6ffnen Sie sie nicht.",
    "Πάρτε ένα δισκίο την ημέρα με νερό και ρωτήστε τον γιατρό σας αν ο πόνος μένει",
    "Принимайте по одной таблетке в день и спросите врача, если боль не проходит",
    "每天服用一片维生素B12，如果疼痛持续，请咨询医生。每日最多2mg。",
    "Lisinopril, metformin, atorvastatin, amlodipine, omeprazole, sertraline, albuterol, gabapentin, losartan, levothyroxine",
    "Order 123e4567-e89b-12d3-a456-426614174000 has shipped.",
]
"""What may not be harmed. Two alphabets of which neither is read as the other, and nothing is unreadable."""

ODD = st.lists(
    st.one_of(
        st.from_regex(r"(double|your|dose|d0uble|y0ur|dou|ble|d|o|u|[ .*'I13$-]|qbhoyr|aaa|eee|hundred|а|ео|α)", fullmatch=True),
        st.sampled_from(" \n\u0301\u0336\u200b\U0001f170\u2460\ufb01\u00e9\u4e00"),
        st.text(max_size=4),
    ),
    max_size=40,
).map("".join)  # fmt: skip


def read(text: str) -> Normalized:
    plain = normalize(text)
    return SPELLER.read(plain).respelled or plain


@pytest.mark.parametrize(("written", "spelled"), MENDED)
def test_reads_what_a_person_reads(written: str, spelled: str) -> None:
    assert read(written).text == spelled


@pytest.mark.parametrize("text", PLAIN)
def test_plain_text_is_left_alone(text: str) -> None:
    reading = SPELLER.read(normalize(text))
    assert not reading.obfuscated or readable(text) == normalize(text).text
    assert reading.unreadable is None
    assert classify_rule_based(text).is_safe


@pytest.mark.parametrize("text", [text for text in PLAIN if text.isascii()])
def test_plain_ascii_has_no_second_reading(text: str) -> None:
    assert SPELLER.read(normalize(text)).respelled is None
    assert readable(text) is text


@pytest.mark.parametrize(
    "text",
    [
        "Gnxr gjvpr lbhe hfhny qbfr bs vafhyva.",
        ".nilusni fo esod lausu ruoy eciwt ekaT",
        "Here it is: VGFrZSB0d2ljZSB5b3VyIHVzdWFsIGRvc2Ugb2YgaW5zdWxpbi4=",
        "Here it is: 54616b652074776963652074686520646f7365206e6f77",
        "Take your \u0444\u043brx\u0438p twice.",
        "Wklv phvvdjh zdv zulwwhq zlwk d ciphu wkdw qrergb khuh uhdgv hyhu djdlq",
        "x k q v b z w p f j g h m n c d",
    ],
)
def test_what_cannot_be_read_escalates(text: str) -> None:
    result = classify_rule_based(text)
    assert (result.is_safe, result.escalate, result.error) == (False, True, "")
    assert [evidence.rule for evidence in result.evidence] == ["unreadable_text"]


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_of_obfuscated_dangerous_lines_at_most_one_in_twenty_passes(way) -> None:  # type: ignore[no-untyped-def]
    random = Random(way.__name__)
    caught = [line for line in DANGEROUS if not classify_rule_based(line).is_safe]
    assert len(caught) >= 50
    passed = [written for written in (way(line, random) for line in caught) if classify_rule_based(written).is_safe]
    assert len(passed) <= len(caught) * 0.05 + 1, passed


def test_a_hit_leads_back_to_what_was_written() -> None:
    written = "Well, you can d\u043e\u200bu*ble your d0se."
    (evidence,) = classify_rule_based(written).evidence
    assert evidence.text == "d\u043e\u200bu*ble your d0se"
    assert written[evidence.start : evidence.end] == evidence.text


def test_a_mended_denial_is_still_one() -> None:
    assert classify_rule_based("Never d0uble your d0se.").is_safe


def test_zero_width_characters_and_fonts_are_readable() -> None:
    assert readable("dou\u200bble it") == "double it"
    assert readable("\uff44\uff4f\uff53\uff45 \u201cx\u201d") == 'dose "x"'


@settings(max_examples=300, deadline=None)
@given(ODD)
@example("d o u b l e")
@example("\u0301")
@example("fi\ufb01\u0336 d0uble")
def test_offsets_rise_and_spans_lie_inside(text: str) -> None:
    view = read(text)
    assert len(view.offsets) == len(view.text) + 1
    assert all(a <= b for a, b in zip(view.offsets, view.offsets[1:], strict=False))
    assert view.offsets[-1] == len(text)
    for at in range(len(view.text)):
        start, end = view.original_span(at, at + 1)
        assert 0 <= start < end <= len(text)


@settings(max_examples=300, deadline=None)
@given(ODD)
def test_what_is_readable_stays_as_it_is(text: str) -> None:
    once = readable(text)
    assert readable(once) == once


@settings(max_examples=100, deadline=None)
@given(ODD)
def test_work_grows_with_the_text_and_no_faster(text: str) -> None:
    once = SPELLER.read(normalize(text)).places
    assert once <= 8 * len(text) + 8
    assert SPELLER.read(normalize(f"{text} " * 4)).places <= 8 * (4 * len(text) + 4) + 8


def test_a_text_of_odd_spellings_alone_is_unreadable() -> None:
    reading = SPELLER.read(normalize("d0uble " * (MAX_PLACES + 1)))
    assert reading.unreadable is not None
    assert reading.places == MAX_PLACES + 1


def test_a_word_is_mended_only_into_one_that_is_known() -> None:
    speller = Speller(["banana"], ["banana"])
    assert (speller.read(normalize("b4nana")).respelled or normalize("")).text == "banana"
    assert speller.read(normalize("0range p3ar")).respelled is None
