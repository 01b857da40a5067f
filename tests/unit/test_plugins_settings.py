"""What keeps protected data out of Airflow is set the same way in the embedded stack and in the compose deployment."""

from __future__ import annotations

import importlib
import json
import re
import sys
from pathlib import Path

import pytest
import yaml

from medbill.settings import Settings
from medbill.stack.environment import airflow_env
from medbill.stack.ports import Ports

ROOT = Path(__file__).resolve().parents[2]
SAME = (
    "AIRFLOW__CORE__XCOM_BACKEND",
    "AIRFLOW__CORE__MAX_TEMPLATED_FIELD_LENGTH",
    "AIRFLOW__SCHEDULER__ALLOWED_RUN_ID_PATTERN",
    "AIRFLOW__LOGGING__LOGGING_CONFIG_CLASS",
    "AIRFLOW__LOGGING__NAMESPACE_LEVELS",
    "AIRFLOW__OPENLINEAGE__NAMESPACE",
    "AIRFLOW__OPENLINEAGE__EXECUTE_IN_THREAD",
    "AIRFLOW__OPENLINEAGE__EXTRACTORS",
    "AIRFLOW__OPENLINEAGE__EMISSION_POLICY",
)


@pytest.fixture
def embedded(tmp_path: Path) -> dict[str, str]:
    path = tmp_path / "home"
    (path / "airflow").mkdir(parents=True)
    return airflow_env(Settings.from_env({"MEDBILL_HOME": str(path)}), Ports())


def _compose() -> dict[str, str]:
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    return {name: str(value).replace("$$", "$") for name, value in services["worker"]["environment"].items()}


@pytest.mark.parametrize("name", SAME)
def test_both_deployments_have_it(embedded: dict[str, str], name: str) -> None:
    compose = _compose()
    if embedded[name].startswith(("{", "[")):
        assert json.loads(compose[name]) == json.loads(embedded[name])
    else:
        assert compose[name] == embedded[name]


def test_both_send_lineage_through_the_allow_list(embedded: dict[str, str]) -> None:
    for env in (embedded, _compose()):
        transport = json.loads(env["AIRFLOW__OPENLINEAGE__TRANSPORT"])
        assert transport["transformer_class"] == "medbill.lineage.transformer.AllowListTransformer"


def test_run_ids_are_those_airflow_gives_and_no_others(embedded: dict[str, str]) -> None:
    sys.path.append(str(ROOT / "plugins"))
    pattern = embedded["AIRFLOW__SCHEDULER__ALLOWED_RUN_ID_PATTERN"]
    assert pattern == importlib.import_module("medbill_plugin.references").RUN_ID
    for good in (
        "manual__2026-11-24T10:00:00.123456+00:00",
        "manual__2026-11-24T10:00:00.123456+00:00_aB3dE6gH",
        "scheduled__2026-11-24T10:00:00+00:00",
        "backfill__2026-11-24T00:00:00+00:00",
        "asset_triggered__2026-11-24T10:00:00.123456+00:00_aB3dE6gH",
    ):
        assert re.match(pattern, good), good
    for bad in ("JANE-DOE", "manual__JANE", "manual__2026-11-24T10:00:00+00:00_JANE_DOE", "x\nmanual__2026-11-24"):
        assert not re.match(pattern, bad), bad
