"""What the administrators' site says of an app beside its name: whether it takes its calls."""

from typing import Any

from django.contrib import admin
from django.db.models import Count, Max, Min
from django.http import HttpRequest
from django.utils import timezone
from django.utils.timesince import timesince

from guardreview.api.webhooks import CALL, GIVEN_UP
from guardreview.core.admin import AppAdmin
from guardreview.core.models import App, OutboxEvent

admin.site.unregister(App)


@admin.register(App)
class CalledAppAdmin(AppAdmin):
    def get_list_display(self, request: HttpRequest) -> list[Any]:
        return [*super().get_list_display(request), "calls"]

    @admin.display(description="Webhook")
    def calls(self, app: App) -> str:
        """What waits in the outbox for it; of the past only what was given up since it last took a call."""
        if not app.webhook_url:
            return "none"
        waiting = OutboxEvent.objects.filter(topic=f"{CALL}{app.pk}")
        said = waiting.aggregate(count=Count("pk"), since=Min("created_at"), attempts=Max("attempts"))
        parts = []
        if said["count"]:
            parts.append(f"{said['count']} waiting, for up to {timesince(said['since'], timezone.now())}")
        if said["attempts"]:
            parts.append(f"failed up to {said['attempts']} times")
        if count := OutboxEvent.objects.filter(topic=f"{GIVEN_UP}{app.pk}").count():
            parts.append(f"{count} given up since it last took a call")
        return "; ".join(parts) or "nothing waiting"
