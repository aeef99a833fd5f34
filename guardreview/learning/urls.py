"""Addresses of `learning`: labels and models."""

from django.urls import path

from guardreview.learning.views import labels, models, training

urlpatterns = [
    path("labels", labels.labels, name="labels-page"),
    path("labels/download", labels.labels_download, name="labels-download"),
    path("models", models.models, name="models"),
    path("models/<str:version>", models.model, name="model"),
    path("models/<str:version>/activate", models.model_activate, name="model-activate"),
    path("training", training.training_start, name="training-start"),
    path("training/new", training.training_new, name="training-new"),
    path("training/runs", training.training_runs, name="training-runs"),
]
