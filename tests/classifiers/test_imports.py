"""The library stands alone: importing it costs neither torch, nor Django, nor the judge's client."""

import json
import subprocess
import sys

import pytest

HEAVY = ("torch", "sentence_transformers", "sklearn", "scipy", "transformers", "django", "openai", "onnxruntime", "celery")


@pytest.mark.parametrize(
    "module",
    [
        "combined",
        "rule_based",
        "finetuned",
        "llm_judge",
        "policy",
        "result",
        "thresholds",
        "evaluation",
        "training",
        "encoder.bundle",
    ],
)
def test_importing_a_module_imports_nothing_heavy(module: str) -> None:
    program = f"import sys, json, classifiers.{module}; print(json.dumps([name for name in {HEAVY!r} if name in sys.modules]))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []


def test_combined_imports_neither_numpy_nor_re2() -> None:
    """A web process decides nothing itself, and reads only the vocabulary."""
    program = "import sys, classifiers.combined; print([name for name in ('numpy', 're2', 'tokenizers') if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.strip() == "[]"


def test_the_encoder_imports_nothing_that_is_built_on_it() -> None:
    modules = ", ".join(f"classifiers.encoder.{name}" for name in ("embedding_cache", "encoder", "finetuning", "head"))
    program = f"import sys, {modules}; print([n for n in ('finetuned', 'training') if 'classifiers.' + n in sys.modules])"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.strip() == "[]"


def test_serving_imports_no_torch() -> None:
    """With the whole cascade run, not only imported."""
    program = """
import asyncio, sys
from classifiers.combined import CombinedSafetyClassifier
verdict = asyncio.run(CombinedSafetyClassifier(None, None).classify("Double your dose tonight.", ""))
print(verdict.decision, [name for name in ("torch", "django", "openai", "sklearn") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "block []"
