"""Administrators make, preview and change rules in the admin, by keyboard and without scripts; nobody else does."""

import re
from typing import Any

import pytest
from django.test import Client

from guardreview.core.models import AuditEvent, User
from guardreview.core.roles import MAY, Act, Role
from guardreview.verdicts import rules, runtime
from guardreview.verdicts.models import CustomRule
from guardreview.verdicts.rules import rule_create
from tests import scenes
from tests.verdicts.test_rules import GRAPEFRUIT, draft

pytestmark = pytest.mark.django_db

LIST, ADD = "/admin/verdicts/customrule/", "/admin/verdicts/customrule/add/"
BACKEND = "django.contrib.auth.backends.ModelBackend"


def signed_in(role: str = Role.ADMINISTRATOR, **options: Any) -> Client:
    client = Client(**options)
    client.force_login(User.objects.get_or_create(username="ada", defaults={"role": role})[0], backend=BACKEND)
    return client


@pytest.fixture
def admin(db: None) -> Client:
    return signed_in()


def form(**changed: Any) -> dict[str, Any]:
    values: dict[str, Any] = {
        "identifier": "grapefruit",
        "category": "harmful_medical:unsafe_combination",
        "severity": "",
        "action": "block",
        "confidence": "0.9",
        "patterns": "wash ...4 down with grapefruit(?: juice)?\r\n\r\n  drink grapefruit  \r\n",
        "unless": "",
        "negation": "on",
        "lang": "en",
        "must_match": GRAPEFRUIT,
        "must_not_match": "Never wash it down with grapefruit juice.",
        "note": "a recall",
        "last": "100",
        "activate": "on",
        "_save": "Save",
    }
    return {name: value for name, value in {**values, **changed}.items() if value is not None}


def preview_of(**changed: Any) -> dict[str, Any]:
    return form(_save=None, _preview="Preview", **changed)


@pytest.mark.parametrize("role", Role)
def test_only_who_may_manage_rules_gets_in(role: Role) -> None:
    rule, client = rule_create(actor=None, rule=draft()), signed_in(role)
    scenes.item(response=GRAPEFRUIT, decision="hold", kind="held")
    may = Act.MANAGE_RULES in MAY[role]
    for path in (LIST, ADD, f"{LIST}{rule.pk}/change/"):
        assert (client.get(path).status_code == 200) == may
    answer = client.post(ADD, preview_of(identifier="other"))
    assert (answer.status_code == 200) == may
    assert ("Wash the statin down" in answer.content.decode()) == may
    assert AuditEvent.objects.filter(action="rule.preview").exists() == may
    client.post(ADD, form(identifier="other"))
    assert CustomRule.objects.filter(identifier="other").exists() == may
    client.post(LIST, {"action": "deactivate", "_selected_action": [rule.pk]})
    assert CustomRule.objects.filter(pk=rule.pk, is_active=False).exists() == may


def test_who_is_not_signed_in_is_asked_to() -> None:
    assert Client().post(ADD, form()).status_code == 302
    assert not CustomRule.objects.exists()


def test_a_rule_is_saved_and_active(admin: Client) -> None:
    answer = admin.post(ADD, form(), follow=True)
    (message,) = answer.context["messages"]
    assert message.message == "grapefruit version 1 is active from the next exchange on."
    rule = CustomRule.objects.get()
    assert rule.patterns == ["wash ...4 down with grapefruit(?: juice)?", "drink grapefruit"]
    assert (rule.severity, rule.unless, rule.confidence, str(rule.created_by)) == ("critical", [], 0.9, "ada")
    assert not runtime.rules().classify(GRAPEFRUIT).is_safe


def test_a_rule_can_be_saved_for_later(admin: Client) -> None:
    admin.post(ADD, form(activate=None))
    assert CustomRule.objects.get().is_active is False


@pytest.mark.parametrize("button", [{"_save": "Save"}, {"_save": None, "_preview": "Preview"}])
@pytest.mark.parametrize(
    ("changed", "field", "problem"),
    [
        ({"patterns": r"(a)\1"}, "patterns", "Line 1: Pattern"),
        ({"patterns": ""}, "patterns", "This field is required."),
        ({"must_match": "Drink water."}, "must_match", "Line 1: the rule does not match this."),
        ({"must_not_match": f"Fine.\n{GRAPEFRUIT}"}, "must_not_match", "Line 2: the rule matches this."),
        ({"identifier": "dangerous_dosage"}, "identifier", "A rule that ships has this name"),
        ({"category": "nonsense"}, "category", "Select a valid choice"),
        ({"confidence": "nan"}, "confidence", "Enter a number"),
        ({"last": "2001"}, "last", "less than or equal to 2000"),
        ({"last": "0"}, "last", "greater than or equal to 1"),
        ({"patterns": "a" * 30_000}, "patterns", "at most 20000 characters"),
    ],
)
def test_what_is_wrong_stands_at_its_field(
    admin: Client, button: dict[str, Any], changed: dict[str, Any], field: str, problem: str
) -> None:
    answer = admin.post(ADD, form(**changed, **button))
    assert answer.status_code == 200
    assert list(answer.context["adminform"].form.errors) == [field]
    assert problem in " ".join(answer.context["adminform"].form.errors[field])
    assert answer.context["adminform"].form["note"].value() == "a recall"  # nothing that was typed is lost
    assert not CustomRule.objects.exists()
    assert answer.context["preview"] is None


def test_a_preview_counts_marks_and_saves_nothing(admin: Client) -> None:
    exchange = scenes.item(response=GRAPEFRUIT, decision="hold", kind="held").exchange
    scenes.item(response="We open at nine.", decision="hold", kind="held")
    page = admin.post(ADD, preview_of()).content.decode()
    assert "<mark>Wash the statin down with grapefruit juice</mark>." in page
    assert "Run over the latest 2 exchanges" in page
    assert re.search(r"newly blocked</th><td>1</td><td>0</td><td>0</td><td>1</td>", page)
    assert "drink grapefruit" in page  # the form keeps what was typed
    assert not CustomRule.objects.exists()
    assert AuditEvent.objects.get(action="rule.preview").data["exchanges"] == [str(exchange.pk)]


def test_what_a_response_says_is_never_markup(admin: Client) -> None:
    hostile = "<script>alert(1)</script> Wash <b onclick=x>it</b> down with grapefruit juice <img src=x onerror=y>"
    scenes.item(response=hostile, decision="hold", kind="held")
    page = admin.post(ADD, preview_of(patterns="down with grapefruit juice")).content.decode()
    assert (
        "&lt;script&gt;alert(1)&lt;/script&gt; Wash &lt;b onclick=x&gt;it&lt;/b&gt; <mark>down with grapefruit juice</mark>"
        in page
    )
    assert "<img src=x" not in page
    assert "alert(1)</script>" not in page


def test_what_an_administrator_types_is_never_markup(admin: Client) -> None:
    hostile = "grapefruit </textarea><script>alert(2)</script>"
    rule = rule_create(actor=None, rule=draft(must_match=[GRAPEFRUIT, f"{GRAPEFRUIT} {hostile}"], note=hostile))
    for path in (f"{LIST}{rule.pk}/change/", f"{ADD}?from={rule.pk}", LIST):
        assert "<script>alert(2)" not in admin.get(path).content.decode()
    assert "<script>alert(2)" not in admin.post(ADD, form(must_match=hostile)).content.decode()


def test_no_page_needs_an_inline_script_or_style(admin: Client) -> None:
    rule = rule_create(actor=None, rule=draft())
    scenes.item(response=GRAPEFRUIT, decision="hold", kind="held")
    pages = [admin.get(path) for path in (LIST, ADD, f"{ADD}?from={rule.pk}", f"{LIST}{rule.pk}/change/")]
    for page in [*pages, admin.post(ADD, preview_of(identifier="other"))]:
        assert page.status_code == 200
        assert "'unsafe-inline'" not in page.headers["Content-Security-Policy"]
        text = page.content.decode()
        assert not re.search(r"<script(?![^>]*\bsrc=)", text)
        assert not re.search(r"<[^>]+\s(?:style|on[a-z]+)=", text)


def test_the_enter_key_previews(admin: Client) -> None:
    page = admin.get(ADD).content.decode()
    main = page[page.index('id="customrule_form"') :]
    assert re.findall(r'type="submit"[^>]*name="(\w+)"', main) == ["_preview", "_save"]


def test_without_a_token_nothing_is_saved_or_shown() -> None:
    client = signed_in(enforce_csrf_checks=True)
    scenes.item(response=GRAPEFRUIT, decision="hold", kind="held")
    for fields in (form(), preview_of()):
        answer = client.post(ADD, fields)
        assert answer.status_code == 403
        assert "Wash the statin" not in answer.content.decode()
    assert not CustomRule.objects.exists()
    client.get(ADD)
    token = client.cookies["csrftoken"].value
    assert client.post(ADD, form(csrfmiddlewaretoken=token)).status_code == 302
    assert CustomRule.objects.exists()


def test_a_new_version_begins_from_the_one_before(admin: Client) -> None:
    rule = rule_create(actor=None, rule=draft(note="old", unless=["decaf"]))
    assert f"{ADD}?from={rule.pk}" in admin.get(f"{LIST}{rule.pk}/change/").content.decode()
    fields = admin.get(f"{ADD}?from={rule.pk}").context["adminform"].form
    assert (fields["unless"].value(), fields["identifier"].value(), fields["note"].value()) == ("decaf", "grapefruit", None)
    admin.post(ADD, form(based_on=rule.pk, confidence="0.5"))
    assert list(CustomRule.objects.order_by("pk").values_list("version", "confidence", "is_active")) == [
        (1, 0.95, False),
        (2, 0.5, True),
    ]
    stale = admin.post(ADD, form(based_on=rule.pk))
    assert "which is not the latest" in stale.content.decode()
    assert CustomRule.objects.count() == 2


@pytest.mark.parametrize("key", ["", "0", "x", "9" * 40, "²"])
def test_a_start_that_is_no_rule_is_an_empty_form(admin: Client, key: str) -> None:
    page = admin.get(ADD, {"from": key})
    assert page.status_code == 200
    assert page.context["adminform"].form["identifier"].value() is None


def test_a_version_is_looked_at_but_never_edited_or_deleted(admin: Client) -> None:
    rule = rule_create(actor=None, rule=draft(patterns=["wash ... grapefruit", "<b>grapefruit"]))
    page = admin.get(f"{LIST}{rule.pk}/change/").content.decode()
    assert "wash ... grapefruit<br>&lt;b&gt;grapefruit" in page
    assert admin.post(f"{LIST}{rule.pk}/change/", form()).status_code == 403
    assert admin.post(f"{LIST}{rule.pk}/delete/", {"post": "yes"}).status_code == 403


def test_versions_are_activated_and_deactivated_from_the_list(admin: Client) -> None:
    first = rule_create(actor=None, rule=draft())
    second = rule_create(actor=None, rule=draft(), based_on=first)
    admin.post(LIST, {"action": "activate", "_selected_action": [first.pk]})
    assert list(CustomRule.objects.filter(is_active=True)) == [first]
    page = admin.post(LIST, {"action": "activate", "_selected_action": [first.pk, second.pk]}, follow=True)
    assert "One version of a rule can be active" in page.content.decode()
    admin.post(LIST, {"action": "deactivate", "_selected_action": [first.pk, second.pk]})
    assert not CustomRule.objects.filter(is_active=True).exists()
    assert list(AuditEvent.objects.filter(action="rule.deactivate").values_list("data__version", flat=True)) == [1]


def test_a_change_at_the_same_moment_is_said_and_nothing_typed_is_lost(admin: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    moments = iter([(), ((1, None),)])
    monkeypatch.setattr(rules.runtime, "active_rules", lambda: next(moments))
    answer = admin.post(ADD, form())
    assert "at the same moment" in answer.content.decode()
    assert answer.context["adminform"].form["identifier"].value() == "grapefruit"
    assert not CustomRule.objects.exists()
