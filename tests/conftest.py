"""What tests of every app share: a Redis server of their own, a chat app with its keys, the shipped policy and model."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import redis
from django.conf import settings as project_settings

from classifiers.encoder.bundle import build_bundle
from classifiers.policy import Policy as CascadePolicy
from tests.redis_server import RedisServer

if TYPE_CHECKING:  # models may be imported only after Django is set up
    from guardreview.core.models import App
    from guardreview.verdicts.models import ModelVersion, Policy


@pytest.fixture(scope="session", autouse=True)
def scratch() -> Iterator[Path]:
    """The session's folder, where the settings look for Redis: a short path, since a socket's may not exceed 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="guardreview-") as name:
        project_settings.REDIS_URL = f"unix://{name}/redis.sock?db=0"
        project_settings.CELERY_BROKER_URL = f"redis+socket://{name}/redis.sock?virtual_host=0"
        # What one pharmacist decides is settled at once, and nothing is drawn by chance, unless a test asks for it.
        project_settings.UNDO_S = project_settings.BLIND_SHARE = project_settings.INSIGHT_KEPT_S = 0
        project_settings.SECOND_EYES = project_settings.NOTE_REQUIRED = ()
        project_settings.AUDIT_RATES = {"floor": 1e-12, "near": 1e-12}
        Path(project_settings.STATIC_ROOT).mkdir(parents=True, exist_ok=True)  # servestatic warns if it is missing
        yield Path(name)


@pytest.fixture(scope="session")
def django_db_modify_db_settings(scratch: Path, django_db_modify_db_settings_parallel_suffix: None) -> None:
    """SQLite's test database in a file: threads that share one in memory lock each other out."""
    database = project_settings.DATABASES["default"]
    if database["ENGINE"].endswith("sqlite3"):
        database.setdefault("TEST", {})["NAME"] = str(scratch / "test.sqlite3")


@pytest.fixture(scope="session")
def _redis_server(scratch: Path) -> Iterator[RedisServer]:
    server = RedisServer(scratch)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def redis_server(_redis_server: RedisServer) -> Iterator[RedisServer]:
    """The Redis that the settings name: running and empty."""
    with redis.Redis(unix_socket_path=str(_redis_server.socket)) as client:
        client.flushall()
    yield _redis_server
    if _redis_server.process is None:
        _redis_server.start()


@pytest.fixture
def chat_app(db: None) -> App:
    """A chat app with a fallback text of its own."""
    from guardreview.core.models import App

    return App.objects.create(name="main street", fallback_text="Please ask the pharmacist of Main Street.")


@pytest.fixture
def api_key(chat_app: App) -> str:
    """A key with which `chat_app` submits exchanges."""
    from guardreview.core.services import api_key_create

    return api_key_create(app=chat_app)[1]


@pytest.fixture
def shipped_policy(db: None) -> Policy:
    """The policy that comes with the shipped model, active."""
    from guardreview.verdicts.services import policy_create

    fields = CascadePolicy.shipped().as_json()
    del fields["version"]
    return policy_create(actor=None, **fields)


@pytest.fixture
def shipped_model(db: None) -> ModelVersion:
    """The shipped model, registered and active. Its bundle is built in `var/models` once for all sessions."""
    from guardreview.verdicts.services import model_version_activate, model_version_register

    bundle = build_bundle(project_settings.MODELS_DIR)
    model = model_version_register(version=bundle.name, corpus_hash="", metrics={})
    model_version_activate(model=model, actor=None)
    return model
