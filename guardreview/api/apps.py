from django.apps import AppConfig


class ApiConfig(AppConfig):
    name = "guardreview.api"

    def ready(self) -> None:
        # Its handlers of the outbox are registered by being imported.
        from guardreview.api import webhooks  # noqa: F401
