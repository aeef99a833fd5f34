"""Addresses of `review`: the reviewers' pages."""

from django.contrib.auth.views import LogoutView
from django.urls import path

from guardreview.review.views import (
    calibration,
    decided,
    deciding,
    guidelines,
    insight,
    item,
    preferences,
    queue,
    reveal,
    saved_views,
    sign_in,
    similar,
    undoing,
)

urlpatterns = [
    path("", queue.queue, name="queue"),
    path("sign-in", sign_in.SignInView.as_view(), name="sign-in"),
    path("sign-out", LogoutView.as_view(), name="sign-out"),
    path("next", deciding.item_next, name="item-next"),
    path("items/<int:item_id>", item.item, name="item"),
    path("items/<int:item_id>/similar", similar.item_similar, name="item-similar"),
    path("items/<int:item_id>/reveal", reveal.item_reveal, name="item-reveal"),
    path("items/<int:item_id>/conceal", reveal.item_conceal, name="item-conceal"),
    path("items/<int:item_id>/decision", deciding.item_decide, name="item-decide"),
    path("items/<int:item_id>/decision/kept", deciding.item_decide_kept, name="item-decide-kept"),
    path("items/<int:item_id>/skip", deciding.item_pass_over, name="item-skip"),
    path("items/<int:item_id>/hold", deciding.item_hold, name="item-hold"),
    path("items/<int:item_id>/leave", deciding.item_leave, name="item-leave"),
    path("items/<int:item_id>/reopen", undoing.reopen, name="item-reopen"),
    path("reviews/<int:review_id>/undo", undoing.undo, name="review-undo"),
    path("pause", deciding.pause, name="pause"),
    path("preferences/keys", preferences.keys, name="keys"),
    path("views", saved_views.view_save, name="view-save"),
    path("views/<int:view_id>/delete", saved_views.view_delete, name="view-delete"),
    path("decided", decided.decided, name="decided"),
    path("insight", insight.insight, name="insight"),
    path("insight/me", insight.insight_me, name="insight-me"),
    path("guidelines", guidelines.guideline_list, name="guidelines"),
    path("guidelines/doubts", guidelines.doubt_list, name="doubts"),
    path("guidelines/doubts/<int:doubt_id>/dismiss", guidelines.doubt_dismiss, name="doubt-dismiss"),
    path("guidelines/doubts/<int:doubt_id>/reopen", guidelines.doubt_reopen, name="doubt-reopen"),
    path("guidelines/<str:category>", guidelines.guideline, name="guideline"),
    path("guidelines/<str:category>/edit", guidelines.guideline_edit, name="guideline-edit"),
    path("calibration", calibration.calibration_list, name="calibration"),
    path("calibration/<int:calibration_id>/retire", calibration.calibration_retire, name="calibration-retire"),
    path("items/<int:item_id>/calibration", calibration.calibration_new, name="calibration-new"),
]
