"""`/api/v1/labels/exports`: asked for, followed, downloaded; an app's own, redacted, and in the bytes that the page gives."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from guardreview.core.models import ApiKey, App, AuditEvent
from guardreview.core.services import api_key_create
from guardreview.learning.export_filters import ExportFilters
from guardreview.learning.export_writing import export_write
from guardreview.learning.exports import export_request
from guardreview.learning.models import Export
from guardreview.review.models import Label
from guardreview.verdicts.models import Policy
from tests.api.client import ApiClient
from tests.api.test_api_labels import label


@pytest.fixture
def labels(chat_app: App, shipped_policy: Policy, settings: Any, tmp_path: Path) -> list[Label]:
    """Three of the app's, one with personal data, and one of another's."""
    settings.EXPORTS = str(tmp_path / "exports")
    label(App.objects.create(name="another"), shipped_policy, response="not yours")
    texts = ["Take two.", "Ask 415-555-2671 for a call.", "Take none 💊."]
    return [label(chat_app, shipped_policy, response=text) for text in texts]


def finished(api: ApiClient, body: dict[str, Any]) -> dict[str, Any]:
    answer = api.post("/api/v1/labels/exports", body)
    assert (answer.status_code, answer["Retry-After"]) == (202, "2")
    export_write(export_id=answer.json()["id"])
    found: dict[str, Any] = api.get(answer["Location"]).json()
    assert found["status"] == "ready"
    return found


def test_an_export_is_asked_for_followed_and_downloaded(labels_api: ApiClient, labels: list[Label]) -> None:
    waiting = labels_api.post("/api/v1/labels/exports", {}).json()
    assert (waiting["status"], waiting["content"], waiting["sha256"]) == ("queued", None, None)
    assert labels_api.get(f"/api/v1/labels/exports/{waiting['id']}/content").status_code == 409
    found = finished(labels_api, {"format": "jsonl"})
    answer = labels_api.get(found["content"])
    rows = [json.loads(line) for line in answer.content.decode().splitlines()]
    assert [row["label_key"] for row in rows] == [each.pk for each in labels]
    assert rows[1]["response"] == "Ask [PHONE_1] for a call."
    assert hashlib.sha256(answer.content).hexdigest() == found["sha256"]
    assert (len(answer.content), len(rows)) == (found["bytes"], found["rows"])
    rest = labels_api.get(found["content"], Range="bytes=100-", If_Range=answer["ETag"])
    assert (rest.status_code, rest.content) == (206, answer.content[100:])
    key = ApiKey.objects.get(scope="labels")
    actions = AuditEvent.objects.filter(actor=f"key:{key.prefix}").order_by("pk").values_list("action", flat=True)
    assert list(actions) == ["labels.export", "labels.export", "labels.download", "labels.download"]


def test_page_and_api_give_the_same_bytes(labels_api: ApiClient, labels: list[Label], chat_app: App) -> None:
    ours = export_request(format="csv", filters=ExportFilters(app=chat_app.pk), actor="lea", enqueue=False)
    export_write(export_id=ours.pk)
    ours.refresh_from_db()
    assert finished(labels_api, {"format": "csv"})["sha256"] == ours.sha256


def test_another_apps_exports_and_those_of_people_do_not_exist_for_it(labels_api: ApiClient, labels: list[Label]) -> None:
    other = ApiClient(api_key_create(app=App.objects.get(name="another"), scope=ApiKey.Scope.LABELS)[1])
    found = finished(labels_api, {})
    for address in (f"/api/v1/labels/exports/{found['id']}", found["content"], "/api/v1/labels/exports/x"):
        assert other.get(address).status_code == 404
    Export.objects.update(redacted=False)
    assert labels_api.get(found["content"]).status_code == 404


def test_asking_again_gives_the_same_and_one_app_cannot_take_all_places(
    labels_api: ApiClient, labels: list[Label], chat_app: App, shipped_policy: Policy
) -> None:
    def ask(body: dict[str, Any], api: ApiClient = labels_api) -> tuple[int, Any]:
        answer = api.post("/api/v1/labels/exports", body)
        return answer.status_code, answer.json().get("id")

    first, second = ask({}), ask({"format": "csv"})
    assert (first[0], second[0]) == (202, 202)
    assert (ask({}), ask({"format": "csv"})) == (first, second)
    assert ask({"format": "parquet"})[0] == 503
    other = ApiClient(api_key_create(app=App.objects.get(name="another"), scope=ApiKey.Scope.LABELS)[1])
    assert ask({}, other)[0] == 202
    export_write(export_id=first[1])
    assert ask({}) == first, "also once it is ready"
    label(chat_app, shipped_policy, response="A newer one.")
    newer = ask({})
    assert newer[0] == 202
    assert newer[1] != first[1]
    Export.objects.filter(pk=newer[1]).update(status="failed")
    assert ask({})[1] not in (newer[1], first[1])


def test_an_export_that_expired_says_so(labels_api: ApiClient, labels: list[Label]) -> None:
    found = finished(labels_api, {})
    Export.objects.update(status="expired", place="")
    answer = labels_api.get(found["content"])
    assert (answer.status_code, answer.json()["detail"]) == (409, "The export is expired.")
    assert labels_api.get(f"/api/v1/labels/exports/{found['id']}").json()["content"] is None
    assert labels_api.post("/api/v1/labels/exports", {}).json()["id"] != found["id"]


def test_a_key_without_the_scope_gets_none(api: ApiClient, labels: list[Label]) -> None:
    assert api.post("/api/v1/labels/exports", {}).status_code == 403
    assert not Export.objects.exists()


@pytest.mark.parametrize("body", [{"format": "xlsx"}, {"category": "astrology"}, {"bases": ["imported"]}, {"since": "soon"}])
def test_what_is_no_filter_is_named(body: dict[str, Any], labels_api: ApiClient, labels: list[Label]) -> None:
    answer = labels_api.post("/api/v1/labels/exports", body)
    assert (answer.status_code, list(answer.json()["errors"])) == (400, list(body))


def test_filters_hold(labels_api: ApiClient, labels: list[Label]) -> None:
    moment = labels[2].created_at.isoformat()
    assert finished(labels_api, {"since": moment, "category": "pii", "layer": "rules", "bases": ["single"]})["rows"] == 1
