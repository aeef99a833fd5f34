"""Celery tasks of `api`, on a queue and in a worker of their own: a stranger's server answers when it likes."""

from celery import shared_task

from guardreview.api.webhooks import app_tell, apps_waiting


@shared_task
def tell_apps() -> None:
    """Every second or two: a turn for each app that is to hear something and has none in another thread."""
    for app_id in apps_waiting():
        app_tell(app_id=app_id)
