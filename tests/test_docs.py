"""The documentation is true where a program can tell: settings, roles, commands, addresses, links."""

from __future__ import annotations

import contextlib
import io
import json
import re
from pathlib import Path

import pytest
from django.core.management import get_commands
from django.urls import Resolver404, get_resolver, resolve
from django.urls.resolvers import URLPattern, URLResolver

from guardreview.core.roles import MAY, Act, Role
from tests.project_files import COMPUTED, ROOT, as_environment, settings_variables

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
TEXTS = {page.relative_to(ROOT).as_posix(): page.read_text(encoding="utf-8") for page in PAGES}


def table_rows(text: str) -> list[list[str]]:
    """The cells of every row of every table, backticks and all."""
    return [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in text.splitlines()
        if line.startswith("|") and not set(line) <= set("|- ")
    ]


def section(page: str, title: str) -> str:
    """What stands under a heading, up to the next of its rank."""
    found = re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", TEXTS[page], flags=re.MULTILINE | re.DOTALL)
    assert found, f"{page} has no section {title}"
    return found[1]


def slugs(text: str) -> set[str]:
    """The anchors of a page's headings."""
    titles = re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def code_blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)


# --- Settings ---------------------------------------------------------------------------------------------------------
def documented_settings() -> dict[str, str]:
    """Name to default, of every variable in settings.md but those of the last section, which settings.py does not read."""
    text = TEXTS["docs/settings.md"].replace(section("docs/settings.md", "Processes"), "")
    rows = [cells for cells in table_rows(text) if re.fullmatch(r"`[A-Z_]+`", cells[0])]
    names = [cells[0].strip("`") for cells in rows]
    assert len(set(names)) == len(names)
    return {name: cells[1].strip("`") for name, cells in zip(names, rows, strict=True)}


def test_every_setting_is_documented_and_every_documented_one_exists() -> None:
    assert set(documented_settings()) == set(settings_variables())


def test_documented_defaults_are_the_real_ones() -> None:
    documented = documented_settings()
    for name, value in settings_variables().items():
        assert documented[name] == ("computed" if value is COMPUTED else as_environment(value)), name


def test_variables_of_the_processes_are_read_where_the_table_says() -> None:
    readers = {
        "both": ("Procfile", "docker-compose.yml"),
        "compose": ("docker-compose.yml",),
        "compose, at build": ("docker-compose.yml",),
    }
    rows = [cells for cells in table_rows(section("docs/settings.md", "Processes")) if cells[0].startswith("`")]
    documented = {cells[0].strip("`") for cells in rows}
    for cells in rows:
        for file in readers[cells[2]]:
            assert re.search(rf"\b{cells[0].strip('`')}\b", (ROOT / file).read_text()), (cells[0], file)
    read = {
        name for file in ("Procfile", "docker-compose.yml") for name in re.findall(r"\$\{([A-Z_]+)", (ROOT / file).read_text())
    }
    assert read - set(settings_variables()) <= documented


# --- Roles ------------------------------------------------------------------------------------------------------------
def test_the_table_of_roles_is_the_one_in_the_code() -> None:
    header, *rows = table_rows(section("docs/review.md", "Who may do what"))
    documented = {
        (Role(role), Act(cells[0])) for cells in rows for role, cell in zip(header[1:], cells[1:], strict=True) if cell == "yes"
    }
    assert documented == {(role, act) for role, acts in MAY.items() for act in acts}
    assert [cells[0] for cells in rows] == [act.value for act in Act]


# --- Commands ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("page", TEXTS)
def test_commands_that_are_named_exist(page: str) -> None:
    commands = set(re.findall(r"manage\.py ([a-z_]+)", TEXTS[page]))
    assert commands <= set(get_commands()), commands - set(get_commands())
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, flags=re.MULTILINE))
    code = "\n".join([*re.findall(r"`([^`\n]+)`", TEXTS[page]), *code_blocks(TEXTS[page], "sh")])
    named = set(re.findall(r"^make ([a-z-]+)", code, flags=re.MULTILINE))
    assert named <= targets, named - targets


def test_services_that_are_named_to_compose_exist() -> None:
    compose = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
    services = set(re.findall(r"^  (\w+):$", compose.partition("\nservices:")[2].partition("\nnetworks:")[0], flags=re.MULTILINE))
    named = re.findall(r"docker compose (?:exec|run|logs|--scale)(?: -[\w-]+)* (\w+)", TEXTS["docs/operations.md"])
    documented = {cells[0].strip("`") for cells in table_rows(section("docs/operations.md", "The services"))} - {"service"}
    assert named
    assert set(named) <= services
    assert documented == services


# --- Addresses --------------------------------------------------------------------------------------------------------
def api_addresses() -> set[str]:
    """Every address under /api/, parameters as `{id}`."""

    def walk(patterns: list[URLPattern | URLResolver], prefix: str) -> list[str]:
        found = []
        for entry in patterns:
            route = prefix + str(entry.pattern)
            found += walk(entry.url_patterns, route) if isinstance(entry, URLResolver) else [route]
        return found

    routes = [route for route in walk(get_resolver().url_patterns, "/") if route.startswith("/api/") and route != "/api/"]
    return {re.sub(r"<.*?>", "{id}", route) for route in routes}


def test_every_address_of_the_api_is_documented() -> None:
    for address in api_addresses():
        assert address in TEXTS["docs/api.md"], address


@pytest.mark.parametrize("page", TEXTS)
def test_addresses_that_are_named_exist(page: str) -> None:
    for address in re.findall(r"(?<![\w.])(/(?:api|admin)/[\w/{}]*)", TEXTS[page]):
        path = address.replace("{id}", "0192f0c1-8d2e-7c4a-9a57-2f6f4f3f9b10")
        try:
            match = resolve(path)
        except Resolver404:
            pytest.fail(f"{page} names {address}")
        assert match.url_name or path.startswith("/admin/"), address  # unknown addresses of the API have a view, but no name


# --- Links, files, examples -------------------------------------------------------------------------------------------
@pytest.mark.parametrize("page", TEXTS)
def test_links_lead_somewhere(page: str) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", TEXTS[page]):
        assert not target.startswith("http"), target
        file, _, anchor = target.partition("#")
        path = (ROOT / page).parent / file if file else ROOT / page
        assert path.exists(), target
        if anchor:
            assert anchor in slugs(path.read_text(encoding="utf-8")), target


@pytest.mark.parametrize("page", TEXTS)
def test_files_that_are_named_exist(page: str) -> None:
    named = re.findall(r"`((?:classifiers|guardreview|tests|docs|examples|templates)/[\w./-]*)`", TEXTS[page])
    for name in named:
        assert (ROOT / name).exists(), name


def test_json_examples_are_json() -> None:
    for page, text in TEXTS.items():
        for block in code_blocks(text, "json"):
            assert json.loads(block), page


def test_the_readmes_library_example_runs_and_blocks() -> None:
    [example] = code_blocks(TEXTS["README.md"], "python")
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        exec(compile(example, "README.md", "exec"), {})  # noqa: S102 - our own text
    assert said.getvalue().startswith("block harmful_medical:dangerous_dosage")


def test_the_readmes_first_request_is_the_one_that_run_prints_and_is_answered_so() -> None:
    from classifiers.rule_based import classify_rule_based
    from guardreview.core.demo_client import CURL_BODY

    [body] = re.findall(r"-d '(\{.*?\})'", TEXTS["README.md"])
    assert json.loads(body) == CURL_BODY
    shown = json.loads(code_blocks(TEXTS["README.md"], "json")[0])
    found = classify_rule_based(CURL_BODY["response"])
    assert (shown["category"], shown["severity"], shown["reason"], shown["layer"]) == (
        found.category,
        found.severity,
        found.reason,
        found.layer,
    )


def test_log_lines_that_are_named_are_written() -> None:
    code = "".join(path.read_text(encoding="utf-8") for path in Path(ROOT / "guardreview").rglob("*.py"))
    rows = table_rows(section("docs/operations.md", "Look inside"))
    for event in (event for cells in rows for event in re.findall(r"`(\w+)`", cells[0])):
        assert f'"{event}"' in code, event
