"""Identifiers of every kind go through success, failure, retry, kill and decisions on a real stack, and are nowhere after.

Then the control: a leak is planted in each place, each in another disguise, and every one is found.
"""

from __future__ import annotations

import base64
import gzip
import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import psutil
import pyarrow as pa
import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from medbill.pipelines.context import Context
from medbill.proposals import lifecycle
from medbill.stack.api import Airflow
from medbill.stack.lifecycle import Stack
from medbill.stack.ports import Ports
from medbill.stack.supervisor import RunState
from medbill.store import db
from medbill.store.tables import outbox, proposals
from medbill.sweep.canaries import read
from medbill.sweep.cli import app
from medbill.sweep.places import Plan
from medbill.sweep.plan import Told, plan
from medbill.sweep.run import Report, details, sweep

pytestmark = pytest.mark.slow
MINUTES = 60.0
PRACTICE = "lakeside"


def sandbox(stack: Stack, verb: str, path: str, /, **body: Any) -> Any:
    url = f"http://127.0.0.1:{Ports.remembered(stack.home).sandbox}/_sandbox/{path}"
    answer = httpx.request(verb, url, json=body or None, trust_env=False)
    assert answer.is_success, answer.text
    return answer.json()


@pytest.fixture(scope="module")
def canaries(stack: Stack) -> Path:
    """The planted identifiers, and the last name and member id of everybody else in the practice."""
    data = json.loads((stack.home.sandbox / "practice.json").read_text())
    lines = (stack.home.sandbox / "canaries.jsonl").read_text().splitlines()
    for patient in data["patients"]:
        found = {"last_name": patient["last_name"], "member_id": patient["primary_insurance"]["insurance_id_number"]}
        lines += [json.dumps({"kind": kind, "value": value}) for kind, value in found.items()]
    path = stack.home.sandbox / "canaries.jsonl"
    assert len(lines) > 250
    everybody = path.with_name("everybody.jsonl")
    everybody.write_text("\n".join(lines) + "\n")
    return everybody


def where(stack: Stack, canaries: Path, *places: str) -> Plan:
    whole = plan(stack.settings, canaries, Told(temp=[stack.home.path / "tmp"]))
    return Plan([p for p in whole.places if not places or p.name in places], whole.left)


def of_planted(stack: Stack) -> list[dict[str, Any]]:
    """Proposals on claims of planted people that nobody decided on yet."""
    claims = [c.value for c in read(stack.home.sandbox / "canaries.jsonl") if c.kind == "claim_id"]
    tokens = Context.open(stack.settings).vault(PRACTICE).tokenize("CLAIM", pa.array(claims)).to_pylist()
    with db.engine(stack.settings.admin_url).connect() as connection:
        query = sa.select(proposals).where(proposals.c.claim_token.in_(tokens), proposals.c.status == "proposed")
        return [dict(r) for r in connection.execute(query.order_by(proposals.c.id)).mappings()]


def task_process(stack: Stack) -> psutil.Process:
    """The process of the task that speaks to the platform now."""
    port = Ports.remembered(stack.home).sandbox
    (scheduler,) = [s.known for s in RunState.read(stack.home).services if s.name == "scheduler"]
    assert scheduler is not None
    deadline = time.monotonic() + 2 * MINUTES
    while time.monotonic() < deadline:
        for process in psutil.Process(scheduler.pid).children(recursive=True):
            try:
                if any(c.raddr and c.raddr.port == port for c in process.net_connections("tcp")):
                    return process
            except psutil.Error:
                continue
        time.sleep(0.2)
    raise AssertionError("no task speaks to the platform")


@pytest.fixture(scope="module")
def paths(stack: Stack, said: list[str]) -> dict[str, str]:
    """Every way a run can go, beside the success of `said`; gives how each ended."""
    waiting = of_planted(stack)
    assert len(waiting) >= 3
    with db.engine(stack.settings.admin_url).begin() as connection:
        for one in waiting[:2]:
            lifecycle.approve(connection, one["id"], one["content_hash"], "ana.poster")
        lifecycle.reject(connection, waiting[2]["id"], "ana.poster", "posted by hand", waiting[2]["content_hash"])
    ended = {}
    with stack.airflow() as airflow:
        # killed in the middle of a write-back, its platform slow to answer, and retried
        sandbox(stack, "POST", "faults", kind="slow", method="GET", path="/api/task_statuses", seconds=25, times=1)
        killed = airflow.trigger("apply_proposals")
        task_process(stack).send_signal(signal.SIGKILL)
        with db.engine(stack.settings.admin_url).begin() as connection:  # as if the five minutes of its lease were over
            mine = sa.update(outbox).where(outbox.c.status == "sending")
            assert connection.execute(mine.values(lease_until=sa.func.now())).rowcount == 1
        # a platform that answers with what is no JSON: tried three times, then failed
        fault = {"kind": "garbage", "method": "GET", "path": "/api/appointments", "times": 1000}
        sandbox(stack, "POST", "faults", **fault)
        failed = airflow.trigger("extract_drchrono")
        ended["killed"] = airflow.wait("apply_proposals", killed, 6 * MINUTES).state
        ended["tries"] = str(tries(airflow, "apply_proposals", killed))
        ended["failed"] = airflow.wait("extract_drchrono", failed, 6 * MINUTES).state
        sandbox(stack, "DELETE", "faults")
    return ended


def tries(airflow: Airflow, dag: str, run: str) -> int:
    return max(t.try_number for t in airflow.tasks(dag, run))


@pytest.fixture(scope="module")
def swept(stack: Stack, paths: dict[str, str], canaries: Path) -> Report:
    began = time.monotonic()
    report = sweep(read(canaries), where(stack, canaries))
    total = sum(s.bytes for s in report.searched)
    assert time.monotonic() - began < 5 * MINUTES, total
    return report


def test_the_paths_went_as_meant(stack: Stack, paths: dict[str, str]) -> None:
    assert paths == {"killed": "success", "tries": "2", "failed": "failed"}
    with db.engine(stack.settings.admin_url).connect() as connection:
        states = connection.execute(sa.select(outbox.c.status)).scalars().all()
    assert states and set(states) == {"applied"}


def test_the_planted_people_went_all_the_way(stack: Stack, paths: dict[str, str]) -> None:
    """Else their absence would mean nothing: their values are in the vault, and went back to the platform."""
    planted = read(stack.home.sandbox / "canaries.jsonl")
    vault = Context.open(stack.settings).vault(PRACTICE)
    for kind, of in (("CLAIM", "claim_id"), ("MEMBER", "member_id"), ("MRN", "mrn"), ("LINE", "line_id")):
        values = [c.value for c in planted if c.kind == of]
        before = vault_values(stack)
        vault.tokenize(kind, pa.array(values))
        assert vault_values(stack) - before < len(values), of  # some wait in quarantine, most had a token already
    text = json.dumps(sandbox(stack, "GET", "written"))
    assert any(c.value in text for c in planted if c.kind == "claim_id")


def vault_values(stack: Stack) -> int:
    with db.engine(stack.settings.admin_url).connect() as connection:
        return int(connection.scalar(sa.text("SELECT count(*) FROM medbill.vault_tokens")))


def test_no_planted_value_is_anywhere(swept: Report) -> None:
    assert swept.problems == []
    assert details(swept)[: swept.hits] == [] and swept.hits == 0
    assert swept.code == 0


def test_every_place_was_searched(swept: Report) -> None:
    size = {s.place: s.bytes for s in swept.searched}
    for place in (
        "airflow database: XCom",
        "airflow database: rendered fields",
        "airflow database: conf of runs",
        "airflow database: audit log",
        "airflow database: asset events",
        "airflow database: serialized DAGs",
        "airflow database: task instances",
        "airflow database: other tables",
        "medbill database: ledger",
        "medbill database: proposals and outbox",
        "medbill database: quarantine and holds",
        "medbill database: vault",
        "medbill database: other tables",
        "medbill database: system views",
        "task logs",
        "component logs and stdout",
        "PostgreSQL's log",
        "PostgreSQL's files, with its WAL",
        "lineage events",
        "objects: landing",
        "objects: deid",
        "objects: results",
        "objects: quarantine",
        "quality results and data docs",
        "reports",
        "the rest of medbill's home",
    ):
        assert size[place] > 100, place
    assert {"airflow database: HITL", "airflow database: notes", "temporary files 1"} <= size.keys()
    assert {"inbox", "sandbox", "canaries"} <= {left.name for left in swept.left}


# --- the control: every place is searched in earnest ------------------------------------------------------------------


class Leaks:
    """Plants leaks and takes them out again. made: place -> (kind, how it is written there)."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.values = {c.kind: c.value for c in reversed(read(stack.home.sandbox / "canaries.jsonl"))}
        self.made: dict[str, tuple[str, str]] = {}
        self._undo: list[Any] = []

    def append(self, place: str, path: Path, kind: str, how: str, text: str | bytes) -> None:
        data = text if isinstance(text, bytes) else text.encode()
        size = path.stat().st_size if path.exists() else None
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab") as file:
            file.write(data)
        self.made[place] = (kind, how)

        def undo() -> None:
            content = path.read_bytes()
            at = content.index(data)
            path.write_bytes(content[:at] + content[at + len(data) :])
            if size is None:
                path.unlink()

        self._undo.append(undo)

    def insert(
        self, place: str, database: str, kind: str, how: str, put: str, take: str, value: str, **more: str
    ) -> None:
        self._execute(database, put, value=value, **more)
        self.made[place] = (kind, how)
        self._undo.append(lambda: self._execute(database, take))

    def undo(self) -> None:
        for step in self._undo:
            step()

    def _execute(self, database: str, statement: str, **values: str) -> None:
        url = self.stack.postgres.url(database, login="postgres")
        engine = sa.create_engine(url, poolclass=sa.NullPool)
        with engine.begin() as connection:
            done = connection.execute(sa.text(statement), values)
            assert done.rowcount == 1, statement


@pytest.fixture(scope="module")
def leaks(stack: Stack, swept: Report) -> Iterator[Leaks]:
    made = Leaks(stack)
    v = made.values
    home = stack.home
    log = next((home.airflow / "logs").rglob("*.log"))
    made.append("task logs", log, "last_name", "case", f'\n{{"event": "Seen: {v["last_name"].upper()}"}}\n')
    url = f'\n"GET /api/patients?email={quote(v["email"], safe="")}" 200\n'
    made.append("component logs and stdout", home.logs / "api-server.log", "email", "url", url)
    made.append(
        "PostgreSQL's log",
        home.logs / "postgres.log",
        "ssn",
        "plain",
        f"\nERROR: Key (ssn)=({v['ssn']}) already exists\n",
    )
    escaped = "".join(f"\\u{ord(c):04x}" for c in v["name"])
    made.append("lineage events", home.lineage, "name", "json", f'{{"job": "{escaped}"}}\n')
    deid = Path(stack.settings.objects, "deid", PRACTICE, "leak.parquet.gz")
    made.append("objects: deid", deid, "phone", "gzip", gzip.compress(f"tel {v['phone']}".encode()))
    sealed = Path(stack.settings.objects, "landing", PRACTICE, "leak.sealed")
    made.append("objects: landing", sealed, "vin", "plain", b"\x8f\x00" + v["vin"].encode() + b"\xff")
    page = base64.b64encode(f"patient {v['mrn']} denied".encode()).decode()
    made.append(
        "reports", stack.settings.reports / "leak.html", "mrn", "base64", f'<img src="data:text/plain;base64,{page}">'
    )
    docs = stack.settings.great_expectations / "uncommitted" / "leak.json"
    made.append("quality results and data docs", docs, "street", "html", v["street"].replace(" ", "&#32;"))
    made.append(
        "temporary files 1", home.path / "tmp" / "spill", "relative", "utf-16", v["relative"].encode("utf-16-le")
    )
    made.append("the rest of medbill's home", home.path / "core", "ip_address", "hex", v["ip_address"].encode().hex())
    made.insert(
        "airflow database: XCom",
        "airflow",
        "member_id",
        "plain",
        "INSERT INTO xcom (dag_run_id, task_id, map_index, key, dag_id, run_id, value, timestamp) SELECT dag_run_id, task_id, "
        "map_index, 'leak', dag_id, run_id, to_json(CAST(:value AS text)), now() FROM xcom LIMIT 1",
        "DELETE FROM xcom WHERE key = 'leak'",
        v["member_id"],
    )
    made.insert(
        "airflow database: audit log",
        "airflow",
        "birth_date",
        "date form",
        "INSERT INTO log (event, extra) VALUES ('leak', :value)",
        "DELETE FROM log WHERE event = 'leak'",
        "airflow dags trigger -c 'born "
        + "/".join((v["birth_date"][5:7], v["birth_date"][8:], v["birth_date"][:4]))
        + "'",
    )
    made.insert(
        "airflow database: HITL",
        "airflow",
        "name",
        "order",
        "INSERT INTO hitl_detail (ti_id, options, subject, params, params_input, multiple, created_at) "
        "SELECT id, '[]', :value, '{}', '{}', false, now() FROM task_instance LIMIT 1",
        "DELETE FROM hitl_detail WHERE subject LIKE 'Approve%'",
        f"Approve {v['last_name']}, {v['first_name']}?",
    )
    made.insert(
        "airflow database: connections and variables",
        "airflow",
        "account",
        "split",
        "INSERT INTO variable (key, val, is_encrypted) VALUES ('leak', :value, false)",
        "DELETE FROM variable WHERE key = 'leak'",
        f"account {v['account'][:4]}-{v['account'][4:]}",
    )
    made.insert(
        "airflow database: notes",
        "airflow",
        "zip",
        "plain",
        "INSERT INTO dag_run_note (dag_run_id, content, created_at, updated_at) SELECT id, :value, now(), now() "
        "FROM dag_run LIMIT 1",
        "DELETE FROM dag_run_note WHERE content LIKE 'zip%'",
        f"zip code {v['zip']}",
    )
    made.insert(
        "airflow database: import errors",
        "airflow",
        "photo",
        "case",
        "INSERT INTO import_error (filename, stacktrace, timestamp) VALUES ('leak.py', :value, now())",
        "DELETE FROM import_error WHERE filename = 'leak.py'",
        f"KeyError: '{v['photo'].upper()}'",
    )
    for place, table, kind in (
        ("airflow database: conf of runs", "dag_run", "claim_id"),
        ("airflow database: asset events", "asset_event", "policy"),
        ("airflow database: rendered fields", "rendered_task_instance_fields", "device"),
    ):
        column = {"dag_run": "conf", "asset_event": "extra"}.get(table, "rendered_fields")
        made.insert(
            place,
            "airflow",
            kind,
            "plain",
            f"UPDATE {table} SET {column} = json_build_object('leak', CAST(:value AS text), 'was', {column}) "
            f"WHERE ctid = (SELECT ctid FROM {table} LIMIT 1)",
            f"UPDATE {table} SET {column} = {column}->'was' WHERE {column}->>'leak' IS NOT NULL",
            v[kind],
        )
    made.insert(
        "medbill database: quarantine and holds",
        "medbill",
        "licence",
        "split",
        "UPDATE medbill.quarantine SET reason = reason || :value WHERE id = (SELECT min(id) FROM medbill.quarantine)",
        "UPDATE medbill.quarantine SET reason = split_part(reason, '#leak', 1) WHERE reason LIKE '%#leak%'",
        "#leak " + "\n".join((v["licence"][:3], v["licence"][3:7], v["licence"][7:])),
    )
    yield made
    made.undo()


def test_a_leak_in_each_place_is_found(stack: Stack, leaks: Leaks, canaries: Path) -> None:
    report = sweep(read(canaries), where(stack, canaries, *leaks.made))
    assert report.problems == [] and report.code == 1
    missed = []
    for place, (kind, how) in leaks.made.items():
        counts = report.of(place).counts
        if not any(seen.startswith(f"{kind}, ") and how in seen for seen in counts):
            missed.append((place, kind, how, dict(counts)))
    assert missed == []
    text = "\n".join(details(report))
    assert not any(value in text for value in leaks.values.values())  # a report repeats no value


def test_a_leak_that_is_taken_out_is_gone(stack: Stack, leaks: Leaks, canaries: Path) -> None:
    leaks.undo()
    leaks._undo.clear()
    report = sweep(read(canaries), where(stack, canaries, *leaks.made))
    assert details(report)[: report.hits] == [] and report.code == 0


def test_the_command_says_the_same(stack: Stack, leaks: Leaks, canaries: Path, tmp_path: Path) -> None:
    """On the command line, over a few places: clean 0, a hit 1, a place that is not there 2."""
    few = ["airflow-database", "medbill-database", "postgres-files", "objects", "quality", "home", "temp"]
    command = ["--canaries", str(canaries), *(x for name in few for x in ("--without", f"{name}=searched above"))]
    env = {"MEDBILL_HOME": str(stack.home.path)}
    clean = CliRunner().invoke(app, command, env=env)
    assert clean.exit_code == 0, clean.output
    assert "left out: quality (searched above)" in clean.output and "task logs" in clean.output
    (tmp_path / "mail.txt").write_text(f"Dear {leaks.values['name']}")
    hit = CliRunner().invoke(app, [*command, "--place", f"mail={tmp_path}"], env=env)
    assert hit.exit_code == 1 and "HIT name #" in hit.output, hit.output
    assert leaks.values["last_name"] not in hit.output
    gone = CliRunner().invoke(app, [*command, "--place", f"mail={tmp_path / 'nowhere'}"], env=env)
    assert gone.exit_code == 2 and "CANNOT SEARCH" in gone.output, gone.output
