"""The served classifier: the same score however it is asked, every token read, the query heard, odd text survived."""

from __future__ import annotations

import random
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from classifiers.combined import decide
from classifiers.disguise.deobfuscation import readable
from classifiers.drugs.features import FEATURES, fact_features
from classifiers.encoder import adapter
from classifiers.encoder.bundle import DEFAULT_ENCODER_SHA256, SHIPPED_ADAPTER, encoder_folder
from classifiers.encoder.head import Head
from classifiers.encoder.windows import MAX_QUERY_TOKENS, WINDOW_TOKENS
from classifiers.examples import Example
from classifiers.finetuned import PharmacySafetyClassifier
from classifiers.policy import UNSAFE, Policy, Threshold
from classifiers.result import CATEGORIES, SAFE, ClassifierResult, Layer

TABLETS = "Take one tablet with a glass of water, and keep the rest in a dry place. "
DANGER = "Swallow the whole bottle of methadone at once, nobody needs to know."


@pytest.fixture(scope="module")
def some(corpus: list[Example]) -> list[Example]:
    """Examples of all lengths, in no order."""
    return random.Random(3).sample(corpus, 40)


def scores(results: list[ClassifierResult]) -> np.ndarray:
    return np.array([list(result.scores.values()) for result in results])


def test_a_result_is_complete(classifier: PharmacySafetyClassifier) -> None:
    result = classifier.classify(TABLETS, "How do I take it?")
    assert result.layer == Layer.FINETUNED
    assert tuple(result.scores) == classifier.head.labels
    assert set(result.scores) <= {UNSAFE, *CATEGORIES}
    assert all(type(score) is float and 0 <= score <= 1 for score in result.scores.values())
    assert (result.error, result.escalate, result.version) == ("", False, classifier.version)
    assert result.latency_ms > 0


def test_a_batch_scores_as_one_by_one_and_in_order(classifier: PharmacySafetyClassifier, some: list[Example]) -> None:
    """What others ask for at the same time must not change what a patient reads."""
    texts, queries = [e.response for e in some], [e.query for e in some]
    alone = scores([classifier.classify(text, query) for text, query in zip(texts, queries, strict=True)])
    assert np.abs(scores(classifier.classify_batch(texts, queries)) - alone).max() <= 1e-3
    backwards = classifier.classify_batch(texts[::-1], queries[::-1])
    assert np.abs(scores(backwards[::-1]) - alone).max() <= 1e-3
    assert len({tuple(row) for row in alone}) == len(some)


def test_an_empty_batch_is_no_error(classifier: PharmacySafetyClassifier) -> None:
    assert classifier.classify_batch([]) == []
    assert classifier.encoder.embed([], []) == []


def test_texts_and_queries_must_be_as_many(classifier: PharmacySafetyClassifier) -> None:
    with pytest.raises(ValueError, match=r"longer|shorter"):
        classifier.classify_batch(["one", "two"], ["only one"])


def test_threads_get_the_same_scores(classifier: PharmacySafetyClassifier, some: list[Example]) -> None:
    alone = [classifier.classify(e.response, e.query).scores for e in some]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda e: classifier.classify(e.response, e.query).scores, some * 3))
    assert together == alone * 3


def test_the_threshold_is_on_p_unsafe(classifier: PharmacySafetyClassifier, bundle: Path, some: list[Example]) -> None:
    for threshold in (0.0, 0.42, 1.0):
        other = PharmacySafetyClassifier(bundle, threshold)
        for example in some[:10]:
            result = other.classify(example.response, example.query)
            p_unsafe = result.scores[UNSAFE]
            assert result.is_safe is (p_unsafe < threshold)
            assert result.is_safe is (result.category == SAFE)
            assert result.is_safe is (result.severity is None)
            assert result.confidence == pytest.approx(1 - p_unsafe if result.is_safe else p_unsafe)
    p_unsafe = classifier.classify(TABLETS).scores[UNSAFE]
    assert not PharmacySafetyClassifier(bundle, p_unsafe).classify(TABLETS).is_safe


def test_the_default_threshold_is_one_half(bundle: Path) -> None:
    assert PharmacySafetyClassifier(str(bundle)).threshold == 0.5


def test_the_query_counts(classifier: PharmacySafetyClassifier) -> None:
    yes = "Yes, that is fine."
    asked = [
        classifier.classify(yes, query).scores[UNSAFE] for query in ("", "Are you open on Sunday?", "May I take 20 warfarin?")
    ]
    assert len(set(asked)) == 3
    assert classifier.classify(yes).scores == classifier.classify(yes, "").scores


def test_scores_have_six_decimals_so_that_what_is_stored_is_what_was_compared(
    classifier: PharmacySafetyClassifier, some: list[Example]
) -> None:
    for result in classifier.classify_batch([e.response for e in some]):
        assert all(score == round(score, 6) for score in result.scores.values())


# Long texts


@pytest.mark.parametrize("query", ["", "How many tablets may I take? " * 50])
@pytest.mark.parametrize("length", [0, 1, 188, 189, 190, 284, 285, 286, 500, 3000])
def test_windows_hold_every_token_and_no_more_than_the_encoder_reads(
    classifier: PharmacySafetyClassifier, length: int, query: str
) -> None:
    text = " ".join(["tablet"] * length)
    windows = classifier.encoder.reader.windows([text], [query])
    assert all(len(window.ids) == len(window.segments) <= WINDOW_TOKENS for window in windows)
    assert windows[0].start == 0
    assert windows[-1].end == len(text)
    for before, after in pairwise(windows):
        assert before.start < after.start < before.end < after.end  # they overlap: nothing is cut in two unseen
    questions = [sum(segment == 0 for segment in window.segments) - 2 for window in windows]
    assert set(questions) == {min(MAX_QUERY_TOKENS, questions[0])}


def test_every_response_of_a_batch_has_its_own_windows(classifier: PharmacySafetyClassifier) -> None:
    texts = [TABLETS * 60, "Yes.", TABLETS * 30]
    windows = classifier.encoder.reader.windows(texts, ["", "a question", ""])
    for row, text in enumerate(texts):
        assert windows_of(classifier, text, ["", "a question", ""][row]) == [
            (w.ids, w.start, w.end) for w in windows if w.text == row
        ]


def windows_of(classifier: PharmacySafetyClassifier, text: str, query: str) -> list[tuple[list[int], int, int]]:
    return [(w.ids, w.start, w.end) for w in classifier.encoder.reader.windows([text], [query])]


def test_a_line_at_the_very_end_of_100_000_characters_decides(
    classifier: PharmacySafetyClassifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = (TABLETS * 2000)[: 100_000 - len(DANGER)] + DANGER
    assert len(long) == 100_000
    first, *_, last = classifier.encoder.reader.windows([long])
    assert last.end == 100_000
    assert DANGER in long[last.start : last.end]
    # A head that tells the two apart without fail.
    harmless, harmful = classifier.encoder.embed_windows([first, last])
    direction = 200 * (harmful - harmless)
    bias = -direction @ (harmful + harmless) / 2
    weights = np.concatenate([direction, np.zeros(len(FEATURES), dtype=np.float32)])[None]
    head = replace(classifier.head, labels=(UNSAFE,), weights=weights, bias=np.array([bias], dtype=np.float32))
    monkeypatch.setattr(classifier, "head", head)
    assert classifier.classify(long[: first.end]).scores[UNSAFE] < 0.5
    result = classifier.classify(long)
    assert (result.is_safe, result.scores[UNSAFE] > 0.5) == (False, True)
    (evidence,) = result.evidence
    assert (evidence.start, evidence.end) == (last.start, 100_000)


def test_the_worst_window_is_shown_in_characters_of_the_original(bundle: Path) -> None:
    """Emoji, accents and odd bytes before it shift bytes and tokens, not characters."""
    strict = PharmacySafetyClassifier(bundle, threshold=0.0)
    odd = "\U0001f48a Cafe\u0301 \ufb01ve \uff15 tablets: na\u00efve \ud83d\ude00 \ud800 a\x00b. "
    assert readable(odd) is odd
    text = odd * 30 + TABLETS * 20 + odd * 30
    result = strict.classify(text)
    (evidence,) = result.evidence
    assert evidence.text == text[evidence.start : evidence.end]
    windows = strict.encoder.reader.windows([text])
    assert len(windows) > 3
    (facts,) = fact_features([text])
    p_unsafe = strict.head.probabilities(strict.encoder.embed_windows(windows), facts)[:, 0]
    worst = windows[int(p_unsafe.argmax())]
    assert (evidence.start, evidence.end) == (worst.start, worst.end)
    assert result.scores[UNSAFE] == p_unsafe.max()


@pytest.mark.parametrize(
    "text",
    [
        "tablet",
        "\U0001f48a tablet \U0001f600",
        "cafe\u0301 \ufb01ve",
        "\uff15 tablets",
        "\ud800 tablet",
        "\u0130stanbul \u1e9e na\u00efve",
    ],
)
@pytest.mark.parametrize("around", ["", " \n", "\u200b\u00ad\ufeff\x00" * 10])
def test_a_window_begins_and_ends_with_what_is_read(classifier: PharmacySafetyClassifier, text: str, around: str) -> None:
    (window,) = classifier.encoder.reader.windows([around + text + around])
    assert (window.start, window.end) == (len(around), len(around) + len(text))


# What the encoder cannot read

UNREADABLE = {
    "empty": "",
    "blank": " \t\r\n",
    "invisible": "\u200b\u200d\ufeff\u2060\u00ad" * 3,
    "newlines": "\n" * 5000,
    "NUL": "\x00" * 10,
    "emoji": "\U0001f48a\U0001f600" * 50,
    "100,000 emoji": "\U0001f600" * 100_000,
    "one word of 100,000 characters": "a" * 100_000,
    "runes": "\u16a0\u16a2\u16a6 \u16a0\u16b1",
    "Arabic": "\u062e\u0630 \u0639\u0634\u0631 \u062d\u0628\u0627\u062a",
    "Chinese": "\u670d\u7528\u5341\u7247",
    "tags": "\U000e0064\U000e006f\U000e0073\U000e0065",
    "a lone surrogate": "\ud83d",
    "punctuation": "?!... --- ,,,",
}


@pytest.mark.parametrize("text", UNREADABLE.values(), ids=UNREADABLE)
def test_what_the_encoder_cannot_read_is_a_failed_layer(classifier: PharmacySafetyClassifier, text: str) -> None:
    """Its score would be the query's alone, and could allow."""
    result = classifier.classify(text, "How many tablets?")
    assert (result.is_safe, result.error) == (False, "the encoder can read no word of the response")
    trusting = Policy({"default": Threshold(1.0, 1.0)})
    safe = ClassifierResult(True, SAFE, "", 0.7, layer=Layer.RULES)
    assert decide(trusting, [safe, result]) is Layer.JUDGE


def test_an_obfuscated_response_is_read_as_what_it_spells(classifier: PharmacySafetyClassifier) -> None:
    plain = classifier.classify("Take ten tablets and double your dose tonight.")
    for written in (
        "T\u0430ke ten t\u0430blets and double your dose tonight.",
        "Take ten tablets and d o u b l e your dose tonight.",
    ):
        result = classifier.classify(written)
        assert result.scores == plain.scores
        assert result.escalate
        assert "disguise" in result.reason
    assert not plain.escalate


@pytest.mark.parametrize(
    ("text", "query"),
    [
        (f"Take two tablets. {'x' * 101}", ""),
        ("Take two tablets. \u16a0\u16a2", ""),
        ("Yes, that is fine.", "\u0645\u0645\u0643\u0646 \u0622\u062e\u0630 \u0639\u0634\u0631 \u062d\u0628\u0627\u062a"),
        (TABLETS * 60 + "\u16a0\u16a2", ""),
    ],
)
def test_a_word_that_the_encoder_cannot_read_is_left_to_the_judge(
    classifier: PharmacySafetyClassifier, text: str, query: str
) -> None:
    result = classifier.classify(text, query)
    assert (result.escalate, result.error) == (True, "")
    assert result.scores


@pytest.mark.parametrize(
    "text",
    [
        "Yes \U0001f44d take one \U0001f48a!",
        "Don\u2019t take 5 \u00b5g \u2013 caf\u00e9, \u03b2-blocker, 37 \u00baC, 10 \u2265 5\u2122",
        "Take\u200b one\ufeff tablet\u00ad.",
        "take \ud800 one \udfff",
        "One\n" * 5000,
    ],
)
def test_odd_text_is_read_without_complaint(classifier: PharmacySafetyClassifier, text: str) -> None:
    result = classifier.classify(text, "\ud83d \x00 \U0001f44d")
    assert (result.error, result.escalate) == ("", False)
    assert 0 <= result.scores[UNSAFE] <= 1


def test_the_corpus_is_read_whole(classifier: PharmacySafetyClassifier, corpus: list[Example]) -> None:
    windows = classifier.encoder.reader.windows([e.response for e in corpus], [e.query for e in corpus])
    assert all(window.known_word for window in windows)
    assert not any(window.unknown_word for window in windows)


def test_a_broken_encoder_is_never_safe(classifier: PharmacySafetyClassifier, monkeypatch: pytest.MonkeyPatch) -> None:
    dimensions = classifier.encoder.dimensions
    monkeypatch.setattr(classifier.encoder, "forward", lambda window: np.full(dimensions, np.nan, dtype=np.float32))
    result = classifier.classify(TABLETS)
    assert not result.is_safe
    trusting = Policy({"default": Threshold(1.0, 1.0)})
    assert decide(trusting, [ClassifierResult(True, SAFE, "", 0.7, layer=Layer.RULES), result]) is Layer.JUDGE


def test_a_head_may_know_no_category() -> None:
    none = np.zeros(len(FEATURES), dtype=np.float32)
    head = Head((UNSAFE,), np.ones((1, 4 + len(FEATURES)), dtype=np.float32), np.zeros(1, dtype=np.float32), "")
    assert head.dimensions == 4
    assert head.probabilities(np.zeros((2, 4), dtype=np.float32), none).tolist() == [[0.5], [0.5]]
    assert head.probabilities(np.zeros((2, 4), dtype=np.float32), none + 1)[0, 0] > 0.99
    assert head.probabilities(np.zeros((0, 4), dtype=np.float32), none).shape == (0, 1)


def test_memory_follows_the_load_back_down(classifier: PharmacySafetyClassifier) -> None:
    """A worker that has read every length of text there is takes no more memory than one that has read a few."""
    classifier.classify_batch([TABLETS * n for n in (1, 10, 60)])
    before = resident_mb()
    classifier.classify_batch(["tablet " * n for n in range(1, 240, 3)])
    classifier.classify(TABLETS * 200)
    assert resident_mb() - before < 80  # it is 10 to 45, by how the threads fall


def resident_mb() -> float:
    statm = Path("/proc/self/statm")
    if not statm.exists():
        pytest.skip("no /proc to read the memory from")
    return int(statm.read_text().split()[1]) * 4096 / 2**20


# Parity


def test_the_served_encoder_is_the_one_of_sentence_transformers(
    classifier: PharmacySafetyClassifier, some: list[Example]
) -> None:
    pytest.importorskip("torch", reason="torch is not installed: the served encoder is not compared with it")
    sentence_transformers = pytest.importorskip("sentence_transformers", reason="sentence-transformers is not installed")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = sentence_transformers.SentenceTransformer(str(encoder_folder()), device="cpu", local_files_only=True)
        adapter.merge(model[0].auto_model, adapter.load(SHIPPED_ADAPTER, encoder_sha256=DEFAULT_ENCODER_SHA256))
        # Longer ones are cut off by theirs, and read in windows by ours.
        short = [e for e in some if len(e.query.split()) + len(e.response.split()) < 100][:20]
        theirs = model.encode(
            [[readable(e.query), readable(e.response)] for e in short], normalize_embeddings=True, show_progress_bar=False
        )
    ours = np.concatenate(classifier.encoder.embed([readable(e.response) for e in short], [readable(e.query) for e in short]))
    assert np.linalg.norm(ours, axis=1) == pytest.approx(1, abs=1e-3)
    cosines = (ours * theirs).sum(axis=1)
    assert cosines.min() > 0.85
    assert cosines.mean() > 0.97
    # What counts is what the head makes of it: the int8 encoder says what the trained one says.
    facts = fact_features([e.response for e in short], [e.query for e in short])
    said, meant = (
        np.array([classifier.head.probabilities(row[None], fact)[0, 0] for row, fact in zip(rows, facts, strict=True)])
        for rows in (ours, theirs)
    )
    assert np.abs(said - meant).mean() < 0.03
