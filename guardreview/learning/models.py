"""What the loop keeps: label sets, exports, training runs, checks before promotion, changes of thresholds, weekly figures."""

from __future__ import annotations

from django.conf import settings
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import Q

from classifiers.result import Severity
from guardreview.review.models import Label
from guardreview.verdicts.models import ModelVersion, Policy, choices


class LabelSet(models.Model):
    """Labelled exchanges that came from elsewhere, as one file. Never edited: a corrected file is another set."""

    name = models.CharField(max_length=100)
    file_sha256 = models.CharField(max_length=64)
    mapping = models.JSONField(help_text="Which column of the file is which field, and how its words for labels are read.")
    report = models.JSONField(default=dict, help_text="How many rows were taken, and which were refused, and why.")
    imported_by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.PROTECT)
    created_at = models.DateTimeField(auto_now_add=True)
    withdrawn_at = models.DateTimeField(null=True, blank=True, help_text="From then on nothing trains on it.")

    class Meta:
        ordering = ["-pk"]

    def __str__(self) -> str:
        return self.name


class ImportedLabel(models.Model):
    """One row of a label set."""

    label_set = models.ForeignKey(LabelSet, on_delete=models.CASCADE, related_name="labels")
    digest = models.CharField(max_length=64, help_text="Of query and response without case and spacing.")
    is_withdrawn = models.BooleanField(default=False, help_text="With its set: then another may have the text.")
    group = models.CharField(max_length=100, help_text="What must lie in one split with it.")
    query = models.TextField(blank=True)
    response = models.TextField()
    value = models.CharField(max_length=10, choices=Label.Value.choices)
    categories = models.JSONField(default=list)
    severity = models.CharField(max_length=10, choices=choices(Severity), blank=True)
    language = models.CharField(max_length=8, default="en")

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["digest"], condition=Q(is_withdrawn=False), name="one_imported_label_per_text"),
        ]

    def __str__(self) -> str:
        return f"{self.label_set_id}: {self.value}"


class Export(models.Model):
    """A snapshot of labels as a file. Once it is ready neither the row nor the file changes."""

    class Status(models.TextChoices):
        QUEUED = "queued"
        RUNNING = "running"
        READY = "ready"
        FAILED = "failed"
        EXPIRED = "expired"

    class Format(models.TextChoices):
        JSONL = "jsonl"
        CSV = "csv"
        PARQUET = "parquet"
        DATASETS = "datasets"

    format = models.CharField(max_length=10, choices=Format.choices)
    filters = models.JSONField(default=dict)
    labels_up_to = models.PositiveBigIntegerField(help_text="The greatest key of a label that may be in it.")
    redacted = models.BooleanField(default=True)
    why = models.CharField(max_length=500, blank=True, help_text="Why personal data is not redacted.")
    status = models.CharField(max_length=10, choices=Status.choices, default=Status.QUEUED)
    rows = models.PositiveBigIntegerField(default=0, help_text="Written so far.")
    last_label = models.PositiveBigIntegerField(default=0, help_text="The key up to which the parts that are stored reach.")
    parts = models.JSONField(default=list, help_text="Name, rows, bytes and SHA-256 of each stored part.")
    place = models.CharField(
        max_length=500, blank=True, help_text="The folder of its parts in the storage; empty once they are deleted."
    )
    sha256 = models.CharField(max_length=64, blank=True, help_text="Of its content.")
    card = models.JSONField(default=dict)
    error = models.CharField(max_length=500, blank=True)
    attempts = models.PositiveSmallIntegerField(default=0, help_text="Workers that were lost over it since its last part.")
    requested_by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.PROTECT)
    created_at = models.DateTimeField(auto_now_add=True)
    heartbeat_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-pk"]

    def __str__(self) -> str:
        return f"export {self.pk}: {self.format}, {self.status}"


class TrainingRun(models.Model):
    """One retraining: who asked, what it may see, how far it is, and how it ended. Only one runs at a time."""

    class Status(models.TextChoices):
        QUEUED = "queued"
        RUNNING = "running"
        SUCCEEDED = "succeeded"
        FAILED = "failed"
        CANCELLED = "cancelled"

    class Kind(models.TextChoices):
        HEAD = "head", "the head alone"
        ENCODER = "encoder", "encoder and head"

    status = models.CharField(max_length=10, choices=Status.choices, default=Status.QUEUED)
    kind = models.CharField(max_length=10, choices=Kind.choices, default=Kind.HEAD)
    requested_by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.PROTECT)
    labels_up_to = models.PositiveBigIntegerField(default=0, help_text="The greatest key of a label that it may read.")
    kept_reviewers = models.JSONField(
        default=list, help_text="Keys of those whose labels it may not read, since they are to judge the candidate."
    )
    trainers = models.JSONField(default=list, help_text="Keys of those whose reviews it was trained on.")
    labels_used = models.PositiveIntegerField(default=0)
    left_out = models.JSONField(default=dict, help_text="How many labels it did not train on, by reason.")
    progress = models.CharField(max_length=200, blank=True)
    step = models.PositiveIntegerField(default=0)
    steps = models.PositiveIntegerField(default=0, help_text="Of the present phase; 0: not known.")
    measured = models.JSONField(default=list, help_text="What each epoch or phase measured: loss, AUC.")
    attempts = models.PositiveSmallIntegerField(default=0)
    heartbeat_at = models.DateTimeField(null=True, blank=True)
    cancelled_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.PROTECT, related_name="cancelled_trainings"
    )
    error = models.CharField(max_length=500, blank=True)
    card = models.TextField(blank=True, help_text="The model card, in Markdown.")
    model_version = models.ForeignKey(ModelVersion, null=True, blank=True, on_delete=models.PROTECT, related_name="training_runs")
    created_at = models.DateTimeField(auto_now_add=True)
    started_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["status"], condition=Q(status="running"), name="one_running_training"),
        ]
        ordering = ["-pk"]

    def __str__(self) -> str:
        return f"training {self.pk}: {self.status}"


class PromotionCheck(models.Model):
    """A candidate beside the version that serves, on items that neither was trained on. Kept as it was found, once it is done."""

    class Status(models.TextChoices):
        QUEUED = "queued"
        RUNNING = "running"
        DONE = "done"
        FAILED = "failed"

    status = models.CharField(max_length=10, choices=Status.choices, default=Status.DONE)
    progress = models.CharField(max_length=200, blank=True)
    step = models.PositiveIntegerField(default=0)
    steps = models.PositiveIntegerField(default=0, help_text="0: not known.")
    error = models.CharField(max_length=500, blank=True)
    heartbeat_at = models.DateTimeField(null=True, blank=True)
    candidate = models.ForeignKey(ModelVersion, on_delete=models.PROTECT, related_name="checks")
    serving = models.ForeignKey(ModelVersion, on_delete=models.PROTECT, related_name="+")
    policy = models.ForeignKey(Policy, on_delete=models.PROTECT, related_name="+", help_text="That served then.")
    passed = models.BooleanField()
    report = models.JSONField()
    requested_by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.PROTECT)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-pk"]

    def __str__(self) -> str:
        return f"{self.candidate}: {'passed' if self.passed else 'not passed'}"


class Promotion(models.Model):
    """Model and policy that began to serve together. Going back is one more of them."""

    model = models.ForeignKey(ModelVersion, on_delete=models.PROTECT, related_name="promotions")
    policy = models.ForeignKey(Policy, on_delete=models.PROTECT, related_name="+")
    passed_check = models.ForeignKey(
        PromotionCheck, null=True, on_delete=models.PROTECT, help_text="None: going back, or set-up."
    )
    why = models.CharField(max_length=500, blank=True)
    made_by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.PROTECT)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-pk"]

    def __str__(self) -> str:
        return f"{self.model} with {self.policy}"


class PolicyChange(models.Model):
    """A policy that somebody wants to serve: proposed, perhaps approved by a second administrator, applied at its time."""

    class Status(models.TextChoices):
        PROPOSED = "proposed", "waits for a second administrator"
        SCHEDULED = "scheduled"
        SHADOW = "shadow", "tried beside the policy in force"
        APPLIED = "applied"
        REJECTED = "rejected"
        SUPERSEDED = "superseded", "refused: something else began to serve meanwhile"

    policy = models.OneToOneField(Policy, on_delete=models.PROTECT, related_name="change")
    replaces = models.ForeignKey(Policy, on_delete=models.PROTECT, related_name="+", help_text="In force when it was proposed.")
    status = models.CharField(max_length=10, choices=Status.choices)
    loosens = models.BooleanField(help_text="Whether it lets a critical category through that was stopped before.")
    guarantee = models.JSONField(default=dict, help_text="What was certified of it when it was proposed.")
    reason = models.CharField(max_length=500, blank=True)
    proposed_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="policy_changes")
    decided_by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.PROTECT, related_name="+")
    decided_at = models.DateTimeField(null=True, blank=True)
    answer = models.CharField(max_length=500, blank=True, help_text="Why it was rejected or superseded, or said on approving it.")
    apply_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    applied_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-pk"]

    def __str__(self) -> str:
        return f"{self.policy}: {self.status}"


class ScoreBlock(models.Model):
    """The stored scores of many verdicts, packed column by column, so that a million can be replayed at once."""

    first_verdict = models.DateTimeField(help_text="When the earliest of them was decided.")
    last_verdict = models.DateTimeField(db_index=True)
    rows = models.PositiveIntegerField()
    columns = models.BinaryField(help_text="An `.npz` of arrays, without pickle.")
    created_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return f"{self.rows} verdicts from {self.first_verdict:%Y-%m-%d %H:%M}"


class HealthReport(models.Model):
    """The figures of one week, and what in them wants attention."""

    week = models.DateField(unique=True, help_text="Its Monday, in UTC.")
    figures = models.JSONField()
    alarms = models.JSONField(default=list)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-week"]

    def __str__(self) -> str:
        return f"week of {self.week}"


class RuleRevision(models.Model):
    """A rule that pharmacists overturn too often, until an administrator has said what becomes of it."""

    rule = models.CharField(max_length=120)
    figures = models.JSONField(help_text="How many of its blocks were settled, how many overturned, and examples.")
    share_overturned = models.FloatField(validators=[MinValueValidator(0), MaxValueValidator(1)])
    created_at = models.DateTimeField(auto_now_add=True)
    closed_at = models.DateTimeField(null=True, blank=True)
    closed_by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.PROTECT)
    note = models.CharField(max_length=500, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["rule"], condition=Q(closed_at__isnull=True), name="one_open_revision_per_rule"),
        ]

    def __str__(self) -> str:
        return self.rule
