from django.apps import AppConfig


class ReviewConfig(AppConfig):
    name = "guardreview.review"

    def ready(self) -> None:
        # Its handlers of the outbox are registered by being imported.
        from guardreview.review import services, similar  # noqa: F401
