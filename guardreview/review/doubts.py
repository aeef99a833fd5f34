"""Doubts: settled labels that a changed guideline may have made wrong, until a lead has looked at each again."""

from __future__ import annotations

from datetime import timedelta

from django.db import transaction
from django.db.models import Exists, OuterRef, Q, QuerySet, TextField
from django.db.models.functions import Cast
from django.utils import timezone

from guardreview.core.models import User
from guardreview.core.services import audit
from guardreview.review.guideline_text import covered_by
from guardreview.review.models import Doubt, Guideline, Label
from guardreview.verdicts.models import ReviewItem

LOOK_BACK = timedelta(days=180)
MAX_DOUBTS = 500
PAGE_SIZE = 25


def labels_affected(*, category: str) -> QuerySet[Label]:
    """Labels in force that the guideline of this category covers, settled in the last 180 days; at most 500, the newest first.

    A label is covered by its own categories or, as one that says "safe" has none, by its item's. One that is in doubt already
    under the same guideline is left out.
    """
    names = covered_by(category)
    covered = Q(exchange__review_item__category__in=names)
    for name in names:
        covered |= Q(listed__contains=f'"{name}"')  # SQLite cannot look into a JSON list
    doubted = Doubt.objects.filter(label=OuterRef("pk"), guideline__category=category, resolved_at=None)
    recent = Label.objects.filter(is_current=True, created_at__gte=timezone.now() - LOOK_BACK)
    listed = recent.annotate(listed=Cast("categories", TextField()))
    return listed.filter(covered, ~Exists(doubted)).order_by("-created_at", "-pk")[:MAX_DOUBTS]


def doubts_raise(*, guideline: Guideline) -> int:
    """Put the labels that a guideline covers in doubt, in the caller's transaction; how many."""
    labels = labels_affected(category=guideline.category).values_list("pk", flat=True)
    return len(Doubt.objects.bulk_create([Doubt(label_id=label, guideline=guideline) for label in labels]))


def doubts_open(*, after: int = 0) -> list[Doubt]:
    """Unresolved doubts in the order in which they came, with their exchanges and items: a page, and one more if there is one."""
    rows = Doubt.objects.filter(resolved_at=None, pk__gt=after).order_by("pk")
    related = rows.select_related("guideline", "label__review__reviewer", "label__exchange__review_item", "label__exchange__app")
    return list(related[: PAGE_SIZE + 1])


def doubt_count() -> int:
    """How many are unresolved."""
    return Doubt.objects.filter(resolved_at=None).count()


def doubt_dismiss(*, doubt: Doubt, user: User) -> bool:
    """The label is still right; False if the doubt was resolved already."""
    with transaction.atomic():
        # The item first, as settling does, which resolves doubts too: so that the two never wait for each other.
        ReviewItem.objects.select_for_update().get(exchange_id=doubt.label.exchange_id)
        open_one = Doubt.objects.filter(pk=doubt.pk, resolved_at=None)
        if not open_one.update(resolved_at=timezone.now(), resolved_by=user):
            return False
        audit(
            actor=user.username,
            action="doubt.dismiss",
            target=f"exchange:{doubt.label.exchange_id}",
            label=doubt.label_id,
            guideline=doubt.guideline_id,
        )
    return True
