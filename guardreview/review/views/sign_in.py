"""Signing in, and where each role lands."""

from __future__ import annotations

from typing import cast

from django.contrib.auth.views import LoginView
from django.urls import reverse

from guardreview.core.models import User
from guardreview.core.roles import Act


def home_of(user: User) -> str:
    """Where a person's work begins: the queue, or the models for those who may not see it."""
    return reverse("queue" if user.may(Act.READ_QUEUE) else "models")


class SignInView(LoginView):
    """Django's own, which lands each role where its work begins."""

    template_name = "review/sign_in.html"
    redirect_authenticated_user = True

    def get_success_url(self) -> str:
        user = cast(User, self.request.user)
        address: str = self.get_redirect_url()
        if not address or (address == reverse("queue") and not user.may(Act.READ_QUEUE)):
            return home_of(user)
        return address
