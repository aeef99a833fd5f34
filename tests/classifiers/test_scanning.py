"""What the short way into RE2 finds is what the binding's own methods and `re` find."""

import re

import pytest
import re2
from hypothesis import given
from hypothesis import strategies as st

from classifiers.rules.matching import options
from classifiers.scanning import Gated, Scan

EXPRESSION = r"\b(?P<count>\d+|two|né)(?: (?P<unit>mg|µg|ml))?\b|x*!"
TEXTS = st.lists(st.sampled_from(["2", "14", "two", "né", " ", "mg", "µg", "ml", "x", "!", "é", ".", "\n", "TWO", "💊"])).map(
    "".join
)


@given(TEXTS)
def test_a_scan_finds_what_the_binding_finds(text: str) -> None:
    scan, binding = Scan(EXPRESSION), re2.compile(EXPRESSION, options())
    matches = list(binding.finditer(text))
    assert scan.spans(text) == [match.span() for match in matches]
    assert scan.spans(text, 2) == [match.span() for match in matches[:2]]
    assert scan.found(text) is bool(matches)
    assert scan.span(text) == (matches[0].span() if matches else None)
    assert scan.groups(text) == ({name: found or "" for name, found in matches[0].groupdict().items()} if matches else None)
    assert scan.without(text) == binding.sub(" ", text)


def test_a_scan_gives_the_place_of_a_group() -> None:
    scan = Scan(r"é+ (mg|ml)")
    assert scan.span("ääé ml.", 1) == (4, 6)
    assert scan.span("ää ml.", 1) is None


@given(st.text(alphabet="12 kgé٣/per", max_size=30))
def test_a_gate_changes_nothing(text: str) -> None:
    pattern = r"\b(\d{1,2})\s?kg\b(?!/)"
    found = Gated(pattern, r"\b(\d{1,2})\s?kg\b").search(text)
    expected = re.search(pattern, text)
    assert (found and found.span()) == (expected and expected.span())


def test_a_bad_expression_is_refused() -> None:
    with pytest.raises(re2.error):
        Scan(r"(?=a)")
