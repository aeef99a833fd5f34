"""What the API takes and gives of policies."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from classifiers.policy import THRESHOLD_KEYS
from guardreview.api.fields import StrictTextField
from guardreview.api.serializers import LAYERS
from guardreview.learning.models import PolicyChange
from guardreview.learning.threshold_state import PERIODS

ACTS = [(name, name) for name in ("reject", "serve", "restore")]
NOT_AN_ACT = "{input} is none of: reject, serve, restore. To approve, a person signs in and does so on the policy's page."
CHANGE_STATUSES = PolicyChange.Status.choices


class BoundsField(serializers.Serializer[Any]):
    """On P(unsafe): blocked at `block_at` and above, allowed below `allow_below`, the judge in between."""

    block_at = serializers.FloatField(min_value=0, max_value=1)
    allow_below = serializers.FloatField(min_value=0, max_value=1)


class ThresholdsInput(serializers.DictField):
    """Bounds by `default`, `unsafe`, a family or a category."""

    child = BoundsField()

    def to_internal_value(self, data: Any) -> dict[str, Any]:
        values: dict[str, Any] = super().to_internal_value(data)
        if unknown := sorted(set(values) - set(THRESHOLD_KEYS)):
            raise serializers.ValidationError(f"{len(unknown)} unknown keys.")
        return {key: dict(bounds) for key, bounds in values.items()}


class PolicyFieldsInput(serializers.Serializer[Any]):
    """What a policy says; what is left out stays as it is in force."""

    thresholds = ThresholdsInput(required=False)
    layers = serializers.ListField(child=serializers.ChoiceField(LAYERS), required=False, max_length=3)
    judge_min_confidence = serializers.FloatField(min_value=0, max_value=1, required=False)
    judge_model = StrictTextField(max_length=100, required=False, allow_blank=True)
    learning_share = serializers.FloatField(min_value=0, max_value=0.2, required=False)


class PolicyInput(PolicyFieldsInput):
    reason = StrictTextField(max_length=500, required=False, allow_blank=True, help_text="Required for what loosens.")
    apply_at = serializers.DateTimeField(required=False, help_text="Not before; at once unless given.")
    shadow = serializers.BooleanField(required=False, help_text="Only tried beside the one in force.")


class WhatIfInput(PolicyFieldsInput):
    days = serializers.ChoiceField([(days, str(days)) for days in PERIODS], required=False, default=30)


class PolicyDecisionInput(serializers.Serializer[Any]):
    act = serializers.ChoiceField(ACTS, error_messages={"invalid_choice": NOT_AN_ACT})
    reason = StrictTextField(max_length=500, required=False, allow_blank=True, help_text="Required to reject.")


class PolicyChangeOutput(serializers.Serializer[Any]):
    """How a policy came, or is to come, to serve."""

    status = serializers.ChoiceField(CHANGE_STATUSES)
    replaces = serializers.IntegerField()
    loosens = serializers.BooleanField(help_text="It may let something critical through that was stopped before.")
    guarantee_holds = serializers.BooleanField(help_text="Whether the certified bound held when it was proposed.")
    reason = serializers.CharField()
    answer = serializers.CharField(help_text="Why it was rejected or superseded.")
    proposed_by = serializers.CharField()
    decided_by = serializers.CharField(allow_null=True)
    apply_at = serializers.DateTimeField(allow_null=True)
    applied_at = serializers.DateTimeField(allow_null=True)


class PolicyOutput(serializers.Serializer[Any]):
    id = serializers.IntegerField()
    in_force = serializers.BooleanField()
    created_at = serializers.DateTimeField()
    thresholds = serializers.DictField(child=BoundsField())
    layers = serializers.ListField(child=serializers.ChoiceField(LAYERS))
    judge_min_confidence = serializers.FloatField()
    judge_model = serializers.CharField()
    learning_share = serializers.FloatField()
    differences = serializers.ListField(child=serializers.CharField(), help_text="From the one that it replaces, in words.")
    change = PolicyChangeOutput(allow_null=True)


class PolicyListOutput(serializers.Serializer[Any]):
    results = PolicyOutput(many=True)


class NewlyOutput(serializers.Serializer[Any]):
    total = serializers.IntegerField()
    categories = serializers.DictField(child=serializers.IntegerField())


class NewlyAllOutput(serializers.Serializer[Any]):
    """Answers that would be treated otherwise. `judge`: the judge would be asked, and never was."""

    blocked = NewlyOutput()
    released = NewlyOutput()
    judge = NewlyOutput()
    held = NewlyOutput()


class SideOutput(serializers.Serializer[Any]):
    """All answers under one policy."""

    allowed = serializers.IntegerField()
    blocked = serializers.IntegerField()
    held = serializers.IntegerField()
    judge = serializers.IntegerField()
    stopped_per_day = serializers.FloatField(help_text="For sure.")
    queue_per_day = serializers.FloatField(allow_null=True, help_text="With what the judge would stop, if it goes on as before.")
    judge_usd_per_day = serializers.FloatField(allow_null=True, help_text="At the mean cost of the period's judged answers.")


class WhatIfOutput(serializers.Serializer[Any]):
    beside = serializers.CharField()
    differences = serializers.ListField(child=serializers.CharField())
    loosens = serializers.BooleanField()
    guarantee_holds = serializers.BooleanField()
    answers = serializers.IntegerField()
    since = serializers.DateTimeField()
    unknown = serializers.IntegerField(help_text="A layer that would decide never ran on them.")
    not_packed = serializers.IntegerField(help_text="Verdicts of the period that are not in it yet.")
    newly = NewlyAllOutput()
    in_force = SideOutput()
    proposed = SideOutput()
