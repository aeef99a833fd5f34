"""The published schema, and its page in a browser under the project's content security policy."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from django.urls import URLPattern
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.validation import validate_schema

from guardreview.api.urls import urlpatterns
from tests.api.client import ApiClient

UNDOCUMENTED = {"schema", "docs", None}


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    generated: dict[str, Any] = SchemaGenerator().get_schema(request=None, public=True)
    return generated


def operations(schema: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    return [(path, method, operation) for path, item in schema["paths"].items() for method, operation in item.items()]


def test_the_schema_is_valid_and_complete(schema: dict[str, Any], capfd: pytest.CaptureFixture[str]) -> None:
    validate_schema(SchemaGenerator().get_schema(request=None, public=True))
    assert "Warning" not in capfd.readouterr().err
    documented = {pattern.name for pattern in urlpatterns if isinstance(pattern, URLPattern)} - UNDOCUMENTED
    assert len(schema["paths"]) == len(documented)


def test_every_operation_says_what_can_happen(schema: dict[str, Any]) -> None:
    for path, _, operation in operations(schema):
        responses = operation["responses"]
        assert operation["summary"], path
        assert all(response["description"] for response in responses.values()), path
        for status, response in responses.items():
            expected = "application/problem+json" if int(status) >= 400 else "application/json"
            if operation["operationId"] == "getLabelExportContent" and (int(status) < 400 or status == "416"):
                continue  # a file, a part of it, or nothing
            assert expected in response["content"], (path, status)
        assert ("401" in responses) == bool(operation.get("security")), path


def test_operations_have_tidy_names(schema: dict[str, Any]) -> None:
    names = sorted(operation["operationId"] for _, _, operation in operations(schema))
    assert names == [
        "chat",
        "createExchange",
        "createLabelExport",
        "decidePolicy",
        "getExchange",
        "getLabelExport",
        "getLabelExportContent",
        "getPolicy",
        "health",
        "listExchanges",
        "listHealthWeeks",
        "listLabels",
        "listPolicies",
        "proposePolicy",
        "whatIfPolicy",
    ]


def test_the_headers_are_described(schema: dict[str, Any]) -> None:
    operation = schema["paths"]["/api/v1/exchanges"]["post"]
    assert {parameter["name"] for parameter in operation["parameters"]} == {"Idempotency-Key", "Prefer"}
    assert set(operation["responses"]["202"]["headers"]) == {"Location", "Preference-Applied", "Retry-After"}
    assert schema["components"]["securitySchemes"]["apiKey"]["scheme"] == "bearer"


def test_schema_and_page_are_public(anonymous: ApiClient) -> None:
    assert anonymous.get("/api/schema", Accept="application/json").json()["info"]["title"] == "GuardReview"
    assert anonymous.get("/api/schema").content.startswith(b"openapi: ")
    page = anonymous.get("/api/docs")
    assert page.status_code == 200
    assert "style" not in re.sub(r'rel="stylesheet"', "", page.content.decode())
    assert "http" not in page.content.decode(), "everything comes from the server itself"


def test_the_page_works_in_a_browser(live_server: Any, tmp_path: Path) -> None:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no Chromium is installed: the page of the schema was not opened")
    command = [
        chromium,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        f"--user-data-dir={tmp_path}",
        "--enable-logging=stderr",
        "--virtual-time-budget=15000",
        "--dump-dom",
        f"{live_server.url}/api/docs#/exchanges/createExchange",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert "listExchanges" in done.stdout, "Swagger UI has read the schema and drawn its operations"
    assert "Idempotency-Key" in done.stdout, "and opened the one that the address names"
    said = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    assert said == [], "no violation of the content security policy, no error"
