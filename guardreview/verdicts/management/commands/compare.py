"""`manage.py compare`: what each layer costs and finds, measured on the corpus' test split, and what a threshold changes."""

import asyncio
import json
import statistics
import time
from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from classifiers.combined import CombinedSafetyClassifier
from classifiers.encoder.bundle import InvalidBundle
from classifiers.examples import Example, load_corpus, split_of
from classifiers.finetuned import PharmacySafetyClassifier
from classifiers.llm_judge import LLMJudge
from classifiers.metrics import share
from classifiers.policy import UNSAFE, Policy
from classifiers.result import ClassifierResult, Decision, Layer
from guardreview.verdicts import runtime

THRESHOLDS = (0.9, 0.5, 0.3)


class Command(BaseCommand):
    help = (
        "Latency, cost, precision and recall of each layer and of the cascade, and of thresholds on P(unsafe). "
        "Where a judge is configured it is asked about every exchange, and again for what the cascade sends on."
    )
    requires_system_checks = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--limit", type=int, help="measure on the first so many exchanges of the test split")
        parser.add_argument("--output", type=Path, help="where to write the report as JSON [VAR_DIR/compare.json]")

    def handle(self, *args: Any, **options: Any) -> None:
        examples = [e for e in load_corpus() if split_of(e.group) == "test"][: options["limit"]]
        try:
            finetuned = PharmacySafetyClassifier(runtime.shipped_bundle(progress=self.stderr.write))
        except InvalidBundle as error:
            raise CommandError(str(error)) from error
        judge = runtime.judge(cached=False) if runtime.judge_is_configured() else None
        rules = runtime.shipped_rules()
        self.stderr.write(f"{len(examples)} exchanges of the test split, one after the other")
        fast = {
            "rules": [_timed(lambda e=e: rules.classify(e.response, e.query)) for e in examples],
            "finetuned": [_timed(lambda e=e: finetuned.classify(e.response, e.query)) for e in examples],
        }
        report = {
            "exchanges": len(examples),
            "layers": {name: _layer(results, examples) for name, results in fast.items()},
            **asyncio.run(_slow(examples, rules, finetuned, judge)),
            "thresholds": {
                str(threshold): _found([r.scores.get(UNSAFE, 1.0) >= threshold for _, r in fast["finetuned"]], examples)
                for threshold in THRESHOLDS
            },
        }
        path = options["output"] or settings.VAR_DIR / "compare.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(report, indent=1), encoding="utf-8")
        self.stdout.write(_tables(report, judge))
        self.stdout.write(f"\nwrote {path}")


def _timed(call: Any) -> tuple[float, ClassifierResult]:
    started = time.perf_counter()
    result = call()
    return (time.perf_counter() - started) * 1000, result


async def _slow(
    examples: Sequence[Example], rules: Any, finetuned: PharmacySafetyClassifier, judge: LLMJudge | None
) -> dict[str, Any]:
    """The judge alone where there is one, and the cascade."""
    found: dict[str, Any] = {}
    if judge:
        judged = []
        for example in examples:
            started = time.perf_counter()
            result = await judge.judge(example.response, example.query)
            judged.append(((time.perf_counter() - started) * 1000, result))
        found["judge"] = _layer(judged, examples)
    cascade = CombinedSafetyClassifier(rules, judge, finetuned, policy=Policy.shipped())
    taken, verdicts = [], []
    for example in examples:
        started = time.perf_counter()
        verdicts.append(await cascade.classify(example.response, example.query))
        taken.append((time.perf_counter() - started) * 1000)
    # What is held does not reach the patient either; who asks a judge would block or allow it.
    sent_on = [v.decision is Decision.HOLD or any(r.layer == Layer.JUDGE for r in v.results) for v in verdicts]
    found["combined"] = {
        **_latency(taken),
        "cost_per_1000_usd": round(1000 * statistics.mean(v.cost_usd for v in verdicts), 6),
        **_found([v.decision is not Decision.ALLOW for v in verdicts], examples),
        "without_judge": share([not each for each in sent_on], [True] * len(sent_on)),
    }
    return found


def _layer(results: Sequence[tuple[float, ClassifierResult]], examples: Sequence[Example]) -> dict[str, Any]:
    return {
        **_latency([ms for ms, _ in results]),
        "cost_per_1000_usd": round(1000 * statistics.mean(r.cost_usd for _, r in results), 6),
        **_found([not r.is_safe for _, r in results], examples),
    }


def _latency(taken: Sequence[float]) -> dict[str, float]:
    ranked = sorted(taken)
    return {"p50_ms": round(ranked[len(ranked) // 2], 3), "p99_ms": round(ranked[int(len(ranked) * 0.99)], 3)}


def _found(stopped: Sequence[bool], examples: Sequence[Example]) -> dict[str, Any]:
    """Precision and recall of stopping."""
    hits = [stop and e.unsafe for stop, e in zip(stopped, examples, strict=True)]
    return {"precision": share(hits, stopped), "recall": share(hits, [e.unsafe for e in examples])}


def _tables(report: dict[str, Any], judge: LLMJudge | None) -> str:
    rows = {**report["layers"], **{name: report[name] for name in ("judge", "combined") if name in report}}
    lines = ["| Classifier | p50 ms | p99 ms | Cost per 1,000 | Precision | Recall |", "|---|---|---|---|---|---|"]
    for name, row in rows.items():
        cost = f"${row['cost_per_1000_usd']:.4f}"
        cells = (f"{row['p50_ms']:.2f}", f"{row['p99_ms']:.2f}", cost, _share(row, "precision"), _share(row, "recall"))
        lines.append(f"| {name} | {' | '.join(cells)} |")
    if not judge:
        lines.append("| judge | not measured: no key or server is configured | | | | |")
    lines += ["", "| Threshold on P(unsafe) | Precision | Recall |", "|---|---|---|"]
    for threshold, row in report["thresholds"].items():
        lines.append(f"| {threshold} | {_share(row, 'precision')} | {_share(row, 'recall')} |")
    without = report["combined"]["without_judge"]
    lines += ["", f"Decided without the judge: {without['rate']:.1%} ({without['k']} of {without['n']})"]
    return "\n".join(lines)


def _share(row: dict[str, Any], name: str) -> str:
    value = row[name]
    return "-" if value["rate"] is None else f"{value['rate']:.1%} ({value['low']:.0%} to {value['high']:.0%})"
