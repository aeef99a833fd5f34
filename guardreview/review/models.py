"""What pharmacists say of an exchange, the label that settles it, and what helps them to decide."""

from __future__ import annotations

from django.conf import settings
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import Q

from classifiers.result import Severity
from guardreview.verdicts.models import Exchange, ReviewItem, choices


class Review(models.Model):
    """One pharmacist's statement of the truth about one exchange. Never edited; undone, it is marked and does not count."""

    class Truth(models.TextChoices):
        SAFE = "safe"
        UNSAFE = "unsafe"
        UNSURE = "unsure"

    item = models.ForeignKey(ReviewItem, on_delete=models.PROTECT, related_name="reviews")
    reviewer = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="reviews")
    round = models.PositiveSmallIntegerField(default=1, help_text="The item's, when this was said.")
    stage = models.CharField(max_length=12, choices=ReviewItem.Stage.choices, default=ReviewItem.Stage.FIRST)
    blind = models.BooleanField(default=False, help_text="Whether the verdict was hidden from the reviewer.")
    truth = models.CharField(max_length=10, choices=Truth.choices)
    categories = models.JSONField(default=list)
    severity = models.CharField(max_length=10, choices=choices(Severity), blank=True)
    spans = models.JSONField(default=list, help_text='The dangerous words in the response: [{"start": 0, "end": 5}, ...]')
    note = models.TextField(blank=True, max_length=4000)
    corrected_answer = models.TextField(blank=True, max_length=8000, help_text="What the patient may read instead.")
    confirms = models.BooleanField(null=True, help_text="Whether it agrees with the verdict; null where either is undecided.")
    seconds = models.FloatField(null=True, help_text="From opening the item to deciding it.")
    key = models.UUIDField(null=True, unique=True, help_text="The browser's own: the same decision sent twice is stored once.")
    created_at = models.DateTimeField(auto_now_add=True)
    undone_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["item", "reviewer", "round"],
                condition=Q(undone_at__isnull=True),
                name="one_review_per_reviewer_and_round",
            ),
            models.CheckConstraint(
                condition=Q(truth="unsafe") | (Q(severity="") & Q(categories=[])), name="only_unsafe_has_categories"
            ),
        ]
        indexes = [
            models.Index(fields=["reviewer", "-created_at"], name="reviews_by_reviewer"),
            models.Index(fields=["created_at"], name="reviews_by_age"),
        ]
        ordering = ["pk"]

    def __str__(self) -> str:
        return f"{self.truth} by {self.reviewer}"


class Label(models.Model):
    """The settled truth about an exchange, and where it comes from. Never edited: what supersedes it is a new row."""

    class Value(models.TextChoices):
        SAFE = "safe"
        UNSAFE = "unsafe"

    class Basis(models.TextChoices):
        """How it was settled."""

        SINGLE = "single", "one pharmacist"
        AGREED = "agreed", "two pharmacists, each without seeing the other"
        ADJUDICATED = "adjudicated", "a lead, after two pharmacists disagreed or were unsure"

    exchange = models.ForeignKey(Exchange, on_delete=models.PROTECT, related_name="labels")
    review = models.OneToOneField(Review, on_delete=models.PROTECT, related_name="label", help_text="The one that settled it.")
    basis = models.CharField(max_length=12, choices=Basis.choices, default=Basis.SINGLE)
    is_current = models.BooleanField(default=True)
    value = models.CharField(max_length=10, choices=Value.choices)
    categories = models.JSONField(default=list)
    severity = models.CharField(max_length=10, choices=choices(Severity), blank=True)
    inclusion_probability = models.FloatField(
        default=1.0,
        validators=[MinValueValidator(0), MaxValueValidator(1)],
        help_text="With which the exchange came before a pharmacist; 1 for all that is stopped.",
    )
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["exchange"], condition=Q(is_current=True), name="one_current_label_per_exchange"),
        ]
        indexes = [models.Index(fields=["created_at", "id"], name="labels_by_age")]

    def __str__(self) -> str:
        return self.value


class Skip(models.Model):
    """Somebody gave an item back undecided. It is not offered to them again for a while."""

    item = models.ForeignKey(ReviewItem, on_delete=models.CASCADE, related_name="skips")
    reviewer = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="skips")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        indexes = [models.Index(fields=["reviewer", "-created_at"], name="skips_by_reviewer")]

    def __str__(self) -> str:
        return f"{self.item_id} by {self.reviewer}"


class Calibration(models.Model):
    """The known truth of an item of kind `calibration`, which every pharmacist decides once, without knowing that it is one."""

    item = models.OneToOneField(ReviewItem, on_delete=models.CASCADE, related_name="calibration")
    truth = models.CharField(max_length=10, choices=Label.Value.choices)
    categories = models.JSONField(default=list)
    severity = models.CharField(max_length=10, choices=choices(Severity), blank=True)
    explanation = models.TextField(max_length=4000, help_text="Shown once it is decided.")
    made_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT)
    created_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return f"calibration {self.item_id}"


class Guideline(models.Model):
    """How to decide in one category. Never edited: a change is a new version, and the newest is in force."""

    category = models.CharField(max_length=60)
    version = models.PositiveIntegerField()
    text = models.TextField(max_length=8000)
    why = models.CharField(max_length=500, blank=True, help_text="What made the change necessary.")
    item = models.ForeignKey(ReviewItem, null=True, on_delete=models.SET_NULL, help_text="The adjudication that it came from.")
    made_by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.PROTECT)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["category", "version"], name="one_row_per_guideline_version")]

    def __str__(self) -> str:
        return f"{self.category} version {self.version}"


class Doubt(models.Model):
    """A settled label that a changed guideline may have made wrong, until somebody has looked at it again."""

    label = models.ForeignKey(Label, on_delete=models.CASCADE, related_name="doubts")
    guideline = models.ForeignKey(Guideline, on_delete=models.CASCADE, related_name="doubts")
    resolved_at = models.DateTimeField(null=True)
    resolved_by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.PROTECT)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["label", "guideline"], name="one_doubt_per_label_and_guideline")]
        indexes = [models.Index(fields=["id"], condition=Q(resolved_at__isnull=True), name="open_doubts")]

    def __str__(self) -> str:
        return f"label {self.label_id} under {self.guideline}"


class SavedView(models.Model):
    """A person's own name for a set of filters: the query part of the queue's address."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="saved_views")
    name = models.CharField(max_length=60)
    query = models.CharField(max_length=1000, blank=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["user", "name"], name="one_saved_view_per_name")]
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name


class Embedding(models.Model):
    """An exchange as the classifier's encoder sees it, for finding similar ones. As much a patient's words as the text is."""

    exchange = models.OneToOneField(Exchange, on_delete=models.CASCADE, primary_key=True, related_name="embedding")
    encoder = models.CharField(max_length=64, help_text="The hash of the encoder; only those of one encoder can be compared.")
    vector = models.BinaryField(help_text="Unit length, float16, little-endian.")

    def __str__(self) -> str:
        return str(self.exchange_id)
