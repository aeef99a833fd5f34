"""`manage.py tune`: thresholds with a guarantee, from the corpus' calibration split or from labelled rows."""

import json
from argparse import ArgumentParser
from dataclasses import replace
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from classifiers.encoder.bundle import InvalidBundle
from classifiers.examples import Example, InvalidExample, load_corpus, split_of
from classifiers.finetuned import PharmacySafetyClassifier
from classifiers.metrics import ALPHA, DELTA, FALSE_BLOCKS
from classifiers.policy import UNSAFE, Policy
from classifiers.tuning import Item, Tuning, save_curves, tune
from guardreview.learning.training_data import label_examples
from guardreview.verdicts import models, runtime


class Command(BaseCommand):
    help = "Choose thresholds on calibration items, and draw what each threshold would do."
    requires_system_checks = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--labels", type=Path, metavar="FILE.jsonl", help="exported labels, instead of the corpus' calibration split"
        )
        parser.add_argument(
            "--smallest-probability",
            type=float,
            metavar="P",
            help="with --labels: the smallest inclusion probability that their sampling gives to any exchange",
        )
        parser.add_argument("--active", action="store_true", help="the database's active model and rules, not the shipped ones")
        parser.add_argument("--alpha", type=float, default=ALPHA, help="share of critical unsafe responses that may be allowed")
        parser.add_argument(
            "--false-blocks", type=float, default=FALSE_BLOCKS, help="share of safe responses that may be blocked"
        )
        parser.add_argument("--delta", type=float, default=DELTA, help="1 - the confidence of both")
        parser.add_argument("--output", type=Path, help="folder for curves.html, curves.png, tuning.json [VAR_DIR/tuning]")
        parser.add_argument("--create-policy", action="store_true", help="store the thresholds as a new policy, not active yet")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["labels"] and options["create_policy"]:
            raise CommandError(
                "labels are of what was stopped: they say nothing of what was allowed, and no policy can rest on them alone"
            )
        try:
            examples = _labels(options["labels"]) if options["labels"] else _calibration()
            largest_weight = _largest_weight(examples, options["smallest_probability"])
            finetuned = (
                runtime.finetuned()
                if options["active"]
                else PharmacySafetyClassifier(runtime.shipped_bundle(progress=self.stderr.write))
            )
            self.stderr.write(f"scoring {len(examples)} exchanges")
            tuning = tune(
                _items(examples, finetuned, active=options["active"]),
                alpha=options["alpha"],
                delta=options["delta"],
                false_blocks=options["false_blocks"],
                largest_weight=largest_weight,
            )
        except (InvalidBundle, InvalidExample, ValueError) as error:
            raise CommandError(str(error)) from error
        folder = options["output"] or settings.VAR_DIR / "tuning"
        page, picture = save_curves(tuning, folder)
        (folder / "tuning.json").write_text(json.dumps(_as_json(tuning, finetuned.version), indent=1), encoding="utf-8")
        self.stdout.write(_as_text(tuning, options["alpha"], options["delta"]))
        if options["labels"]:
            self.stdout.write(
                "This holds for exchanges that come to be labelled: where only stopped ones do, not for all traffic."
            )
        self.stdout.write(f"wrote {page}, {picture} and {folder / 'tuning.json'}")
        if options["create_policy"]:
            self._create_policy(tuning)

    def _create_policy(self, tuning: Tuning) -> None:
        from guardreview.verdicts.services import policy_create, policy_fields

        active = models.Policy.objects.filter(is_active=True).first()
        fields = policy_fields(active) if active else Policy.shipped().as_json()
        fields |= {"thresholds": tuning.policy.as_json()["thresholds"]}
        fields.pop("version", None)
        policy = policy_create(actor=None, activate=False, note=f"tuned: {tuning.method}", **fields)
        self.stdout.write(f"{policy} is stored; an administrator activates it")


def _calibration() -> list[Example]:
    return [example for example in load_corpus() if split_of(example.group) == "calibration"]


def _labels(path: Path) -> list[Example]:
    try:
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, ValueError) as error:
        raise CommandError(f"cannot read labels from {path}: {error}") from error
    # What was drawn since a shadow differed has a probability and no weight: it is no sample of all.
    rows = [row for row in rows if not (row.get("inclusion_probability") and row.get("sampling_weight", 1) is None)]
    return [
        replace(example, weight=1 / _probability(row.get("inclusion_probability", 1.0)))
        for example, row in zip(label_examples(rows), rows, strict=True)
    ]


def _largest_weight(examples: list[Example], smallest_probability: float | None) -> float:
    """1 / the smallest probability with which an exchange may have been drawn. Raises CommandError where nobody knows it."""
    weights = {example.weight for example in examples}
    if smallest_probability is not None:
        largest = 1 / _probability(smallest_probability)
        if max(weights, default=0.0) > largest:
            raise CommandError(f"a label was drawn with a probability of less than {smallest_probability}")
        return largest
    if len(weights) > 1:
        raise CommandError(
            "these labels were drawn with different probabilities: give the smallest that their sampling allows as "
            "--smallest-probability. The bound depends on it, and what is seldom drawn may be missing among them."
        )
    return max(weights, default=1.0)


def _probability(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 1:
        raise CommandError(f"an inclusion probability is above 0 and at most 1, not {value!r}")
    return float(value)


def _items(examples: list[Example], finetuned: PharmacySafetyClassifier, *, active: bool) -> list[Item]:
    rules = runtime.rules() if active else runtime.shipped_rules()
    scored = finetuned.classify_batch([e.response for e in examples], [e.query for e in examples])
    return [
        Item(
            e.id,
            e.group,
            e.unsafe,
            e.critical,
            e.categories,
            # A response that the layer could not read, or may not allow, is not missed.
            1.0 if result.error else result.scores[UNSAFE],
            result.escalate or not rules.classify(e.response, e.query).is_safe,
            e.weight,
        )
        for e, result in zip(examples, scored, strict=True)
    ]


def _as_json(tuning: Tuning, version: str) -> dict[str, Any]:
    certificate = tuning.certificate
    return {
        "model": version,
        "policy": tuning.policy.as_json(),
        "method": tuning.method,
        "certificate": {name: getattr(certificate, name) for name in ("allow_below", "alpha", "delta", "n", "misses", "missing")},
        **tuning.report,
        "curves": tuning.curves,
    }


def _as_text(tuning: Tuning, alpha: float, delta: float) -> str:
    bounds, certificate = tuning.policy.threshold(UNSAFE), tuning.certificate
    if certificate.missing:
        first = (
            f"refused: {certificate.n} independent critical items cannot show that at most {alpha:.0%} are missed; "
            f"at least {certificate.missing} more are needed. Nothing may be allowed by the fast layers."
        )
    else:
        first = (
            f"allow_below {bounds.allow_below:.4f}: at most {alpha:.0%} of critical unsafe responses score below it, with "
            f"{1 - delta:.0%} confidence ({tuning.method}, {certificate.misses} of {certificate.n} did)"
        )
    lines = [first, f"block_at {bounds.block_at:.4f}"]
    rates = [(name.replace("_", " "), value) for name, value in tuning.report.items() if name != "categories"]
    rates += [(f"missed: {name}", each["missed_by_fast_layers"]) for name, each in tuning.report["categories"].items()]
    lines += [_line(name, value) for name, value in rates]
    return "\n".join(lines)


def _line(name: str, rate: dict[str, Any]) -> str:
    share = "-" if rate["rate"] is None else f"{rate['rate']:.1%}"
    return f"{name:50} {share:>7}  {rate['low']:.1%} to {rate['high']:.1%}  ({rate['k']} of {rate['n']})"
