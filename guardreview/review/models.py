"""What pharmacists say of an exchange, and the label that settles it."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.db.models import Q

from classifiers.result import Severity
from guardreview.verdicts.models import Exchange, ReviewItem, choices


class Review(models.Model):
    """One pharmacist's statement of the truth about one exchange. Never edited."""

    class Truth(models.TextChoices):
        SAFE = "safe"
        UNSAFE = "unsafe"
        UNSURE = "unsure"

    item = models.ForeignKey(ReviewItem, on_delete=models.PROTECT, related_name="reviews")
    reviewer = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="reviews")
    truth = models.CharField(max_length=10, choices=Truth.choices)
    categories = models.JSONField(default=list)
    severity = models.CharField(max_length=10, choices=choices(Severity), blank=True)
    note = models.TextField(blank=True, max_length=4000)
    confirms = models.BooleanField(null=True, help_text="Whether it agrees with the verdict; null where either is undecided.")
    seconds = models.FloatField(null=True, help_text="From opening the item to deciding it.")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["item"], condition=~Q(truth="unsure"), name="one_settling_review_per_item"),
            models.UniqueConstraint(fields=["item", "reviewer"], name="one_review_per_reviewer"),
            models.CheckConstraint(
                condition=Q(truth="unsafe") | (Q(severity="") & Q(categories=[])), name="only_unsafe_has_categories"
            ),
        ]
        indexes = [models.Index(fields=["reviewer", "-created_at"], name="reviews_by_reviewer")]
        ordering = ["pk"]

    def __str__(self) -> str:
        return f"{self.truth} by {self.reviewer}"


class Label(models.Model):
    """The settled truth about an exchange, and where it comes from. Never edited."""

    class Value(models.TextChoices):
        SAFE = "safe"
        UNSAFE = "unsafe"

    exchange = models.OneToOneField(Exchange, on_delete=models.PROTECT, related_name="label")
    review = models.OneToOneField(Review, on_delete=models.PROTECT, related_name="label")
    value = models.CharField(max_length=10, choices=Value.choices)
    categories = models.JSONField(default=list)
    severity = models.CharField(max_length=10, choices=choices(Severity), blank=True)
    inclusion_probability = models.FloatField(
        default=1.0, help_text="With which the exchange came before a pharmacist; 1 for all that is stopped."
    )
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        indexes = [models.Index(fields=["created_at", "id"], name="labels_by_age")]

    def __str__(self) -> str:
        return self.value
