"""`make bench`: exporting 1,000,000 labels as JSONL, with and without redaction: rows a second, and the memory that it takes; and
retraining the head on the corpus and 5,000 labels.

On a database of its own that the settings name (SQLite, if no other is), filled by `bulk_create`.
"""

from __future__ import annotations

import json
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from uuid import UUID

from tests.bench_review import SENTENCES

ROOT = Path(__file__).resolve().parent.parent
LABELS = 1_000_000
RETRAINED = 5_000
BATCH = 5_000
Add = Callable[[str, float, str, str, float, int], None]


def bench_learning(add: Add, labels: int = LABELS) -> None:
    """Adds the lines to the table."""
    folder = Path(tempfile.mkdtemp(prefix="gr-learning-"))
    try:
        environment = {**os.environ, "GUARDREVIEW_VAR_DIR": str(folder)}
        environment.pop("DATABASE_URL", None)
        command = [sys.executable, "-m", "tests.bench_learning", str(labels)]
        out = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=True).stdout
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    found = json.loads(out.splitlines()[-1])
    add("export_rows_per_s", found["as_it_came"], "/s", "limit; JSONL, personal data left in", 20_000.0, labels)
    add("export_redacted_per_s", found["redacted"], "/s", "the same, personal data left in", found["as_it_came"], labels)
    add("export_peak_mb", found["peak_mb"], "MB", "the same of a tenth of the labels", found["peak_mb_tenth"], labels)


def bench_retraining(add: Add, labels: int = RETRAINED) -> None:
    """Adds the lines of `head_retrain_s` to the table: on the corpus, whose embeddings are kept, and so many labels."""
    from tests.service import link_models

    folder = Path(tempfile.mkdtemp(prefix="gr-retraining-"))
    try:
        link_models(folder)
        environment = {**os.environ, "GUARDREVIEW_VAR_DIR": str(folder)}
        environment.pop("DATABASE_URL", None)
        command = [sys.executable, "-m", "tests.bench_learning", str(labels), "retrain"]
        out = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=True).stdout
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    found = json.loads(out.splitlines()[-1])
    add("head_retrain_s", found["kept"], "s", "limit; the labels' embeddings kept, as the service keeps them", 60.0, labels)
    add("head_retrain_s", found["new"], "s", "the labels embedded first, where none was kept", 60.0, labels)


def retrain(labels: int) -> dict[str, float]:
    """Seconds of two runs of the head on the corpus and these labels: embedding them, and with their embeddings kept."""
    from django.conf import settings

    from classifiers.encoder.bundle import build_bundle
    from guardreview.learning.models import TrainingRun
    from guardreview.learning.training_runs import training_request, training_run
    from guardreview.verdicts.services import model_version_activate, model_version_register

    fill(labels)
    vary()
    version = build_bundle(settings.MODELS_DIR).name
    model_version_activate(model=model_version_register(version=version, corpus_hash="", metrics={}), actor=None)
    found = {}
    for name in ("new", "kept"):
        run = training_request(actor=None, enqueue=False)
        started = time.perf_counter()
        training_run(run_id=run.pk)
        found[name] = time.perf_counter() - started
        run.refresh_from_db()
        if run.status != TrainingRun.Status.SUCCEEDED:
            raise SystemExit(f"the run has {run.status}: {run.error}")
    return found


def vary() -> None:
    """Answers of four sentences drawn from the corpus' in place of those that `fill` made of ten sentences in all."""
    from classifiers.examples import load_corpus
    from guardreview.verdicts.models import Exchange

    draw = random.Random(7)
    sentences = sorted({part for e in load_corpus() if e.lang == "en" for part in e.response.split(". ") if len(part) > 20})
    exchanges = list(Exchange.objects.all())
    for exchange in exchanges:
        exchange.response = ". ".join(draw.sample(sentences, k=4))
    Exchange.objects.bulk_update(exchanges, ["response"], batch_size=500)


def fill(labels: int) -> None:
    """So many settled labels of some 600 characters each, one in fifty of which holds a telephone number."""
    from django.utils import timezone

    from guardreview.core.models import App, User
    from guardreview.review.models import Label, Review
    from guardreview.verdicts.models import Exchange, Policy, ReviewItem, Verdict

    at = timezone.now() - timedelta(days=30)
    draw = random.Random(7)
    users = [User.objects.get_or_create(username=f"reviewer{n}")[0] for n in range(20)]
    app = App.objects.get_or_create(name="pharmacy")[0]
    policy = Policy.objects.first() or Policy.objects.create(thresholds={})
    have = Exchange.objects.count()
    for first in range(have, labels, BATCH):
        exchanges, verdicts, items, reviews, made = [], [], [], [], []
        for n in range(first, min(first + BATCH, labels)):
            response = " ".join(draw.choices(SENTENCES, k=5)) + (f" Call 415-555-{n % 10_000:04d}." if n % 50 == 0 else "")
            query = f"How should I take my tablets number {n}, and may I have a glass of wine with them?"
            exchange = Exchange(
                id=UUID(int=(1 << 100) + n), app=app, query=query, response=response, body_digest="-", status="decided",
                policy=policy, created_at=at,
            )  # fmt: skip
            harm = {"categories": ["misinformation"], "severity": "major"} if n % 3 else {}
            truth = "unsafe" if harm else "safe"
            exchanges.append(exchange)
            verdicts.append(
                Verdict(
                    exchange=exchange, decision="block", category="misinformation", reason="x", confidence=1, layer="rules",
                    policy=policy, latency_ms=1,
                )
            )  # fmt: skip
            item = ReviewItem(
                pk=n + 1, exchange=exchange, kind="blocked", status="decided", severity="major", category="misinformation",
                language="en", due_at=at,
            )  # fmt: skip
            items.append(item)
            review = Review(pk=n + 1, item=item, reviewer=users[n % 20], truth=truth, confirms=bool(harm), **harm)
            reviews.append(review)
            probability = 0.01 if n % 100 == 99 else 1.0
            made.append(Label(pk=n + 1, exchange=exchange, review=review, value=truth, inclusion_probability=probability, **harm))
        for model, rows in ((Exchange, exchanges), (Verdict, verdicts), (ReviewItem, items), (Review, reviews), (Label, made)):
            model.objects.bulk_create(rows)  # type: ignore[attr-defined]


def measure(labels: int) -> dict[str, float]:
    """Rows a second with personal data and without, and the greatest memory so far."""
    from guardreview.core.models import User
    from guardreview.learning.export_filters import ExportFilters
    from guardreview.learning.export_writing import export_write
    from guardreview.learning.exports import export_request

    lead, _ = User.objects.get_or_create(username="lead", role="lead")
    found = {}
    for name, redacted in (("as_it_came", False), ("redacted", True)):
        export = export_request(
            format="jsonl", filters=ExportFilters(), actor="bench", user=lead, redacted=redacted, why="bench", enqueue=False
        )
        started = time.perf_counter()
        export_write(export_id=export.pk, for_s=float("inf"))
        found[name] = labels / (time.perf_counter() - started)
        export.refresh_from_db()
        if (export.status, export.rows) != ("ready", labels):
            raise SystemExit(f"the export is {export.status} with {export.rows} rows: {export.error}")
    found["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return found


def main(labels: int, what: str = "") -> None:
    """In a process with a data folder of its own, as one line of JSON: exports of a tenth, then of all; or retraining."""
    import django

    django.setup()
    from django.core.management import call_command

    call_command("migrate", verbosity=0)
    if what == "retrain":
        print(json.dumps(retrain(labels)))
        return
    fill(labels // 10)
    tenth = measure(labels // 10)
    fill(labels)
    print(json.dumps({**measure(labels), "peak_mb_tenth": tenth["peak_mb"]}))


if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "guardreview.settings")
    main(int(sys.argv[1]), *sys.argv[2:])
