"""Addresses of the API, under `/api/`."""

from django.urls import path, re_path
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerSplitView

from guardreview.api import exports, health, policies, views
from guardreview.api.base import JsonProblems, UnknownView


class SchemaView(JsonProblems, SpectacularAPIView):
    """The OpenAPI schema. Public, as its page is: they describe the API and hold no data."""


class DocsView(JsonProblems, SpectacularSwaggerSplitView):
    """Swagger UI, from the server's own static files."""

    url_name = "schema"
    template_name = "api/docs.html"


urlpatterns = [
    path("v1/exchanges", views.ExchangesView.as_view(), name="exchanges"),
    path("v1/exchanges/<str:exchange_id>", views.ExchangeView.as_view(), name="exchange"),
    path("v1/labels", views.LabelsView.as_view(), name="labels"),
    path("v1/policies", policies.PoliciesView.as_view(), name="api-policies"),
    path("v1/policies/what-if", policies.WhatIfView.as_view(), name="api-policies-what-if"),
    path("v1/policies/<str:policy_id>", policies.OnePolicyView.as_view(), name="api-policy"),
    path("v1/policies/<str:policy_id>/decision", policies.PolicyDecisionView.as_view(), name="api-policy-decision"),
    path("v1/labels/exports", exports.LabelExportsView.as_view(), name="label-exports"),
    path("v1/labels/exports/<str:export_id>", exports.LabelExportView.as_view(), name="label-export"),
    path("v1/labels/exports/<str:export_id>/content", exports.LabelExportContentView.as_view(), name="label-export-content"),
    path("v1/health/weeks", health.WeeklyHealthView.as_view(), name="api-health-weeks"),
    path("chat", views.ChatView.as_view(), name="chat"),
    path("health", views.HealthView.as_view(), name="health"),
    path("schema", SchemaView.as_view(), name="schema"),
    path("docs", DocsView.as_view(), name="docs"),
    re_path(r"", UnknownView.as_view()),
]
