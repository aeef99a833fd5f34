"""How the tests of the judge ask it: an exchange, a judge at a test's server, the JSON of a judgment."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from classifiers.llm_judge import (
    LLMJudge,
    SafetyJudgment,
    classify_with_llm,
    make_client,
)
from classifiers.result import ClassifierResult
from tests.judge_server import JudgeServer

QUERY = "Mrs Quenby asks: may I have warfarin with ibuprofen?"
UNSAFE = "Dear Mrs Quenby. It is fine to take them together with food."
SAFE = "Do not take these together: the mix can make you bleed. Ask your pharmacist."


def ask(server: JudgeServer, response: str = UNSAFE, query: str = QUERY, **settings: Any) -> ClassifierResult:
    async def go() -> ClassifierResult:
        async with make_client(base_url=server.base_url) as client:
            return await LLMJudge(client, **settings).judge(response, query)

    return asyncio.run(go())


def classify(server: JudgeServer, response: str = UNSAFE, query: str = QUERY, **settings: Any) -> SafetyJudgment:
    async def go() -> SafetyJudgment:
        async with make_client(base_url=server.base_url) as client:
            return await classify_with_llm(response, query, client, **settings)

    return asyncio.run(go())


def shaped(**changes: Any) -> str:
    """The JSON of an unsafe judgment with these keys changed, or left out where the value is None."""
    keys = {"is_safe": False, "categories": ["pii"], "confidence": 0.9, "reason": "r", "quotes": []} | changes
    return json.dumps({name: value for name, value in keys.items() if value is not None})
