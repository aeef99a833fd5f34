"""Generated requests against the published schema: every answer is one that the schema promises."""

from __future__ import annotations

import json
from functools import lru_cache
from http import HTTPStatus
from typing import Any

import pytest
import schemathesis
from django.core.wsgi import get_wsgi_application
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.renderers import OpenApiJsonRenderer
from hypothesis import HealthCheck, Phase
from hypothesis import settings as hypothesis_settings
from schemathesis import Case
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from guardreview.verdicts.models import Exchange
from tests.api.client import DANGEROUS, ApiClient
from tests.api.reviews import review
from tests.redis_server import RedisServer

pytestmark = pytest.mark.django_db(transaction=True)
CHECKS = [
    not_a_server_error,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
]


_application = lru_cache(maxsize=1)(get_wsgi_application)


def application(environ: dict[str, Any], start_response: Any) -> Any:
    """Django, set up at the first request: by then the session's fixtures have prepared what it looks at."""
    return _application()(environ, start_response)


SCHEMA = schemathesis.openapi.from_dict(json.loads(OpenApiJsonRenderer().render(SchemaGenerator().get_schema(public=True))))
SCHEMA.app = application


@SCHEMA.parametrize()
@hypothesis_settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_answers_are_as_published(
    case: Case, labels_api: ApiClient, decided: Exchange, redis_server: RedisServer, settings: Any
) -> None:
    settings.MAX_WAIT_S = 0  # no worker is there to wait for
    response = case.call(headers={"Authorization": f"Bearer {labels_api.key}"})
    # No chat model is configured, and no worker writes exports, of which only so many may wait.
    busy = case.operation.label in ("POST /api/chat", "POST /api/v1/labels/exports")
    if busy and response.status_code == HTTPStatus.SERVICE_UNAVAILABLE:
        return
    case.validate_response(response, checks=CHECKS)


@pytest.mark.parametrize(
    ("path", "method", "parameters"),
    [
        ("/api/v1/exchanges/{exchange_id}", "GET", {}),
        ("/api/v1/exchanges", "GET", {"query": {"limit": 1}}),
        ("/api/v1/exchanges", "POST", {"body": DANGEROUS, "media_type": "application/json"}),
        ("/api/v1/labels", "GET", {}),
        ("/api/v1/labels", "GET", {"query": {"format": "csv"}}),
        ("/api/health", "GET", {}),
    ],
)
def test_full_answers_are_as_published(
    path: str,
    method: str,
    parameters: dict[str, Any],
    labels_api: ApiClient,
    decided: Exchange,
    redis_server: RedisServer,
) -> None:
    """With every part filled: verdict, evidence, outcome, label."""
    review(decided, truth="unsafe", categories=["pii"], severity="major")
    if "{" in path:
        parameters = {"path_parameters": {"exchange_id": str(decided.pk)}}
    case = SCHEMA[path][method].Case(**parameters)
    response = case.call(headers={"Authorization": f"Bearer {labels_api.key}"})
    assert response.status_code in (200, 202)
    case.validate_response(response, checks=CHECKS)
