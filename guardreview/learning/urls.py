"""Addresses of `learning`: labels and models."""

from django.urls import path

from guardreview.learning import views

urlpatterns = [
    path("labels", views.labels, name="labels-page"),
    path("labels/download", views.labels_download, name="labels-download"),
    path("models", views.models, name="models"),
    path("models/<str:version>", views.model, name="model"),
    path("models/<str:version>/activate", views.model_activate, name="model-activate"),
    path("training", views.training_start, name="training-start"),
    path("training/new", views.training_new, name="training-new"),
    path("training/runs", views.training_runs, name="training-runs"),
]
