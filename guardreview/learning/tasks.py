"""Celery tasks of the `learning` queue."""

from celery import shared_task

from guardreview.learning import training_runs


@shared_task(time_limit=3600, soft_time_limit=3500)
def train(run_id: int) -> None:
    """Retrain with all labels."""
    training_runs.training_run(run_id=run_id)
