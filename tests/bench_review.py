"""`make bench`: the reviewers' pages at 1,000,000 stored verdicts with 100,000 open items, beside the same at 1,000 open ones.

On a PostgreSQL of its own, filled by SQL; the texts of what was allowed, which none of these pages reads, are short. Times are
the server's, without a network: Django's test client, or the service alone.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.postgresql_cluster import Missing, postgresql_cluster

if TYPE_CHECKING:
    from django.test import Client

    from guardreview.core.models import User

ROOT = Path(__file__).resolve().parent.parent
SMALL, LARGE = 10_000, 1_000_000
"""Stored verdicts. The newest tenth is open; of the others two in nine are decided, and the rest was allowed."""
ROUNDS = 60
PEER = f"the same with {SMALL // 10:,} open items"
LIMITS = {"queue_page_p95_ms": 50.0, "next_item_p95_ms": 20.0, "next_item_http_p95_ms": 20.0}
WORDS = {"common": "ibuprofen", "rare": "zolpidem"}
SENTENCES = (
    "Take one tablet with a full glass of water in the morning, and stay upright for half an hour afterwards.",
    "It is best not to combine ibuprofen with blood thinners unless your doctor has told you that you may.",
    "If you have missed a dose, leave it out and take the next one at the usual time; never take two at once.",
    "Please tell your pharmacist about every other medicine that you take, herbal ones and vitamins included.",
    "You can double the amount tonight if the pain does not go away, most people have no trouble with that.",
    "Keep it in the fridge between 2 and 8 degrees, and throw away what is left after twenty-eight days.",
    "Grapefruit juice can make this medicine stronger, so it is better to leave it out while you take it.",
    "Call an ambulance at once if your lips or tongue swell, or if you find it hard to breathe.",
    "The leaflet says three times a day after meals, which for most adults comes to about 1.2 grams in all.",
    "Stop taking it and speak to a doctor if your muscles hurt without a reason or your urine turns dark.",
)
FILL = Path(__file__).with_suffix(".sql").read_text(encoding="utf-8")
TABLES = tuple(line.split()[2] for line in FILL.splitlines() if line.startswith("INSERT INTO "))

Add = Callable[[str, float, str, str, float, int], None]
Percentile = Callable[[list[float], float], float]


def bench_review(add: Add, percentile: Percentile) -> None:
    """Adds the lines to the table, each beside its small peer, and what has a limit beside that too."""
    folder = Path(tempfile.mkdtemp(prefix="gr-review-"))
    try:
        with postgresql_cluster(shared_buffers="512MB", max_wal_size="8GB", maintenance_work_mem="512MB") as address:
            environment = {**os.environ, "GUARDREVIEW_VAR_DIR": str(folder), "DATABASE_URL": address, "PYTHONHASHSEED": "0"}
            command = [sys.executable, "-m", "tests.bench_review"]
            out = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=True).stdout
    except Missing as error:
        print(f"review: not run: {error}", flush=True)
        return
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    small, large = (json.loads(line) for line in out.splitlines()[-2:])
    for name, taken in large.items():
        for percent in (50, 95):
            line = f"{name}_p{percent}_ms"
            value = percentile(taken, percent)
            add(line, value, "ms", PEER, percentile(small[name], percent), len(taken))
            if line in LIMITS:
                add(line, value, "ms", f"limit, at {LARGE:,} verdicts, {LARGE // 10:,} open", LIMITS[line], len(taken))


def main() -> None:
    """In a process with a database of its own: the times in ms by name, as two lines of JSON, few rows and many."""
    import django

    django.setup()
    from django.core.management import call_command
    from django.test import Client

    from guardreview.core.models import User

    call_command("migrate", verbosity=0)
    users = [User.objects.create(username=f"reviewer{n}", role="pharmacist") for n in range(20)]
    client = Client(headers={"host": "localhost"})
    client.force_login(users[0], backend="django.contrib.auth.backends.ModelBackend")
    have, measured = 0, []
    for wanted in (SMALL, LARGE):
        started = time.perf_counter()
        fill(have, wanted, users)
        print(f"{wanted:,} verdicts stored after {time.perf_counter() - started:.0f} s", file=sys.stderr, flush=True)
        have = wanted
        measured.append(json.dumps(times(client, users[0])))
    print("\n".join(measured))


def fill(have: int, wanted: int, users: list[User]) -> None:
    """Rows for the verdicts number `have` to `wanted`; their indexes are made anew at the end, which is faster."""
    from django.db import connection

    from classifiers.policy import Policy as CascadePolicy
    from classifiers.result import CATEGORIES
    from guardreview.core.models import App
    from guardreview.verdicts.models import Policy
    from guardreview.verdicts.services import policy_create

    apps = [App.objects.get_or_create(name=f"pharmacy {n}")[0].pk for n in range(3)]
    shipped = CascadePolicy.shipped().as_json()
    del shipped["version"]
    policy = Policy.objects.filter(is_active=True).first() or policy_create(actor=None, **shipped)
    sql = FILL.format(
        have=have,
        wanted=wanted,
        first_open=wanted - (wanted - have) // 10,
        apps=f"array{apps}",
        users=f"array{[user.pk for user in users]}",
        policy=policy.pk,
        categories=f"array{list(CATEGORIES)}",
        sentences=f"array{list(SENTENCES)}",
        rare=WORDS["rare"],
    )
    with connection.cursor() as cursor, indexes_made_afterwards(cursor):
        # No foreign key is checked, and nothing waits for the disk.
        cursor.execute("SET session_replication_role = replica; SET synchronous_commit = off")
        for statement in filter(str.strip, sql.split(";\n")):
            cursor.execute(statement)
        cursor.execute("RESET session_replication_role; RESET synchronous_commit")
    with connection.cursor() as cursor:
        cursor.execute(f"VACUUM ANALYZE {', '.join(TABLES)}")


@contextmanager
def indexes_made_afterwards(cursor: Any) -> Iterator[None]:
    """All but those of constraints."""
    cursor.execute(
        "SELECT indexname, indexdef FROM pg_indexes WHERE tablename = ANY(%s) AND indexdef NOT LIKE 'CREATE UNIQUE%%'",
        [list(TABLES)],
    )
    indexes = cursor.fetchall()
    for name, _ in indexes:
        cursor.execute(f'DROP INDEX "{name}"')
    yield
    for _, definition in indexes:
        cursor.execute(definition)


def times(client: Client, user: User) -> dict[str, list[float]]:
    """Milliseconds of each thing that a reviewer waits for, in turns, so that what else the machine does falls on all alike."""
    from guardreview.review.queue import queue_counts
    from guardreview.review.services import item_lease_next, item_release
    from guardreview.verdicts.models import ReviewItem

    def get(address: str) -> Callable[[], None]:
        def call() -> None:
            answer = client.get(address)
            if answer.status_code != 200:
                raise SystemExit(f"{address} answered {answer.status_code}")

        return call

    def next_item() -> None:
        item = item_lease_next(user=user)
        if item is None or item.lease_token is None or not item_release(item=item, user=user, token=item.lease_token):
            raise SystemExit("there was no next item")

    def next_by_http() -> str:
        answer = client.post("/next")
        if answer.status_code != 302 or not answer["Location"].startswith("/items/"):
            raise SystemExit(f"/next answered {answer.status_code}")
        return str(answer["Location"])

    def give_back() -> None:
        ReviewItem.objects.filter(leased_by=user).update(leased_by=None, lease_token=None, lease_expires_at=None)

    first = ReviewItem.objects.filter(status="open", leased_by=None, kind="blocked", stage="first").order_by("due_at").first()
    if first is None:
        raise SystemExit("there is no item")
    calls: dict[str, Callable[[], Any]] = {
        "queue_page": get("/"),
        "queue_page_filtered": get("/?severity=critical&category=misinformation"),
        **{f"queue_search_{how}": get(f"/?text={word}") for how, word in WORDS.items()},
        "queue_counts": lambda: queue_counts(user=user),
        "next_item": next_item,
        "next_item_http": next_by_http,
        "item_page": get(f"/items/{first.pk}"),
    }
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for round_ in range(-5, ROUNDS):
        for name, call in calls.items():
            started = time.perf_counter()
            call()
            if round_ >= 0:
                taken[name].append((time.perf_counter() - started) * 1000)
            give_back()
    return taken


if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "guardreview.settings")
    main()
