"""The classifiers that a worker process holds. Policy, rules and model are looked up per task, so a change is followed at once.

Nothing is loaded at import: in a prefork worker ONNX must be loaded after the fork.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import structlog
from django.conf import settings
from django.db import DatabaseError

from classifiers.combined import run_layer
from classifiers.encoder.bundle import InvalidBundle, adopt_bundles, build_bundle
from classifiers.result import ClassifierResult, Layer
from classifiers.rules.rule import Pack, RuleError
from guardreview.verdicts.models import CustomRule, ModelVersion, Policy

if TYPE_CHECKING:
    from classifiers.finetuned import PharmacySafetyClassifier
    from classifiers.llm_judge import LLMJudge
    from classifiers.rule_based import RuleBasedClassifier
    from guardreview.verdicts.judge_redis import RedisStore

log = structlog.get_logger(__name__)
_loading = threading.Lock()
_compiling = threading.Lock()

ActiveRules = tuple[tuple[int, datetime], ...]
"""Key and moment of making of each active rule. Rules are never edited, so it says all; a restored database may reuse keys."""


@dataclass(slots=True)
class _Loaded:
    version: str
    classifier: PharmacySafetyClassifier


@dataclass(slots=True)
class _Compiled:
    active: ActiveRules
    classifier: RuleBasedClassifier | RuleError


_loaded: _Loaded | None = None
_compiled: _Compiled | None = None


def active_policy() -> Policy:
    """The policy that new exchanges are decided under. Raises Policy.DoesNotExist if set-up was not run."""
    return Policy.objects.get(is_active=True)


def shipped_rules() -> RuleBasedClassifier:
    """The rule packs that ship, compiled once. Reads no database."""
    from classifiers.rule_based import RuleBasedClassifier

    return RuleBasedClassifier.default(settings.PII_ALLOW)


def rule_set(rows: Iterable[CustomRule]) -> RuleBasedClassifier:
    """The shipped rules and these, compiled now. Raises RuleError."""
    from classifiers.rule_based import PACKS, RuleBasedClassifier

    packs = [Pack.load(path) for path in sorted(PACKS.glob("*.toml"))]
    return RuleBasedClassifier(packs, [row.as_rule() for row in rows], allow=settings.PII_ALLOW)


def active_rules() -> ActiveRules:
    """Which of the administrators' rules are active: one small query, for each task."""
    return tuple(CustomRule.objects.filter(is_active=True).order_by("pk").values_list("pk", "created_at"))


def rules() -> RuleBasedClassifier:
    """The shipped rules and the administrators' active ones, compiled again when these change.

    Raises RuleError if they do not compile together: the layer then fails, since no rule may be left out unseen.
    """
    global _compiled
    active = active_rules()
    if not active:
        return shipped_rules()
    with _compiling:
        if _compiled is None or _compiled.active != active:
            keys = [key for key, _ in active]
            try:
                classifier = rule_set(CustomRule.objects.filter(pk__in=keys).order_by("pk"))
            except RuleError as error:
                log.error("rules_unavailable", error=str(error))
                _compiled = _Compiled(active, error)  # the same rules would fail again at each task
            else:
                log.info("rules_compiled", version=classifier.version, custom=len(active))
                _compiled = _Compiled(active, classifier)
        found = _compiled.classifier
    if isinstance(found, RuleError):
        raise RuleError(str(found)) from found
    return found


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


@lru_cache(maxsize=1)
def judge_store() -> RedisStore:
    """What the judge's guards and cache remember, shared by all workers."""
    from classifiers.judge.store import Limits
    from guardreview.verdicts.judge_redis import RedisStore, guard_client

    return RedisStore(guard_client(settings.REDIS_URL), Limits(**settings.JUDGE_LIMITS))


def judge_name(model: str) -> str:
    """Whom the breaker guards: an endpoint with a model."""
    return f"{settings.JUDGE['kind']} {settings.JUDGE['base_url']} {model}"


@lru_cache(maxsize=8)
def judge(model: str = "", *, policy_version: str = "", cached: bool = True) -> LLMJudge:
    """The judge of the settings, for the policy's model if it names one. Its client is made anew for each event loop.

    `cached`: whether it may give a judgment that it gave before under the same version of the policy, if the settings allow.
    """
    from classifiers.judge.cache import JudgeCache
    from classifiers.judge.guard import JudgeGuard
    from classifiers.llm_judge import LLMJudge, make_client

    conf, store = settings.JUDGE, judge_store()
    name = judge_name(model or conf["model"])
    cache = None
    if cached and conf["cache_ttl_s"]:
        secret = hashlib.sha256(b"judge cache" + settings.SECRET_KEY.encode()).digest()
        cache = JudgeCache(store, ttl_s=conf["cache_ttl_s"], secret=secret, context=(name, policy_version))
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
        options=conf["options"],
        prices=conf["prices"],
        guard=JudgeGuard(store, name),
        cache=cache,
    )


def warm_up() -> None:
    """Load rules and model before the first exchange comes, so that no patient waits for it."""
    with suppress(RuleError):  # it is in the log already
        rules()
    try:
        finetuned()
    except InvalidBundle as error:
        log.error("model_unavailable", error=str(error))
