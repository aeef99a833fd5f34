"""Addresses: the API under `/api/`, the administrators' site under `/admin/`, the reviewers' pages elsewhere."""

from django.contrib import admin
from django.urls import include, path

urlpatterns = [
    path("admin/", admin.site.urls),
    path("api/", include("guardreview.api.urls")),
    path("learning/", include("guardreview.learning.urls")),
    path("", include("guardreview.review.urls")),
]

handler400 = "guardreview.api.problems.bad_request"
handler500 = "guardreview.api.problems.server_error"
