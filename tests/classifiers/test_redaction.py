import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from classifiers import redaction
from classifiers.allow_list import AllowList
from classifiers.redaction import RedactionError, redact
from classifiers.result import Severity
from classifiers.rule_based import classify_rule_based
from classifiers.rules.rule import CompiledRule, Rule
from tests.classifiers.pii_cases import LOOK_ALIKES, PERSONAL

LINES = [line for lines in PERSONAL.values() for line, _ in lines]


def test_a_value_has_one_placeholder_wherever_it_stands() -> None:
    text = "Mail jane@example.com or bob@example.com. JANE@example.com is at +1 617-555-0188, that is (617) 555-0188."
    redacted = redact(text)
    assert redacted.text == "Mail [EMAIL_1] or [EMAIL_2]. [EMAIL_1] is at [PHONE_1], that is [PHONE_1]."
    assert [text[span.start : span.end] for span in redacted.spans] == [
        "jane@example.com",
        "bob@example.com",
        "JANE@example.com",
        "+1 617-555-0188",
        "(617) 555-0188",
    ]
    assert [span.category for span in redacted.spans[2:4]] == ["pii:email", "pii:phone"]


def test_what_names_a_value_stays() -> None:
    assert (
        redact("Your MRN is 00482913, policy number HP-4482910.").text == "Your MRN is [MRN_1], policy number [INSURANCE_ID_1]."
    )


def test_numbers_of_placeholders_are_not_given_again() -> None:
    assert redact("[EMAIL_3] and jane@example.com").text == "[EMAIL_3] and [EMAIL_4]"


def test_what_is_allowed_stays() -> None:
    text = "Call his cell 617-555-0188, or jo@shop.example."
    assert redact(text, AllowList(["(617) 555-0188", "shop.example"])).text == text
    assert redact(text, AllowList(["617-555-0189"])).text == "Call his cell [PHONE_1], or [EMAIL_1]."


@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        ("His SSN: 2 1 9 - 0 9 - 9 9 9 9, I repeat, 219-09-9999.", "His SSN: [SSN_1], I repeat, [SSN_1]."),
        ("mail j\u0430ne@example.com, or jane@example.com", "mail [EMAIL_1], or [EMAIL_1]"),
        ("SSN \uff12\uff11\uff19-\uff10\uff19-\uff19\uff19\uff19\uff19", "SSN [SSN_1]"),
        ("| Order | NPI |\n|---|---|\n| 4471 | 1234567893 |", "| Order | NPI |\n|---|---|\n| 4471 | [NPI_1] |"),
        ("|D.O.B.|\n|---|\n|1956-03-30|", "|D.O.B.|\n|---|\n|[DATE_OF_BIRTH_1]|"),
        ("|Her cell 617-555-0188|\n|---|\n|yes|", "|Her cell [PHONE_1]|\n|---|\n|yes|"),
    ],
)
def test_what_the_rules_find_in_any_reading_is_taken_out(text: str, redacted: str) -> None:
    assert classify_rule_based(text).category.startswith("pii:")
    assert redact(text).text == redacted


def test_values_that_overlap_are_taken_out_as_one() -> None:
    assert redact("She lives at 742 Evergreen Terrace, Springfield.").text == "She [ADDRESS_1]."


def test_what_is_allowed_for_the_rules_is_allowed_here_and_nothing_else() -> None:
    allow = AllowList(["2 Oak Avenue", "1234567893"])
    assert redact("She lives at 2 Oak Avenue.", allow).text == "She lives at 2 Oak Avenue."
    assert redact("She lives at 12 Oak Avenue.", allow).text == "She [ADDRESS_1]."


def test_a_text_in_which_something_is_found_in_every_round_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redaction, "ROUNDS", 1)
    assert redact("Take one tablet.").text == "Take one tablet."
    with pytest.raises(RedactionError, match="1 rounds") as caught:
        redact("Mail jane@example.com.")
    assert "jane" not in str(caught.value)


def test_a_text_whose_scan_cannot_be_finished_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    dense = CompiledRule(Rule("dense", "pii", ("a",), Severity.MAJOR))  # it reads each sentence that it matches in
    monkeypatch.setattr(redaction, "_searches", lambda: tuple((dense, pattern) for pattern in dense.patterns))
    with pytest.raises(RedactionError, match="too many places"):
        redact("a " * 50)


@pytest.mark.parametrize("line", LINES)
def test_nothing_personal_is_left(line: str) -> None:
    redacted = redact(line)
    assert redacted.spans
    assert redact(redacted.text) == type(redacted)(redacted.text, ())


@pytest.mark.parametrize("line", LOOK_ALIKES)
def test_look_alikes_stay(line: str) -> None:
    assert redact(line).text == line


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.sampled_from(LINES), st.sampled_from(["[EMAIL_1]", "[SSN_2]", " ", "\u200b", "12", "@", "("]), st.text(max_size=5)
        ),
        max_size=6,
    )
)
def test_idempotent_and_spans_are_true(pieces: list[str]) -> None:
    text = "".join(pieces)
    redacted = redact(text)
    assert redact(redacted.text).text == redacted.text
    done, rebuilt = 0, ""
    for span in redacted.spans:
        assert done <= span.start < span.end <= len(text)
        rebuilt += text[done : span.start] + span.placeholder
        done = span.end
    assert rebuilt + text[done:] == redacted.text
