"""The classifiers that a worker process holds. Policy, rules and model are looked up per task, so a change is followed at once.

Nothing is loaded at import: in a prefork worker ONNX must be loaded after the fork. A model and the policy with its thresholds
belong together: both are looked up in one query, and while another model is being loaded, the one before serves on under its own
policy.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import structlog
from django.conf import settings
from django.db import DatabaseError
from django.db.models import Subquery

from classifiers.combined import run_layer
from classifiers.encoder.bundle import InvalidBundle, adopt_bundles, build_bundle
from classifiers.result import ClassifierResult, Layer
from classifiers.rules.rule import Pack, RuleError
from guardreview.verdicts.artefacts import StorageFailed, artefact_fetch
from guardreview.verdicts.models import CustomRule, ModelVersion, Policy

if TYPE_CHECKING:
    from classifiers.finetuned import PharmacySafetyClassifier
    from classifiers.llm_judge import LLMJudge
    from classifiers.rule_based import RuleBasedClassifier
    from guardreview.verdicts.judge_redis import RedisStore

log = structlog.get_logger(__name__)
_loading = threading.Lock()
_loading_begins = threading.Lock()
_compiling = threading.Lock()
PATIENCE_S = 60
"""How long the model before serves while the one that is to serve is loaded, or fetched. Then the layer fails: whoever went back
from a model that is dangerous must not find it serving on."""
RETRY_S = 10
"""After how long a model that could not be loaded is tried again."""

ActiveRules = tuple[tuple[int, datetime], ...]
"""Key and moment of making of each active rule. Rules are never edited, so it says all; a restored database may reuse keys."""


@dataclass(frozen=True, slots=True)
class _Wanted:
    """A model version that is to serve; none is where `version` is empty."""

    version: str
    artefact: str


@dataclass(slots=True)
class _Loaded:
    """A model; under which policy it served last, and when."""

    version: str
    classifier: PharmacySafetyClassifier
    policy: Policy | None = None
    at: float = 0.0


@dataclass(slots=True)
class _Coming:
    """A model that is being loaded in the background, or that could not be."""

    version: str
    since: float
    failed: bool = False


@dataclass(slots=True)
class _Compiled:
    active: ActiveRules
    classifier: RuleBasedClassifier | RuleError


_loaded: _Loaded | None = None
_coming: _Coming | None = None
_pinned: ContextVar[tuple[_Wanted, PharmacySafetyClassifier | None] | None] = ContextVar("pinned", default=None)
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


def _in_force() -> tuple[Policy, _Wanted]:
    """The policy and the model version, of one moment. Raises Policy.DoesNotExist if set-up was not run."""
    active = ModelVersion.objects.filter(stage=ModelVersion.Stage.ACTIVE)
    policy = Policy.objects.annotate(
        _version=Subquery(active.values("version")[:1]), _artefact=Subquery(active.values("artefact")[:1])
    ).get(is_active=True)
    return policy, _Wanted(policy._version or "", policy._artefact or "")


@contextmanager
def serving() -> Iterator[Policy]:
    """The policy that an exchange is decided under; in the block, `finetuned` is the model that belongs to it.

    Raises Policy.DoesNotExist if set-up was not run.
    """
    policy, wanted = _in_force()
    classifier = None
    if (before := _before(wanted)) is not None and before.policy is not None:
        policy, classifier = before.policy, before.classifier
    elif (loaded := _loaded) is not None and loaded.version == wanted.version:
        classifier = loaded.classifier
    token = _pinned.set((wanted, classifier))
    try:
        yield policy
    finally:
        _pinned.reset(token)
        if before is None and (loaded := _loaded) is not None and loaded.version == wanted.version:
            loaded.policy, loaded.at = policy, time.monotonic()


def _before(wanted: _Wanted) -> _Loaded | None:
    """The model that served before, if it is to serve on while the wanted one is loaded; begins to load that."""
    global _coming
    loaded = _loaded
    if not wanted.version or loaded is None or loaded.version == wanted.version:
        return None
    now = time.monotonic()
    # Of a worker that had nothing to do, nobody knows under which policy its model served last.
    known = loaded.policy is not None and now - loaded.at < PATIENCE_S
    with _loading_begins:
        if _coming is None or _coming.version != wanted.version or (_coming.failed and now - _coming.since > RETRY_S):
            retired = ModelVersion.objects.filter(version=loaded.version, stage=ModelVersion.Stage.RETIRED)
            if not known or not retired.exists():
                return None
            _coming = _Coming(wanted.version, now)
            threading.Thread(target=_load_behind, args=(wanted, _coming), daemon=True).start()
        return None if _coming.failed or now - _coming.since > PATIENCE_S else loaded


def _load_behind(wanted: _Wanted, coming: _Coming) -> None:
    try:
        _load(wanted)
    except Exception as error:
        log.error("model_unavailable", version=wanted.version, error=str(error))
        coming.failed = True


def _load(wanted: _Wanted) -> PharmacySafetyClassifier:
    """Raises InvalidBundle, StorageFailed."""
    global _loaded, _coming
    with _loading:
        if _loaded is None or _loaded.version != wanted.version:
            classifier = model(wanted.version, wanted.artefact)
            _loaded, _coming = _Loaded(wanted.version, classifier), None
            log.info("model_loaded", version=wanted.version)
        return _loaded.classifier


def model(version: str, artefact: str) -> PharmacySafetyClassifier:
    """A model version, loaded now; fetched first, if this host lacks it. Raises InvalidBundle, StorageFailed."""
    from classifiers.finetuned import PharmacySafetyClassifier

    return PharmacySafetyClassifier(artefact_fetch(version, artefact))


def finetuned() -> PharmacySafetyClassifier:
    """The model of `serving` where that is open, else the active one; loaded on first use. Raises InvalidBundle, StorageFailed"""
    if (pinned := _pinned.get()) is not None:
        wanted, classifier = pinned
        if classifier is not None:
            return classifier
    else:
        found = ModelVersion.objects.filter(stage=ModelVersion.Stage.ACTIVE).values_list("version", "artefact").first()
        wanted = _Wanted(*found) if found else _Wanted("", "")
        if (before := _before(wanted)) is not None:
            return before.classifier
    if not wanted.version:
        raise InvalidBundle("no model version is active")
    loaded = _loaded
    if loaded is not None and loaded.version == wanted.version:
        return loaded.classifier
    return _load(wanted)


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
        with serving():
            finetuned()
    except (InvalidBundle, StorageFailed, Policy.DoesNotExist) as error:
        log.error("model_unavailable", error=str(error))
