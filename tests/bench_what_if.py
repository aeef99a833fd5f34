"""`make bench`: a changed policy replayed over 1,000,000 stored verdicts, from the reading of their blocks to the page's figures.

On a PostgreSQL of its own. The blocks are filled directly with scores as a classifier gives them: most near 0, a few near 1.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

from tests.postgresql_cluster import Missing, postgresql_cluster

ROOT = Path(__file__).resolve().parent.parent
LIMIT_S = 2.0
MOVE_ROWS, MOVE_LIMIT_MS = 100_000, 300.0

Add = Callable[[str, float, str, str, float, int], None]
Percentile = Callable[[list[float], float], float]


def bench_what_if(add: Add, percentile: Percentile, rows: int = 1_000_000) -> None:
    folder = Path(tempfile.mkdtemp(prefix="gr-what-if-"))
    try:
        with postgresql_cluster(shared_buffers="512MB") as address:
            environment = {**os.environ, "GUARDREVIEW_VAR_DIR": str(folder), "DATABASE_URL": address}
            command = [sys.executable, "-m", "tests.bench_what_if", str(rows)]
            out = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=True).stdout
    except Missing as error:
        print(f"what-if: not run: {error}", flush=True)
        return
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    taken = json.loads(out.splitlines()[-1])
    add("what_if_s", percentile(taken["all"], 50) / 1000, "s", f"limit, at {rows:,} verdicts", LIMIT_S, len(taken["all"]))
    add(
        "what_if_move_p95_ms",
        percentile(taken["move"], 95),
        "ms",
        f"limit, at {MOVE_ROWS:,} verdicts",
        MOVE_LIMIT_MS,
        len(taken["move"]),
    )


def fill(rows: int, days: float) -> None:
    """`rows` verdicts over the last `days`, in blocks as the task makes them."""
    import numpy as np
    from django.utils import timezone

    from classifiers.policy import UNSAFE
    from classifiers.result import CATEGORIES
    from guardreview.learning.models import ScoreBlock
    from guardreview.learning.score_blocks import BLOCK_ROWS, NONE, ONE, Said, Scores, microseconds, pack

    chance = np.random.default_rng(5)
    labels = (UNSAFE, *(name for name in CATEGORIES if name.startswith("harmful_medical:")), "misinformation", "legal_advice")
    names = ("safe", "undecided", *labels[1:])
    end = timezone.now() - timedelta(minutes=3)
    for start in range(0, rows, BLOCK_ROWS):
        n = min(BLOCK_ROWS, rows - start)
        p_unsafe = np.where(chance.random(n) < 0.06, chance.beta(4, 1.2, n), chance.beta(0.5, 9, n))
        scores = np.array([p_unsafe, *(p_unsafe * chance.beta(0.5, 4, n) for _ in labels[1:])])
        rules = chance.choice([Said.SAFE, Said.UNSAFE, Said.UNSURE, Said.FAILED], n, p=[0.93, 0.05, 0.019, 0.001])
        ran = rules != Said.UNSAFE
        judged = ran & (p_unsafe > 0.12) & (p_unsafe < 0.95)
        moments = end - timedelta(days=days) * (1 - (start + np.arange(n)) / rows)
        decided = np.array([microseconds(moment) for moment in (moments[0], moments[-1])])
        columns = Scores(
            labels=labels,
            categories=names,
            scores=np.where(ran, np.round(scores * ONE), -1).astype(np.int32),
            rules=rules.astype(np.uint8),
            finetuned=np.where(ran, Said.SAFE, Said.MISSING).astype(np.uint8),
            judge=np.where(judged, chance.choice([Said.SAFE, Said.UNSAFE], n, p=[0.7, 0.3]), Said.MISSING).astype(np.uint8),
            confidence=np.where(judged, np.round(chance.beta(8, 1.5, n), 2), 0),
            cost=np.where(judged, 0.0004, 0).astype(np.float32),
            served=np.where(~ran | (p_unsafe >= 0.95), 1, np.where(judged, 2, 0)).astype(np.uint8),
            category=np.where(p_unsafe >= 0.95, chance.integers(2, len(names), n), 0).astype(np.uint8),
            found=np.full(n, NONE, dtype=np.uint8),
            app=np.ones(n, dtype=np.int32),
            exchange=np.frombuffer(chance.bytes(16 * n), dtype="V16"),
            decided_at=np.linspace(*decided, n).astype(np.int64),
        )
        ScoreBlock.objects.create(first_verdict=moments[0], last_verdict=moments[-1], rows=n, columns=pack(columns))


def main() -> None:
    """In a process with a database of its own: times in ms, as one line of JSON."""
    import django

    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "guardreview.settings")
    django.setup()
    from django.core.management import call_command
    from django.utils import timezone

    from classifiers.policy import Policy
    from guardreview.learning.models import ScoreBlock
    from guardreview.learning.what_if import what_if

    call_command("migrate", verbosity=0)
    before = Policy.shipped()
    taken: dict[str, list[float]] = {"all": [], "move": []}

    def replayed(allow_below: float, expected: int) -> float:
        data: dict[str, Any] = before.as_json()
        data["thresholds"]["unsafe"] = {"block_at": 0.9, "allow_below": allow_below}
        started = time.perf_counter()
        found = what_if(before=before, after=Policy.from_json(data), since=timezone.now() - timedelta(days=30), judge=True)
        spent = (time.perf_counter() - started) * 1000
        if found.rows != expected or not found.changed:
            raise SystemExit(f"replayed {found.rows} rows, {found.changed} changed")
        return spent

    for name, rows, rounds in (("move", MOVE_ROWS, 20), ("all", int(sys.argv[1]), 5)):
        ScoreBlock.objects.all().delete()
        fill(rows, days=29)
        taken[name] = [replayed(0.05 + each / 1000, rows) for each in range(rounds)]
    print(json.dumps(taken))


if __name__ == "__main__":
    main()
