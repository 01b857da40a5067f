"""The roles of include/policies/roles.yml in Airflow's FAB auth manager, on a real PostgreSQL."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
MANAGER = "airflow.providers.fab.auth_manager"


@pytest.fixture(scope="module")
def fab(postgres_server: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What tests/airflow_roles.py found, after Airflow's own migration and `python -m medbill_plugin.roles`, twice."""
    name = f"t{uuid.uuid4().hex[:12]}"
    admin = sa.create_engine(postgres_server, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    with admin.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name}")
    env = {
        **{key: value for key, value in os.environ.items() if not key.startswith(("AIRFLOW", "MEDBILL_"))},
        "AIRFLOW_HOME": str(tmp_path_factory.mktemp("airflow")),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__AUTH_MANAGER": f"{MANAGER}.fab_auth_manager.FabAuthManager",
        "AIRFLOW__DATABASE__EXTERNAL_DB_MANAGERS": f"{MANAGER}.models.db.FABDBManager",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": postgres_server.replace("/postgres?", f"/{name}?"),
        "PYTHONPATH": os.pathsep.join((str(ROOT / "include"), str(ROOT / "plugins"))),
    }

    def run(*command: str) -> str:
        done = subprocess.run([sys.executable, *command], env=env, capture_output=True, text=True, timeout=400)
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout

    run("-m", "airflow", "db", "migrate")
    run("-m", "medbill_plugin.roles")
    found: dict[str, Any] = json.loads(run("tests/airflow_roles.py").partition("FOUND")[2])
    found["command again"] = run("-m", "medbill_plugin.roles")
    with admin.connect() as connection:
        connection.exec_driver_sql(f"DROP DATABASE {name} WITH (FORCE)")
    return found


def _may(fab: dict[str, Any], role: str, question: str) -> set[str]:
    return {dag for dag, answers in fab["may"][role].items() if question in answers}


def test_making_the_roles_again_changes_nothing_and_takes_back_what_was_added(fab: dict[str, Any]) -> None:
    assert fab["first"] == fab["again"] == [0, 0]  # the command had made them
    assert fab["tampered"] == [0, 1]
    assert "7 roles: 0 permissions given, 0 taken" in fab["command again"]


def test_an_analyst_reads_the_report_and_starts_nothing(fab: dict[str, Any]) -> None:
    assert _may(fab, "Analyst", "see") == {"report_denials"}
    for question in ("trigger", "clear", "pause", "read logs", "read code", "read xcom"):
        assert _may(fab, "Analyst", question) == set(), question


def test_a_coder_does_not_see_what_is_written_back(fab: dict[str, Any]) -> None:
    assert _may(fab, "Coder", "read logs") == {"extract_drchrono", "deidentify", "triage_denials"}
    assert "apply_proposals" not in _may(fab, "Coder", "see")
    assert _may(fab, "Coder", "trigger") == set()


def test_a_data_engineer_runs_and_backfills_everything(fab: dict[str, Any]) -> None:
    dags = set(fab["may"]["Data Engineer"])
    for question in ("see", "read logs", "read code", "trigger", "clear", "pause"):
        assert _may(fab, "Data Engineer", question) == dags, question
    assert "can_create Backfills" in fab["perms"]["Data Engineer"]
    assert not [
        role for role in fab["perms"] if role != "Data Engineer" and "can_create Backfills" in fab["perms"][role]
    ]


def test_billing_runs_its_own_pipelines(fab: dict[str, Any]) -> None:
    billing = {"receive_remittances", "post_payments", "triage_denials", "apply_proposals", "report_denials"}
    assert _may(fab, "Billing Manager", "trigger") == _may(fab, "Supervisor", "trigger") == billing
    assert _may(fab, "AR Specialist", "trigger") == {"triage_denials", "report_denials"}
    assert _may(fab, "AR Specialist", "see") == billing


def test_a_compliance_officer_sees_everything_and_starts_nothing(fab: dict[str, Any]) -> None:
    dags = set(fab["may"]["Compliance Officer"])
    for question in ("see", "read logs", "read audit log"):
        assert _may(fab, "Compliance Officer", question) == dags, question
    for question in ("trigger", "clear", "pause"):
        assert _may(fab, "Compliance Officer", question) == set(), question
    others = [role for role in fab["may"] if role != "Compliance Officer" and _may(fab, role, "read audit log")]
    assert others == []


def test_nobody_deletes_and_nobody_reaches_secrets(fab: dict[str, Any]) -> None:
    for role in fab["may"]:
        assert _may(fab, role, "delete") == _may(fab, role, "delete run") == set(), role
        for resource in ("Connections", "Variables", "XComs", "Configurations", "Users", "Roles", "Permission Views"):
            assert not [p for p in fab["perms"][role] if p.endswith(f" {resource}")], (role, resource)
