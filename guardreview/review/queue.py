"""Every read of the queue: its pages, its counts, and whose turn it is next."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import connection
from django.db.models import Exists, OuterRef, Q, QuerySet
from django.db.models.functions import Left
from django.utils import timezone

from classifiers.language import KNOWN
from classifiers.result import Severity
from guardreview.core.models import App, User
from guardreview.core.roles import MAY, Act
from guardreview.review.masking import HEAD_CHARS
from guardreview.review.models import Calibration, Review, Skip
from guardreview.review.search import first_of, seen_in
from guardreview.verdicts.models import ReviewItem

PAGE_SIZE = 25
TABS = ("waiting", "mine", "second", "adjudication", "audit")
FREE = "~"
"""In place of a user name, which can never be this: nobody holds it."""
OTHER = "other"
REOPENABLE = 10


@dataclass(frozen=True, slots=True)
class QueueFilter:
    """What the queue page shows; empty fields do not filter.

    `tab`: waiting, mine, second, adjudication or audit. `holder`: a user name, or FREE. `language`: a code, or OTHER for those
    that the classifier does not know. `older_than`: minutes.
    """

    tab: str = "waiting"
    category: str = ""
    severity: str = ""
    kind: str = ""
    layer: str = ""
    app: str = ""
    holder: str = ""
    language: str = ""
    older_than: int = 0
    text: str = ""


@dataclass(frozen=True, slots=True)
class QueuePage:
    """One page of the queue, and the cursor of the next (None: this is the last)."""

    items: Sequence[ReviewItem]
    next_cursor: str | None


def queue_page(*, filters: QueueFilter, user: User, cursor: str = "") -> QueuePage:
    """Open items by deadline, `PAGE_SIZE` at a time, from a cursor: no offset, no sort, no count.

    Of the texts, an item has the beginnings, as `query_head` and `response_head`. Raises ValueError on a bad cursor.
    """
    items = _filtered(_of_tab(filters.tab, user), filters)
    if cursor:
        due_at, pk = _read_cursor(cursor)
        items = items.filter(Q(due_at__gt=due_at) | Q(due_at=due_at, pk__gt=pk), due_at__gte=due_at)
    items = (
        items.select_related("exchange__app", "leased_by")
        # A page of the longest responses would be megabytes.
        .annotate(query_head=Left("exchange__query", HEAD_CHARS), response_head=Left("exchange__response", HEAD_CHARS))
        .defer("exchange__query", "exchange__response", "exchange__metadata")
        .order_by("due_at", "pk")
    )
    rows = first_of(items, text=filters.text, app=filters.app, count=PAGE_SIZE + 1)
    more = len(rows) > PAGE_SIZE
    rows = rows[:PAGE_SIZE]
    return QueuePage(seen_in(rows, text=filters.text), str(rows[-1].pk) if more else None)


def _of_tab(tab: str, user: User) -> QuerySet[ReviewItem]:
    """The open items of one tab. Calibration items come by "next" alone."""
    items = ReviewItem.objects.filter(status=ReviewItem.Status.OPEN)
    if tab == "mine":  # one that is missing here would be known for what it is
        return held_by(user)
    items = items.exclude(kind=ReviewItem.Kind.CALIBRATION)
    if tab == "second":
        return items.filter(stage=ReviewItem.Stage.SECOND)
    if tab == "adjudication":
        return items.filter(stage=ReviewItem.Stage.ADJUDICATION)
    if tab == "audit":
        return items.filter(kind=ReviewItem.Kind.AUDIT)
    return items


def _filtered(items: QuerySet[ReviewItem], filters: QueueFilter) -> QuerySet[ReviewItem]:
    told_by_verdict = {name: value for name in ("category", "severity", "kind", "layer") if (value := getattr(filters, name))}
    if told_by_verdict:
        items = items.filter(**told_by_verdict)
        if filters.tab != "audit":
            # A blind item must not be found by what is hidden of it. Whoever may see this tab knows what is in it.
            items = items.filter(blind=False)
    if filters.language == OTHER:
        items = items.exclude(language__in=KNOWN)
    elif filters.language:
        items = items.filter(language=filters.language)
    if filters.holder == FREE:
        items = items.exclude(lease_expires_at__gt=timezone.now())
    elif filters.holder:
        items = items.filter(leased_by__username=filters.holder, lease_expires_at__gt=timezone.now())
    if filters.older_than:
        items = items.filter(created_at__lt=timezone.now() - timedelta(minutes=filters.older_than))
    return items


def _read_cursor(cursor: str) -> tuple[datetime, int]:
    """A cursor names the item that was shown last, and not its deadline, which would tell the severity of a blind one."""
    pk = int(cursor)
    due_at = ReviewItem.objects.filter(pk=pk).values_list("due_at", flat=True).first()
    if due_at is None:
        raise ValueError("the cursor names no item")
    return due_at, pk


CHOICES = 200
"""Of apps and of people, as many can be filtered by."""


def filter_apps() -> list[str]:
    """The names of the apps that items may come from."""
    return list(App.objects.order_by("name").values_list("name", flat=True)[:CHOICES])


def filter_people() -> list[User]:
    """Those who may hold an item."""
    roles = [role for role, acts in MAY.items() if Act.DECIDE in acts]
    return list(User.objects.filter(is_active=True, role__in=roles).order_by("first_name", "username")[:CHOICES])


COUNT_LIMIT = 1000
"""A count stops here, so that it costs the same however long the queue is; the page then says "1,000+"."""


def queue_counts(*, user: User) -> dict[str, int]:
    """How many items are open, by tab and by severity (`critical`, ...), and how many are `overdue`; each up to COUNT_LIMIT.

    What a blind item's severity and deadline are is not counted: a number that changes would tell it.
    """
    in_order = {tab: _of_tab(tab, user).order_by("due_at", "pk") for tab in TABS}
    waiting = in_order["waiting"]
    return counts_up_to(
        {
            **in_order,
            **{severity.value: waiting.filter(severity=severity, blind=False) for severity in Severity},
            "overdue": waiting.filter(due_at__lt=timezone.now(), blind=False),
        }
    )


def counts_up_to(sets: Mapping[str, QuerySet[Any]], limit: int = COUNT_LIMIT) -> dict[str, int]:
    """The number of rows of each set, at most `limit`, in one query that reads no more than that many of each.

    The order of a set is kept: it tells the planner by which index to read, which it would else leave for the whole table.
    """
    parts: list[str] = []
    params: list[Any] = []
    for rows in sets.values():
        sql, values = rows.values("pk")[:limit].query.sql_with_params()
        parts.append(f"(SELECT COUNT(*) FROM ({sql}) AS counted)")  # noqa: S608 - the ORM's own, its values are parameters
        params += values
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {', '.join(parts)}", params)
        return dict(zip(sets, cursor.fetchone(), strict=True))


# --- Whose turn it is -------------------------------------------------------------------------------------------------------
def decidable_by(user: User, items: QuerySet[ReviewItem]) -> QuerySet[ReviewItem]:
    """Those of `items` that this person may decide now: not decided by them in this round, nor a lead's to settle.

    Who made a calibration item, which is a lead, knows its truth.
    """
    own = Review.objects.filter(item=OuterRef("pk"), reviewer=user, round=OuterRef("round"), undone_at=None)
    items = items.filter(~Exists(own), status=ReviewItem.Status.OPEN)
    if user.may(Act.ADJUDICATE):
        return items.filter(~Exists(Calibration.objects.filter(item=OuterRef("pk"), made_by=user)))
    return items.exclude(stage=ReviewItem.Stage.ADJUDICATION)


def held_by(user: User) -> QuerySet[ReviewItem]:
    """The open items that are this person's at this moment."""
    return ReviewItem.objects.filter(status=ReviewItem.Status.OPEN, leased_by=user, lease_expires_at__gt=timezone.now())


def _free_for(user: User) -> QuerySet[ReviewItem]:
    now = timezone.now()
    free = Q(lease_expires_at__isnull=True) | Q(lease_expires_at__lte=now) | Q(leased_by=user)
    return decidable_by(user, ReviewItem.objects.filter(free)).order_by("due_at", "pk")


def next_candidates(*, user: User, skipped: Collection[int] = ()) -> QuerySet[ReviewItem]:
    """The open items that this person may take, nearest deadline first, without those (by key) that they skipped."""
    return _free_for(user).exclude(kind=ReviewItem.Kind.CALIBRATION).exclude(pk__in=skipped)


def calibration_candidates(*, user: User) -> QuerySet[ReviewItem]:
    """The calibration items that this person has not decided yet."""
    return _free_for(user).filter(kind=ReviewItem.Kind.CALIBRATION)


def calibration_is_due(*, user: User) -> bool:
    """Whether the next item should be one whose truth is known: once in `CALIBRATION_EVERY` decisions."""
    every = settings.CALIBRATION_EVERY
    if not every:
        return False
    # By time, as the index has them: by key, a new reviewer's would be sought among all.
    latest = list(Review.objects.filter(reviewer=user).order_by("-created_at").values_list("item__kind", flat=True)[: every - 1])
    return len(latest) == every - 1 and ReviewItem.Kind.CALIBRATION not in latest


def skipped_by(*, user: User, since: datetime) -> list[int]:
    """Keys of the items that this person skipped since then."""
    return list(Skip.objects.filter(reviewer=user, created_at__gt=since).values_list("item_id", flat=True).distinct()[:500])


def reopenable_items(*, user: User) -> list[int]:
    """Keys of the items of a person's last ten decisions, which they may decide anew."""
    latest = Review.objects.filter(reviewer=user, undone_at=None).order_by("-created_at")
    return list(latest.values_list("item_id", flat=True)[:REOPENABLE])
