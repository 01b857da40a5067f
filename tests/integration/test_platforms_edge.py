"""The way out to a platform, with budget and circuit in a real database: deadline, size cap, shared count, breaker, command."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from medbill.cli import app
from medbill.errors import PlatformError, PlatformUnknownOutcome
from medbill.platforms import circuit as circuit_module
from medbill.platforms import registry
from medbill.platforms.base import Certainty
from medbill.platforms.budget import DatabaseCalls, Limit, RateBudget, always
from medbill.platforms.circuit import DatabaseCircuit
from medbill.platforms.http import SCOPE_HEADER, Call, Edge, scope
from medbill.sandbox import advancedmd, carecloud, drchrono, tebra
from medbill.sandbox.seed import seed_advancedmd, seed_carecloud, seed_practice, seed_tebra
from medbill.sandbox.server import Server
from platform_world import served

pytestmark = pytest.mark.slow

TODAY = date(2026, 6, 25)


class Script(ThreadingHTTPServer):
    """Answers what it is told: (status, headers, body), or "hang", or "drip" (a byte every tenth of a second)."""

    daemon_threads = True

    def __init__(self) -> None:
        self.answers: list[Any] = []
        self.seen: list[dict[str, str]] = []
        super().__init__(("127.0.0.1", 0), _Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Script

    def log_message(self, format: str, *args: Any) -> None: ...

    def do_GET(self) -> None:
        self.server.seen.append(dict(self.headers))
        answer = self.server.answers.pop(0) if self.server.answers else (200, {}, b"ok")
        try:
            if answer in ("hang", "drip"):
                self.send_response(200)
                self.send_header("Content-Length", "1000")
                self.end_headers()
                for _ in range(20):
                    time.sleep(0.1)
                    if answer == "drip":
                        self.wfile.write(b".")
                self.close_connection = True
                return
            status, headers, body = answer
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
        except OSError:
            self.close_connection = True

    do_POST = do_GET


@pytest.fixture
def script() -> Iterator[Script]:
    with served(Script()) as server:
        yield server


def edge(script: Script, **options: Any) -> Edge:
    options = {"hosts": frozenset(), "budget": RateBudget(always(), max_wait=3), "timeout": 1.0, **options}
    return Edge(script.url, **options)


def call(**more: Any) -> Call:
    return Call("GET", "/x", "GET /x", **more)


def test_the_deadline_holds_over_all_attempts(script: Script) -> None:
    script.answers = ["drip"] * 9
    began = time.monotonic()
    with pytest.raises(PlatformError) as error:
        edge(script, timeout=5.0, deadline=1.0).send(call())
    assert error.value.code == "PLATFORM_UNREACHABLE" and time.monotonic() - began < 3


def test_an_answer_that_is_too_large_is_not_read_to_its_end(script: Script) -> None:
    script.answers = [(200, {}, b"x" * 100_000)]
    with pytest.raises(PlatformError) as error:
        edge(script, most_bytes=10_000).send(call())
    assert error.value.code == "PLATFORM_BAD_ANSWER"
    script.answers = [(201, {}, b"x" * 100_000)]
    with pytest.raises(PlatformUnknownOutcome):
        edge(script, most_bytes=10_000).send(call(write=True))


def test_redirects_are_not_followed(script: Script) -> None:
    script.answers = [(302, {"Location": "https://evil.example/"}, b"")]
    with pytest.raises(PlatformError, match="redirects"):
        edge(script).send(call())
    assert len(script.seen) == 1


def test_retry_after_may_be_a_date(script: Script) -> None:
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=2), usegmt=True)
    script.answers = [(429, {"Retry-After": soon}, b"")]
    began = time.monotonic()
    assert edge(script).send(call()).status == 200
    assert time.monotonic() - began > 0.5


def test_the_scope_goes_along_without_a_value(script: Script) -> None:
    edge(script).send(call(scope=scope("charges", frozenset({"ID", "Status"}))))
    assert script.seen[0][SCOPE_HEADER] == "purpose=payment; object=charges; fields=ID,Status"


@pytest.mark.parametrize(
    ("url", "hosts", "allowed"),
    [
        ("https://api.example.com", {"api.example.com"}, True),
        ("https://a.example.com", {".example.com"}, True),
        ("https://example.com.evil.net", {".example.com"}, False),
        ("https://evilexample.com", {".example.com"}, False),
        ("http://api.example.com", {"api.example.com"}, False),
        ("https://api.example.com/path", {"api.example.com"}, False),
        ("https://user@api.example.com", {"api.example.com"}, False),
    ],
)
def test_only_named_hosts_over_tls(url: str, hosts: set[str], allowed: bool) -> None:
    made = None
    try:
        made = Edge(url, hosts=frozenset(hosts), budget=RateBudget(always()))
    except PlatformError as error:
        assert error.code == "PLATFORM_HOST_REFUSED" and not allowed
    assert (made is not None) == allowed


# --- shared by workers ---


def test_workers_share_one_count(database: sa.Engine) -> None:
    """Twelve calls of three workers at 4 a second take two seconds and a bit, not one."""
    began = time.monotonic()

    def work() -> None:
        budget = RateBudget(always(Limit(4, 1)), DatabaseCalls(database, "lakeside", "drchrono"))
        for _ in range(4):
            budget.take("x")

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 2.0 <= time.monotonic() - began < 6
    other = DatabaseCalls(database, "riverton", "drchrono")
    assert other.reserve("x", [Limit(1, 3600)], 0) == 0  # another practice's account is another count


def test_a_turn_too_far_away_is_not_taken(database: sa.Engine) -> None:
    calls = DatabaseCalls(database, "lakeside", "tebra")
    assert calls.reserve("x", [Limit(1, 3600)], 60) == 0
    assert calls.reserve("x", [Limit(1, 3600)], 60) is None
    with pytest.raises(PlatformError) as error:
        RateBudget(always(Limit(1, 3600)), calls).take("x")
    assert error.value.code == "PLATFORM_RATE_LIMITED"


def test_a_platform_that_keeps_failing_is_left_alone_by_everybody(
    database: sa.Engine, script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(circuit_module, "FIRST", timedelta(seconds=1))
    script.answers = [(503, {}, b"")] * 5
    mine, other = (edge(script, circuit=DatabaseCircuit(database, "riverton", "tebra")) for _ in range(2))
    with pytest.raises(PlatformError):
        mine.send(call())  # four attempts
    with pytest.raises(PlatformError) as error:
        other.send(call())
    assert error.value.code == "PLATFORM_CIRCUIT_OPEN" and len(script.seen) == 5
    DatabaseCircuit(database, "lakeside", "drchrono").enter()  # another platform goes on
    time.sleep(1.1)
    assert mine.send(call()).status == 200  # the trial
    assert other.send(call()).status == 200
    with database.connect() as connection:
        row = connection.execute(sa.text("SELECT failures, open_until FROM medbill.platform_circuits")).one()
    assert tuple(row) == (0, None)


def test_one_worker_alone_tries_again(database: sa.Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(circuit_module, "FIRST", timedelta(0))
    circuit = DatabaseCircuit(database, "riverton", "tebra")
    for _ in range(circuit_module.THRESHOLD):
        circuit.failed("PLATFORM_ERROR")
    circuit.enter()
    with pytest.raises(PlatformError):
        DatabaseCircuit(database, "riverton", "tebra").enter()


# --- the command ---


def test_every_platform_says_what_it_can_and_how_sure_we_are() -> None:
    rows = [json.loads(line) for line in CliRunner().invoke(app, ["platforms", "show", "--json"]).output.splitlines()]
    assert {row["platform"] for row in rows} == set(registry.NAMES)
    assert {row["certainty"] for row in rows} <= {c.value for c in Certainty}
    for name in registry.NAMES:
        adapter = registry.adapter(name)
        can = {row["operation"] for row in rows if row["platform"] == name}
        assert "extract claims" in can and "check" in can
        assert {f"write {a}" for actions in adapter.actions.values() for a in actions} <= can
    assert "guess" in CliRunner().invoke(app, ["platforms", "show", "tebra"]).output


def test_check_reads_from_every_account_and_names_the_one_that_fails(
    database: sa.Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seed_practice(tmp_path / "inbox", tmp_path, TODAY, claims=5)
    seed_tebra(tmp_path / "inbox", tmp_path, TODAY)
    seed_advancedmd(tmp_path / "inbox", tmp_path, TODAY)
    seed_carecloud(tmp_path / "inbox", tmp_path, TODAY)
    stand_ins = {"drchrono": drchrono, "tebra": tebra, "advancedmd": advancedmd, "carecloud": carecloud}
    servers: dict[str, Server] = {name: module.Server(module.Sandbox(tmp_path)) for name, module in stand_ins.items()}
    for server in servers.values():
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    own = {name: server.sandbox.credentials for name, server in servers.items()}
    logins = {"DRCHRONO_LAKESIDE": "client_id", "TEBRA_RIVERTON": "user", "ADVANCEDMD_CEDARHILL": "user"}
    connections = {}
    for name, login in {**logins, "CARECLOUD_PINEGROVE": "client_id"}.items():
        platform = name.partition("_")[0].lower()
        account, url = own[platform], servers[platform].url
        password = account["client_secret" if login == "client_id" else "password"]
        more = {key: value for key, value in account.items() if key not in ("user", "password", "practice_id")}
        extra = {**more, **({"fhir_host": url} if "fhir_client_id" in account else {})}
        connections[name] = {"host": url, "login": account[login], "password": password, "extra": extra}
    for name, value in connections.items():
        monkeypatch.setenv(f"AIRFLOW_CONN_{name}", json.dumps(value))
    monkeypatch.setenv("MEDBILL_HOME", str(tmp_path))
    monkeypatch.setenv("MEDBILL_DATABASE_URL", database.url.render_as_string(hide_password=False))
    ran = CliRunner().invoke(app, ["platforms", "check"])
    assert ran.exit_code == 0 and ran.output.count("answers") == 4, ran.output
    fault = {"kind": "expired", "times": 9}
    assert httpx.post(f"{servers['tebra'].url}/_sandbox/faults", json=fault).status_code == 201
    ran = CliRunner().invoke(app, ["platforms", "check", "--json"])
    codes = {row["practice"]: row["code"] for row in map(json.loads, ran.output.splitlines())}
    assert ran.exit_code == 1 and codes.pop("riverton") == "PLATFORM_CREDENTIALS"
    assert codes == {"lakeside": "OK", "cedarhill": "OK", "pinegrove": "OK"}
    for server in servers.values():
        server.shutdown()
        server.server_close()
