"""The corpus is read once for each encoder, and nothing else is kept."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from classifiers.disguise.deobfuscation import readable
from classifiers.encoder import embedding_cache
from classifiers.encoder.embedding_cache import CorpusEncoder
from classifiers.encoder.encoder import Encoder, Floats
from classifiers.examples import Example


class Counting:
    """An encoder that says how often it was asked; a response of n words has n windows."""

    encoder_sha256 = "0123456789abcdef"

    def __init__(self) -> None:
        self.asked: list[str] = []

    def embed(self, texts: Sequence[str], queries: Sequence[str]) -> list[Floats]:
        self.asked += texts
        return [np.full((len(text.split()), 3), len(text), dtype=np.float32) for text in texts]


def example(response: str) -> Example:
    return Example(response, response, "q", response, unsafe=False)


def cached(folder: Path, *corpus: str) -> tuple[CorpusEncoder, Counting]:
    counting = Counting()
    return CorpusEncoder(cast("Encoder", counting), [example(text) for text in corpus], folder), counting


def test_the_corpus_is_read_once(tmp_path: Path) -> None:
    texts = ["one", "two words", "three words here"]
    first, counting = cached(tmp_path, *texts)
    embedded = first.embed(texts, ["q"] * 3)
    assert [len(windows) for windows in embedded] == [1, 2, 3]
    again, silent = cached(tmp_path, *texts)
    assert all((a == b).all() for a, b in zip(embedded, again.embed(texts, ["q"] * 3), strict=True))
    assert (counting.asked, silent.asked) == (texts, [])


def test_what_is_not_of_the_corpus_is_not_kept(tmp_path: Path) -> None:
    encoder, _ = cached(tmp_path, "one")
    encoder.embed(["one", "a patient's words"], ["q", "q"])
    again, counting = cached(tmp_path, "one", "a patient's words")
    again.embed(["one", "a patient's words"], ["q", "q"])
    assert counting.asked == ["a patient's words"]


def test_another_query_is_another_exchange(tmp_path: Path) -> None:
    encoder, counting = cached(tmp_path, "one")
    encoder.embed(["one", "one"], ["q", "other"])
    assert counting.asked == ["one", "one"]


def test_what_is_read_otherwise_since_then_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rules, lexicon and list of words say how a spelling is mended: a change of them is a change of the text."""
    disguised = "d0uble y0ur d0se"
    mended = readable(disguised)
    assert mended != disguised
    cached(tmp_path, disguised)[0].embed([mended], ["q"])
    again, silent = cached(tmp_path, disguised)
    again.embed([mended], ["q"])
    assert silent.asked == []
    monkeypatch.setattr(embedding_cache, "readable", lambda text: text)
    changed, counting = cached(tmp_path, disguised)
    changed.embed([disguised], ["q"])
    assert counting.asked == [disguised]


@pytest.mark.parametrize("constant", ["WINDOW_TOKENS", "WINDOW_OVERLAP", "MAX_WINDOWS", "MAX_QUERY_TOKENS"])
def test_other_windows_are_kept_in_another_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, constant: str) -> None:
    cached(tmp_path, "one")[0].embed(["one"], ["q"])
    monkeypatch.setattr(embedding_cache, constant, 7)
    encoder, counting = cached(tmp_path, "one")
    encoder.embed(["one"], ["q"])
    assert counting.asked == ["one"]


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04 broken"])
def test_a_broken_file_is_made_anew(tmp_path: Path, content: bytes) -> None:
    cached(tmp_path, "one")[0].embed(["one"], ["q"])
    (path,) = tmp_path.iterdir()
    path.write_bytes(content)
    encoder, counting = cached(tmp_path, "one")
    assert len(encoder.embed(["one"], ["q"])) == len(counting.asked) == 1
    assert cached(tmp_path, "one")[1].asked == []


def test_a_file_that_contradicts_itself_is_made_anew(tmp_path: Path) -> None:
    cached(tmp_path, "one two")[0].embed(["one two"], ["q"])
    (path,) = tmp_path.iterdir()
    with np.load(path) as file:
        content: dict[str, Any] = dict(file)
    np.savez(path, **{**content, "counts": content["counts"] + 1})
    encoder, counting = cached(tmp_path, "one two")
    encoder.embed(["one two"], ["q"])
    assert counting.asked == ["one two"]
