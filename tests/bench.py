"""`make bench`: how fast the layers, the whole service and the pages are, each beside its peer or limit in the same run.

Prints a table and writes `var/bench.json`: a list of {"name", "value", "unit", "peer", "peer_value", "ratio", "n"}.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.bench_learning import bench_learning, bench_retraining
from tests.bench_presidio import Presidio, Unavailable
from tests.bench_review import bench_review
from tests.bench_texts import hostile, ordinary
from tests.bench_what_if import bench_what_if
from tests.redis_server import RedisServer
from tests.service import ROOT, link_models, running_service

if TYPE_CHECKING:
    from classifiers.finetuned import PharmacySafetyClassifier

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "guardreview.settings")
QUERY = "I forgot my evening tablet. Can I take it now?"
SHORT = "Take it as soon as you remember, unless it is almost time for the next one. Never take two at once."
rows: list[dict[str, Any]] = []


def add(name: str, value: float, unit: str, peer: str, peer_value: float, n: int) -> None:
    """One line of the table; `ratio` is value to peer."""
    ratio = round(value / peer_value, 3) if peer_value else None
    rows.append(
        {
            "name": name,
            "value": round(value, 4),
            "unit": unit,
            "peer": peer,
            "peer_value": round(peer_value, 4),
            "ratio": ratio,
            "n": n,
        }
    )
    shown = "-" if ratio is None else f"{ratio:.2f}"
    print(f"{name:24}{value:12.3f} {unit:6}{peer:46}{peer_value:12.3f}{shown:>8}{n:>7}", flush=True)


def percentile(values: list[float], percent: float) -> float:
    """Nearest rank."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


def timed_ms(call: Callable[[], Any]) -> float:
    """Milliseconds of one call."""
    started = time.perf_counter()
    call()
    return (time.perf_counter() - started) * 1000


def interleaved_ms(calls: dict[str, Callable[[], Any]], n: int) -> dict[str, list[float]]:
    """Milliseconds of each call, taken in turns, so that what else the machine does falls on all alike."""
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        call()
    for _ in range(n):
        for name, call in calls.items():
            taken[name].append(timed_ms(call))
    return taken


def bench_rules() -> None:
    """Responses of 1 kB that name drugs, with every pack on, and Presidio on the same in turns; then hostile ones of 100 kB."""
    from classifiers.rule_based import RuleBasedClassifier

    rules = RuleBasedClassifier.default()
    texts = ordinary(60)
    for text in texts:
        rules.classify(text)
    taken = [timed_ms(lambda text=text: rules.classify(text)) for _ in range(50) for text in texts]
    add("rules_p50_ms", percentile(taken, 50), "ms", "limit", 0.1, len(taken))
    add("rules_p99_ms", percentile(taken, 99), "ms", "limit", 0.2, len(taken))
    try:
        with Presidio() as presidio:
            presidio.ms(texts[0])
            pairs = [(timed_ms(lambda text=text: rules.classify(text)), presidio.ms(text)) for _ in range(5) for text in texts]
            ours, theirs = (list(each) for each in zip(*pairs, strict=True))
            peer = f"Presidio, its {presidio.recognizers} pattern recognisers"
            add("rules_p50_ms", percentile(ours, 50), "ms", peer, percentile(theirs, 50), len(pairs))
            add("rules_p99_ms", percentile(ours, 99), "ms", peer, percentile(theirs, 99), len(pairs))
    except Unavailable as error:
        print(f"rules: no comparison with Presidio: {error}", flush=True)
    medians = {
        name: statistics.median(timed_ms(lambda text=text: rules.classify(text)) for _ in range(5))
        for name, text in hostile().items()
    }
    worst = max(medians, key=lambda name: medians[name])
    add("rules_100kb_ms", medians[worst], "ms", f"limit; the worst of {len(medians)}: {worst}", 50.0, 5 * len(medians))


def bench_finetuned(models: Path) -> None:
    """One short response, one thread: beside the bare ONNX forward of the same tokens, and sentence-transformers on torch."""
    import torch
    from sentence_transformers import SentenceTransformer

    from classifiers.encoder.bundle import build_bundle, encoder_folder
    from classifiers.finetuned import PharmacySafetyClassifier

    torch.set_num_threads(1)
    model = SentenceTransformer(str(encoder_folder()), device="cpu", local_files_only=True)
    classifier = PharmacySafetyClassifier(build_bundle(models))
    response = " ".join([SHORT] * 5)
    (window,) = classifier.encoder.reader.windows([response], [QUERY])
    taken = interleaved_ms(
        {
            "ours": lambda: classifier.classify(response, QUERY),
            "forward": lambda: classifier.encoder.forward(window),
            "torch": lambda: model.encode(f"{QUERY} {response}", show_progress_bar=False),
        },
        n=200,
    )
    medians = {name: statistics.median(values) for name, values in taken.items()}
    tokens = len(window.ids)
    add("finetuned_p50_ms", medians["ours"], "ms", f"bare ONNX forward, {tokens} tokens", medians["forward"], 200)
    add("finetuned_p50_ms", medians["ours"], "ms", f"sentence-transformers on torch, {tokens} tokens", medians["torch"], 200)
    add("finetuned_p95_ms", percentile(taken["ours"], 95), "ms", "limit", 50.0, 200)
    add("finetuned_p99_ms", percentile(taken["ours"], 99), "ms", "limit", 50.0, 200)
    bench_batch(classifier)
    load = "from classifiers.finetuned import PharmacySafetyClassifier; import sys; PharmacySafetyClassifier(sys.argv[1])"
    command = [sys.executable, "-c", load, str(build_bundle(models))]
    seconds = [timed_ms(lambda: subprocess.run(command, cwd=ROOT, check=True)) / 1000 for _ in range(5)]
    add("finetuned_import_and_load_s", statistics.median(seconds), "s", "limit", 1.0, len(seconds))


def bench_batch(classifier: PharmacySafetyClassifier) -> None:
    """64 responses of 20 characters to 3 kB, in one call and one at a time."""
    text = " ".join(ordinary(4))
    texts = [text[: 20 + 3_000 * place // 63] for place in range(64)]
    taken = interleaved_ms(
        {
            "batch": lambda: classifier.classify_batch(texts),
            "single": lambda: [classifier.classify(each) for each in texts],
        },
        n=3,
    )
    batch, single = (64_000 / statistics.median(taken[name]) for name in ("batch", "single"))
    add("finetuned_batch_per_s", batch, "/s", "the same 64 texts one at a time", single, 64 * 3)


def bench_service() -> None:
    """HTTP, Celery, Redis and database together."""
    with running_service() as service:

        def verdict() -> None:
            body = service.submit(QUERY, SHORT)
            if not body.get("decision"):
                raise SystemExit(f"no verdict in time: {body}")

        for _ in range(20):
            verdict()
        n = 300
        taken = [timed_ms(verdict) for _ in range(n)]
        add("verdict_p50_ms", percentile(taken, 50), "ms", "limit", 50.0, n)
        add("verdict_p95_ms", percentile(taken, 95), "ms", "limit", 50.0, n)
        add("verdict_p99_ms", percentile(taken, 99), "ms", "limit", 50.0, n)
        started, n = time.perf_counter(), 600
        with ThreadPoolExecutor(max_workers=16) as clients:
            list(clients.map(lambda _: verdict(), range(n)))
        per_second = n / (time.perf_counter() - started)
        add("throughput_per_s", per_second, "/s", "one client at a time", 1000 / statistics.mean(taken), n)
        # Resident, of the worker with its pool process; pages that they share count for each.
        resident = sum(process.memory_info().rss for process in service.workers("cascade")) / 2**20
        add("worker_rss_mb", resident, "MB", "limit", 350.0, 1)


def bench_cold_start() -> None:
    """From the start of a worker's process to the verdict on an exchange that was waiting for it."""
    folder = Path(tempfile.mkdtemp(prefix="gr-cold-"))
    try:
        link_models(folder)
        environment = {**os.environ, "GUARDREVIEW_VAR_DIR": str(folder)}
        out = subprocess.run(
            [sys.executable, "-m", "tests.bench", "--cold-start"],
            cwd=ROOT, env=environment, capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip
        seconds = [float(value) for value in re.findall(r"cold (\S+)", out)]
        add("worker_cold_start_s", statistics.median(seconds), "s", "limit", 2.0, len(seconds))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def cold_start() -> None:
    """In a process with a data folder of its own: Redis, one stored exchange, then a worker; several times over."""
    import django

    django.setup()
    from django.conf import settings
    from django.core.management import call_command

    from guardreview.core.models import App
    from guardreview.core.supervision import procfile_commands
    from guardreview.verdicts.models import Verdict
    from guardreview.verdicts.services import exchange_submit

    call_command("migrate", verbosity=0)
    call_command("setup", verbosity=0)
    app = App.objects.create(name="bench")
    redis = RedisServer(settings.REDIS_SOCKET.parent)
    redis.start()
    command = procfile_commands(ROOT / "Procfile")["cascade"]
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    try:
        for _ in range(5):
            exchange, _ = exchange_submit(app=app, query=QUERY, response=SHORT)
            started = time.perf_counter()
            worker = subprocess.Popen(
                ["/bin/sh", "-c", f"exec {command}"],
                cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )  # fmt: skip
            while not Verdict.objects.filter(exchange=exchange).exists():
                time.sleep(0.005)
            print("cold", time.perf_counter() - started)
            worker.terminate()
            worker.wait()
    finally:
        redis.stop()


def main() -> None:
    """Everything, one after the other: two at a time would measure each other."""
    print(f"{'':24}{'value':>12} {'unit':6}{'peer':46}{'peer value':>12}{'ratio':>8}{'n':>7}")
    bench_rules()
    bench_finetuned(ROOT / "var" / "models")
    bench_cold_start()
    bench_service()
    bench_review(add, percentile)
    bench_learning(add)
    bench_retraining(add)
    bench_what_if(add, percentile)
    target = ROOT / "var" / "bench.json"
    target.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    print(f"wrote {target.relative_to(ROOT)}")


if __name__ == "__main__":
    {"--cold-start": cold_start}.get(sys.argv[-1], main)()
