"""What the audit log says of accounts: whether somebody else had a hand in one, and who was an administrator until lately.

The administrators' site writes these lines. A username never changes there, so that what stands under it is all there is.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from django.db.models import QuerySet
from django.utils import timezone

from guardreview.core.models import AuditEvent, User
from guardreview.core.roles import Act

CREATED, CHANGED, PASSWORD = "user.create", "user.change", "user.password"
SETTLED_AFTER = timedelta(days=7)
"""For so long an account that somebody else made, gave another role, opened or set the password of is no second person."""
GATES = {"role", "is_active"}
"""What decides whether an account may do anything."""
ADMINISTERS = "administers"
"""Among the changes of a line: [before, after]."""


def changed_by_another(account: User, since: datetime) -> bool:
    """Whether somebody else made this account, changed its role or whether it is active, or set its password since then."""
    events = _events(since).filter(target=account.username).exclude(actor=account.username)
    return any(event.action != CHANGED or GATES & set(event.data.get("fields", ())) for event in events)


def other_administrators(actor: User) -> bool:
    """Whether anybody else is an administrator, or was one until lately: nobody is alone by putting the others out."""
    others = User.objects.exclude(pk=actor.pk)
    if any(each.may(Act.ADMINISTER) for each in others.filter(is_active=True)):
        return True
    events = _events(timezone.now() - SETTLED_AFTER).filter(action=CHANGED, target__in=others.values("username"))
    return any(event.data.get("changes", {}).get(ADMINISTERS) == [True, False] for event in events)


def _events(since: datetime) -> QuerySet[AuditEvent]:
    return AuditEvent.objects.filter(action__in=(CREATED, CHANGED, PASSWORD), at__gte=since)
