"""Personal data is not on the pages: not in an excerpt, not in a quote, not where it stands a second time."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardreview.review import masking
from guardreview.review.evidence import Mask, findings_of, one_line, pieces, segments
from guardreview.review.masking import Shield, excerpts, masked, masks
from guardreview.verdicts.models import LayerResult

PHONE, EMAIL, SSN = "415-555-2671", "bob.smith@gmail.com", "219-09-9999"
TEXT = f"Her number is {PHONE}, her mail {EMAIL} and her SSN {SSN}. Take 500 mg twice a day."


def shown(text: str) -> str:
    return "".join(f"[{piece.text}]" if piece.name else piece.text for piece in pieces(text, masks(text)))


def test_each_kind_is_named_and_the_rest_is_left() -> None:
    assert shown(TEXT) == (
        "Her number is [phone number], her mail [e-mail address] and her SSN [social security number]. Take 500 mg twice a day."
    )


def test_a_mask_is_the_span_of_the_original() -> None:
    assert [TEXT[mask.start : mask.end] for mask in masks(TEXT)] == [PHONE, EMAIL, SSN]


def test_an_excerpt_is_one_line_with_marks() -> None:
    assert masked("Call\n\n  me: 415-555-2671 please") == "Call me: [phone number] please"
    assert masked("st\u200bop") == "st[ZWSP]op"


@pytest.mark.parametrize("at", range(40, 56))
def test_a_number_that_an_excerpt_would_cut_is_masked_whole(at: int) -> None:
    text = f"{'x ' * 20}call {PHONE} {'and more ' * 40}"
    assert "41" not in masked(text, at)


def test_what_stands_behind_an_excerpt_is_not_read_as_a_part_of_it() -> None:
    text = "a" + " " * 90 + f"b {'word ' * 60}" + SSN[:5] + " " * 50 + SSN
    assert SSN[:5] not in masked(text, 80)


def test_a_pharmacys_own_number_is_not_masked(settings: Any) -> None:
    assert "[phone number]" in masked(f"Call {PHONE}.")
    settings.PII_ALLOW = (PHONE,)
    assert masked(f"Call {PHONE}.") == f"Call {PHONE}."


def test_a_text_that_cannot_be_searched_is_hidden_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*arguments: object) -> None:
        raise RuntimeError(PHONE)

    monkeypatch.setattr(masking, "redact", fails)
    assert shown(TEXT) == "[not checked for personal data]"
    assert masked(TEXT) == "[not checked for personal data]"
    assert Shield([TEXT]).masks(TEXT) == [Mask(0, len(TEXT), masking.UNCHECKED)]


def test_the_quick_pass_that_fails_lets_nothing_through(monkeypatch: pytest.MonkeyPatch) -> None:
    class Failed:
        def Match(self, text: str) -> list[int]:  # noqa: N802 - the library's name
            return []

    monkeypatch.setattr(masking, "_gate", lambda: (Failed(), []))
    assert shown(TEXT).count("[") == 3


CASES = [
    "SSN 219-09-9999.", "We have 536 90 4399 for him.", "Her social is three zero six, four nine, four six nine eight.",
    "Call me at (415) 555-2671.", "Ruf mich an: 030 901820 oder mobil 0151 23456789", "john (dot) smith (at) gmail (dot) com",
    "Her NHS number is 943 476 5919.", "IBAN DE89 3704 0044 0532 0130 00", "MRN: 44718823", "DOB: 04/12/1956",
    "He lives at 12 Oak Avenue, Springfield, IL 62704.", "The card 4111 1111 1111 1111 is charged.",
    "| MRN |\n|---|\n| 4471882 |", "S\u200bSN 219\u200b-09-9999", "my n.u.m.b.e.r is 4\u200b15-555-2671",
]  # fmt: skip


@pytest.mark.parametrize("text", CASES)
def test_the_quick_pass_finds_what_the_thorough_one_does(text: str) -> None:
    from classifiers.redaction import redact

    spans = [(span.start, span.end) for span in redact(text).spans]
    assert [(mask.start, mask.end) for mask in masks(text)] == spans
    assert spans


@given(st.lists(st.sampled_from([*CASES, "Take 500 mg.", "\n\n", "x" * 50]), min_size=1, max_size=6).map(" ".join))
def test_masks_lie_in_the_text_in_order(text: str) -> None:
    found = masks(text)
    edges = [edge for mask in found for edge in (mask.start, mask.end)]
    assert edges == sorted(edges)
    assert all(0 <= mask.start < mask.end <= len(text) for mask in found)


def test_what_one_text_gives_away_is_masked_in_the_others_too() -> None:
    query, reason = "My phone number is 0151 23456789.", "It repeats 0151 23456789 to a stranger."
    assert masks(reason) == []
    shield = Shield([query])
    assert one_line(pieces(reason, shield.masks(reason)), 99, more=False) == "It repeats [phone number] to a stranger."
    assert shield.holds
    assert not Shield(["Take 500 mg."]).holds


def test_what_was_revealed_is_shown_and_known_to_be_personal() -> None:
    shield = Shield([TEXT], revealed=True)
    assert shield.masks(TEXT) == []
    assert shield.holds


def test_a_quote_is_masked_even_where_it_begins_in_the_middle_of_a_number() -> None:
    start = TEXT.index(PHONE)
    evidence = {"start": start + 4, "end": start + len(PHONE) + 3, "text": "-", "rule": "judge", "category": ""}
    (finding,) = findings_of([LayerResult(layer="judge", evidence=[evidence])], TEXT, masks(TEXT))
    assert finding.quote == "[phone number], h"


def test_a_mask_is_never_cut_by_a_finding_and_offsets_stay_right() -> None:
    start = TEXT.index(PHONE)
    rows = [{"start": start - 3, "end": start + 4, "text": "", "rule": "a", "category": ""}]
    rows.append({"start": start + 2, "end": start + 20, "text": "", "rule": "b", "category": ""})
    findings = findings_of([LayerResult(layer="rules", evidence=rows)], TEXT, masks(TEXT))
    cut = segments(TEXT, findings, masks(TEXT))
    shown = [piece for segment in cut for piece in segment.pieces]
    assert [piece.text for piece in shown if piece.masked] == ["phone number", "e-mail address", "social security number"]
    assert [piece.start for piece in shown[1:]] == [piece.end for piece in shown[:-1]]
    assert all(TEXT[piece.start : piece.end] == piece.text for piece in shown if not piece.name)
    over = next(segment for segment in cut if segment.pieces[0].masked)
    assert over.findings == (1, 2)


def test_a_text_of_several_chunks_has_the_masks_of_each() -> None:
    text = "Take it with water. " * 900 + f"Call {PHONE}. " + "Rest well. " * 900
    (mask,) = masks(text)
    assert text[mask.start : mask.end] == PHONE


def test_a_page_of_excerpts_costs_little() -> None:
    rows = [f"how many extra strength tylenol can i take a day, number {number}? " * 6 for number in range(50)]
    masked(rows[0])
    begun = time.perf_counter()
    for row in rows:
        masked(row)
    assert time.perf_counter() - begun < 0.05  # some 3 ms where nothing else runs


# --- Excerpts of a query and its response -----------------------------------------------------------------------------------
def test_what_the_query_tells_is_masked_where_the_answer_repeats_it_bare() -> None:
    query, response = excerpts("My MRN: 44718823, is the refill ready?", "For 44718823 it is ready; take two.")
    assert query == "My MRN: [medical record number], is the refill ready?"
    assert response == "For [medical record number] it is ready; take two."


def test_what_the_answer_tells_behind_its_excerpt_is_masked_in_both() -> None:
    query, response = excerpts("is 44718823 ready?", f"44718823 is ready. {'Take it with water. ' * 20} MRN: 44718823")
    assert query == "is [medical record number] ready?"
    assert response.startswith("[medical record number] is ready.")
    assert "44718823" not in response


@pytest.mark.parametrize("limits", [(120, 180), (400, 600)])
def test_excerpts_are_as_long_as_they_may_be(limits: tuple[int, int]) -> None:
    query, response = excerpts("word " * 200, "word " * 200, limits)
    assert (len(query), len(response)) == (limits[0], limits[1])
    assert excerpts("hi", "hello") == ("hi", "hello")
    assert max(limits) + masking.MARGIN <= masking.HEAD_CHARS
