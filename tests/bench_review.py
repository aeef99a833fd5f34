"""`make bench`: the reviewers' pages at 1,000,000 stored verdicts with 100,000 open items, beside the same at 1,000 open ones.

On a PostgreSQL of its own, filled by SQL; the texts of what is not open, which none of these pages reads, are short. `next_item`
and `queue_counts` are of the service alone. All else is what a browser gets: requests through Django's test client, with
middleware, session, templates and audit log, without a network. Percentiles are of calls that were made before, with the database
in memory; `..._first_ms` is the first call after the load, which finds in memory what the load has left there.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from http import HTTPStatus
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from tests.postgresql_cluster import Missing, postgresql_cluster

if TYPE_CHECKING:
    from django.test import Client

    from guardreview.core.models import User

ROOT = Path(__file__).resolve().parent.parent
SMALL, LARGE = 10_000, 1_000_000
"""Stored verdicts. The newest tenth is open; of the others two in nine are decided, and the rest was allowed.

Of the many, 550,000 are of the last seven days: 100,000 open, 100,000 decided and 350,000 allowed.
"""
ROUNDS, WARM_UP, INSIGHT_ROUNDS = 200, 10, 20
SERVER = {
    "shared_buffers": "512MB",
    "max_wal_size": "8GB",
    "maintenance_work_mem": "512MB",
    # What is loaded into new indexes need not be logged. What a decision writes is, and is waited for, as ever.
    "wal_level": "minimal",
    "max_wal_senders": "0",
}
SETTINGS = {"GUARDREVIEW_INSIGHT_KEPT_S": "0"}
"""Every figure is counted anew."""
AT_ONCE = 6
"""As many requests a browser has under way."""
PEER = f"the same with {SMALL // 10:,} open items"
LIMITS = {
    "queue_page_p95_ms": 50.0,
    "next_item_p95_ms": 20.0,
    "next_item_http_p95_ms": 20.0,
    "decide_next_p95_ms": 100.0,
    "insight_page_p95_ms": 50.0,
    "insight_p95_ms": 1000.0,
}
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
        with postgresql_cluster(**SERVER) as address:
            own = {"GUARDREVIEW_VAR_DIR": str(folder), "DATABASE_URL": address, **SETTINGS}
            environment = {**os.environ, **own, "PYTHONHASHSEED": "0"}
            command = [sys.executable, "-m", "tests.bench_review"]
            out = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=True).stdout
    except Missing as error:
        print(f"review: not run: {error}", flush=True)
        return
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    small, large = (json.loads(line) for line in out.splitlines()[-2:])
    for name, (first, *taken) in large.items():
        add(f"{name}_first_ms", first, "ms", PEER, small[name][0], 1)
        for percent in (50, 95):
            line = f"{name}_p{percent}_ms"
            value = percentile(taken, percent)
            add(line, value, "ms", PEER, percentile(small[name][1:], percent), len(taken))
            if line in LIMITS:
                add(line, value, "ms", f"limit, at {LARGE:,} verdicts, {LARGE // 10:,} open", LIMITS[line], len(taken))


def main() -> None:
    """In a process with a database of its own: the times in ms by name, the first of all calls first, as two lines of JSON."""
    import django

    django.setup()
    from django.core.management import call_command
    from django.test import Client

    from guardreview.core.models import User

    call_command("migrate", verbosity=0)
    users = [User.objects.create(username=f"reviewer{n}", role="pharmacist") for n in range(20)]
    lead = User.objects.create(username="lead", role="lead")

    def client_of(user: User) -> Client:
        client = Client(headers={"host": "localhost"})
        client.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
        return client

    have, measured = 0, []
    for wanted in (SMALL, LARGE):
        started = time.perf_counter()
        fill(have, wanted, users)
        print(f"{wanted:,} verdicts stored after {time.perf_counter() - started:.0f} s", file=sys.stderr, flush=True)
        have = wanted
        taken = times(client_of(users[0]), users[0]) | insight_times([client_of(lead) for _ in range(AT_ONCE)])
        measured.append(json.dumps(taken))
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
        cursor.execute("CHECKPOINT")  # or the load would still be written out while others are timed


@contextmanager
def indexes_made_afterwards(cursor: Any) -> Iterator[None]:
    """All but those of constraints, the one of the words above all, which is kept row by row at many times the price."""
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
    from django.utils import timezone

    from guardreview.review.leases import item_lease_next, item_release
    from guardreview.review.queue import queue_counts
    from guardreview.review.views.deciding import PAUSED_AT
    from guardreview.verdicts.models import ReviewItem

    def next_item() -> None:
        item = item_lease_next(user=user)
        if item is None or item.lease_token is None or not item_release(item=item, user=user, token=item.lease_token):
            raise SystemExit("there was no next item")

    def next_by_http() -> str:
        return _leads_to_item(client.post("/next"), "/next")

    def give_back() -> None:
        ReviewItem.objects.filter(leased_by=user).update(leased_by=None, lease_token=None, lease_expires_at=None)

    def paused() -> None:
        """As if after a pause: else one is offered in place of an item."""
        session = client.session
        session[PAUSED_AT] = timezone.now().isoformat()
        session.save()

    def decide(address: str, decision: dict[str, str]) -> None:
        _got(client, _leads_to_item(client.post(f"{address}/decision", decision), address))

    first = ReviewItem.objects.filter(status="open", leased_by=None, kind="blocked", stage="first").order_by("due_at").first()
    if first is None:
        raise SystemExit("there is no item")
    calls: dict[str, Callable[[], Any]] = {
        "queue_page": lambda: _got(client, "/"),
        "queue_page_filtered": lambda: _got(client, "/?severity=critical&category=misinformation"),
        **{f"queue_search_{how}": partial(_got, client, f"/?text={word}") for how, word in WORDS.items()},
        "queue_counts": lambda: queue_counts(user=user),
        "next_item": next_item,
        "next_item_http": next_by_http,
        "item_page": lambda: _got(client, f"/items/{first.pk}"),
    }
    taken: dict[str, list[float]] = {name: [] for name in (*calls, "decide_next")}
    for round_ in range(WARM_UP + ROUNDS):
        measured = {}
        paused()
        for name, call in calls.items():
            measured[name] = _ms(call)
            give_back()
        address = next_by_http()
        decision = _decision(_got(client, address))
        measured["decide_next"] = _ms(lambda: decide(address, decision))  # noqa: B023 - it is called at once
        give_back()
        for name, ms in measured.items():
            if round_ == 0 or round_ >= WARM_UP:
                taken[name].append(ms)
    return taken


def insight_times(clients: list[Client]) -> dict[str, list[float]]:
    """Milliseconds until a lead's page of figures is there, and until its last figure is, counted anew: of all apps, of one."""
    from guardreview.review.dashboard import FIGURES

    free: SimpleQueue[Client] = SimpleQueue()
    for client in clients:
        free.put(client)

    def panel(address: str) -> None:
        client = free.get()
        try:
            _got(client, address)
        finally:
            free.put(client)

    def whole(query: str) -> None:
        panel(f"/insight?{query}")
        list(browser.map(panel, [f"/insight/panels/{key}?{query}" for key in FIGURES]))

    calls: dict[str, Callable[[], Any]] = {
        "insight_page": lambda: panel("/insight?period=7d"),
        "insight": lambda: whole("period=7d"),
        "insight_of_app": lambda: whole("period=7d&app=pharmacy+1"),
    }
    taken: dict[str, list[float]] = {name: [] for name in calls}
    with ThreadPoolExecutor(AT_ONCE) as browser:
        for round_ in range(2 + INSIGHT_ROUNDS):
            for name, call in calls.items():
                ms = _ms(call)
                if round_ == 0 or round_ >= 2:
                    taken[name].append(ms)
    return taken


def _ms(call: Callable[[], Any]) -> float:
    started = time.perf_counter()
    call()
    return (time.perf_counter() - started) * 1000


def _got(client: Client, address: str) -> str:
    """The page. Raises SystemExit if there is none."""
    answer = client.get(address)
    if answer.status_code != HTTPStatus.OK:
        raise SystemExit(f"{address} answered {answer.status_code}")
    return str(answer.content.decode())


def _leads_to_item(answer: Any, address: str) -> str:
    """The address of the item that an answer leads to. Raises SystemExit if it leads elsewhere."""
    where = str(answer.headers.get("Location", ""))
    if answer.status_code != HTTPStatus.FOUND or not where.startswith("/items/"):
        raise SystemExit(f"{address} answered {answer.status_code} {where}")
    return where


def _decision(page: str) -> dict[str, str]:
    """What the form of an item's page sends for an answer that somebody found unsafe."""
    form = page[page.index('id="decision"') :]
    sent = dict(re.findall(r'<input type="hidden" name="(token|opened|turn|key)" value="([^"]*)"', form))
    return {
        **sent,
        "truth": "unsafe",
        "categories": "misinformation",
        "severity": "major",
        "note": "Twice what the label allows.",
    }


if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "guardreview.settings")
    main()
