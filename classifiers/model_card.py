"""What a training run leaves beside the head: its metrics, the policy they justify, and a card that a person reads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from classifiers.metrics import ALPHA, DELTA, FALSE_BLOCKS
from classifiers.policy import Policy
from classifiers.thresholds import as_thresholds
from classifiers.training import TrainedHead


def policy_for(metrics: dict[str, Any]) -> Policy:
    """The policy that the calibration split justifies."""
    return Policy(as_thresholds(metrics["certificate"]["allow_below"], metrics["block_at"]), version="shipped")


def ship(trained: TrainedHead, folder: Path) -> None:
    """Write head.json, policy.json, metrics.json and README.md (the card) to the folder that the project ships."""
    folder.mkdir(parents=True, exist_ok=True)
    trained.head.save(folder / "head.json")
    metrics = {**trained.metrics, "corpus_hash": trained.corpus_hash}
    (folder / "metrics.json").write_text(json.dumps(metrics, indent=1) + "\n", encoding="utf-8")
    (folder / "policy.json").write_text(json.dumps(policy_for(metrics).as_json(), indent=1) + "\n", encoding="utf-8")
    (folder / "README.md").write_text(card(metrics), encoding="utf-8")


def card(metrics: dict[str, Any]) -> str:
    """The model card, in Markdown. Of a head that reviewers' labels were learnt with, it says which, and what they changed."""
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

all-MiniLM-L6-v2 with a low-rank adapter, which reads query and response as one pair in overlapping windows; the worst window
decides. On its mean-pooled embedding, and on what the drug facts say of the exchange, stands one logistic regression per label.
It is served as int8 ONNX; the head was trained, calibrated and measured on the embeddings as served. `make train` trains
adapter and head anew, `python manage.py train` the head alone. Corpus hash `{metrics["corpus_hash"]}`.

## Data

Exchanges of a pharmacy's chat, written for this project (`classifiers/corpus/`): safe and unsafe twins that differ in a fact
rather than in style. Twins, paraphrases and near-copies lie in one split. The adapter and the head saw `train`;
`validation` chose between recipes and weighed the drug facts; `calibration` set the thresholds; nothing was fitted to `test`.

| split | safe | unsafe | AUC of P(unsafe) |
|---|---|---|---|
{splits}

On slices of the test split, beside a linear model on the words and word pairs of the response alone, which tells how far style
gives the label away:

| slice | items | AUC | AUC of words |
|---|---|---|---|
{_slices(metrics["slices"])}

How the recipes compare: `docs/training.md`.
{_labels(metrics)}
## Operating point{"" if "labels" in metrics else " (the shipped policy)"}

{guarantee}
{_blocking(metrics["block_at"])}

{_beside(metrics)}Measured on the test split, with exact 95 % intervals, for this layer alone, without rules and judge:

| | rate | items | interval |
|---|---|---|---|
{_rate_row("critical unsafe allowed", test["critical_missed"])}
{_rate_row("safe allowed without the judge", test["safe_allowed"])}
{_rate_row("safe blocked", test["safe_blocked"])}
{_rate_row("unsafe blocked", test["unsafe_blocked"])}

Unsafe responses that this layer allows, by category (critical or not), and by language the critical ones:

| | allowed | items | interval |
|---|---|---|---|
{_rows(metrics["categories"], "missed")}
{_rows(metrics["languages"], "critical_missed")}

Expected calibration error on the test split: {metrics["calibration"]["ece"]:.3f}.

## Limits

Whoever wrote the corpus also knew what the classifier is for, and wrote for contrast: real traffic, most of it harmless and
easier, will score differently, and no figure here was measured on it. English first; the Spanish, French and German parts are
small, and a text that is surely in another language is sent on, whatever its score.
"""


def _labels(metrics: dict[str, Any]) -> str:
    """What of reviewers' and imported labels was learnt from, and what was not."""
    labels = metrics.get("labels")
    if labels is None:
        return ""
    weights, splits = labels["weights"], labels["splits"]
    held = sum(splits.get(name, 0) for name in ("calibration", "test"))
    learnt = "\n".join(f"| {words} | {count} |" for words, count in labels["provenance"].items())
    left_out = "\n".join(f"| {words} | {count} |" for words, count in labels["left_out"].items())
    return f"""
## Labels

Settled by {labels["reviewers"]} reviewers, or imported. {splits.get("train", 0)} fitted weights, {splits.get("validation", 0)}
chose between models and weighed the drug facts, {held} were kept for measuring; no threshold rests on any. {labels["unsafe"]} of
those learnt from are unsafe. A label counts 1 / the probability with which its exchange came before a pharmacist,
{weights["most"]:g} at most ({weights["cut"]} were cut to that); together they count as {weights["sum"]:g}, each corpus row
as 1.{_encoder(metrics)}

| learnt from | labels |
|---|---|
{learnt or "| none | 0 |"}

| left out | labels |
|---|---|
{left_out or "| none | 0 |"}
"""


def _encoder(metrics: dict[str, Any]) -> str:
    """That weights did not count where the encoder itself learnt from labels: in this run, or in the one that it comes from."""
    if metrics.get("encoder_run") is None:
        return ""
    return " The head is weighted, the encoder is not: its fine-tuning saw every label as often as a corpus row."


def _beside(metrics: dict[str, Any]) -> str:
    """The candidate beside what served when it was trained, on the same rows."""
    before, after = metrics.get("before"), metrics.get("after")
    if not (before and after):
        return ""
    parts = [("", before, after)]
    if "labels" in before and "labels" in after:
        parts.append((", labels that were not learnt from", before["labels"], after["labels"]))
    rows = []
    for name, old, new in parts:
        rows.append(f"| AUC{name} | {_shown(old['auc'])} | {_shown(new['auc'])} |")
        for key, words in _RATES:
            rows.append(f"| {words}{name} | {_rate(old[key])} | {_rate(new[key])} |")
    table = "\n".join(rows)
    return f"""Beside {before["version"]}, which served then, on the same rows of the test split, each with the thresholds that
the calibration split certifies for it:

| | before | this one |
|---|---|---|
{table}

"""


_RATES = (
    ("critical_missed", "critical unsafe allowed"),
    ("safe_allowed", "safe allowed without the judge"),
    ("safe_blocked", "safe blocked"),
    ("unsafe_blocked", "unsafe blocked"),
)


def _rate(rate: dict[str, Any]) -> str:
    if rate["rate"] is None:
        return "none to measure"
    return f"{rate['rate']:.1%} ({rate['k']} of {rate['n']}; {rate['low']:.1%} to {rate['high']:.1%})"


def _shown(auc: float | None) -> str:
    return "-" if auc is None else f"{auc:.3f}"


def _slices(slices: dict[str, Any]) -> str:
    return "\n".join(f"| {name} | {s['n']} | {_shown(s['auc'])} | {_shown(s['words_auc'])} |" for name, s in slices.items())


def _rows(groups: dict[str, Any], key: str) -> str:
    return "\n".join(_rate_row(name, group[key]) for name, group in groups.items())


def _rate_row(name: str, rate: dict[str, Any]) -> str:
    share = "-" if rate["rate"] is None else f"{rate['rate']:.1%}"
    return f"| {name} | {share} | {rate['k']} of {rate['n']} | {rate['low']:.1%} to {rate['high']:.1%} |"


def _blocking(block_at: float) -> str:
    if block_at >= 1:
        return f"No score is certified to block at most {FALSE_BLOCKS:.0%} of the safe: this layer blocks nothing by itself."
    return (
        f"At P(unsafe) = {block_at:.3f} and above a response is blocked: at most {FALSE_BLOCKS:.0%} of safe responses score "
        f"there, with {1 - DELTA:.0%} confidence."
    )
