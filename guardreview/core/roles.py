"""Who may do what: one table, which views, admin, API, docs and tests all read."""

from collections.abc import Callable, Mapping
from enum import StrEnum
from functools import wraps
from typing import Any

from django.core.exceptions import PermissionDenied
from django.db import models
from django.http import HttpRequest
from django.http.response import HttpResponseBase


class Role(models.TextChoices):
    PHARMACIST = "pharmacist"
    LEAD = "lead"
    ADMINISTRATOR = "administrator"
    AUDITOR = "auditor"


class Act(StrEnum):
    """Something that a person may do."""

    READ_QUEUE = "see the queue, items and decisions"
    READ_ALL_DECISIONS = "see everybody's decisions"
    DECIDE = "decide items"
    ADJUDICATE = "settle what two pharmacists could not, reopen any item, write guidelines, make calibration items"
    READ_INSIGHT = "see the figures of the queue, of reviewers and of the audit"
    REVEAL = "reveal masked personal data, with a reason"
    EXPORT_LABELS = "export labels"
    EXPORT_PERSONAL = "export labels with the personal data in them, with a reason"
    IMPORT_LABELS = "import labelled sets, and withdraw them"
    READ_MODELS = "see model versions and policies"
    MANAGE_MODELS = "retrain, check and promote model versions, and go back"
    MANAGE_RULES = "make rules, and see which exchanges they would match"
    ADMINISTER = "change policies, apps, keys and accounts"
    READ_AUDIT = "read the audit log"


MAY: Mapping[Role, frozenset[Act]] = {
    Role.PHARMACIST: frozenset({Act.READ_QUEUE, Act.DECIDE, Act.REVEAL}),
    Role.LEAD: frozenset(
        {
            Act.READ_QUEUE,
            Act.READ_ALL_DECISIONS,
            Act.DECIDE,
            Act.ADJUDICATE,
            Act.READ_INSIGHT,
            Act.REVEAL,
            Act.EXPORT_LABELS,
            Act.EXPORT_PERSONAL,
            Act.IMPORT_LABELS,
            Act.READ_MODELS,
        }
    ),
    Role.ADMINISTRATOR: frozenset(
        {
            Act.READ_MODELS,
            Act.MANAGE_MODELS,
            Act.EXPORT_LABELS,
            Act.IMPORT_LABELS,
            Act.MANAGE_RULES,
            Act.ADMINISTER,
            Act.READ_AUDIT,
        }
    ),
    Role.AUDITOR: frozenset({Act.READ_QUEUE, Act.READ_ALL_DECISIONS, Act.READ_INSIGHT, Act.READ_MODELS, Act.READ_AUDIT}),
}

View = Callable[..., HttpResponseBase]


def requires(act: Act) -> Callable[[View], View]:
    """A view that only those may open whose role may do `act`; others get 403."""

    def decorate(view: View) -> View:
        @wraps(view)
        def checked(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
            if not request.user.may(act):  # type: ignore[union-attr]
                raise PermissionDenied(f"Your role may not {act.value}.")
            return view(request, *args, **kwargs)

        return checked

    return decorate
