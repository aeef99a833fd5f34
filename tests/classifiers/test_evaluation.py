"""The figures of an evaluation, counted by hand."""

from __future__ import annotations

import json

import pytest

from classifiers.evaluation import Judged, Truth, as_text, evaluate
from classifiers.evaluation_report import as_html
from classifiers.result import ClassifierResult, Decision, Evidence, Layer, Severity, Verdict
from classifiers.thresholds import rate

DOSE, STOP = "harmful_medical:dangerous_dosage", "harmful_medical:abrupt_stop"


def judged(
    truth: Truth, decision: Decision, *categories: str, layer: Layer = Layer.FINETUNED, severity: Severity | None = None
) -> Judged:
    results = tuple(
        ClassifierResult(True, "safe", "", 0.5, layer=name)
        for name in Layer
        if list(Layer).index(name) <= list(Layer).index(layer)
    )
    verdict = Verdict(
        decision is Decision.ALLOW,
        categories[0] if categories else "safe",
        "",
        0.5,
        layer=layer,
        decision=decision,
        categories=categories,
        severity=severity,
        results=results,
    )
    return Judged.of(truth, verdict)


SAFE = Truth(unsafe=False)
BAD_DOSE = Truth(unsafe=True, categories=(DOSE,), severity="critical")
BAD_STOP = Truth(unsafe=True, categories=(STOP, "misinformation"), severity="major")
LEAK = Truth(unsafe=True, categories=("pii",), severity="major")

ROWS = [
    # 5 safe: 2 allowed, 1 held, 2 blocked
    judged(SAFE, Decision.ALLOW),
    judged(SAFE, Decision.ALLOW, layer=Layer.JUDGE),
    judged(SAFE, Decision.HOLD, layer=Layer.JUDGE),
    judged(SAFE, Decision.BLOCK, DOSE, layer=Layer.RULES, severity=Severity.CRITICAL),
    judged(SAFE, Decision.BLOCK, "misinformation", severity=Severity.MAJOR),
    # 4 with a bad dose: 2 blocked, of which 1 for another reason, 1 held, 1 allowed
    judged(BAD_DOSE, Decision.BLOCK, DOSE, layer=Layer.RULES, severity=Severity.CRITICAL),
    judged(BAD_DOSE, Decision.BLOCK, STOP, layer=Layer.JUDGE, severity=Severity.CRITICAL),
    judged(BAD_DOSE, Decision.HOLD, DOSE, layer=Layer.JUDGE, severity=Severity.CRITICAL),
    judged(BAD_DOSE, Decision.ALLOW),
    # 1 abrupt stop, blocked; 1 leak, blocked under a subcategory
    judged(BAD_STOP, Decision.BLOCK, STOP, severity=Severity.CRITICAL),
    judged(LEAK, Decision.BLOCK, "pii:ssn", layer=Layer.RULES, severity=Severity.MAJOR),
]


def counts(rates: dict[str, dict[str, object]], *names: str) -> list[tuple[object, object]]:
    return [(rates[name]["k"], rates[name]["n"]) for name in names]


def test_decisions_are_counted_by_label() -> None:
    report = evaluate(ROWS)
    assert report["count"] == 11
    assert report["decisions"] == {"safe": {"allow": 2, "block": 2, "hold": 1}, "unsafe": {"allow": 1, "block": 4, "hold": 1}}


def test_overall_rates_keep_holds_apart() -> None:
    overall = evaluate(ROWS)["overall"]
    assert counts(overall, "precision", "recall") == [(4, 6), (4, 6)]
    assert counts(overall, "false_positive_rate", "false_negative_rate") == [(2, 5), (1, 6)]
    assert counts(overall, "held_safe", "held_unsafe") == [(1, 5), (1, 6)]
    assert overall["precision"]["rate"] == pytest.approx(0.6667)


def test_a_categorys_precision_is_of_what_was_blocked_under_its_name() -> None:
    categories = evaluate(ROWS)["categories"]
    assert set(categories) == {DOSE, STOP, "misinformation", "pii", "pii:ssn"}
    assert counts(categories[DOSE], "precision", "recall", "false_positive_rate", "false_negative_rate", "held_unsafe") == [
        (1, 2),
        (2, 4),
        (1, 5),
        (1, 4),
        (1, 4),
    ]
    assert counts(categories[STOP], "precision", "recall") == [(1, 2), (1, 1)]
    assert counts(categories["misinformation"], "precision", "recall", "false_positive_rate") == [(0, 1), (1, 1), (1, 5)]


def test_a_family_and_its_subcategory_are_one_name() -> None:
    categories = evaluate(ROWS)["categories"]
    assert counts(categories["pii"], "precision", "recall") == [(1, 1), (1, 1)]
    assert counts(categories["pii:ssn"], "precision", "recall") == [(1, 1), (1, 1)]


def test_severities() -> None:
    severities = evaluate(ROWS)["severities"]
    assert list(severities) == ["critical", "major", "minor"]
    assert counts(severities["critical"], "precision", "recall", "false_negative_rate") == [(2, 4), (2, 4), (1, 4)]
    assert counts(severities["major"], "precision", "recall", "false_positive_rate") == [(1, 2), (2, 2), (1, 5)]
    assert counts(severities["minor"], "precision", "recall") == [(0, 0), (0, 0)]


def test_the_critical_false_negatives_are_of_the_critical_families_alone() -> None:
    leak = Truth(unsafe=True, categories=("pii",), severity="critical")
    report = evaluate([*ROWS, judged(leak, Decision.ALLOW)])
    assert (report["critical_false_negatives"]["k"], report["critical_false_negatives"]["n"]) == (1, 4)


def test_a_held_exchange_was_decided_by_nobody() -> None:
    report = evaluate(ROWS)
    shares = {name: share["k"] for name, share in report["deciding_layer"].items()}
    assert shares == {"rules": 3, "finetuned": 4, "judge": 2, "nobody": 2}
    assert (report["without_judge"]["k"], report["without_judge"]["n"]) == (7, 11)


def test_nothing_to_measure_is_no_error_and_no_rate() -> None:
    report = evaluate([])
    assert report["overall"]["recall"] == {"k": 0, "n": 0, "rate": None, "low": 0.0, "high": 1.0}
    assert "0 exchanges" in as_text(report)


def test_intervals_are_exact() -> None:
    assert rate(0, 59) == {"k": 0, "n": 59, "rate": 0.0, "low": 0.0, "high": 0.0606}
    assert rate(4, 6) == {"k": 4, "n": 6, "rate": 0.6667, "low": 0.2228, "high": 0.9567}


def test_the_report_is_json_and_a_table() -> None:
    report = evaluate(ROWS)
    assert json.loads(json.dumps(report, allow_nan=False)) == report
    text = as_text(report)
    assert "11 exchanges" in text
    assert any("false negative rate" in line and "16.7%" in line and "1 of 6" in line for line in text.splitlines())
    assert "decided by nobody" in text
    assert f"{DOSE}: recall" in text


def scored(truth: Truth, decision: Decision, p_unsafe: float, **texts: str) -> Judged:
    evidence = (Evidence(4, 8, "both", "some_rule", DOSE),)
    finetuned = ClassifierResult(
        p_unsafe < 0.5, "safe", "", 0.5, layer=Layer.FINETUNED, scores={"unsafe": p_unsafe}, evidence=evidence
    )
    verdict = Verdict(
        decision is Decision.ALLOW,
        "safe",
        "why",
        0.5,
        layer=Layer.FINETUNED,
        decision=decision,
        results=(finetuned,),
        evidence=evidence,
    )
    return Judged.of(truth, verdict, **texts)


def test_errors_come_gravest_first_with_their_evidence_and_right_answers_keep_no_text() -> None:
    rows = [
        scored(SAFE, Decision.BLOCK, 0.9, id="blocked", query="q", response="You both may."),
        scored(BAD_STOP, Decision.ALLOW, 0.1, id="major"),
        scored(BAD_DOSE, Decision.ALLOW, 0.4, id="critical"),
        scored(BAD_DOSE, Decision.ALLOW, 0.1, id="critical and sure"),
        scored(SAFE, Decision.ALLOW, 0.1, id="right", response="a patient's words"),
    ]
    assert rows[-1].response == ""
    errors = evaluate(rows)["errors"]
    assert [error["id"] for error in errors] == ["critical and sure", "critical", "major", "blocked"]
    assert errors[-1]["evidence"][0]["rule"] == "some_rule"


def test_calibration_is_the_distance_between_what_was_said_and_what_was_so() -> None:
    rows = [scored(BAD_DOSE if n < 8 else SAFE, Decision.HOLD, 0.75) for n in range(10)]
    report = evaluate(rows)
    assert report["calibration"] == {"ece": 0.05, "bins": [{"n": 10, "mean": 0.75, "unsafe": 0.8}]}
    assert report["sent_on"]["safe"]["rate"] == 1.0
    assert report["confusion"][DOSE] == {"hold": 8}


def test_the_page_marks_evidence_and_escapes_what_patients_wrote() -> None:
    row = scored(SAFE, Decision.BLOCK, 0.9, id="<b>", query="<script>alert(1)</script>", response="You both <i>may</i>.")
    page = as_html({"a<b.jsonl": evaluate([row, *ROWS])})
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert '<mark title="some_rule">both</mark>' in page
    assert "a&lt;b.jsonl" in page
    assert "http" not in page
    assert "No unsafe response was allowed" in as_html({"none": evaluate([])})
