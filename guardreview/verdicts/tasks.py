"""Celery tasks: ids in, a service called. Each may run twice."""

from uuid import UUID

from celery import current_app, shared_task
from celery.signals import worker_process_init

from guardreview.verdicts import runtime, services


@worker_process_init.connect
def warm_up(**kwargs: object) -> None:
    """In each process of a worker that serves the fast layers; the others need no model."""
    if "cascade" in current_app.amqp.queues.consume_from:
        runtime.warm_up()


@shared_task
def run_cascade(exchange_id: str) -> None:
    """Queue `cascade`: the fast layers."""
    services.exchange_run_fast_layers(exchange_id=UUID(exchange_id))


@shared_task
def run_judge(exchange_id: str) -> None:
    """Queue `judge`: one call to the LLM."""
    services.exchange_run_judge(exchange_id=UUID(exchange_id))


@shared_task
def sweep() -> None:
    """Every few seconds: what was stored and never decided."""
    services.sweep()
