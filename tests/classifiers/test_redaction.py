import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from classifiers.allow_list import AllowList
from classifiers.redaction import redact
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
