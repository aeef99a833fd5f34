"""Prefork workers that run already follow an administrator's rule from the next exchange on."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.redis_server import RedisServer
from tests.service import ROOT

OFFICE = """
import json, time
from guardreview.core.models import App
from guardreview.verdicts.models import CustomRule, Verdict
from guardreview.verdicts.rules import rule_create, rules_deactivate
from guardreview.verdicts.services import exchange_submit, policy_create

policy_create(actor=None, thresholds={"default": {"block_at": 0.9, "allow_below": 0.1}}, layers=["rules"])
app = App.objects.create(name="chat")

def decisions():
    # Several at once, so that each of the two processes has some.
    exchanges = [exchange_submit(app=app, query="?", response="Have it with grapefruit juice.")[0] for _ in range(12)]
    until = time.monotonic() + 30
    while time.monotonic() < until:
        found = Verdict.objects.filter(exchange__in=exchanges)
        if len(found) == len(exchanges):
            return sorted({(verdict.decision, verdict.versions["rules"]) for verdict in found})
        time.sleep(0.05)
    raise SystemExit("no verdicts")

said = [decisions()]
rule = rule_create(actor=None, rule=CustomRule(
    identifier="grapefruit", category="misinformation", severity="major", action="block", patterns=["with grapefruit"],
    must_match=["Have it with grapefruit."], must_not_match=["Never have it with grapefruit."],
))
said.append(decisions())
rules_deactivate(rules=[rule], actor=None)
said.append(decisions())
print(json.dumps(said))
"""


@pytest.fixture
def environment() -> Iterator[dict[str, str]]:
    """A migrated database, a Redis and a worker with two processes, in a folder of their own."""
    with tempfile.TemporaryDirectory(prefix="guardreview-rules-") as name:
        kept = {name: value for name, value in os.environ.items() if name != "DATABASE_URL"}
        made = {**kept, "GUARDREVIEW_VAR_DIR": name, "REDIS_URL": f"unix://{name}/redis.sock?db=0"}
        redis = RedisServer(Path(name))
        redis.start()
        worker = None
        try:
            subprocess.run([sys.executable, "manage.py", "migrate", "-v0"], cwd=ROOT, env=made, check=True, timeout=120)
            command = [sys.executable, "-m", "celery", "-A", "guardreview", "--quiet", "worker", "-Q", "cascade", "-c", "2"]
            worker = subprocess.Popen([*command, "--pool", "prefork"], cwd=ROOT, env=made, stderr=subprocess.DEVNULL)
            yield made
        finally:
            if worker is not None:
                worker.terminate()
                worker.wait(30)
            redis.stop()


def test_running_workers_follow_a_rule_that_comes_and_goes(environment: dict[str, str]) -> None:
    command = [sys.executable, "manage.py", "shell", "-v0", "-c", OFFICE]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stderr
    ((before,), (during,), (after,)) = json.loads(done.stdout.splitlines()[-1])
    assert (before[0], during[0], after[0]) == ("hold", "block", "hold")
    assert before[1] == after[1] != during[1]
