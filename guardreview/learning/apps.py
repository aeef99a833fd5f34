from django.apps import AppConfig


class LearningConfig(AppConfig):
    name = "guardreview.learning"

    def ready(self) -> None:
        from guardreview.learning import score_blocks  # noqa: F401  # it hears of deleted verdicts
