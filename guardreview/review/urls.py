"""Addresses of `review`: the reviewers' pages."""

from django.contrib.auth.views import LogoutView
from django.urls import path

from guardreview.review.views import decided, item, queue, sign_in

urlpatterns = [
    path("", queue.queue, name="queue"),
    path("sign-in", sign_in.SignInView.as_view(), name="sign-in"),
    path("sign-out", LogoutView.as_view(), name="sign-out"),
    path("next", item.item_next, name="item-next"),
    path("items/<int:item_id>", item.item, name="item"),
    path("items/<int:item_id>/decision", item.item_decide, name="item-decide"),
    path("items/<int:item_id>/skip", item.item_pass_over, name="item-skip"),
    path("items/<int:item_id>/hold", item.item_hold, name="item-hold"),
    path("items/<int:item_id>/leave", item.item_leave, name="item-leave"),
    path("decided", decided.decided, name="decided"),
]
