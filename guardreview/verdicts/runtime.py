"""The classifiers that a worker process holds. Policy and model are looked up per task, so that a change is followed at once.

Nothing is loaded at import: in a prefork worker ONNX must be loaded after the fork.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import structlog
from django.conf import settings
from django.db import DatabaseError

from classifiers.bundle import InvalidBundle, adopt_bundles, build_bundle
from classifiers.combined import run_layer
from classifiers.result import ClassifierResult, Layer
from guardreview.verdicts.models import ModelVersion, Policy

if TYPE_CHECKING:
    from classifiers.finetuned import PharmacySafetyClassifier
    from classifiers.llm_judge import LLMJudge
    from classifiers.rule_based import RuleBasedClassifier

log = structlog.get_logger(__name__)
_loading = threading.Lock()


@dataclass(slots=True)
class _Loaded:
    version: str
    classifier: PharmacySafetyClassifier


_loaded: _Loaded | None = None


def active_policy() -> Policy:
    """The policy that new exchanges are decided under. Raises Policy.DoesNotExist if set-up was not run."""
    return Policy.objects.get(is_active=True)


@lru_cache(maxsize=1)
def rules() -> RuleBasedClassifier:
    """The shipped rule packs, compiled once."""
    from classifiers.rule_based import RuleBasedClassifier

    return RuleBasedClassifier.default()


def shipped_bundle(*, progress: Callable[[str], None] = lambda line: None) -> Path:
    """The folder of the shipped model: there already, copied from what the image carries, or built. Raises InvalidBundle."""
    if settings.PREBUILT_MODELS_DIR:
        adopt_bundles(Path(settings.PREBUILT_MODELS_DIR), settings.MODELS_DIR)
    return build_bundle(settings.MODELS_DIR, encoder=settings.ENCODER, progress=progress)


def finetuned() -> PharmacySafetyClassifier:
    """The active model version, loaded on first use and again when another is activated. Raises InvalidBundle."""
    global _loaded
    version = ModelVersion.objects.filter(stage=ModelVersion.Stage.ACTIVE).values_list("version", flat=True).first()
    if version is None:
        raise InvalidBundle("no model version is active")
    with _loading:
        if _loaded is None or _loaded.version != version:
            from classifiers.finetuned import PharmacySafetyClassifier

            _loaded = _Loaded(version, PharmacySafetyClassifier(settings.MODELS_DIR / version))
            log.info("model_loaded", version=version)
        return _loaded.classifier


def run_fast_layer(layer: Layer, *, response: str, query: str) -> ClassifierResult:
    """Run rules or fine-tuned classifier. One that cannot be loaded is a failed layer, not a failed task."""
    try:
        classifier = rules() if layer is Layer.RULES else finetuned()
    except DatabaseError:
        raise  # it says nothing of the layer: the task comes again
    except Exception as error:
        log.error("layer_unavailable", layer=layer.value, error=type(error).__name__)
        what = "rules" if layer is Layer.RULES else "fine-tuned model"
        return ClassifierResult.failed(layer, f"the {what} could not be loaded")
    return run_layer(layer, classifier, response, query)


def judge_is_configured() -> bool:
    """Whether the environment names a judge."""
    return bool(settings.JUDGE["api_key"]) or settings.JUDGE["base_url"] != settings.OPENAI_BASE_URL


@lru_cache(maxsize=8)
def judge(model: str = "") -> LLMJudge:
    """The judge of the settings, for the policy's model if it names one. Its client is made anew for each event loop."""
    from classifiers.llm_judge import LLMJudge, make_client

    conf = settings.JUDGE
    return LLMJudge(
        lambda: make_client(
            conf["kind"],
            base_url=conf["base_url"],
            api_key=conf["api_key"],
            api_version=conf["api_version"],
            timeout_s=conf["timeout_s"],
        ),
        model=model or conf["model"],
        timeout_s=conf["timeout_s"],
        deadline_s=conf["deadline_s"],
        json_mode=conf["json_mode"],
        prices=conf["prices"],
    )


def warm_up() -> None:
    """Load rules and model before the first exchange comes, so that no patient waits for it."""
    rules()
    try:
        finetuned()
    except InvalidBundle as error:
        log.error("model_unavailable", error=str(error))
