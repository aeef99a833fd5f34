"""A person's own names for sets of the queue's filters."""

from __future__ import annotations

from django.db import transaction

from guardreview.core.models import User
from guardreview.review.models import SavedView

MAX_VIEWS = 20
MAX_NAME, MAX_QUERY = 60, 1000


class InvalidView(ValueError):
    """It cannot be saved; the message is for the person."""


def saved_views(*, user: User) -> list[SavedView]:
    """By name."""
    return list(SavedView.objects.filter(user=user)[:MAX_VIEWS])


def saved_view_save(*, user: User, name: str, query: str) -> SavedView:
    """Keep `query`, the query part of the queue's address, under a name; in place of what had that name. Raises InvalidView."""
    name = " ".join(name.replace("\x00", "").split())
    if not 0 < len(name) <= MAX_NAME:
        raise InvalidView(f"Give the view a name of at most {MAX_NAME} characters.")
    if len(query) > MAX_QUERY:
        raise InvalidView("These are too many filters for a view.")
    with transaction.atomic():
        # Of two that are saved at once, neither may be one too many.
        User.objects.select_for_update().get(pk=user.pk)
        others = SavedView.objects.filter(user=user).exclude(name=name)
        if others.count() >= MAX_VIEWS:
            raise InvalidView(f"You have {MAX_VIEWS} views. Delete one first.")
        return SavedView.objects.update_or_create(user=user, name=name, defaults={"query": query})[0]


def saved_view_delete(*, user: User, view_id: int) -> bool:
    """Whether there was one of this person's to delete."""
    return bool(SavedView.objects.filter(user=user, pk=view_id).delete()[0])
