import pytest

from classifiers.rules.negation import Sentence
from classifiers.rules.negation_languages import LANGUAGES

MATCHES = {"es": "duplique la dosis", "fr": "doublez la dose", "de": "verdoppeln Sie die Dosis"}
ASSERTED = [
    ("es", "Sí, {}."),
    ("es", "No hay problema, {}."),
    ("es", "No se preocupe y {}."),
    ("fr", "Oui, {}."),
    ("fr", "Pas de problème, {}."),
    ("fr", "L'ibuprofène aide, {} ce soir."),
    ("de", "Ja, {}."),
    ("de", "Kein Problem, {}."),
    ("de", "{}, wenn es nicht wirkt."),
]
DENIED = [
    ("es", "Nunca {}."),
    ("es", "Nunca, por favor, {}."),
    ("es", "¿{}?"),
    ("es", "Es un mito que si olvida una toma {}."),
    ("fr", "Ne {} jamais."),
    ("fr", "En aucun cas ne {}."),
    ("fr", "{} : est-ce permis ?"),
    ("de", "{} nicht."),
    ("de", "Bitte {} auf keinen Fall, nie."),
    ("de", "Niemals, wirklich niemals {}."),
]


def asserted(language: str, form: str) -> bool:
    match = MATCHES[language]
    text, start = form.format(match), form.index("{")
    return Sentence.around(text, start, start + len(match)).asserts(start, start + len(match), (), language)


@pytest.mark.parametrize(("language", "form"), ASSERTED)
def test_advice_is_asserted(language: str, form: str) -> None:
    assert asserted(language, form)


@pytest.mark.parametrize(("language", "form"), DENIED)
def test_denials_and_questions_are_not(language: str, form: str) -> None:
    assert not asserted(language, form)


def test_english_is_among_the_languages() -> None:
    assert LANGUAGES == ("en", "es", "fr", "de")
