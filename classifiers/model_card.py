"""What a training run leaves beside the head: its metrics, the policy they justify, and a card that a person reads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from classifiers.policy import UNSAFE, Policy, Threshold
from classifiers.training import ALPHA, BLOCK_PRECISION, DELTA, TrainedHead

CATEGORY_BLOCK_AT = 0.97
"""A single category's score is not calibrated: it blocks only when it is all but certain."""


def policy_for(metrics: dict[str, Any]) -> Policy:
    """The policy that the calibration split justifies: the certified `allow_below` (0: nothing is allowed unseen)."""
    certificate = metrics["certificate"]
    return Policy(
        thresholds={
            "default": Threshold(CATEGORY_BLOCK_AT, CATEGORY_BLOCK_AT),
            UNSAFE: Threshold(metrics["block_at"], certificate["allow_below"]),
        },
        version="shipped",
    )


def ship(trained: TrainedHead, folder: Path) -> None:
    """Write head.json, policy.json, metrics.json and README.md (the card) to the folder that the project ships."""
    folder.mkdir(parents=True, exist_ok=True)
    trained.head.save(folder / "head.json")
    metrics = {**trained.metrics, "corpus_hash": trained.corpus_hash}
    (folder / "metrics.json").write_text(json.dumps(metrics, indent=1) + "\n", encoding="utf-8")
    (folder / "policy.json").write_text(json.dumps(policy_for(metrics).as_json(), indent=1) + "\n", encoding="utf-8")
    (folder / "README.md").write_text(card(metrics), encoding="utf-8")


def card(metrics: dict[str, Any]) -> str:
    """The model card, in Markdown."""
    counts, auc, certificate, test = (metrics[key] for key in ("counts", "auc", "certificate", "test"))
    splits = "\n".join(f"| {name} | {rows['safe']} | {rows['unsafe']} | {auc[name]:.3f} |" for name, rows in counts.items())
    if certificate["missing"]:
        guarantee = (
            f"**No threshold could be certified**: {certificate['n']} independent critical items are too few, "
            f"{certificate['missing']} more are needed. The fast layers allow nothing."
        )
    else:
        guarantee = (
            f"Below P(unsafe) = {certificate['allow_below']:.3f} a response is allowed without the judge. At most {ALPHA:.0%} of "
            f"critical unsafe responses score below it, with {1 - DELTA:.0%} confidence "
            f"({certificate['misses']} of {certificate['n']} independent calibration items did)."
        )
    return f"""# Model card

A logistic regression per label on mean-pooled embeddings of all-MiniLM-L6-v2, which read query and response as one pair
in windows of 256 tokens; the worst window decides. The encoder is served as int8 ONNX; the head was trained, calibrated
and measured on the embeddings as served. Reproduce with `make train`. Corpus hash `{metrics["corpus_hash"]}`.

## Data

Handwritten exchanges of a pharmacy's chat (`classifiers/corpus/`), safe and unsafe twins that differ in a fact rather than
in style. A group (twins, paraphrases of one scenario) lies in one split.

| split | safe | unsafe | AUC of P(unsafe) |
|---|---|---|---|
{splits}

## Operating point (the shipped policy)

{guarantee}
{_blocking(metrics["block_at"])}

Measured on the test split, which neither training nor calibration saw, with exact 95 % intervals, for this layer alone:

| | rate | items | interval |
|---|---|---|---|
{_rate_row("critical unsafe allowed", test["critical_missed"])}
{_rate_row("safe allowed without the judge", test["safe_allowed"])}
{_rate_row("safe blocked", test["safe_blocked"])}
{_rate_row("unsafe blocked", test["unsafe_blocked"])}

## Limits

English only. A frozen sentence encoder barely sees what makes these twins differ (a number, a drug, a "not"), so most
responses are left to the judge, or held where none is configured. The corpus is written for contrast: real traffic, most of
it harmless and easier, will score differently, and no figure here was measured on it.
"""


def _rate_row(name: str, rate: dict[str, Any]) -> str:
    share = "-" if rate["rate"] is None else f"{rate['rate']:.1%}"
    return f"| {name} | {share} | {rate['k']} of {rate['n']} | {rate['low']:.1%} to {rate['high']:.1%} |"


def _blocking(block_at: float) -> str:
    if block_at >= 1:
        return "No score marks a response that is unsafe often enough: this layer blocks nothing by itself."
    return f"At P(unsafe) = {block_at:.3f} and above a response is blocked: of those, at least {BLOCK_PRECISION:.0%} are unsafe."
