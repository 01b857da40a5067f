"""From the command line to the platform: real PostgreSQL, real vault and ledger, the stand-in DrChrono over HTTP."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from medbill.audit.ledger import Ledger, RunContext
from medbill.deid.vault import Vault
from medbill.errors import DecisionRefused
from medbill.platforms.base import WriteBack
from medbill.platforms.budget import RateBudget, always
from medbill.platforms.drchrono import DrChrono
from medbill.platforms.oauth import Credentials
from medbill.proposals import cli, lifecycle, outbox
from medbill.proposals.content import proposal_id
from medbill.proposals.lifecycle import Draft
from medbill.proposals.outbox import DispatchResult
from medbill.sandbox.drchrono import Limits, Sandbox, Server
from medbill.sandbox.seed import seed_practice
from medbill.store.keys import LocalKeyring
from platform_world import served

pytestmark = pytest.mark.slow

POLICIES = Path(__file__).resolve().parents[2] / "include" / "policies"
RUN = CliRunner()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    seed_practice(tmp_path / "inbox", tmp_path / "state", date(2026, 6, 25), claims=20)
    with served(Server(Sandbox(tmp_path / "state", Limits(1000, 100_000)))) as server:
        yield server


@pytest.fixture
def platform(server: Server, tmp_path: Path) -> Iterator[DrChrono]:
    credentials = Credentials.from_file(tmp_path / "state" / "credentials.json")
    with DrChrono(
        server.url, credentials, policies=POLICIES, timeout=2, budget=RateBudget(always(), max_wait=5)
    ) as platform:
        yield platform


@pytest.fixture
def vault(database: sa.Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Vault:
    monkeypatch.setenv("MEDBILL_DATABASE_URL", database.url.render_as_string(hide_password=False))
    monkeypatch.delenv("MEDBILL_ACTOR", raising=False)
    return Vault(database, LocalKeyring(tmp_path / "keyring.json"), "lakeside")


@pytest.fixture
def claim_id(platform: DrChrono) -> str:
    tables = platform.extract(date(2026, 6, 25) - timedelta(days=120), date(2026, 6, 25)).tables
    return str(tables["claims"]["claim_id"][0].as_py())


@pytest.fixture
def proposed(database: sa.Engine, vault: Vault, claim_id: str) -> str:
    """One posting of 80.00, proposed; its id."""
    claim, line, trace = (
        vault.tokenize(kind, pa.array([value]))[0].as_py()
        for kind, value in (("CLAIM", claim_id), ("LINE", "9031"), ("TRACE", "EFT77"))
    )
    money = {"charge": "100.00", "paid": "80.00", "contractual": "20.00", "denied": "0.00", "other": "0.00"}
    patient = {"deductible": "0.00", "coinsurance": "0.00", "copay": "0.00", "patient_other": "0.00"}
    payload = {
        "posting": {
            **money,
            "patient_responsibility": "0.00",
            "payer_name": "Acme",
            "payment_date": "2026-11-02",
            "trace_token": trace,
            "is_reversal": False,
            "claim_token": claim,
            "note": None,
        },
        "lines": [{**money, **patient, "line_number": 1, "line_token": line, "procedure_code": "99213"}],
    }
    with database.begin() as connection:
        lifecycle.propose(
            connection,
            [Draft("lakeside", "posting", date(2026, 11, 2), claim, "k-0", "Post 80.00", Decimal(80), 20, payload)],
        )
    return proposal_id("lakeside", "posting", "k-0")


def _run(*arguments: str, **options: Any) -> Any:
    result = RUN.invoke(cli.app, list(arguments), **options)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def _dispatch(database: sa.Engine, platform: DrChrono, vault: Vault) -> DispatchResult:
    return outbox.dispatch(
        database, "lakeside", platform, vault, Ledger(database, RunContext()), lease=timedelta(0), quiet=timedelta(0)
    )


def _written(server: Server) -> str:
    return httpx.get(f"{server.url}/_sandbox/written").text


def test_approved_on_the_command_line_written_to_the_platform_once(
    database: sa.Engine, server: Server, platform: DrChrono, vault: Vault, proposed: str, claim_id: str
) -> None:
    assert _dispatch(database, platform, vault) == DispatchResult()
    shown = _run("approve", proposed, "--actor", "Ana Ruiz", input="y\n")
    assert shown.exit_code == 0
    assert "paid $80.00" in shown.output and "content " in shown.output
    assert "9031" not in shown.output and "EFT77" not in shown.output  # people decide on tokens
    assert _dispatch(database, platform, vault) == DispatchResult(applied=2)
    assert _dispatch(database, platform, vault) == DispatchResult()
    written = _written(server)
    assert "Post insurance payment $80.00: Acme" in written
    assert "(item 9031)" in written and "check/EFT EFT77" in written
    row = json.loads(_run("show", proposed, "--json").output)
    assert row["status"] == "applied"
    for row_of_one in row["write_backs"]:
        receipt = row_of_one["receipt"]
        key = receipt["reference"].removeprefix("medbill:")
        found = platform.find(WriteBack(key, row_of_one["action"], claim_id, "", ""))
        assert found is not None and found.as_dict() == receipt
    with database.connect() as connection:
        kinds = connection.execute(sa.text("SELECT kind, outcome FROM audit.rows ORDER BY recorded_at")).all()
    assert ("proposal.decision", "success") in kinds
    assert [k for k in kinds if k[0] == "proposal.apply"] == [("proposal.apply", o) for o in ("intent", "success")] * 2


def test_an_answer_that_is_lost_after_the_platform_took_it(
    database: sa.Engine, server: Server, platform: DrChrono, vault: Vault, proposed: str
) -> None:
    assert _run("approve", proposed, "--actor", "Ana Ruiz", "--yes").exit_code == 0
    fault = {"method": "POST", "path": "/api/tasks", "kind": "drop_after"}
    assert httpx.post(f"{server.url}/_sandbox/faults", json=fault).status_code == 201
    assert _dispatch(database, platform, vault) == DispatchResult(unknown=1)
    assert _dispatch(database, platform, vault) == DispatchResult(applied=2)
    assert _written(server).count("Post insurance payment $80.00: Acme") == 1


def test_a_failed_write_back_is_retried_on_the_command_line(
    database: sa.Engine, server: Server, platform: DrChrono, vault: Vault, proposed: str
) -> None:
    assert _run("approve", proposed, "--actor", "Ana Ruiz", "--yes").exit_code == 0
    fault = {"method": "POST", "path": "/api/tasks", "kind": "error", "status": 400, "times": 5}
    assert httpx.post(f"{server.url}/_sandbox/faults", json=fault).status_code == 201
    for _ in range(5):
        _dispatch(database, platform, vault)
    assert json.loads(_run("show", proposed, "--json").output)["status"] == "failed"
    with pytest.raises(DecisionRefused, match="person's name"):
        _run("retry", proposed, "--actor", "medbill")
    assert "written back again" in _run("retry", proposed, "--actor", "Ana Ruiz", "--note", "form repaired").output
    assert _dispatch(database, platform, vault) == DispatchResult(applied=2)
    assert _written(server).count("Post insurance payment $80.00: Acme") == 1
    with database.connect() as connection:
        rows = connection.execute(sa.text("SELECT convert_from(payload, 'UTF8') FROM audit.rows")).scalars().all()
    assert [r for r in rows if '"retried"' in r and "Ana Ruiz" in r]
    with pytest.raises(DecisionRefused, match="only a failed proposal"):
        _run("retry", proposed, "--actor", "Ana Ruiz")


def test_the_command_line_refuses_what_the_lifecycle_refuses(vault: Vault, proposed: str, tmp_path: Path) -> None:
    for arguments in (
        ["approve", proposed, "--hash", "0" * 64, "--actor", "Ana Ruiz"],
        ["approve", "no-such-id", "--hash", "0" * 64, "--actor", "Ana Ruiz"],
    ):
        try:
            assert _run(*arguments).exit_code == 1
        except DecisionRefused:
            assert "no-such-id" in arguments
    for arguments in (
        ["approve", proposed, "--yes"],
        ["approve", proposed, "--actor", "medbill", "--yes"],
        ["reject", proposed, "--actor", "Ana Ruiz"],
        ["edit", proposed, "--actor", "Ana Ruiz", "--file", str(tmp_path / "absent.json")],
    ):
        with pytest.raises(DecisionRefused):
            _run(*arguments)
    assert _run("approve", "--actor", "Ana Ruiz").exit_code == 2
    assert _run("approve", proposed, "--actor", "Ana Ruiz", input="n\n").exit_code == 1
    assert json.loads(_run("list", "--json").output)["status"] == "proposed"


def test_edit_reject_and_a_batch(database: sa.Engine, vault: Vault, proposed: str, tmp_path: Path) -> None:
    payload = json.loads(_run("show", proposed, "--json").output)["payload"]
    payload["posting"]["note"] = "posted with the Tuesday deposit"
    edited = tmp_path / "edited.json"
    edited.write_text(json.dumps(payload))
    assert "edited and approved" in _run("edit", proposed, "--actor", "Ana Ruiz", "--file", str(edited)).output
    with database.begin() as connection:
        for key in ("k-1", "k-2"):
            lifecycle.propose(
                connection,
                [
                    Draft(
                        "lakeside",
                        "posting",
                        date(2026, 11, 2),
                        payload["posting"]["claim_token"],
                        key,
                        "t",
                        Decimal(80),
                        20,
                        {**payload, "key": key},
                    )
                ],
            )
    second = proposal_id("lakeside", "posting", "k-2")
    assert "rejected" in _run("reject", second, "--actor", "Ben Ode", "--note", "posted by hand").output
    batch = _run("approve", "--all", "--kind", "posting", "--day", "2026-11-02", "--actor", "Ana Ruiz", "--yes")
    assert batch.output.count("  approved") == 1
    assert (
        _run("approve", "--all", "--kind", "posting", "--day", "2026-11-02", "--actor", "Ana Ruiz").output
        == "nothing to approve\n"
    )
    assert [line.split()[2] for line in _run("list").output.splitlines()].count("rejected") == 1


@pytest.mark.parametrize("actor", ["Cai Lin", "Finn Aro", "Nobody Known"])
def test_who_lacks_the_role_decides_nothing_and_the_ledger_says_so(
    database: sa.Engine, vault: Vault, proposed: str, actor: str, tmp_path: Path
) -> None:
    edited = tmp_path / "edited.json"
    edited.write_text("{}")
    for command in (
        ["approve", proposed, "--yes"],
        ["approve", "--all", "--kind", "posting", "--day", "2026-11-02", "--yes"],
        ["reject", proposed, "--note", "no"],
        ["edit", proposed, "--file", str(edited)],
        ["retry", proposed],
    ):
        with pytest.raises(DecisionRefused) as caught:
            _run(*command, "--actor", actor)
        assert caught.value.code == "ROLE_REFUSED"
    assert json.loads(_run("list", "--json").output)["status"] == "proposed"
    with database.connect() as connection:
        told = connection.execute(
            sa.text("SELECT on_behalf_of, outcome FROM audit.rows WHERE resource = :r"), {"r": f"proposal:{proposed}"}
        )
        assert told.all() == [(actor, "failure")] * 5
