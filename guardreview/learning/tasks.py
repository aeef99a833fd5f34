"""Celery tasks of the `learning` queue."""

from celery import shared_task
from django.conf import settings

from guardreview.learning import (
    export_writing,
    exports,
    gain,
    health,
    imports,
    policy_changes,
    promotion,
    rule_revisions,
    score_blocks,
    shadow,
    training_runs,
)


@shared_task(time_limit=6 * 3600, soft_time_limit=6 * 3600 - 100)
def train(run_id: int) -> None:
    """Retrain with all labels: a minute for the head, an hour and more for the encoder."""
    training_runs.training_run(run_id=run_id)


@shared_task
def resume_training() -> None:
    """Every minute: a run that lost its worker, or never came to one."""
    training_runs.training_resume()


@shared_task
def apply_policy_changes() -> None:
    """Every half minute: policies whose time has come."""
    policy_changes.changes_apply_due()


@shared_task(time_limit=900, soft_time_limit=840)
def pack_scores() -> None:
    """Every few minutes: new verdicts' scores, for the what-if of thresholds."""
    score_blocks.score_blocks_update()


@shared_task(time_limit=1800, soft_time_limit=1700)
def export_labels(export_id: int) -> None:
    """Write an export, or a minute's worth of it; then others on the queue have their turn."""
    if not export_writing.export_write(export_id=export_id):
        export_labels.delay(export_id)


@shared_task
def resume_exports() -> None:
    """Every minute: exports whose worker was lost, or that could not be put on the queue; and what has lain too long goes."""
    exports.exports_resume()
    imports.files_forget()
    exports.exports_expire()


@shared_task(time_limit=3600, soft_time_limit=3500)
def check_candidate(check_id: int) -> None:
    """Compare a candidate with what serves: a minute or two."""
    promotion.check_run(check_id=check_id)


@shared_task
def score_in_shadow() -> None:
    """Every few seconds, and again at once while there is more: what was decided and the shadow has not read."""
    if shadow.shadow_score():
        score_in_shadow.apply_async(expires=settings.SHADOW_INTERVAL_S)


@shared_task(time_limit=1800, soft_time_limit=1700)
def count_health() -> None:
    """Every hour: the figures of weeks that are over, and rules that are overturned too often."""
    health.health_update()
    rule_revisions.rule_revisions_propose()


@shared_task(time_limit=600, soft_time_limit=540)
def map_novelty() -> None:
    """Now and then: where labels are already, for draws that teach more."""
    gain.novelty_map_store()
