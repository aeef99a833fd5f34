"""The web server as it is run, on a database of its own, and the system's Chromium."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

ROOT = Path(__file__).resolve().parent.parent.parent
NAMES = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@dataclass(frozen=True)
class Site:
    """A running server; `scenario` changes what is in its database."""

    address: str
    environment: dict[str, str]

    def scenario(self, name: str) -> dict[str, Any]:
        command = [sys.executable, "-m", "tests.browser.scenarios", name]
        done = subprocess.run(command, cwd=ROOT, env=self.environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        made: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return made


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("site")
    unset = {name: value for name, value in os.environ.items() if name not in ("DATABASE_URL", "REDIS_URL")}
    environment = {
        **unset,
        "GUARDREVIEW_VAR_DIR": str(folder),
        "PYTHONPATH": str(ROOT),
        "GUARDREVIEW_UNDO_S": "30",
        "GUARDREVIEW_INSIGHT_KEPT_S": "0",
    }
    subprocess.run([sys.executable, "manage.py", "migrate", "--verbosity", "0"], cwd=ROOT, env=environment, check=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "uvicorn", "guardreview.asgi:application", "--port", str(port), "--log-level", "warning"]
    server = subprocess.Popen(command, cwd=ROOT, env=environment)
    try:
        address = f"http://127.0.0.1:{port}"
        _wait_for(f"{address}/sign-in")
        yield Site(address, environment)
    finally:
        server.terminate()
        server.wait(15)


def _wait_for(address: str) -> None:
    for _ in range(200):
        try:
            with urllib.request.urlopen(address, timeout=5):  # noqa: S310 - the server that was just started
                return
        except OSError:
            time.sleep(0.1)
    raise AssertionError(f"{address} does not answer")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Of this module alone: while it runs, its event loop keeps Django's ORM from this thread."""
    executable = next((path for name in NAMES if (path := shutil.which(name))), None)
    if executable is None:
        pytest.skip(f"no browser: install Chromium (looked for {', '.join(NAMES)})")
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=executable, args=FLAGS)
        yield running
        running.close()


class Visitor:
    """A person at a browser of their own. Faults of the page and violations of its security policy are collected."""

    def __init__(self, browser: Browser, site: Site, **options: Any) -> None:
        self.site = site
        self.context: BrowserContext = browser.new_context(base_url=site.address, **options)
        self.context.set_default_timeout(5000)
        self.faults: list[str] = []
        self.page = self.new_page()

    def new_page(self) -> Page:
        page = self.context.new_page()
        page.on("pageerror", lambda error: self.faults.append(str(error)))
        page.on("dialog", lambda dialog: self.faults.append(f"dialog: {dialog.message}"))
        page.on("console", lambda said: self.faults.append(said.text) if "Content Security Policy" in said.text else None)
        return page

    def sign_in(self, name: str, page: Page | None = None) -> Page:
        from tests.scenes import PASSWORD

        page = page or self.page
        page.goto("/sign-in")
        page.fill("[name=username]", name)
        page.fill("[name=password]", PASSWORD)
        page.click("button[type=submit]")
        page.wait_for_selector(".nav")
        page.wait_for_load_state()  # with its scripts
        return page


@pytest.fixture
def visitors(browser: Browser, site: Site) -> Iterator[list[Visitor]]:
    """Those who came in this test; none of them may have met a fault."""
    came: list[Visitor] = []
    yield came
    for visitor in came:
        visitor.context.close()
    assert [fault for visitor in came for fault in visitor.faults] == []


@pytest.fixture
def visit(browser: Browser, site: Site, visitors: list[Visitor]) -> Any:
    """`visit("ana", **context options)`: that person, signed in, in a browser of their own; no name: at the sign-in page."""

    def arrive(name: str = "", **options: Any) -> Visitor:
        visitor = Visitor(browser, site, **options)
        visitors.append(visitor)
        if name:
            visitor.sign_in(name)
        else:
            visitor.page.goto("/sign-in")
        return visitor

    return arrive
