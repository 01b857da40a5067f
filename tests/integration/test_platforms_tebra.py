"""The Tebra adapter against the stand-in server over loopback: claims out to the cent, documents in once, every fault."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import date, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pytest

from medbill.errors import PlatformError, PlatformUnknownOutcome
from medbill.model.claims import CLAIM_TABLES
from medbill.platforms import registry
from medbill.platforms import tebra as adapter_module
from medbill.platforms.base import Extraction, Platform, WriteBack
from medbill.platforms.budget import RateBudget, always
from medbill.platforms.extraction import ExtractionPolicy
from medbill.platforms.tebra import Tebra
from medbill.platforms.tebra_fhir import Documents
from medbill.sandbox.practice import RIVERTON, PracticeData, generate
from medbill.sandbox.seed import seed_tebra
from medbill.sandbox.tebra import Sandbox, Server
from platform_world import (
    KEY,
    POLICIES,
    at_once,
    copied,
    fault,
    refused_without_values,
    same,
    served,
    untried_faults,
    written,
)

TODAY = date(2026, 6, 25)
START = TODAY - timedelta(days=52)


@pytest.fixture(scope="module")
def seeded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sandbox")
    seed_tebra(folder / "inbox", folder, TODAY, claims=60, days=52)
    return folder


@pytest.fixture
def state(seeded: Path, tmp_path: Path) -> Path:
    return copied(seeded, tmp_path, "tebra")


@pytest.fixture
def server(state: Path) -> Iterator[Server]:
    with served(Server(Sandbox(state, spacing=0))) as server:
        yield server


@pytest.fixture
def platform(server: Server) -> Iterator[Tebra]:
    with connect(server) as platform:
        yield platform


def connect(server: Server, fhir: bool = True, **options: Any) -> Tebra:
    own = server.sandbox.credentials
    budget = RateBudget(always(), max_wait=5)
    documents = Documents(
        server.url, own["fhir_client_id"], own["fhir_client_secret"], own["fhir_scope"], budget=budget
    )
    options = {"policies": POLICIES, "budget": budget, "timeout": 2, **options}
    password = options.pop("password", own["password"])
    return Tebra(
        server.url,
        own["user"],
        password,
        own["customer_key"],
        practice_name=own["practice_name"],
        documents=documents if fhir else None,
        **options,
    )


def truth() -> PracticeData:
    return generate(8, START, claims=60, identity=RIVERTON)


def a_document(claim_id: str | None = None) -> WriteBack:
    claim = claim_id or str(truth().visits[0].id)
    return WriteBack(
        KEY, "document", claim, "Post insurance payment $80.00: Acme", "Claim 1\nPaid (in full)", due_on=TODAY
    )


def change(state: Path, resource: str, edit: Any) -> None:
    """Replace what the server serves by what edit makes of each record, or of the list."""
    path = state / "tebra" / "records.json"
    records = json.loads(path.read_text())
    edit(records[resource])
    path.write_text(json.dumps(records))


def test_extraction_equals_the_truth_to_the_cent(server: Server, platform: Tebra) -> None:
    found = platform.extract(START, TODAY)
    expected = truth().claim_tables()
    known = ["billing_status", "member_id", "payer_id", "place_of_service"]  # not the same on every platform
    assert {name: t.schema for name, t in found.tables.items()} == CLAIM_TABLES
    assert found.tables["claims"].drop(known).equals(expected["claims"].drop(known))
    assert found.tables["claim_lines"].equals(expected["claim_lines"])
    assert found.tables["claims"].num_rows > 40 and not found.refused and not found.unknown
    assert set(found.tables["claims"]["place_of_service"].to_pylist()) == {"11"}
    assert found.tables["claims"]["member_id"].null_count == found.tables["claims"].num_rows
    assert found.notes.num_rows > 3 and found.notes["patient_last_name"].null_count == 0
    assert server.sandbox.dropped == 0  # every member of every request stood in its place


def test_the_adapter_is_a_platform(platform: Tebra) -> None:
    checked: Platform = platform
    checked.check()
    adapter = registry.adapter("tebra")
    assert checked.name == adapter.name
    for action in adapter.actions_for("posting"):
        assert {f"write {action}", f"find {action}"} < set(adapter.capabilities)
    assert "PatientName" in checked.scope["charges"]


def test_windows_stay_within_sixty_days_and_split_no_encounter(platform: Tebra, state: Path) -> None:
    windows = list(adapter_module._windows(date(2026, 1, 1), date(2026, 12, 31)))
    assert windows[0][0] == date(2026, 1, 1) and windows[-1][1] == date(2026, 12, 31)
    assert all((high - low).days + 1 <= 60 for low, high in windows)
    assert all(b[0] - a[1] == timedelta(days=1) for a, b in pairwise(windows))
    whole = platform.extract(START - timedelta(days=200), TODAY).tables["claims"]
    assert whole.num_rows == len(truth().visits)
    visit = next(v for v in truth().visits if len(v.lines) > 1)
    next_day = visit.service_date + timedelta(days=1)

    def later(charges: list[dict[str, str]]) -> None:
        for charge in charges:
            if charge["ID"] == str(visit.lines[1].id):
                charge["ServiceStartDate"] = f"{next_day.month}/{next_day.day}/{next_day.year}"

    change(state, "charges", later)
    first = platform.extract(visit.service_date, visit.service_date).tables
    second = platform.extract(next_day, next_day).tables
    lines = first["claim_lines"].filter(pc.equal(first["claim_lines"]["claim_id"], str(visit.id)))
    assert lines.num_rows == len(visit.lines)
    assert str(visit.id) not in second["claims"]["claim_id"].to_pylist()


def test_no_rows_are_no_rows(platform: Tebra) -> None:
    found = platform.extract(date(2020, 1, 1), date(2020, 1, 31))
    assert found.tables["claims"].num_rows == 0 and found.notes.num_rows == 0 and not found.refused


def test_only_named_fields_come_out(server: Server, state: Path) -> None:
    """Every field outside the policy gets a mark, new fields of the vendor too; no mark comes through."""
    policy = ExtractionPolicy.load(POLICIES, "tebra", adapter_module._USED, adapter_module._NEEDED)
    for resource in ("charges", "providers"):

        def mark(rows: list[dict[str, str]], kept: frozenset[str] = policy.fields[resource]) -> None:
            for row in rows:
                row["NewVendorField"] = "MARKED"
                for name in row.keys() - kept - {"PracticeName"}:
                    row[name] = "MARKED"

        change(state, resource, mark)
    with connect(server) as platform:
        found = platform.extract(START, TODAY)
        assert found.tables["claims"].num_rows == len(truth().visits)
        assert "MARKED" not in str([t.to_pylist() for t in (*found.tables.values(), found.notes)]) + str(platform._npis)


def test_a_field_taken_from_the_policy_stays_empty(server: Server) -> None:
    policy = ExtractionPolicy.load(POLICIES, "tebra", adapter_module._USED, adapter_module._NEEDED)
    less = {**policy.fields, "charges": policy.fields["charges"] - {"PatientName", "LineNote"}}
    with connect(server, extraction=replace(policy, fields=less)) as platform:
        found = platform.extract(START, TODAY)
    assert found.tables["claims"]["patient_last_name"].null_count == found.tables["claims"].num_rows
    assert found.notes.num_rows == 0


# --- records that are not as they should be ---


def test_records_that_cannot_be_read_stop_their_claim_only(platform: Tebra, state: Path) -> None:
    whole = platform.extract(START, TODAY)
    one_line = [v for v in truth().visits if len(v.lines) == 1]

    def spoil(charges: list[dict[str, str]]) -> None:
        by_id = {c["ID"]: c for c in charges}
        broken = [by_id[str(v.lines[0].id)] for v in one_line[:6]]
        broken[0]["TotalCharges"] = "a lot"
        broken[1]["TotalCharges"] = "10.005"
        broken[2]["EncounterID"] = ""
        broken[3]["ID"] = ""
        broken[4]["Status"] = "Hibernating"
        broken[5]["ServiceStartDate"] = "soon"

    def drop(charges: list[dict[str, str]]) -> None:
        spoil(charges)
        # a date that is none is refused by the stand-in's own filter: leave it out here
        charges[:] = [c for c in charges if c["ServiceStartDate"] != "soon"]

    change(state, "charges", drop)
    found = platform.extract(START, TODAY)
    assert found.refused == {"LINE_CHARGE": 2, "CHARGE_WITHOUT_ENCOUNTER": 1, "CHARGE_WITHOUT_ID": 1}
    assert found.unknown == {"charges.Status": 1}
    assert found.tables["claims"].num_rows == whole.tables["claims"].num_rows - 5
    strange = pc.equal(found.tables["claims"]["claim_id"], str(one_line[4].id))
    assert found.tables["claims"].filter(strange)["billing_status"].to_pylist() == [None]


def test_voided_charges_are_no_lines_and_a_rejected_line_marks_its_claim(platform: Tebra, state: Path) -> None:
    several = [v for v in truth().visits if len(v.lines) > 1]

    def edit(charges: list[dict[str, str]]) -> None:
        by_id = {c["ID"]: c for c in charges}
        by_id[str(several[0].lines[1].id)]["Status"] = "Voided"
        by_id[str(several[1].lines[1].id)]["Status"] = "Error - Rejection"

    change(state, "charges", edit)
    tables = platform.extract(START, TODAY).tables
    assert str(several[0].lines[1].id) not in tables["claim_lines"]["line_id"].to_pylist()
    rejected = tables["claims"].filter(pc.equal(tables["claims"]["claim_id"], str(several[1].id)))
    assert rejected["billing_status"].to_pylist() == ["Error - Rejection"]


def test_a_charge_that_changes_between_two_calls_is_asked_for_again(
    platform: Tebra, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = platform._charges
    target = str(truth().visits[0].lines[0].id)
    calls: list[date] = []

    def changing(low: date, high: date) -> Any:
        calls.append(low)
        if len(calls) == 2:

            def edit(charges: list[dict[str, str]]) -> None:
                next(c for c in charges if c["ID"] == target).update(
                    TotalCharges="777.00", LastModifiedDate="6/24/2026 9:00:00 AM"
                )

            change(state, "charges", edit)
        return asked(low, high)

    monkeypatch.setattr(platform, "_charges", changing)
    lines = platform.extract(START, TODAY).tables["claim_lines"]
    assert str(lines.filter(pc.equal(lines["line_id"], target))["charge"][0].as_py()) == "777.00"
    assert lines["line_id"].to_pylist().count(target) == 1


# --- faults ---


@pytest.mark.parametrize(
    "fields",
    [
        {"kind": "slow", "seconds": 0.3},
        {"kind": "slow", "seconds": 3},  # longer than the client waits
        {"kind": "error", "status": 429, "retry_after": 1},
        {"kind": "error", "status": 429},
        {"kind": "error", "status": 503, "times": 2},
        {"kind": "throttle", "times": 2},
        {"kind": "drop_before", "times": 2},
        {"kind": "drop_after"},
        {"kind": "error_after"},
        {"kind": "reset", "times": 2},
        {"kind": "duplicate"},
        {"kind": "duplicate", "times": 99},
        {"kind": "reorder", "times": 99},
        {"kind": "truncate"},
        {"kind": "expired"},
    ],
    ids=lambda fields: f"{fields['kind']}-{fields.get('status', '')}-{fields.get('times', 1)}",
)
def test_passing_faults_lose_and_double_nothing(server: Server, platform: Tebra, fields: dict[str, Any]) -> None:
    wanted = platform.extract(START, TODAY)
    fault(server, path="GetCharges", **fields)
    assert same(platform.extract(START, TODAY), wanted)


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"kind": "error", "status": 500}, "PLATFORM_ERROR"),
        ({"kind": "error", "status": 403}, "PLATFORM_FORBIDDEN"),
        ({"kind": "error", "status": 429, "retry_after": 3600}, "PLATFORM_RATE_LIMITED"),
        ({"kind": "throttle"}, "PLATFORM_RATE_LIMITED"),
        ({"kind": "expired"}, "PLATFORM_CREDENTIALS"),
        ({"kind": "drop_before"}, "PLATFORM_UNREACHABLE"),
        ({"kind": "reset"}, "PLATFORM_UNREACHABLE"),
        ({"kind": "garbage"}, "PLATFORM_BAD_ANSWER"),
        ({"kind": "truncate"}, "PLATFORM_UNSTABLE"),
        ({"kind": "drift", "field": "ID"}, "PLATFORM_BAD_ANSWER"),
        ({"kind": "drift", "field": "TotalCharges"}, "PLATFORM_BAD_ANSWER"),
    ],
)
def test_lasting_faults_are_typed_errors_without_patient_data(
    server: Server, platform: Tebra, fields: dict[str, Any], code: str, caplog: pytest.LogCaptureFixture
) -> None:
    fault(server, path="GetCharges", times=99, **fields)
    secret = [server.sandbox.credentials["password"], truth().patients[0].last_name]
    refused_without_values(platform, START, TODAY, code, caplog, secret)


def test_every_fault_switch_is_tried_here() -> None:
    assert untried_faults(__file__) == []


def test_wrong_credentials_say_so(server: Server) -> None:
    with connect(server, password="wrong") as platform, pytest.raises(PlatformError) as error:
        platform.check()
    assert error.value.code == "PLATFORM_CREDENTIALS"


def test_the_vendors_spacing_is_kept(server: Server) -> None:
    server.sandbox.spacing = 1.0
    with connect(server, budget=RateBudget(adapter_module.limits)) as platform:
        assert platform.extract(TODAY - timedelta(days=3), TODAY).tables["claims"].num_rows > 0
        platform.check()
    assert server.sandbox.requests["POST GetCharges"] == 3  # none was throttled and repeated


def test_two_extractions_of_one_window_at_once_are_the_same(server: Server) -> None:
    def extraction() -> Extraction:
        with connect(server) as platform:
            return platform.extract(START, TODAY)

    found = at_once(2, extraction)
    assert len(found) == 2 and same(*found)


# --- writing back ---


def test_a_document_is_written_and_found(server: Server, platform: Tebra) -> None:
    receipt = platform.write(a_document())
    (made,) = written(server, "documents")
    assert (receipt.platform, receipt.action, receipt.platform_id) == ("tebra", "document", str(made["id"]))
    assert made["PatientId"] == str(truth().visits[0].patient.id)
    content = base64.b64decode(made["FileContent"])
    assert content.startswith(b"%PDF-1.4") and b"(Paid \\(in full\\))" in content and b"2026-06-25" in content
    assert f"(medbill:{KEY})".encode() in content and made["Name"] == f"medbill:{KEY}"
    assert platform.find(a_document()) == receipt
    assert platform.find(replace(a_document(), idempotency_key="another-key")) is None
    assert server.sandbox.dropped == 0


@pytest.mark.parametrize("kind", ["drop_after", "error_after", "slow_after", "garbage", "reset"])
def test_a_lost_answer_is_an_unknown_outcome_found_by_reading_back(server: Server, platform: Tebra, kind: str) -> None:
    fault(server, kind=kind, path="CreateDocument", seconds=3)
    with pytest.raises(PlatformUnknownOutcome):
        platform.write(a_document())
    assert len(written(server, "documents")) == 1  # sent once, taken once
    found = platform.find(a_document())
    assert found is not None and found.platform_id == str(written(server, "documents")[0]["id"])


@pytest.mark.parametrize("kind", ["drop_before", "error"])
def test_a_request_the_platform_never_took_reads_back_as_absent(server: Server, platform: Tebra, kind: str) -> None:
    fault(server, kind=kind, path="CreateDocument")
    with pytest.raises(PlatformUnknownOutcome):
        platform.write(a_document())
    assert platform.find(a_document()) is None and written(server, "documents") == []


def test_a_throttled_write_is_sent_again_and_taken_once(server: Server, platform: Tebra) -> None:
    fault(server, kind="throttle", path="CreateDocument", times=2)
    platform.write(a_document())
    assert len(written(server, "documents")) == 1


def test_a_claim_the_platform_does_not_know_is_refused(server: Server, platform: Tebra) -> None:
    with pytest.raises(PlatformError) as error:
        platform.write(a_document("1"))
    assert error.value.code == "PLATFORM_REFUSED" and not isinstance(error.value, PlatformUnknownOutcome)
    assert written(server, "documents") == []


def test_without_fhir_nobody_says_that_a_document_is_absent(server: Server) -> None:
    with connect(server, fhir=False) as platform:
        platform.write(a_document())
        with pytest.raises(PlatformError) as error:
            platform.find(a_document())
    assert error.value.code == "PLATFORM_NO_READ_BACK"


def test_a_fhir_token_that_ends_early_is_renewed(server: Server, platform: Tebra) -> None:
    receipt = platform.write(a_document())
    assert platform.find(a_document()) == receipt
    fault(server, kind="expired", path="/fhir-request/DocumentReference")
    assert platform.find(a_document()) == receipt
    assert server.sandbox.requests["POST /smartauth/oauth/token"] == 2
