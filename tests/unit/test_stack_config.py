"""Files, ports and environment of the embedded stack."""

from __future__ import annotations

import json
import socket
import stat
from dataclasses import asdict
from pathlib import Path

import pytest

from medbill.settings import Settings, socket_folder
from medbill.stack import ports
from medbill.stack.environment import airflow_env
from medbill.stack.errors import StackError
from medbill.stack.files import Home, Secrets, users
from medbill.stack.ports import Ports
from medbill.stack.postgres import OPTIONS, Postgres
from medbill.stack.services import services


@pytest.fixture
def home(tmp_path: Path) -> Home:
    found = Home(tmp_path / "home")
    found.create()
    return found


def _settings(home: Home) -> Settings:
    return Settings.from_env({"MEDBILL_HOME": str(home.path)})


def test_secrets_are_made_once_and_only_their_owner_reads_them(home: Home) -> None:
    first = Secrets.of(home)
    assert Secrets.of(home) == first
    assert set(first.passwords) == set(users())
    for name in ("secrets.json", "airflow/passwords.json"):
        assert stat.S_IMODE((home.path / name).stat().st_mode) == 0o600
    assert json.loads(home.passwords.read_text()) == first.passwords


def test_two_homes_share_no_secret(home: Home, tmp_path: Path) -> None:
    other = Home(tmp_path / "other")
    other.create()
    ours, theirs = Secrets.of(home), Secrets.of(other)
    assert not set(_texts(ours)) & set(_texts(theirs))


def _texts(secrets: Secrets) -> list[str]:
    return [secrets.fernet_key, secrets.jwt_secret, secrets.session_key, *secrets.passwords.values()]


def test_a_broken_state_file_is_one_clear_error(home: Home) -> None:
    (home.path / "stack.json").write_text("{")
    with pytest.raises(StackError, match=r"stack\.json"):
        Ports.remembered(home)


def test_one_command_at_a_time(home: Home) -> None:
    with home.lock(), pytest.raises(StackError, match="another start or stop"), home.lock():
        pass


def test_a_taken_port_is_replaced_and_the_choice_remembered(home: Home) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        home.write("stack.json", {"ports": {"api": port}, "seeded": "2026-01-01"})
        chosen = Ports.choose(home)
        assert chosen.api != port
        assert ports.answers(port)
    assert len(set(asdict(chosen).values())) == len(asdict(chosen)) == 7
    assert Ports.remembered(home) == chosen
    assert home.read("stack.json")["seeded"] == "2026-01-01"
    assert Ports.choose(home) == chosen


def test_the_environment_is_closed(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "AWS_SECRET_ACCESS_KEY": "x",
        "AIRFLOW__CORE__UNIT_TEST_MODE": "True",
        "MEDBILL_ACTOR": "somebody",
    }.items():
        monkeypatch.setenv(name, value)
    env = airflow_env(_settings(home), Ports(api=18080))
    assert not {"AWS_SECRET_ACCESS_KEY", "AIRFLOW__CORE__UNIT_TEST_MODE", "MEDBILL_ACTOR"} & set(env)
    assert env["AIRFLOW__CORE__LOAD_EXAMPLES"] == "False"
    assert env["AIRFLOW__USAGE_DATA_COLLECTION__ENABLED"] == "False"
    assert env["GX_ANALYTICS_ENABLED"] == "false"
    assert env["AIRFLOW__API__HOST"] == "127.0.0.1"
    # a task that cannot find the API server fails with connection refused
    assert env["AIRFLOW__CORE__EXECUTION_API_SERVER_URL"] == "http://127.0.0.1:18080/execution/"
    assert env["AIRFLOW__API__BASE_URL"] == "http://127.0.0.1:18080"
    assert "SIMPLE_AUTH_MANAGER_ALL_ADMINS" not in " ".join(env)


def test_its_users_are_people_with_roles_and_one_administrator(home: Home) -> None:
    listed = airflow_env(_settings(home), Ports())["AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS"]
    found = dict(one.split(":") for one in listed.split(","))
    assert [user for user, role in found.items() if role == "admin"] == ["admin"]
    assert (found["ana.ruiz"], found["finn.aro"], found["gia.moss"]) == ("user", "op", "viewer")


def test_airflow_and_the_pipelines_connect_as_logins_of_their_own(home: Home) -> None:
    import sqlalchemy as sa

    settings = _settings(home)
    env = airflow_env(settings, Ports())
    for name in ("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_ASYNC"):
        assert sa.make_url(env[name]).username == "airflow"
    logins = {
        n: sa.make_url(getattr(settings, n)).username for n in ("database_url", "audit_url", "seal_url", "admin_url")
    }
    assert logins == {
        "database_url": "medbill",
        "audit_url": "medbill_verifier",
        "seal_url": "medbill_sealer",
        "admin_url": "postgres",
    }
    assert "postgres@" not in " ".join(env.values())


def test_lineage_goes_to_a_file_through_the_allow_list(home: Home) -> None:
    env = airflow_env(_settings(home), Ports())
    transport = json.loads(env["AIRFLOW__OPENLINEAGE__TRANSPORT"])
    assert transport["type"] == "transform"
    assert transport["transformer_class"] == "medbill.lineage.transformer.AllowListTransformer"
    assert transport["transport"] == {"type": "file", "log_file_path": str(home.lineage), "append": True}
    assert env["AIRFLOW__OPENLINEAGE__EXECUTE_IN_THREAD"] == "True"


def test_the_sandbox_account_becomes_the_connection_unless_the_caller_brings_one(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AIRFLOW_CONN_CARECLOUD_PINEGROVE", "AIRFLOW_CONN_DRCHRONO_LAKESIDE", "AIRFLOW_CONN_TEBRA_RIVERTON"):
        monkeypatch.delenv(name, raising=False)
    assert "AIRFLOW_CONN_DRCHRONO_LAKESIDE" not in airflow_env(_settings(home), Ports())
    home.sandbox.mkdir()
    account = {"client_id": "c", "client_secret": "s", "refresh_token": "r"}
    (home.sandbox / "credentials.json").write_text(json.dumps(account))
    connection = json.loads(airflow_env(_settings(home), Ports(sandbox=18090))["AIRFLOW_CONN_DRCHRONO_LAKESIDE"])
    assert (connection["host"], connection["login"], connection["password"]) == ("http://127.0.0.1:18090", "c", "s")
    assert connection["extra"] == {"refresh_token": "r"}
    (home.sandbox / "tebra").mkdir()
    own = ("user", "password", "customer_key", "practice_name", "practice_id", "fhir_client_id", "fhir_client_secret")
    account = {name: name for name in (*own, "fhir_scope")}
    (home.sandbox / "tebra" / "credentials.json").write_text(json.dumps(account))
    connection = json.loads(airflow_env(_settings(home), Ports(tebra=18091))["AIRFLOW_CONN_TEBRA_RIVERTON"])
    assert (connection["host"], connection["login"]) == ("http://127.0.0.1:18091", "user")
    assert connection["extra"]["fhir_host"] == connection["host"]
    (home.sandbox / "advancedmd").mkdir()
    account = {
        name: name for name in ("user", "password", "office_code", "app_name", "profile_npis", "calls_per_minute")
    }
    (home.sandbox / "advancedmd" / "credentials.json").write_text(json.dumps(account))
    connection = json.loads(airflow_env(_settings(home), Ports(advancedmd=18092))["AIRFLOW_CONN_ADVANCEDMD_CEDARHILL"])
    assert (connection["host"], connection["extra"]["office_code"]) == ("http://127.0.0.1:18092", "office_code")
    (home.sandbox / "carecloud").mkdir()
    own = ("client_id", "client_secret", "refresh_token", "fhir_client_id", "fhir_client_secret", "fhir_scope")
    account = {name: name for name in (*own, "write_back")}
    (home.sandbox / "carecloud" / "credentials.json").write_text(json.dumps(account))
    connection = json.loads(airflow_env(_settings(home), Ports(carecloud=18093))["AIRFLOW_CONN_CARECLOUD_PINEGROVE"])
    assert (connection["host"], connection["login"]) == ("http://127.0.0.1:18093", "client_id")
    assert connection["extra"] == {"fhir_host": connection["host"]} | {n: n for n in (*own[2:], "write_back")}
    monkeypatch.setenv("AIRFLOW_CONN_DRCHRONO_LAKESIDE", "http://real")
    assert airflow_env(_settings(home), Ports())["AIRFLOW_CONN_DRCHRONO_LAKESIDE"] == "http://real"


def test_a_long_home_gets_a_short_socket_folder(tmp_path: Path) -> None:
    assert socket_folder(Path("/srv/medbill")) == Path("/srv/medbill/postgres")
    long = Path("/srv") / ("x" * 120)
    assert len(str(socket_folder(long) / ".s.PGSQL.5432")) <= 107
    assert socket_folder(long) != socket_folder(Path("/srv") / ("y" * 120))


def test_the_database_url_is_the_stacks_own_and_survives_odd_paths(tmp_path: Path) -> None:
    import sqlalchemy as sa

    home = Home(tmp_path / "with space & sign")
    url = sa.make_url(Postgres(home).url("medbill"))
    assert url.query["host"] == str(socket_folder(home.path))
    assert _settings(home).database_url == Postgres(home).url("medbill")


def test_the_servers_log_takes_no_values() -> None:
    assert OPTIONS["log_min_error_statement"] == "panic"
    assert OPTIONS["log_error_verbosity"] == "terse"
    assert OPTIONS["log_parameter_max_length_on_error"] == "0"
    assert OPTIONS["listen_addresses"] == ""


def test_all_services_listen_on_loopback(home: Home) -> None:
    found = {s.name: s.command for s in services(home, Ports())}
    assert set(found) == {"sandbox", "api-server", "scheduler", "dag-processor", "triggerer"}
    assert "127.0.0.1" in found["api-server"]
