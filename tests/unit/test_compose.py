"""docker-compose.yml: valid by the compose specification, pinned, without a secret in it or a default for one."""

from __future__ import annotations

import importlib.resources
import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
FILE = ROOT / "docker-compose.yml"
TEXT = FILE.read_text()
#: Services that come and go by design; all others must be watched.
JOBS = {"migrate", "objects-setup"}
_VARIABLE = re.compile(r"(?<!\$)\$\{([A-Z0-9_]+)([^}]*)\}")


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    return yaml.safe_load(TEXT)


def test_it_is_valid_by_the_compose_specification(compose: dict[str, Any]) -> None:
    # the schema travels inside check-jsonschema
    package = importlib.resources.files("check_jsonschema") / "builtin_schemas" / "vendor"
    schema = json.loads((package / "compose-spec.json").read_text())
    jsonschema.validators.validator_for(schema)(schema).validate(compose)


def test_it_has_all_parts_of_a_deployment(compose: dict[str, Any]) -> None:
    parts = {
        "postgres",
        "redis",
        "objects",
        "migrate",
        "api-server",
        "scheduler",
        "dag-processor",
        "triggerer",
        "worker",
    }
    assert parts <= set(compose["services"])


def test_every_image_is_pinned_to_a_version(compose: dict[str, Any]) -> None:
    for name, service in compose["services"].items():
        tag = service["image"].rpartition(":")[2]
        assert re.search(r"\d+\.\d+|RELEASE\.\d{4}-\d\d-\d\d", tag), f"{name}: {service['image']}"
    assert re.search(r"^FROM apache/airflow:3\.3\.2-python3\.12$", (ROOT / "Dockerfile").read_text(), re.M)


def test_no_variable_has_a_default_and_each_says_what_it_is() -> None:
    found = _VARIABLE.findall(TEXT)
    assert found
    for name, rest in found:
        assert re.fullmatch(r":\?.+", rest), f"{name} must be required, with a message"


def test_everything_secret_comes_from_the_environment(compose: dict[str, Any]) -> None:
    secret = re.compile(
        r"PASSWORD|SECRET|FERNET|ACCESS_KEY|TOKEN|SQL_ALCHEMY_CONN|BROKER_URL|RESULT_BACKEND|DATABASE_URL"
    )
    for name, service in compose["services"].items():
        for variable, value in (service.get("environment") or {}).items():
            if secret.search(variable):
                assert _VARIABLE.search(str(value)), f"{name}: {variable}"
    assert not re.search(r"//[^$\s{}]*:[^$\s{}@]+@", TEXT), "a password inside a URL"


def test_every_service_restarts_and_is_watched(compose: dict[str, Any]) -> None:
    for name, service in compose["services"].items():
        if name in JOBS:
            assert service["restart"] == "on-failure", name
        else:
            assert service["restart"] == "unless-stopped", name
            assert service["healthcheck"]["test"], name


def test_only_the_api_is_published_and_only_to_this_host(compose: dict[str, Any]) -> None:
    published = {n: s["ports"] for n, s in compose["services"].items() if "ports" in s}
    assert published == {"api-server": ["127.0.0.1:8080:8080"]}


def test_stores_are_on_an_internal_network_only(compose: dict[str, Any]) -> None:
    assert compose["networks"]["inside"] == {"internal": True}
    for name in ("postgres", "redis", "objects", "objects-setup"):
        assert compose["services"][name]["networks"] == ["inside"], name


def test_code_and_policies_are_mounted_read_only(compose: dict[str, Any]) -> None:
    for name, service in compose["services"].items():
        for mount in service.get("volumes", []):
            if mount.startswith("./"):
                assert mount.endswith(":ro"), f"{name}: {mount}"


def test_airflow_runs_unprivileged_with_fab_and_without_phoning_home(compose: dict[str, Any]) -> None:
    environment = compose["services"]["scheduler"]["environment"]
    assert environment["AIRFLOW__CORE__AUTH_MANAGER"].endswith("FabAuthManager")
    assert environment["AIRFLOW__CORE__EXECUTOR"] == "CeleryExecutor"
    assert json.loads(environment["AIRFLOW__OPENLINEAGE__TRANSPORT"])["type"] == "transform"
    for name in ("api-server", "scheduler", "dag-processor", "triggerer", "worker", "migrate"):
        assert compose["services"][name]["cap_drop"] == ["ALL"], name
    image = (ROOT / "Dockerfile").read_text()
    assert re.findall(r"^USER (\w+)$", image, re.M)[-1] == "airflow"
    assert "--require-hashes" in image
    assert "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED=False" in image


def test_postgresql_is_reached_by_tls_and_scram_only(compose: dict[str, Any]) -> None:
    rules = [
        line.split()
        for line in (ROOT / "deploy" / "postgres" / "pg_hba.conf").read_text().splitlines()
        if line.strip() and not line.startswith("#")
    ]
    assert rules == [["local", "all", "postgres", "peer"], ["hostssl", "all", "all", "all", "scram-sha-256"]]
    command = compose["services"]["postgres"]["command"]
    for option in ("ssl=on", "ssl_min_protocol_version=TLSv1.2", "hba_file=/etc/medbill/pg_hba.conf"):
        assert f"-c {option}" in command
    for name, service in compose["services"].items():
        environment = service.get("environment") or {}
        urls = [value for value in environment.values() if isinstance(value, str) and "@postgres/" in value]
        assert not [url for url in urls if "sslmode" in url], "one place says it, for all"
        if urls:
            assert environment["PGSSLMODE"] == "verify-full", name
            assert environment["PGCHANNELBINDING"] == "require", name
            assert environment["PGSSLROOTCERT"] == "/run/secrets/postgres_ca", name
            assert "postgres_ca" in service["secrets"], name


def test_only_the_migration_knows_the_owner_of_the_database(compose: dict[str, Any]) -> None:
    for name, service in compose["services"].items():
        text = json.dumps(service.get("environment") or {})
        assert ("medbill_admin" in text or "MEDBILL_ADMIN_DB_PASSWORD" in text) == (name in ("migrate", "postgres")), (
            name
        )
        assert ("POSTGRES_PASSWORD" in text) == (name == "postgres"), name
        assert ("medbill_sealer" in text) == ("medbill_verifier" in text) == (name in ("migrate", "worker")), name


def test_docker_itself_accepts_it_where_there_is_one(tmp_path: Path) -> None:
    """`docker compose config` where the plugin is installed; the schema test above holds everywhere."""
    docker = shutil.which("docker")
    if docker is None or subprocess.run([docker, "compose", "version"], capture_output=True).returncode:
        return
    env = {**os.environ, **{name: "x" for name, _ in _VARIABLE.findall(TEXT)}}
    done = subprocess.run([docker, "compose", "-f", str(FILE), "config", "-q"], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
