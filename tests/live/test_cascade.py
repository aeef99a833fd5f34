"""The service as a user starts it: real Redis, real workers, a real HTTP judge whose faults a test commands."""

import re
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.judge_server import JudgeServer, Reply, judgment
from tests.service import Service, eventually, running_service

UNCERTAIN = ("Is it true?", "This medicine cures the flu in a day.")
"""What the fast layers neither allow nor block."""


@pytest.fixture(scope="module")
def judge() -> Iterator[JudgeServer]:
    with JudgeServer() as server:
        yield server


@pytest.fixture(scope="module")
def service(judge: JudgeServer) -> Iterator[Service]:
    judged = {"JUDGE_BASE_URL": judge.base_url, "JUDGE_TIMEOUT_S": "2", "JUDGE_DEADLINE_S": "5"}
    chat = {"CHAT_BASE_URL": judge.base_url, "CHAT_MODEL": "demo"}
    with running_service(GUARDREVIEW_SWEEP_AFTER_S="3", **judged, **chat) as running:
        yield running


@pytest.fixture(autouse=True)
def _forget(judge: JudgeServer) -> None:
    judge.forget()


def results(body: dict[str, Any]) -> dict[str, Any]:
    return {result["layer"]: result for result in body["results"]}


def test_a_rule_blocks_without_asking_the_judge(service: Service, judge: JudgeServer) -> None:
    body = service.submit("I missed a dose.", "Go ahead and double your dose tonight.")
    assert (body["decision"], body["is_safe"], body["layer"]) == ("block", False, "rules")
    assert body["category"] == "harmful_medical:dangerous_dosage"
    assert body["answer"] != "Go ahead and double your dose tonight."
    assert judge.requests == []


@pytest.mark.parametrize(
    ("reply", "decision"),
    [
        (Reply(judgment(True, confidence=0.95, reason="harmless")), "allow"),
        (Reply(judgment(False, "misinformation", confidence=0.9, reason="false")), "block"),
        (Reply(judgment(True, confidence=0.3, reason="who knows")), "hold"),
    ],
)
def test_the_judge_decides_what_the_fast_layers_leave(service: Service, judge: JudgeServer, reply: Reply, decision: str) -> None:
    judge.script(reply)
    body = service.submit(*UNCERTAIN)
    assert (body["decision"], set(results(body))) == (decision, {"rules", "finetuned", "judge"})
    (request,) = judge.requests
    assert UNCERTAIN[1] in request.user_message
    assert "finetuned" not in request.user_message  # the judge is blind to the other layers
    if decision == "allow":
        assert body["answer"] == UNCERTAIN[1]


@pytest.mark.parametrize(
    ("replies", "why"),
    [
        ([Reply("not json at all")] * 3, ""),
        ([Reply('{"is_safe": "perhaps"}')] * 3, ""),
        ([Reply(status=500)] * 3, "500"),
        ([Reply(finish_reason="content_filter")] * 3, "filter"),
        ([Reply(judgment(True), delay_s=4)] * 3, ""),
        ([Reply(drop=True)] * 3, ""),
    ],
    ids=["broken JSON", "wrong shape", "500", "content filter", "late", "dropped"],
)
def test_a_faulty_judge_means_hold_never_safe(service: Service, judge: JudgeServer, replies: list[Reply], why: str) -> None:
    judge.script(*replies)
    body = service.submit(*UNCERTAIN)
    assert (body["decision"], body["is_safe"]) == ("hold", False)
    assert results(body)["judge"]["error"]
    assert why in results(body)["judge"]["error"]


def test_one_bad_answer_of_the_judge_is_tried_again(service: Service, judge: JudgeServer) -> None:
    judge.script(Reply(status=500), Reply(judgment(True, confidence=0.95)))
    assert service.submit(*UNCERTAIN)["decision"] == "allow"


def test_a_slow_judge_delays_no_fast_verdict(service: Service, judge: JudgeServer) -> None:
    judge.script(Reply(judgment(True, confidence=0.9), delay_s=1.5))
    status, _ = service.call("POST", "/api/v1/exchanges", {"query": UNCERTAIN[0], "response": UNCERTAIN[1]})
    assert status == 202
    assert service.submit("I missed a dose.", "Just double your dose.", wait=1)["decision"] == "block"


def test_a_worker_killed_at_work_costs_no_verdict(service: Service) -> None:
    """Pool process and parent alike are killed while exchanges come in; each gets its verdict, once."""
    ids = []
    for number in range(12):
        exchange = {"query": "I forgot.", "response": f"Double your dose, patient {number}."}
        _, body = service.call("POST", "/api/v1/exchanges", exchange)
        ids.append(body["id"])
        if number in (3, 8):
            for process in service.workers("cascade") if number == 8 else service.workers("cascade")[-1:]:
                process.kill()

    def all_decided() -> list[Any] | None:
        bodies = [service.call("GET", f"/api/v1/exchanges/{exchange}")[1] for exchange in ids]
        return bodies if all(body["status"] == "decided" for body in bodies) else None

    bodies = eventually(all_decided, seconds=60)
    assert {body["decision"] for body in bodies} == {"block"}
    assert [len(body["results"]) for body in bodies] == [1] * 12
    counts = service.manage(
        "shell", "-v", "0", "-c",
        "from guardreview.verdicts.models import *;"
        f"print(Verdict.objects.filter(pk__in={ids}).count(), ReviewItem.objects.filter(exchange__in={ids}).count())",
    )  # fmt: skip
    assert counts.split() == ["12", "12"]


def test_a_policy_change_is_followed_without_a_restart(service: Service, judge: JudgeServer) -> None:
    judge.always = Reply(judgment(True, confidence=0.95))
    assert service.submit(*UNCERTAIN)["decision"] == "allow"
    change = "from guardreview.verdicts import services; from guardreview.verdicts.models import Policy;"
    strict = "services.policy_create(actor=None, thresholds={'default': {'block_at': 0.001, 'allow_below': 0.0005}})"
    service.manage("shell", "-v", "0", "-c", change + strict)
    assert service.submit(*UNCERTAIN)["decision"] == "block"
    service.manage("shell", "-v", "0", "-c", change + "services.policy_activate(policy=Policy.objects.get(pk=1), actor=None)")
    assert service.submit(*UNCERTAIN)["decision"] == "allow"


def test_chat_answers_with_the_answer_or_the_fallback(service: Service, judge: JudgeServer) -> None:
    judge.script(Reply(UNCERTAIN[1]), Reply(judgment(True, confidence=0.95)))
    status, body = service.call("POST", "/api/chat", {"message": UNCERTAIN[0]})
    assert (status, body["answer"], body["blocked"]) == (200, UNCERTAIN[1], False)
    judge.script(Reply("Sure, just double your dose."))
    status, body = service.call("POST", "/api/chat", {"message": "I forgot one."})
    assert (status, body["blocked"], body["category"]) == (200, True, "harmful_medical:dangerous_dosage")
    assert "double" not in body["answer"]
    log = "".join(path.read_text() for path in (service.folder / "log").glob("*.log"))
    assert re.search(r'"category": "harmful_medical:dangerous_dosage".*"event": "response_blocked"', log)
    assert "double your dose" not in log  # a patient's words are never logged


def test_labels_go_out_retrain_and_change_what_the_next_worker_says(service: Service, judge: JudgeServer) -> None:
    judge.always = Reply(judgment(True, confidence=0.2))  # so that they are held, for a pharmacist to decide
    # The rules escalate these, whatever the model says of them.
    claims = [f"It is generally safe to take both tablets of box {number} together, says the leaflet." for number in range(16)]
    before = [service.submit("Is it so?", claim) for claim in claims]
    decide_all = (
        "from guardreview.core.models import User; from guardreview.verdicts.models import ReviewItem;"
        "from guardreview.review import leases, services; user = User.objects.get(username='pharmacist');\n"
        f"for item in ReviewItem.objects.filter(exchange__in={[body['id'] for body in before]}):\n"
        "    item = leases.item_lease(item=item, user=user)\n"
        "    services.review_create(item=item, reviewer=user, token=item.lease_token, truth='unsafe',"
        " categories=['misinformation'], severity='major')"
    )
    service.manage("shell", "-v", "0", "-c", decide_all)
    until = time.monotonic() + 60  # they settle once they can no longer be undone
    while str(labels := service.call("GET", "/api/v1/labels?format=jsonl")[1]).count('"label"') < 16:
        assert time.monotonic() < until, labels
        time.sleep(0.5)
    outcome = service.call("GET", f"/api/v1/exchanges/{before[0]['id']}")[1]["outcome"]
    assert (outcome["label"], outcome["categories"]) == ("unsafe", ["misinformation"])

    version = service.manage("train", "--labels").split()[0]
    active = service.submit("Is it so?", claims[0])
    assert results(active)["finetuned"]["version"] != version  # a candidate changes nothing
    service.manage("activate", version, "--by", "admin", "--without-check", "--why", "too few labels to check by")
    until = time.monotonic() + 30  # the old one serves while a worker loads it
    while results(after := service.submit("Is it so?", claims[0]))["finetuned"]["version"] != version:
        assert time.monotonic() < until
        time.sleep(0.5)
    assert results(after)["finetuned"]["scores"]["unsafe"] > results(before[0])["finetuned"]["scores"]["unsafe"] + 0.02
