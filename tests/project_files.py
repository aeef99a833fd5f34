"""What tests of the documentation and of the container files read from the project's own files."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
COMPUTED = object()
"""The default of a variable that is no literal."""


def settings_variables() -> dict[str, Any]:
    """Every environment variable that settings.py reads, with its default."""
    tree = ast.parse((ROOT / "guardreview" / "settings.py").read_text(encoding="utf-8"))
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and _reads_environment(node.func)]
    return {ast.literal_eval(call.args[0]): _default(call) for call in calls}


def _reads_environment(function: ast.expr) -> bool:
    if isinstance(function, ast.Attribute):
        return isinstance(function.value, ast.Name) and function.value.id == "env" and function.attr != "read_env"
    return isinstance(function, ast.Name) and function.id == "env"


def _default(call: ast.Call) -> Any:
    node = next(keyword.value for keyword in call.keywords if keyword.arg == "default")
    try:
        return ast.literal_eval(node)
    except ValueError:
        return COMPUTED


def as_environment(value: object) -> str:
    """A literal default as one would write it into `.env`."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return ",".join(value)
    return json.dumps(value) if isinstance(value, dict) else str(value)
