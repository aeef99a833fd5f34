"""Exchanges, what each layer said of them, the verdict, and what it was decided by: policies, rules and model versions."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator, RegexValidator
from django.db import models
from django.db.models import Q
from django.utils import timezone
from uuid6 import uuid7

from classifiers.policy import InvalidPolicy
from classifiers.policy import Policy as CascadePolicy
from classifiers.result import CATEGORIES, Decision, Layer, Severity
from classifiers.rules.negation_languages import LANGUAGES
from classifiers.rules.rule import Action, Rule
from guardreview.core.models import App


def choices(enum: type[StrEnum]) -> list[tuple[str, str]]:
    """Django's choices of one of the library's enums."""
    return [(member.value, member.value) for member in enum]


def default_layers() -> list[str]:
    return [layer.value for layer in Layer]


class Policy(models.Model):
    """A numbered set of thresholds and switches. Never edited: a change is a new row. One is active."""

    thresholds = models.JSONField(help_text='{"default": {"block_at": 0.9, "allow_below": 0.1}, category: {...}}')
    layers = models.JSONField(default=default_layers)
    judge_min_confidence = models.FloatField(default=0.7, validators=[MinValueValidator(0), MaxValueValidator(1)])
    judge_model = models.CharField(max_length=100, blank=True, help_text="Empty: the model of the server's settings.")
    learning_share = models.FloatField(
        default=0,
        validators=[MinValueValidator(0), MaxValueValidator(0.2)],
        help_text="The share of allowed answers that are drawn for review because most can be learnt from them, on average.",
    )
    note = models.CharField(max_length=500, blank=True, help_text="Why this policy was made.")
    created_at = models.DateTimeField(auto_now_add=True)
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.PROTECT)
    is_active = models.BooleanField(default=False)

    class Meta:
        verbose_name_plural = "policies"
        constraints = [
            models.UniqueConstraint(fields=["is_active"], condition=Q(is_active=True), name="one_active_policy"),
        ]

    def __str__(self) -> str:
        return f"policy {self.pk}"

    def clean(self) -> None:
        try:
            self.as_cascade_policy()
        except InvalidPolicy as error:
            raise ValidationError(str(error)) from error

    def as_cascade_policy(self) -> CascadePolicy:
        """What `decide` reads. Raises InvalidPolicy."""
        return CascadePolicy.from_json(
            {
                "thresholds": self.thresholds,
                "layers": self.layers,
                "judge_min_confidence": self.judge_min_confidence,
                "judge_model": self.judge_model,
                "version": f"policy-{self.pk}",
            }
        )


class CustomRule(models.Model):
    """One version of an administrator's rule. Never edited: a change is a new version. At most one of a rule is active."""

    PREFIX = "custom."
    """Before the identifier, in results: so no rule of a later release can ever have the same name."""

    identifier = models.CharField(
        max_length=50,
        validators=[RegexValidator(r"^[a-z][a-z0-9_-]*\Z", "Lower-case letters, digits, _ and -, a letter first.")],
    )
    version = models.PositiveIntegerField(default=1)
    category = models.CharField(max_length=60)
    severity = models.CharField(max_length=10, choices=choices(Severity))
    action = models.CharField(max_length=10, choices=choices(Action))
    confidence = models.FloatField(default=0.95, validators=[MinValueValidator(0.01), MaxValueValidator(1)])
    patterns = models.JSONField(default=list)
    unless = models.JSONField(default=list, blank=True)
    negation = models.BooleanField(default=True)
    lang = models.CharField(max_length=8, default="en")
    must_match = models.JSONField(default=list)
    must_not_match = models.JSONField(default=list)
    note = models.CharField(max_length=500, blank=True)
    is_active = models.BooleanField(default=False)
    created_at = models.DateTimeField(auto_now_add=True)
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.PROTECT)

    class Meta:
        verbose_name = "rule"
        constraints = [
            models.UniqueConstraint(fields=["identifier", "version"], name="one_row_per_rule_version"),
            models.UniqueConstraint(fields=["identifier"], condition=Q(is_active=True), name="one_active_version_per_rule"),
        ]

    def __str__(self) -> str:
        return f"{self.identifier} version {self.version}"

    def clean(self) -> None:
        # Not as choices of the fields: a release that adds one would need a migration.
        for field, known in (("category", CATEGORIES), ("lang", LANGUAGES)):
            if getattr(self, field) not in known:
                raise ValidationError({field: f"One of {', '.join(known)}."})

    @property
    def rule_id(self) -> str:
        """Its name in results and evidence."""
        return f"{self.PREFIX}{self.identifier}"

    def as_rule(self) -> Rule:
        """What the rules layer compiles. Raises RuleError."""
        return Rule.from_mapping(
            {
                "id": self.rule_id,
                "category": self.category,
                "severity": self.severity,
                "action": self.action,
                "confidence": self.confidence,
                "patterns": self.patterns,
                "unless": self.unless,
                "negation": self.negation,
                "lang": self.lang,
                "must_match": self.must_match,
                "must_not_match": self.must_not_match,
            }
        )


class ModelVersion(models.Model):
    """A trained classifier: its bundle lies in `MODELS_DIR/version`. One is active; one may score beside it, in its shadow."""

    class Stage(models.TextChoices):
        CANDIDATE = "candidate"
        SHADOW = "shadow"
        ACTIVE = "active"
        RETIRED = "retired"

    version = models.CharField(max_length=40, unique=True)
    stage = models.CharField(max_length=10, choices=Stage.choices, default=Stage.CANDIDATE)
    corpus_hash = models.CharField(max_length=64, blank=True)
    labels_used = models.PositiveIntegerField(default=0)
    metrics = models.JSONField(default=dict)
    artefact = models.CharField(
        max_length=64, blank=True, editable=False, help_text="SHA-256 of its manifest, under which the storage of models has it."
    )
    created_at = models.DateTimeField(auto_now_add=True)
    activated_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["stage"], condition=Q(stage="active"), name="one_active_model"),
            models.UniqueConstraint(fields=["stage"], condition=Q(stage="shadow"), name="one_shadow_model"),
        ]

    def __str__(self) -> str:
        return self.version


class Exchange(models.Model):
    """One query and the response that the LLM gave to it, as an app submitted it."""

    class Status(models.TextChoices):
        PENDING = "pending", "waiting for the fast layers"
        JUDGING = "judging", "waiting for the judge"
        DECIDED = "decided", "decided"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    app = models.ForeignKey(App, on_delete=models.PROTECT, related_name="exchanges")
    query = models.TextField()
    response = models.TextField()
    conversation_id = models.CharField(max_length=200, blank=True, db_index=True)
    metadata = models.JSONField(default=dict)
    patient_waiting = models.BooleanField(default=True, help_text="Whether somebody is waiting for the answer.")
    idempotency_key = models.CharField(max_length=200, null=True, blank=True)  # noqa: DJ001 - null is "no key", of which many may be
    body_digest = models.CharField(max_length=64)
    status = models.CharField(max_length=10, choices=Status.choices, default=Status.PENDING)
    policy = models.ForeignKey(
        Policy, null=True, on_delete=models.PROTECT, help_text="The policy that its first layer ran under."
    )
    attempts = models.PositiveSmallIntegerField(default=0, help_text="How often a worker began on it.")
    sweeps = models.PositiveSmallIntegerField(default=0, help_text="How often it was enqueued again.")
    enqueued_at = models.DateTimeField(default=timezone.now)
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["app", "idempotency_key"], name="one_exchange_per_idempotency_key"),
        ]
        indexes = [
            models.Index(fields=["enqueued_at"], condition=~Q(status="decided"), name="undecided_by_age"),
            models.Index(fields=["app", "-created_at"], name="exchange_by_app"),
            models.Index(fields=["id", "app"], name="exchanges_with_app"),
        ]

    def __str__(self) -> str:
        return str(self.id)


class LayerResult(models.Model):
    """What one layer said of one exchange, or why it failed. Written once."""

    exchange = models.ForeignKey(Exchange, on_delete=models.CASCADE, related_name="layer_results")
    layer = models.CharField(max_length=10, choices=choices(Layer))
    is_safe = models.BooleanField()
    category = models.CharField(max_length=60)
    categories = models.JSONField(default=list)
    severity = models.CharField(max_length=10, choices=choices(Severity), blank=True)
    reason = models.TextField()
    confidence = models.FloatField()
    scores = models.JSONField(default=dict)
    evidence = models.JSONField(default=list)
    escalate = models.BooleanField(default=False)
    version = models.CharField(max_length=120, blank=True)
    latency_ms = models.FloatField()
    cost_usd = models.FloatField(default=0)
    input_tokens = models.PositiveIntegerField(default=0)
    output_tokens = models.PositiveIntegerField(default=0)
    language = models.CharField(max_length=8, blank=True)
    error = models.CharField(max_length=500, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["exchange", "layer"], name="one_result_per_layer")]
        ordering = ["pk"]

    def __str__(self) -> str:
        return f"{self.layer}: {self.category}"


class ShadowResult(models.Model):
    """What a model or a policy in the shadow would have decided of an exchange by the fast layers. It has no effect."""

    exchange = models.ForeignKey(Exchange, on_delete=models.CASCADE, related_name="shadow_results")
    model = models.ForeignKey(ModelVersion, null=True, on_delete=models.CASCADE, related_name="shadow_results")
    policy = models.ForeignKey(Policy, null=True, on_delete=models.CASCADE, related_name="shadow_results")
    p_unsafe = models.FloatField(null=True, help_text="None: it failed.")
    scores = models.JSONField(default=dict)
    served = models.CharField(max_length=10, help_text="What the fast layers decided that served: allow, block, or judge.")
    decision = models.CharField(max_length=10, help_text="What these would have: allow, block, or judge.")
    differs = models.BooleanField()
    latency_ms = models.FloatField(default=0)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["exchange", "model"], condition=Q(policy=None), name="one_shadow_result_per_model"),
            models.UniqueConstraint(fields=["exchange", "policy"], condition=Q(model=None), name="one_shadow_result_per_policy"),
        ]
        indexes = [models.Index(fields=["model", "policy", "-created_at"], condition=Q(differs=True), name="shadow_differences")]

    def __str__(self) -> str:
        return f"{self.served} became {self.decision}"


class Verdict(models.Model):
    """The cascade's final word on an exchange. Never edited; what pharmacists say of it stands beside it."""

    exchange = models.OneToOneField(Exchange, on_delete=models.CASCADE, primary_key=True, related_name="verdict")
    decision = models.CharField(max_length=10, choices=choices(Decision))
    category = models.CharField(max_length=60)
    categories = models.JSONField(default=list)
    severity = models.CharField(max_length=10, choices=choices(Severity), blank=True)
    reason = models.TextField()
    confidence = models.FloatField()
    layer = models.CharField(max_length=10, choices=choices(Layer), blank=True)
    policy = models.ForeignKey(Policy, on_delete=models.PROTECT)
    versions = models.JSONField(default=dict, help_text="Of every layer that ran: rule set, model, prompt.")
    latency_ms = models.FloatField(help_text="Spent in the layers.")
    cost_usd = models.FloatField(default=0)
    audit_probability = models.FloatField(
        null=True,
        help_text="With which this allowed answer was to be drawn for audit. Null: it was stopped.",
    )
    decided_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        indexes = [
            models.Index(fields=["-decided_at"], name="verdict_by_age"),
            models.Index(fields=["decision", "decided_at", "audit_probability", "exchange"], name="verdicts_by_decision"),
        ]

    def __str__(self) -> str:
        return f"{self.decision}: {self.category}"

    @property
    def is_safe(self) -> bool:
        return self.decision == Decision.ALLOW


class ReviewItem(models.Model):
    """An exchange that a pharmacist must look at, by when, how far that has come, and who is looking at it now."""

    class Kind(models.TextChoices):
        BLOCKED = "blocked"
        HELD = "held"
        AUDIT = "audit"
        CALIBRATION = "calibration"

    class Stage(models.TextChoices):
        """Whose turn it is: any pharmacist's, a second one's, or a lead's who settles what two could not."""

        FIRST = "first"
        SECOND = "second"
        ADJUDICATION = "adjudication"

    class Status(models.TextChoices):
        """`settling`: decided, and still to be undone by who decided it."""

        OPEN = "open"
        SETTLING = "settling"
        DECIDED = "decided"

    exchange = models.OneToOneField(Exchange, on_delete=models.CASCADE, related_name="review_item")
    kind = models.CharField(max_length=20, choices=Kind.choices)
    stage = models.CharField(max_length=12, choices=Stage.choices, default=Stage.FIRST)
    status = models.CharField(max_length=10, choices=Status.choices, default=Status.OPEN)
    round = models.PositiveSmallIntegerField(default=1, help_text="One more each time it is reopened.")
    blind = models.BooleanField(default=False, help_text="The verdict is hidden until it is decided.")
    severity = models.CharField(max_length=10, choices=choices(Severity))
    category = models.CharField(max_length=60)
    layer = models.CharField(max_length=10, choices=choices(Layer), blank=True)
    language = models.CharField(max_length=8, blank=True)
    reasons = models.JSONField(default=list, help_text="What moved its deadline forward.")
    due_at = models.DateTimeField(help_text="The queue's order: when a pharmacist must have decided.")
    inclusion_probability = models.FloatField(
        default=1.0, help_text="With which the exchange came before a pharmacist; 1 for all that is stopped."
    )
    created_at = models.DateTimeField(default=timezone.now)
    leased_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL, related_name="leased_items"
    )
    lease_token = models.UUIDField(null=True, blank=True)
    lease_expires_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        indexes = [
            models.Index(fields=["due_at", "id"], condition=Q(status="open"), name="open_items_by_deadline"),
            models.Index(fields=["category", "due_at", "id"], condition=Q(status="open"), name="open_items_by_category"),
            models.Index(fields=["severity", "due_at", "id"], condition=Q(status="open"), name="open_items_by_severity"),
            models.Index(fields=["kind", "due_at", "id"], condition=Q(status="open"), name="open_items_by_kind"),
            models.Index(fields=["stage", "due_at", "id"], condition=Q(status="open"), name="open_items_by_stage"),
            models.Index(fields=["leased_by"], condition=Q(leased_by__isnull=False), name="leased_items"),
            models.Index(fields=["id"], condition=Q(status="settling"), name="settling_items"),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.category}"

    @property
    def is_overdue(self) -> bool:
        return self.status == self.Status.OPEN and timezone.now() > self.due_at

    def is_leased(self, now: Any = None) -> bool:
        """Whether somebody holds it at this moment."""
        return self.lease_expires_at is not None and self.lease_expires_at > (now or timezone.now())
