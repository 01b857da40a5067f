"""One place for every setting of the embedded Airflow: environment variables, nothing else."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medbill.settings import Settings
from medbill.stack.files import Home, Secrets, users
from medbill.stack.ports import HOST, Ports
from medbill.stack.postgres import Postgres
from medbill.store import temp

ROOT = Path(__file__).resolve().parents[3]
#: Of the caller's environment: what a program needs to run, and the settings that are ours to take.
_KEPT = ("PATH", "HOME", "USER", "LANG", "LC_ALL", "TZ", "TMPDIR", "SSL_CERT_FILE", "SSL_CERT_DIR", "OPENBLAS_CORETYPE")
_OURS = ("MEDBILL_", "AIRFLOW_CONN_")
#: Ids of runs as Airflow makes them: medbill_plugin.references.RUN_ID.
RUN_ID = (
    r"^(manual|scheduled|backfill|asset_triggered|asset_materialization|operator_triggered)"
    r"__\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d{1,6})?[+]00:00(_[A-Za-z0-9]{8})?$"
)


@dataclass(frozen=True)
class Checkout:
    """Where the code lies: the folders Airflow reads."""

    root: Path = ROOT

    @property
    def dags(self) -> Path:
        return self.root / "dags"

    @property
    def plugins(self) -> Path:
        return self.root / "plugins"

    @property
    def include(self) -> Path:
        return self.root / "include"


def openlineage_transport(events: Path) -> dict[str, object]:
    """Lineage goes to a local file, through our allow-list of facets, and nowhere else."""
    return {
        "type": "transform",
        "transformer_class": "medbill.lineage.transformer.AllowListTransformer",
        "transport": {"type": "file", "log_file_path": str(events), "append": True},
    }


def airflow_env(settings: Settings, ports: Ports, checkout: Checkout | None = None) -> dict[str, str]:
    """The whole environment of Airflow's processes and, through them, of every task."""
    code = checkout or Checkout()
    home = Home(settings.home)
    secrets = Secrets.of(home)
    postgres = Postgres(home)
    api = f"http://{HOST}:{ports.api}"
    options: dict[tuple[str, str], object] = {
        ("core", "dags_folder"): code.dags,
        ("core", "plugins_folder"): code.plugins,
        ("core", "load_examples"): False,
        ("core", "executor"): "LocalExecutor",
        # two cores: more tasks at once only make each slower
        ("core", "parallelism"): 4,
        ("core", "max_active_tasks_per_dag"): 4,
        ("core", "fernet_key"): secrets.fernet_key,
        ("core", "execution_api_server_url"): f"{api}/execution/",
        ("core", "simple_auth_manager_users"): ",".join(f"{user}:{role}" for user, role in users().items()),
        ("core", "simple_auth_manager_passwords_file"): home.passwords,
        # what may lie in Airflow at all: docs/airflow_doors.md
        ("core", "xcom_backend"): "medbill_plugin.xcom.ReferenceXCom",
        ("core", "max_templated_field_length"): 512,
        ("scheduler", "allowed_run_id_pattern"): RUN_ID,
        ("logging", "logging_config_class"): "medbill_plugin.log_config.LOGGING_CONFIG",
        ("core", "hostname_callable"): "medbill.stack.environment.hostname",
        ("database", "sql_alchemy_conn"): postgres.url("airflow"),
        ("database", "sql_alchemy_conn_async"): postgres.url("airflow", "asyncpg"),
        ("api", "host"): HOST,
        ("api", "port"): ports.api,
        ("api", "base_url"): api,
        ("api", "secret_key"): secrets.session_key,
        ("api", "workers"): 1,
        ("api_auth", "jwt_secret"): secrets.jwt_secret,
        ("dag_processor", "parsing_processes"): 1,
        ("dag_processor", "min_file_process_interval"): 60,
        ("dag_processor", "refresh_interval"): 60,
        ("dag_processor", "dag_file_processor_timeout"): 120,
        ("core", "dagbag_import_timeout"): 90,
        ("scheduler", "scheduler_health_check_threshold"): 60,
        # a task whose process died is retried after a minute, not after five
        ("scheduler", "task_instance_heartbeat_timeout"): 60,
        ("triggerer", "triggerer_health_check_threshold"): 60,
        # a busy machine answers late; a task given up for that would only be run again
        ("workers", "execution_api_timeout"): 60,
        ("dag_processor", "health_check_threshold"): 60,
        ("logging", "worker_log_server_port"): ports.task_logs,
        ("logging", "trigger_log_server_port"): ports.trigger_logs,
        ("logging", "colored_console_log"): False,
        ("logging", "namespace_levels"): "great_expectations=WARNING",
        ("usage_data_collection", "enabled"): False,
        ("openlineage", "namespace"): "medbill",
        ("openlineage", "transport"): json.dumps(openlineage_transport(home.lineage)),
        ("openlineage", "execute_in_thread"): True,
        ("openlineage", "extractors"): "medbill_plugin.extractor.TaskExtractor",
        ("openlineage", "emission_policy"): json.dumps([{"scope": {}, "controls": {"include_source_code": False}}]),
    }
    env = {name: value for name, value in os.environ.items() if name in _KEPT or name.startswith(_OURS)}
    env.update({f"AIRFLOW__{section.upper()}__{key.upper()}": str(value) for (section, key), value in options.items()})
    env.update(medbill_env(settings))
    env.update(temp.environment(settings.home))
    env.update(
        AIRFLOW_HOME=str(home.airflow),
        PYTHONPATH=os.pathsep.join((str(code.include), str(code.plugins))),
        PYTHONUNBUFFERED="1",
        GX_ANALYTICS_ENABLED="false",
        DO_NOT_TRACK="1",
    )
    for name, login, connection in _sandbox_connections(home, ports):
        # the sandbox's made-up accounts, unless the caller's environment brings a real one
        if login in env.get(name, login):
            env[name] = json.dumps(connection)
    env.pop("MEDBILL_ACTOR", None)  # a task acts for nobody
    env.pop("MEDBILL_ADMIN_DATABASE_URL", None)  # and migrates nothing
    return env


def _sandbox_connections(home: Home, ports: Ports) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Variable, login and content of the Airflow connection to each stand-in that was seeded."""
    more: tuple[str, ...]
    if account := home.read("sandbox/credentials.json"):
        yield (
            "AIRFLOW_CONN_DRCHRONO_LAKESIDE",
            account["client_id"],
            {
                "conn_type": "http",
                "host": f"http://{HOST}:{ports.sandbox}",
                "login": account["client_id"],
                "password": account["client_secret"],
                "extra": {"refresh_token": account["refresh_token"]},
            },
        )
    if account := home.read("sandbox/tebra/credentials.json"):
        url = f"http://{HOST}:{ports.tebra}"
        more = ("customer_key", "practice_name", "practice_id", "fhir_client_id", "fhir_client_secret", "fhir_scope")
        yield (
            "AIRFLOW_CONN_TEBRA_RIVERTON",
            account["user"],
            {
                "conn_type": "http",
                "host": url,
                "login": account["user"],
                "password": account["password"],
                "extra": {"fhir_host": url, **{name: account[name] for name in more}},
            },
        )
    if account := home.read("sandbox/advancedmd/credentials.json"):
        more = ("office_code", "app_name", "profile_npis", "calls_per_minute")
        yield (
            "AIRFLOW_CONN_ADVANCEDMD_CEDARHILL",
            account["user"],
            {
                "conn_type": "http",
                "host": f"http://{HOST}:{ports.advancedmd}",
                "login": account["user"],
                "password": account["password"],
                "extra": {name: account[name] for name in more},
            },
        )
    if account := home.read("sandbox/carecloud/credentials.json"):
        url = f"http://{HOST}:{ports.carecloud}"
        more = ("refresh_token", "fhir_client_id", "fhir_client_secret", "fhir_scope", "write_back")
        yield (
            "AIRFLOW_CONN_CARECLOUD_PINEGROVE",
            account["client_id"],
            {
                "conn_type": "http",
                "host": url,
                "login": account["client_id"],
                "password": account["client_secret"],
                "extra": {"fhir_host": url, **{name: account[name] for name in more}},
            },
        )


def medbill_env(settings: Settings) -> dict[str, str]:
    """The same settings for a child process, with absolute paths."""
    return {
        "MEDBILL_HOME": str(settings.home),
        "MEDBILL_DATABASE_URL": settings.database_url,
        "MEDBILL_OBJECTS": settings.objects,
        "MEDBILL_INBOX": settings.inbox,
        "MEDBILL_REPORTS": str(settings.reports),
        "MEDBILL_KEYRING": str(settings.keyring),
        "MEDBILL_POLICIES": str(settings.policies),
        "MEDBILL_SQL": str(settings.sql),
        "MEDBILL_GREAT_EXPECTATIONS": str(settings.great_expectations),
    }


def hostname() -> str:
    """The name task logs are served under; everything of this stack listens on loopback."""
    return HOST
