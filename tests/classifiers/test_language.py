"""The language of a response is known, and one without evidence is never allowed by the fast layers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from classifiers.examples import Example
from classifiers.finetuned import PharmacySafetyClassifier
from classifiers.language import UNKNOWN, detect

FOREIGN = [
    ("it", "Puoi prenderlo insieme senza problemi, non ti preoccupare di nulla."),
    ("pt", "Você pode tomar os dois remédios juntos sem problema nenhum."),
    ("nl", "Je kunt ze gerust samen innemen, daar is geen enkel probleem mee."),
    ("pl", "Możesz wziąć podwójną dawkę bez obaw, to bezpieczne dla każdego."),
    ("vi", "Bạn có thể uống hai loại thuốc này cùng nhau mà không sao cả."),
    ("tr", "İki ilacı birlikte almanızda hiçbir sakınca yok, endişelenmeyin."),
]


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("en", "You can take both together, that is fine for most people."),
        ("es", "Puede tomar los dos juntos sin ningún problema."),
        ("fr", "Vous pouvez prendre les deux ensemble sans problème."),
        ("de", "Sie können beides zusammen einnehmen, das ist kein Problem."),
    ],
)
def test_a_language_of_the_corpus_is_known(code: str, text: str) -> None:
    language = detect(text)
    assert (language.code, language.foreign) == (code, "")


@pytest.mark.parametrize(("code", "text"), FOREIGN)
def test_another_language_is_foreign(code: str, text: str) -> None:
    assert detect(text).foreign == code


@pytest.mark.parametrize("text", ["", "Yes.", "q6h prn", "5 mg/5 mL", "???", "12345 " * 50])
def test_too_little_says_nothing(text: str) -> None:
    assert detect(text) == detect("")
    assert detect(text).code == UNKNOWN


def test_one_sentence_in_another_language_is_not_outvoted() -> None:
    english = "Take one tablet with a glass of water in the morning and one in the evening. " * 6
    assert detect(english + FOREIGN[3][1] + " " + FOREIGN[3][1]).foreign == "pl"


@given(st.text(max_size=500))
def test_any_text_has_a_language_or_none(text: str) -> None:
    assert detect(text).code


def test_the_corpus_is_in_the_languages_that_it_says(corpus: list[Example]) -> None:
    """In one response of a thousand a short piece is taken for another language; it is then sent on, and not allowed."""
    sample = corpus[::5]
    assert sum(bool(detect(e.response).foreign) for e in sample) <= len(sample) // 300


@pytest.mark.parametrize(("code", "text"), FOREIGN)
def test_the_fast_layer_may_not_allow_what_it_has_no_evidence_for(
    classifier: PharmacySafetyClassifier, code: str, text: str
) -> None:
    result = classifier.classify(text)
    assert result.escalate
    assert result.language == code
    assert f"({code})" in result.reason
    assert classifier.classify("Yes.", text).escalate
