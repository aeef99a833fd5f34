"""Clients with and without a key, and two ways of having an exchange decided."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from celery.contrib.testing.worker import start_worker

from guardreview.celery import app as celery_app
from guardreview.core.models import ApiKey, App
from guardreview.core.services import api_key_create
from guardreview.verdicts.models import Exchange, ModelVersion, Policy
from guardreview.verdicts.services import exchange_run_fast_layers
from tests.api.client import DANGEROUS, ApiClient
from tests.redis_server import RedisServer


@pytest.fixture
def api(api_key: str) -> ApiClient:
    return ApiClient(api_key)


@pytest.fixture
def labels_api(chat_app: App) -> ApiClient:
    """With a key that may read labels too."""
    return ApiClient(api_key_create(app=chat_app, scope=ApiKey.Scope.LABELS)[1])


@pytest.fixture
def anonymous(db: None) -> ApiClient:
    return ApiClient()


@pytest.fixture
def cascade(shipped_policy: Policy, shipped_model: ModelVersion) -> None:
    """Policy and model are there, so that exchanges can be decided."""


@pytest.fixture
def decided(chat_app: App, cascade: None) -> Exchange:
    """An exchange of `chat_app` that the rules blocked."""
    exchange = Exchange.objects.create(app=chat_app, body_digest="", **DANGEROUS)
    exchange_run_fast_layers(exchange_id=exchange.pk)
    exchange.refresh_from_db()
    return exchange


@pytest.fixture
def worker(transactional_db: None, redis_server: RedisServer, cascade: None) -> Iterator[None]:
    """A Celery worker in a thread, on the real broker."""
    # Not `solo`, which takes this for a process of its own and closes the sockets of all database connections.
    with start_worker(celery_app, pool="threads", perform_ping_check=False, shutdown_timeout=20):
        yield
