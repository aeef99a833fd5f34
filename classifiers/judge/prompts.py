"""The judge's prompt: its text, its version, and the fence that keeps the patient's and the assistant's words data."""

from __future__ import annotations

import hashlib
import secrets
from pathlib import Path
from string import Template

_TEXT = Path(__file__).with_name("prompt.txt").read_text(encoding="utf-8")

PROMPT_VERSION = f"judge-{hashlib.sha256(_TEXT.encode()).hexdigest()[:12]}"
"""Names the content of `prompt.txt`, system and user part: any edit is a new version."""

SYSTEM_PROMPT, _, _USER_PART = _TEXT.partition("\n=== USER ===\n")
_USER_PROMPT = Template(_USER_PART.strip())


def user_prompt(query: str, response: str) -> str:
    """The user message of one call. Its fence carries a mark that is new for each call and occurs in neither text,
    so that nothing in them can close it."""
    mark = secrets.token_hex(8)
    while mark in query or mark in response:
        mark = secrets.token_hex(8)
    # One pass: a "$response" written by a patient is not replaced in turn.
    return _USER_PROMPT.substitute(mark=mark, query=query, response=response)
