"""A chat app, a policy, and the tasks that were enqueued."""

import pytest

from guardreview.core.models import App
from guardreview.verdicts.models import Policy
from guardreview.verdicts.services import policy_create
from guardreview.verdicts.tasks import run_cascade, run_judge


@pytest.fixture
def app(db: None) -> App:
    return App.objects.create(name="chat")


@pytest.fixture
def policy(db: None) -> Policy:
    return policy_create(actor=None, thresholds={"default": {"block_at": 0.9, "allow_below": 0.3}})


@pytest.fixture
def enqueued(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """What would have gone to the broker, as (task, exchange id)."""
    sent: list[tuple[str, str]] = []
    monkeypatch.setattr(run_cascade, "delay", lambda exchange_id: sent.append(("run_cascade", exchange_id)))
    monkeypatch.setattr(run_judge, "delay", lambda exchange_id: sent.append(("run_judge", exchange_id)))
    return sent
