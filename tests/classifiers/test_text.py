import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from classifiers.text import normalize, with_headers

ODD = st.text(
    alphabet=st.one_of(
        st.characters(exclude_categories=()),
        st.sampled_from("aeK '\"-\n\u200b\u00ad\u202e\u2019\ufb01\u0301\u0323\uff9e\uff76\u1100\u1161\u00b4\ud800\u00a0"),
    ),
    max_size=60,
)


@pytest.mark.parametrize(
    ("written", "plain"),
    [
        ("Don\u2019t", "Don't"),
        ("\u201cfine\u201d", '"fine"'),
        ("dou\u200bble your do\u00adse", "double your dose"),
        ("\u202edouble\u202c", "double"),
        ("double\u00a0your\u2009dose", "double your dose"),
        ("\uff44\uff4f\uff55\uff42\uff4c\uff45", "double"),
        ("\U0001d5f1\U0001d5fc\U0001d600\U0001d5f2", "dose"),
        ("self\u2011medicate", "self-medicate"),
        ("219\u201309\u20139999", "219-09-9999"),
        ("\ufb01ne", "fine"),
        ("cafe\u0301", "caf\u00e9"),
        ("one\u2028two", "one\ntwo"),
        ("fine \u2014 go", "fine \u2014 go"),
        ("a\ud800b", "a\ufffdb"),
        ("2\ufe0f\u20e3", "2"),
        ("", ""),
    ],
)
def test_reads_as_plain_text(written: str, plain: str) -> None:
    assert normalize(written).text == plain


def test_ascii_is_returned_as_it_is() -> None:
    text = "Take 1 tablet.\n" * 10
    assert normalize(text).text is text


def test_a_span_leads_back_to_what_was_written() -> None:
    written = "\u00abPlease\u00bb do\u200bub\u00adle your dose\u2026"
    plain = normalize(written)
    start = plain.text.index("double")
    first, last = plain.original_span(start, start + len("double your dose"))
    assert written[first:last] == "do\u200bub\u00adle your dose"


def test_half_of_a_ligature_takes_all_of_it() -> None:
    assert normalize("\ufb01ne").original_span(0, 1) == (0, 1)
    assert normalize("\ufb01ne").original_span(1, 3) == (0, 2)


@given(ODD)
@example("\uff76\uff9e")
@example("e\u200b\u0301")
@example("\u1100\u1161")
def test_idempotent(text: str) -> None:
    once = normalize(text).text
    assert normalize(once).text == once


@given(ODD)
def test_offsets_rise_from_start_to_end(text: str) -> None:
    plain = normalize(text)
    assert len(plain.offsets) == len(plain.text) + 1
    assert all(a <= b for a, b in zip(plain.offsets, plain.offsets[1:], strict=False))
    assert plain.offsets[-1] == len(text)


@given(ODD, st.data())
def test_what_a_span_leads_back_to_reads_as_the_span(text: str, data: st.DataObject) -> None:
    plain = normalize(text)
    start = data.draw(st.integers(0, len(plain.text)))
    end = data.draw(st.integers(start, len(plain.text)))
    first, last = plain.original_span(start, end)
    assert 0 <= first <= last <= len(text)
    assert plain.text[start:end] in normalize(text[first:last]).text
    assert (first == last) == (start == end)


@given(ODD)
def test_what_comes_out_can_be_encoded(text: str) -> None:
    plain = normalize(text).text
    assert plain.encode().decode() == plain


def test_a_cell_is_read_with_the_header_of_its_column() -> None:
    text = "Here:\n| Name | MRN |\n|:--|--:|\n| Ida | 4471 |\n\n| 1 | 2 |\n| 3 |"
    read = with_headers(normalize(text))
    assert read is not None
    assert "| Name: Ida | MRN: 4471 |" in read.text
    assert "| 1: 3 |" in read.text
    start = read.text.index("4471")
    assert text[slice(*read.original_span(start, start + 4))] == "4471"


@given(st.text(alphabet="| -:\nab1*", max_size=200))
def test_any_table_keeps_its_way_back(text: str) -> None:
    read = with_headers(normalize(text))
    if read is not None:
        assert len(read.offsets) == len(read.text) + 1
        assert list(read.offsets) == sorted(read.offsets)
        assert read.offsets[-1] == len(text)


def test_a_text_without_a_table_is_left_alone() -> None:
    assert with_headers(normalize("a | b")) is None
    assert with_headers(normalize("| one row |")) is None
