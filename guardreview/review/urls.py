"""Addresses of `review`: the reviewers' pages."""

from django.contrib.auth.views import LogoutView
from django.urls import path

from guardreview.review import views

urlpatterns = [
    path("", views.queue, name="queue"),
    path("sign-in", views.SignInView.as_view(), name="sign-in"),
    path("sign-out", LogoutView.as_view(), name="sign-out"),
    path("next", views.item_next, name="item-next"),
    path("items/<int:item_id>", views.item, name="item"),
    path("items/<int:item_id>/decision", views.item_decide, name="item-decide"),
    path("items/<int:item_id>/skip", views.item_pass_over, name="item-skip"),
    path("items/<int:item_id>/hold", views.item_hold, name="item-hold"),
    path("items/<int:item_id>/leave", views.item_leave, name="item-leave"),
    path("decided", views.decided, name="decided"),
]
