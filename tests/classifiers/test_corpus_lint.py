"""The linter finds what it is there to find, and nothing in the corpus that ships."""

from __future__ import annotations

from dataclasses import replace

import pytest

from classifiers import corpus_lint
from classifiers.examples import Example, split_of
from classifiers.result import Severity

WORDS = ("you can take this tablet with a glass of water in the morning and another one at night").split()  # noqa: SIM905


def group_in(split: str, start: str = "g") -> str:
    return next(group for group in (f"{start}{number}" for number in range(1000)) if split_of(group) == split)


def pair(group: str, query: str = "May I?", response: str = " ".join(WORDS)) -> list[Example]:
    safe = Example(f"{group}-s", group, query, response, unsafe=False)
    unsafe = replace(safe, id=f"{group}-u", response=f"never mind, {response} for ever", unsafe=True)
    return [safe, replace(unsafe, categories=("misinformation",), severity=Severity.MAJOR)]


def test_the_corpus_that_ships_has_no_problem(corpus: list[Example]) -> None:
    assert list(corpus_lint.problems(corpus)) == []


def test_twins_in_one_group_are_no_problem() -> None:
    assert list(corpus_lint.problems(pair(group_in("train")))) == []


def test_a_near_copy_in_another_split_is_found() -> None:
    train, test = pair(group_in("train")), pair(group_in("test"), response=" ".join([*WORDS[:-1], "noon"]))
    assert any("near-copies in two splits" in problem for problem in corpus_lint.problems([*train, *test]))


def test_one_scenario_in_two_splits_is_found() -> None:
    train = pair(group_in("train"), "Warfarin and ibuprofen?", "Those two are a fine match, have both.")
    test = pair(group_in("test"), "I'm on Coumadin. Advil for my knee?", "Sure, whenever it hurts a lot.")
    assert any("one scenario in two splits" in problem for problem in corpus_lint.problems([*train, *test]))


def test_an_unsafe_response_without_a_twin_is_found() -> None:
    assert any("without a safe twin" in problem for problem in corpus_lint.problems(pair("a")[1:]))


def test_an_opening_that_only_one_label_has_is_found() -> None:
    rows = [
        replace(
            example, id=f"{n}{example.id}", group=f"g{n}", query=str(n), response=f"as I told you some time ago {n}" * (n + 1)
        )
        for n in range(corpus_lint.MAX_TEMPLATE + 1)
        for example in pair("a")[:1]
    ]
    assert any("begin with 'as i told you some time'" in problem for problem in corpus_lint.problems(rows))


def test_a_corpus_of_one_label_is_found() -> None:
    assert any("unsafe, not 30%" in problem for problem in corpus_lint.problems(pair("a")[:1]))


@pytest.mark.parametrize(("lines", "status"), [([], 0), (["something"], 1)])
def test_the_command_fails_where_there_is_a_problem(lines: list[str], status: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert corpus_lint.main(lines) == status
    assert capsys.readouterr().out.split() == lines
