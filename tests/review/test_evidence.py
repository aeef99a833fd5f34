"""Texts are shown whole, hidden characters as something that can be seen, evidence at its place."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardreview.review.evidence import Finding, excerpt, findings_of, pieces, segments
from guardreview.verdicts.models import LayerResult


def shown(text: str) -> str:
    return "".join(f"[{piece.text}]" if piece.name else piece.text for piece in pieces(text))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("st\u200bop", "st[ZWSP]op"),
        ("a\u200b\u200b\u200bb", "a[ZWSP ×3]b"),
        ("wor\u202erying", "wor[RLO]rying"),
        ("\u2066x\u2069", "[LRI]x[PDI]"),
        ("soft\u00adhyphen", "soft[SHY]hyphen"),
        ("\ufeffstart", "[BOM]start"),
        ("bell\x07", "bell[U+0007]"),
        ("hi" + "".join(chr(0xE0000 + ord(c)) for c in "kill me"), "hi[hidden: kill me]"),
        ("line\none\ttab", "line\none\ttab"),
    ],
)
def test_hidden_characters_are_made_visible(text: str, expected: str) -> None:
    assert shown(text) == expected


@pytest.mark.parametrize("text", ["👩\u200d⚕️ asks", "❤️\u200d🔥", "می\u200cخواهم", "naïve café", "שלום"])
def test_what_scripts_and_emoji_need_is_left_alone(text: str) -> None:
    assert shown(text) == text


def test_a_joiner_between_latin_letters_is_hidden_text() -> None:
    assert shown("st\u200dop") == "st[ZWJ]op"


FILLERS = "\u115f\u1160\u2800\u3164\uffa0"


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"])))
def test_no_visible_character_is_lost_and_none_stays_invisible(text: str) -> None:
    def readable(characters: str) -> list[str]:
        return [c for c in characters if unicodedata.category(c)[0] in "LNPS" and c not in FILLERS]

    visible = "".join(piece.text for piece in pieces(text) if not piece.name)
    assert readable(visible) == readable(text)
    assert not set(visible) & set("\u200b\u202e\u2066\u00ad\ufeff\x00" + FILLERS)


def finding(number: int, start: int, end: int, layer: str = "rules") -> Finding:
    return Finding(number, layer, "rule", "", start, end, "")


def test_overlapping_findings_are_told_apart() -> None:
    found = segments("0123456789", [finding(1, 1, 6), finding(2, 4, 8, "judge")])
    assert [("".join(p.text for p in s.pieces), s.findings, s.begins, s.layers) for s in found] == [
        ("0", (), (), ()),
        ("123", (1,), (1,), ("rules",)),
        ("45", (1, 2), (2,), ("rules", "judge")),
        ("67", (2,), (), ("judge",)),
        ("89", (), (), ()),
    ]


spans = st.lists(st.tuples(st.integers(0, 39), st.integers(1, 40)).filter(lambda span: span[0] < span[1]), max_size=6)


@given(st.text(alphabet="ab 😀é\n", min_size=40, max_size=40), spans)
def test_segments_are_the_text_and_each_finding_its_span(text: str, found: list[tuple[int, int]]) -> None:
    findings = [finding(number, *span) for number, span in enumerate(found)]
    cut = segments(text, findings)
    assert "".join(piece.text for segment in cut for piece in segment.pieces) == text
    for each in findings:
        marked = "".join(piece.text for s in cut if each.number in s.findings for piece in s.pieces)
        assert marked == text[each.start : each.end]
        assert sum(each.number in segment.begins for segment in cut) == 1


def test_evidence_outside_of_the_text_is_left_out() -> None:
    def evidence(start: int, end: int) -> dict[str, object]:
        return {"start": start, "end": end, "text": "x", "rule": "r", "category": ""}

    rows = [LayerResult(layer="rules", evidence=[evidence(2, 99), evidence(3, 3), evidence(-1, 2), evidence(0, 4)])]
    assert [(found.start, found.end) for found in findings_of(rows, "0123456789")] == [(0, 4)]


def test_an_empty_response_has_no_segments() -> None:
    assert segments("", []) == []


def test_an_excerpt_is_one_line_with_hidden_characters_marked() -> None:
    assert excerpt("Stop\u200b it\n\n  now") == "Stop[ZWSP] it now"
    assert excerpt("word " * 100, 20) == "word word word word…"
    assert len(excerpt("x" * 100_000)) == 181
