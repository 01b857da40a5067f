"""The CareCloud adapter against the stand-in over loopback: claims out to the cent, Tasks in once, every fault."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from medbill.errors import PlatformError, PlatformUnknownOutcome, PolicyError
from medbill.model.claims import CLAIM_TABLES
from medbill.platforms import carecloud as adapter_module
from medbill.platforms import registry
from medbill.platforms.base import Extraction, Platform, WriteBack
from medbill.platforms.budget import RateBudget, always
from medbill.platforms.carecloud import CareCloud
from medbill.platforms.carecloud_profile import Profile
from medbill.platforms.extraction import ExtractionPolicy
from medbill.platforms.http import Edge
from medbill.platforms.oauth import Credentials
from medbill.sandbox import wire
from medbill.sandbox.carecloud import Sandbox, Server
from medbill.sandbox.carecloud_wire import id_of
from medbill.sandbox.practice import PINEGROVE, PracticeData, Visit, generate
from medbill.sandbox.seed import seed_carecloud
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
    seed_carecloud(folder / "inbox", folder, TODAY, claims=60, days=52)
    return folder


@pytest.fixture
def state(seeded: Path, tmp_path: Path) -> Path:
    return copied(seeded, tmp_path, "carecloud")


@pytest.fixture
def server(state: Path) -> Iterator[Server]:
    with served(Server(Sandbox(state, page=20))) as server:
        yield server


@pytest.fixture
def platform(server: Server) -> Iterator[CareCloud]:
    with connect(server) as platform:
        yield platform


def connect(server: Server, write_back: str = "task", secret: str | None = None, **options: Any) -> CareCloud:
    own = server.sandbox.credentials
    options = {"policies": POLICIES, "budget": RateBudget(always(), max_wait=5), "timeout": 2, **options}
    return CareCloud(
        server.url,
        Credentials(own["client_id"], own["client_secret"], own["refresh_token"]),
        server.url,
        (own["fhir_client_id"], secret or own["fhir_client_secret"]),
        profile=replace(Profile.load(POLICIES), write_back=write_back),
        **options,
    )


def truth() -> PracticeData:
    return generate(10, START, claims=60, identity=PINEGROVE)


def billed() -> list[Visit]:
    return [v for v in truth().visits if v.billed_date]


def a_task(claim_id: str | None = None) -> WriteBack:
    claim = claim_id or str(billed()[0].id)
    return WriteBack(KEY, "task", claim, "Post insurance payment $80.00: Acme", "Claim 1\nPaid in full", 30, TODAY)


def change(state: Path, resource: str, edit: Callable[[list[dict[str, Any]]], Any]) -> None:
    """Replace what the server serves by what edit makes of the list."""
    path = state / "carecloud" / "records.json"
    records = wire.loads(path.read_bytes())
    edit(records[resource])
    path.write_text(wire.dumps(records))


def of_claim(records: list[dict[str, Any]], visit: Visit) -> dict[str, Any]:
    return next(r for r in records if r["id"] == id_of("Claim", visit.id))


def ids(found: Extraction) -> list[str]:
    claims: list[str] = found.tables["claims"]["claim_id"].to_pylist()
    return claims


def test_extraction_equals_the_truth_to_the_cent(platform: CareCloud) -> None:
    found = platform.extract(START, TODAY)
    numbers = pa.array([str(v.id) for v in billed()])
    expected = {n: t.filter(pc.is_in(t["claim_id"], value_set=numbers)) for n, t in truth().claim_tables().items()}
    known = ["billing_status", "patient_id", "place_of_service"]  # not the same on every platform
    assert {name: t.schema for name, t in found.tables.items()} == CLAIM_TABLES
    assert found.tables["claims"].drop(known).equals(expected["claims"].drop(known))
    assert found.tables["claim_lines"].equals(expected["claim_lines"])
    assert found.tables["claims"].num_rows > 40 and not found.refused and not found.unknown
    assert set(found.tables["claims"]["place_of_service"].to_pylist()) == {"11"}
    assert set(found.tables["claims"]["billing_status"].to_pylist()) == {"active", "complete"}
    patients = {str(v.id): id_of("Patient", v.patient.id) for v in truth().visits}
    assert [patients[c] for c in ids(found)] == found.tables["claims"]["patient_id"].to_pylist()
    assert set(found.notes["note_type"].to_pylist()) == {"appointment", "billing"}
    assert found.notes["patient_last_name"].null_count == 0 and len(set(found.notes["note_id"].to_pylist())) > 40


def test_the_adapter_is_a_platform(platform: CareCloud) -> None:
    checked: Platform = platform
    checked.check()
    adapter = registry.adapter("carecloud")
    assert checked.name == adapter.name
    for action in adapter.actions_for("posting"):
        assert {f"write {action}", f"find {action}"} < set(adapter.capabilities)
    assert "insurance.coverage.reference" in checked.scope["Claim"]


def test_days_are_whole_wherever_windows_are_cut(platform: CareCloud) -> None:
    whole = platform.extract(START - timedelta(days=200), TODAY)
    middle = START + timedelta(days=23)
    parts = [platform.extract(START, middle), platform.extract(middle + timedelta(days=1), TODAY)]
    for name in CLAIM_TABLES:
        assert pa.concat_tables([p.tables[name] for p in parts]).equals(whole.tables[name])
    assert sum(p.notes.num_rows for p in parts) == whole.notes.num_rows


def test_no_rows_are_no_rows(server: Server, state: Path, platform: CareCloud) -> None:
    found = platform.extract(date(2020, 1, 1), date(2020, 1, 31))
    assert found.tables["claims"].num_rows == 0 and found.notes.num_rows == 0 and not found.refused
    change(state, "Claim", lambda rows: rows.clear())
    found = platform.extract(START, TODAY)
    assert found.tables["claims"].num_rows == 0 and not found.refused
    assert "GET v2/patients" not in server.sandbox.requests  # nobody is looked up for nothing


def test_only_named_fields_come_out_and_only_they_are_asked_for(server: Server, state: Path) -> None:
    """Every field outside the policy gets a mark, deep ones and new ones too; no mark comes through."""
    policy = ExtractionPolicy.load(POLICIES, "carecloud", adapter_module._USED, adapter_module._NEEDED)

    def mark(value: Any, names: set[str]) -> None:
        if isinstance(value, list):
            for item in value:
                mark(item, names)
        elif isinstance(value, dict):
            value["newVendorField"] = "MARKED"
            for name in list(value):
                rests = {n.partition(".")[2] for n in names if n.partition(".")[0] == name}
                if not rests and name not in ("resourceType", "meta"):
                    value[name] = "MARKED"
                elif "" not in rests:
                    mark(value[name], rests)

    for resource in ("Claim", "ClaimResponse", "Coverage", "Communication", "patients", "providers", "appointments"):
        names = set(policy.fields[resource])
        change(state, resource, lambda rows, names=names: [mark(row, names) for row in rows])
    with connect(server) as platform:
        found = platform.extract(START, TODAY)
    assert found.tables["claims"].num_rows == len(billed()) and found.notes.num_rows > 40
    assert "MARKED" not in str([t.to_pylist() for t in (*found.tables.values(), found.notes)])
    asked = server.sandbox.scopes_asked
    assert {f"purpose=payment; object=Coverage; fields={','.join(sorted(policy.fields['Coverage']))}"} < asked
    assert {a.split("; ")[1] for a in asked} >= {"object=Claim", "object=patients", "object=Communication"}


def test_a_field_taken_from_the_policy_stays_empty_and_is_not_read(server: Server) -> None:
    policy = ExtractionPolicy.load(POLICIES, "carecloud", adapter_module._USED, adapter_module._NEEDED)
    less = {**policy.fields, "Coverage": frozenset(), "Communication": frozenset(), "appointments": frozenset()}
    with connect(server, extraction=replace(policy, fields=less)) as platform:
        found = platform.extract(START, TODAY)
    assert found.tables["claims"]["member_id"].null_count == found.tables["claims"].num_rows
    assert found.notes.num_rows == 0
    assert not {"GET Coverage", "GET Communication", "GET v2/appointments"} & server.sandbox.requests.keys()


# --- records that are not as they should be ---


def test_records_that_cannot_be_read_stop_their_claim_only(platform: CareCloud, state: Path) -> None:
    whole = platform.extract(START, TODAY)
    visits = billed()

    def spoil(claims: list[dict[str, Any]]) -> None:
        broken = [of_claim(claims, v) for v in visits[:12]]
        broken[0]["item"][0]["net"]["value"] = "a lot"
        broken[1]["item"][0]["net"]["value"] = Decimal("10.005")
        broken[2]["identifier"] = broken[2]["identifier"][:1]
        broken[3]["id"] = None
        broken[4]["status"] = "hibernating"
        broken[5]["billablePeriod"] = {"start": "soon"}
        broken[6]["total"]["value"] += Decimal("0.01")
        broken[7]["item"][0]["net"]["currency"] = "CAD"
        broken[8]["patient"] = None
        broken[9]["item"] = []
        broken[10]["item"][0]["diagnosisSequence"] = [9]
        broken[11]["item"][0]["productOrService"]["coding"][0]["system"] = "urn:local"

    change(state, "Claim", spoil)
    found = platform.extract(START, TODAY)
    assert found.refused == {
        "LINE_CHARGE": 2,
        "CLAIM_NUMBER": 1,
        "CLAIM_WITHOUT_ID": 1,
        "SERVICE_DATE": 1,
        "CLAIM_TOTAL": 1,
        "CURRENCY": 1,
        "CLAIM_WITHOUT_PATIENT": 1,
        "CLAIM_WITHOUT_LINES": 1,
        "DIAGNOSIS_SEQUENCE": 1,
    }
    assert found.unknown == {"Claim.status": 1, "Claim.item.productOrService": 1}
    assert found.tables["claims"].num_rows == whole.tables["claims"].num_rows - 10
    line = pc.equal(found.tables["claim_lines"]["claim_id"], str(visits[11].id))
    assert found.tables["claim_lines"].filter(line)["procedure_code"][0].as_py() is None


def test_what_points_at_another_patient_is_refused_with_its_reason(platform: CareCloud, state: Path) -> None:
    whole = platform.extract(START, TODAY)
    visits = billed()
    others = [v for v in visits if v.patient.id != visits[0].patient.id]
    other = {"reference": f"Patient/{id_of('Patient', others[0].patient.id)}"}
    answered = {
        c
        for c, s in zip(ids(whole), whole.tables["claims"]["billing_status"].to_pylist(), strict=True)
        if s == "complete"
    }
    second = next(
        v for v in visits if str(v.id) in answered and v.patient.id not in (visits[0].patient.id, others[0].patient.id)
    )
    noted = whole.notes.filter(pc.equal(whole.notes["note_type"], "billing"))["note_id"][0].as_py()

    def coverages(rows: list[dict[str, Any]]) -> None:
        next(r for r in rows if r["id"] == id_of("Coverage", visits[0].patient.id))["beneficiary"] = other

    def responses(rows: list[dict[str, Any]]) -> None:
        for row in rows:
            if row["request"]["reference"] == f"Claim/{id_of('Claim', second.id)}":
                row["patient"] = other

    def notes(rows: list[dict[str, Any]]) -> None:
        next(r for r in rows if r["id"] == noted)["subject"] = {"reference": "Patient/nobody"}

    change(state, "Communication", notes)
    found = platform.extract(START, TODAY)
    assert found.refused == {"NOTE_OF_ANOTHER_PATIENT": 1}
    assert found.notes.num_rows == whole.notes.num_rows - 1 and found.tables == whole.tables
    change(state, "Coverage", coverages)
    change(state, "ClaimResponse", responses)
    found = platform.extract(START, TODAY)
    of_first = sum(v.patient.id == visits[0].patient.id for v in visits)
    assert found.refused["COVERAGE_OF_ANOTHER_PATIENT"] == of_first
    assert found.refused["RESPONSE_OF_ANOTHER_PATIENT"] == 1
    assert len(ids(found)) == len(ids(whole)) - of_first - 1


def test_a_contained_coverage_and_strangers_in_the_bundle(platform: CareCloud, state: Path) -> None:
    whole = platform.extract(START, TODAY)
    visit = billed()[0]

    def contain(claims: list[dict[str, Any]]) -> None:
        claim = of_claim(claims, visit)
        claim["contained"] = [
            {"resourceType": "Organization", "id": "o", "name": "x"},
            {"resourceType": "Coverage", "id": "c", "subscriberId": "INSIDE", "payor": [{"display": "x"}]},
        ]
        claim["insurance"][0]["coverage"] = {"reference": "#c"}
        claims.append({**claims[0], "resourceType": "Basic", "id": "stranger"})

    change(state, "Claim", contain)
    found = platform.extract(START, TODAY)
    assert found.unknown == {"Bundle.resourceType": 1} and ids(found) == ids(whole)
    row = found.tables["claims"].filter(pc.equal(found.tables["claims"]["claim_id"], str(visit.id)))
    assert row["member_id"].to_pylist() == ["INSIDE"]


def test_cancelled_and_drafts_are_no_claims_and_a_replacement_counts_once(platform: CareCloud, state: Path) -> None:
    visits = billed()

    def edit(claims: list[dict[str, Any]]) -> None:
        of_claim(claims, visits[0])["status"] = "cancelled"
        of_claim(claims, visits[1])["use"] = "preauthorization"
        old = of_claim(claims, visits[2])
        new = json.loads(wire.dumps(old))
        new["id"], new["meta"] = "replacement", {"lastUpdated": "2026-06-24T12:00:00Z"}
        new["item"][0]["net"]["value"] = new["total"]["value"] = 777
        new["item"] = new["item"][:1]
        claims.append(new)

    change(state, "Claim", edit)
    found = platform.extract(START, TODAY)
    assert not {str(visits[0].id), str(visits[1].id)} & set(ids(found))
    assert found.refused == {"CLAIM_REPLACED": 1} and ids(found).count(str(visits[2].id)) == 1
    row = found.tables["claims"].filter(pc.equal(found.tables["claims"]["claim_id"], str(visits[2].id)))
    assert row["charge"].to_pylist() == [Decimal("777.00")]


def test_a_patient_who_is_not_there_any_more_stops_his_claims(platform: CareCloud, state: Path) -> None:
    gone = billed()[0].patient.id
    change(state, "patients", lambda rows: rows.remove(next(r for r in rows if r["id"] == id_of("Patient", gone))))
    found = platform.extract(START, TODAY)
    assert found.refused == {"PATIENT_NOT_FOUND": sum(v.patient.id == gone for v in billed())}


@pytest.mark.parametrize("at", [2, 4, 6])
def test_a_claim_that_changes_between_two_pages_is_there_once_and_pushes_none_out(
    platform: CareCloud, state: Path, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    """It moves to the end of the order: without care the page after it would lose its first record."""
    exchange = Edge._exchange
    calls: list[str] = []
    visit = billed()[0]  # among the oldest

    def changing(self: Edge, call: Any, headers: Any, end: Any) -> Any:
        if call.label == "FHIR GET Claim":
            calls.append(call.label)
            if len(calls) == at:

                def edit(claims: list[dict[str, Any]]) -> None:
                    claim = of_claim(claims, visit)
                    claim["meta"]["lastUpdated"] = datetime.now(UTC).isoformat()
                    claim["item"] = claim["item"][:1]
                    claim["item"][0]["net"]["value"] = claim["total"]["value"] = Decimal("777.00")

                change(state, "Claim", edit)
        return exchange(self, call, headers, end)

    before = ids(platform.extract(START, TODAY))
    monkeypatch.setattr(Edge, "_exchange", changing)
    found = platform.extract(START, TODAY)
    assert len(calls) > at and ids(found) == before
    row = found.tables["claims"].filter(pc.equal(found.tables["claims"]["claim_id"], str(visit.id)))
    assert row["charge"].to_pylist() == [Decimal("777.00")]


def test_without_totals_two_readings_must_agree(server: Server, platform: CareCloud) -> None:
    wanted = platform.extract(START, TODAY)
    server.sandbox.total = False
    assert same(platform.extract(START, TODAY), wanted)
    fault(server, kind="truncate", path="Claim")
    assert same(platform.extract(START, TODAY), wanted)


# --- faults ---

PASSING: list[dict[str, Any]] = [
    {"kind": "slow", "seconds": 0.3},
    {"kind": "slow", "seconds": 3},  # longer than the client waits
    {"kind": "slow_after", "seconds": 3},
    {"kind": "error", "status": 429, "retry_after": 1},
    {"kind": "error", "status": 429},
    {"kind": "error", "status": 503, "times": 2},
    {"kind": "throttle", "times": 2},
    {"kind": "throttle", "retry_after": 1},
    {"kind": "drop_before", "times": 2},
    {"kind": "drop_after"},
    {"kind": "error_after"},
    {"kind": "reset", "times": 2},
    {"kind": "duplicate"},
    {"kind": "duplicate", "times": 99},
    {"kind": "reorder", "times": 99},
    {"kind": "truncate"},
    {"kind": "expired"},
]


@pytest.mark.parametrize("path", ["Claim", "v2/appointments"])
@pytest.mark.parametrize(
    "fields", PASSING, ids=lambda f: f"{f['kind']}-{f.get('status', '')}-{f.get('times', 1)}-{f.get('seconds', '')}"
)
def test_passing_faults_lose_and_double_nothing(
    server: Server, platform: CareCloud, fields: dict[str, Any], path: str
) -> None:
    wanted = platform.extract(TODAY - timedelta(days=20), TODAY)
    fault(server, path=path, **fields)
    assert same(platform.extract(TODAY - timedelta(days=20), TODAY), wanted)


@pytest.mark.parametrize("path", ["ClaimResponse", "Coverage", "Communication", "v2/patients", "v2/providers"])
@pytest.mark.parametrize("kind", ["throttle", "drop_after", "reset", "expired", "truncate"])
def test_the_other_reads_are_as_steady(server: Server, platform: CareCloud, path: str, kind: str) -> None:
    if kind == "truncate" and path.startswith("v2"):
        kind = "reorder"  # one record has no half; providers only help where a claim does not name the NPI
    wanted = platform.extract(TODAY - timedelta(days=20), TODAY)
    fault(server, kind=kind, path=path)
    assert same(platform.extract(TODAY - timedelta(days=20), TODAY), wanted)


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"kind": "error", "status": 500}, "PLATFORM_ERROR"),
        ({"kind": "error", "status": 403}, "PLATFORM_FORBIDDEN"),
        ({"kind": "error", "status": 400}, "PLATFORM_REFUSED"),
        ({"kind": "error", "status": 200}, "PLATFORM_ERROR"),  # an OperationOutcome that says success
        ({"kind": "error", "status": 302}, "PLATFORM_BAD_ANSWER"),
        ({"kind": "error", "status": 429, "retry_after": 3600}, "PLATFORM_RATE_LIMITED"),
        ({"kind": "throttle"}, "PLATFORM_RATE_LIMITED"),
        ({"kind": "expired"}, "PLATFORM_CREDENTIALS"),
        ({"kind": "drop_before"}, "PLATFORM_UNREACHABLE"),
        ({"kind": "reset"}, "PLATFORM_UNREACHABLE"),
        ({"kind": "garbage"}, "PLATFORM_BAD_ANSWER"),
        ({"kind": "truncate"}, "PLATFORM_UNSTABLE"),
        ({"kind": "drift", "field": "id"}, "PLATFORM_BAD_ANSWER"),
        ({"kind": "drift", "field": "item"}, "PLATFORM_BAD_ANSWER"),
        ({"kind": "drift", "field": "patient"}, "PLATFORM_BAD_ANSWER"),
    ],
)
def test_lasting_faults_are_typed_errors_without_patient_data(
    server: Server, platform: CareCloud, fields: dict[str, Any], code: str, caplog: pytest.LogCaptureFixture
) -> None:
    fault(server, path="Claim", times=999, **fields)
    own = server.sandbox.credentials
    secret = [own["fhir_client_secret"], own["refresh_token"], truth().patients[0].last_name]
    refused_without_values(platform, START, TODAY, code, caplog, secret)


@pytest.mark.parametrize(
    ("path", "fields", "code"),
    [
        ("v2/appointments", {"kind": "drift", "field": "id"}, "PLATFORM_BAD_ANSWER"),
        ("v2/patients", {"kind": "drift", "field": "id"}, "PLATFORM_BAD_ANSWER"),
        ("v2/patients", {"kind": "truncate"}, "PLATFORM_BAD_ANSWER"),
        ("v2/patients", {"kind": "garbage"}, "PLATFORM_BAD_ANSWER"),
        ("/oauth2/access_token", {"kind": "expired"}, "PLATFORM_CREDENTIALS"),
        ("/oauth2/token", {"kind": "expired"}, "PLATFORM_CREDENTIALS"),
        ("/oauth2/token", {"kind": "garbage"}, "PLATFORM_BAD_ANSWER"),
    ],
)
def test_lasting_faults_of_people_visits_and_tokens(
    server: Server, platform: CareCloud, path: str, fields: dict[str, Any], code: str
) -> None:
    fault(server, path=path, times=999, **fields)
    with pytest.raises(PlatformError) as error:
        platform.extract(START, TODAY)
    assert error.value.code == code


def test_every_fault_switch_is_tried_here() -> None:
    assert untried_faults(__file__) == []


def test_a_token_revoked_mid_run_is_renewed_once(
    server: Server, platform: CareCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = platform.extract(START, TODAY)
    exchange = Edge._exchange
    calls: list[str] = []

    def revoking(self: Edge, call: Any, headers: Any, end: Any) -> Any:
        calls.append(call.label)
        if len(calls) in (4, 40):
            server.sandbox.revoke()
        return exchange(self, call, headers, end)

    monkeypatch.setattr(Edge, "_exchange", revoking)
    assert same(platform.extract(START, TODAY), wanted)
    assert len(calls) > 40
    assert server.sandbox.requests["POST /oauth2/token"] <= 3
    assert server.sandbox.requests["POST /oauth2/access_token"] <= 3


def test_wrong_credentials_and_a_scope_too_few_say_so(server: Server) -> None:
    with connect(server, secret="wrong") as platform, pytest.raises(PlatformError) as error:
        platform.check()
    assert error.value.code == "PLATFORM_CREDENTIALS"
    less = replace(Profile.load(POLICIES), fhir_scope="system/Coverage.read")
    with connect(server) as platform:
        platform._fhir._form["scope"] = less.fhir_scope
        with pytest.raises(PlatformError) as error:
            platform.check()
    assert error.value.code == "PLATFORM_FORBIDDEN"


def test_two_extractions_of_one_window_at_once_are_the_same(server: Server) -> None:
    def extraction() -> Extraction:
        with connect(server) as platform:
            return platform.extract(START, TODAY)

    found = at_once(2, extraction)
    assert len(found) == 2 and same(*found)


# --- settings ---


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("fhir_base", "fhir"),
        ("fhir_base", "//evil.example"),
        ("fhir_base", "/fhir/"),
        ("v2_patient", "/patients"),
        ("v2_token_path", ""),
        ("write_back", "fax"),
        ("claim_number_system", None),
    ],
)
def test_a_wrong_setting_of_a_connection_is_refused(name: str, value: Any) -> None:
    with pytest.raises(PolicyError, match=name):
        Profile.load(POLICIES, {name: value})


def test_settings_of_the_connection_go_first(tmp_path: Path) -> None:
    assert Profile.load(POLICIES, {"fhir_base": "/r4", "password": "x"}).fhir_base == "/r4"
    assert Profile.load(POLICIES).write_back == ""  # nothing is written where nobody said how
    (tmp_path / "carecloud.yml").write_text((POLICIES / "carecloud.yml").read_text() + "\nfax_path: /fax\n")
    with pytest.raises(PolicyError, match="fax_path"):
        Profile.load(tmp_path)
    (tmp_path / "carecloud.yml").write_text("version: 1\n")
    with pytest.raises(PolicyError):
        Profile.load(tmp_path)


@pytest.mark.parametrize("url", ["https://carecloud.readme.io", "https://evil.example", "http://api.carecloud.com"])
def test_addresses_off_the_allow_list_are_refused(url: str) -> None:
    good = "https://api.carecloud.com"
    for urls in ((url, good), (good, url)):
        with pytest.raises(PlatformError) as error:
            CareCloud(urls[0], Credentials("i", "s", "r"), urls[1], ("i", "s"), policies=POLICIES)
        assert error.value.code == "PLATFORM_HOST_REFUSED"


# --- writing back ---


@pytest.mark.parametrize("kind", ["task", "communication"])
def test_what_is_written_is_found_by_its_identifier(server: Server, kind: str) -> None:
    with connect(server, kind) as platform:
        receipt = platform.write(a_task())
        (made,) = written(server, kind.capitalize())
        assert receipt.as_dict() == {
            "platform": "carecloud",
            "action": "task",
            "platform_id": f"{kind.capitalize()}/{made['id']}",
            "reference": f"medbill:{KEY}",
        }
        visit = billed()[0]
        assert (made.get("for") or made["subject"])["reference"] == f"Patient/{id_of('Patient', visit.patient.id)}"
        assert (made.get("focus") or made["about"][0])["reference"] == f"Claim/{id_of('Claim', visit.id)}"
        assert made["priority"] == "urgent" and f"medbill:{KEY}" in str(made) and TODAY.isoformat() in str(made)
        assert platform.find(a_task()) == receipt
        assert platform.find(replace(a_task(), idempotency_key="another-key")) is None
        found = platform.extract(START, TODAY)
        assert f"medbill:{KEY}" not in str(found.notes["text"].to_pylist())  # our own words do not come back as notes


def test_without_write_back_nothing_is_sent(server: Server) -> None:
    with connect(server, "") as platform:
        for act in (platform.write, platform.find):
            with pytest.raises(PlatformError) as error:
                act(a_task())
            assert error.value.code == "PLATFORM_READ_ONLY"
    assert written(server, "Task") == []


def test_an_account_that_may_not_write_says_read_only(server: Server, platform: CareCloud) -> None:
    server.sandbox.writable = False
    with pytest.raises(PlatformError) as error:
        platform.write(a_task())
    assert error.value.code == "PLATFORM_READ_ONLY"


@pytest.mark.parametrize("kind", ["drop_after", "error_after", "slow_after"])
def test_a_lost_answer_is_an_unknown_outcome_found_by_reading_back(
    server: Server, platform: CareCloud, kind: str
) -> None:
    fault(server, kind=kind, method="POST", path="Task", seconds=3)
    with pytest.raises(PlatformUnknownOutcome):
        platform.write(a_task())
    assert len(written(server, "Task")) == 1  # sent once, taken once
    found = platform.find(a_task())
    assert found is not None and found.platform_id == f"Task/{written(server, 'Task')[0]['id']}"


@pytest.mark.parametrize("kind", ["drop_before", "error"])
def test_a_request_the_platform_never_took_reads_back_as_absent(server: Server, platform: CareCloud, kind: str) -> None:
    fault(server, kind=kind, method="POST", path="Task")
    with pytest.raises(PlatformUnknownOutcome):
        platform.write(a_task())
    assert platform.find(a_task()) is None and written(server, "Task") == []


def test_a_garbled_answer_with_a_location_is_an_answer_and_one_without_is_unknown(
    server: Server, platform: CareCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    fault(server, kind="garbage", method="POST", path="Task")
    assert platform.write(a_task()).platform_id == f"Task/{written(server, 'Task')[0]['id']}"
    exchange = Edge._exchange

    def without_location(self: Edge, call: Any, headers: Any, end: Any) -> Any:
        answer = exchange(self, call, headers, end)
        return replace(answer, headers={}) if call.write else answer

    monkeypatch.setattr(Edge, "_exchange", without_location)
    with pytest.raises(PlatformUnknownOutcome):
        platform.write(a_task())


def test_the_same_key_sent_again_makes_no_second_task(server: Server, platform: CareCloud) -> None:
    assert platform.write(a_task()) == platform.write(a_task())  # conditional create
    assert len(written(server, "Task")) == 1


@pytest.mark.parametrize("kind", ["throttle", "expired"])
def test_a_write_that_was_not_taken_is_sent_again_and_taken_once(
    server: Server, platform: CareCloud, kind: str
) -> None:
    fault(server, kind=kind, method="POST", path="Task")
    platform.write(a_task())
    assert len(written(server, "Task")) == 1


def test_a_claim_the_platform_does_not_know_is_refused(server: Server, platform: CareCloud) -> None:
    with pytest.raises(PlatformError) as error:
        platform.write(a_task("1"))
    assert error.value.code == "PLATFORM_REFUSED" and not isinstance(error.value, PlatformUnknownOutcome)
    assert written(server, "Task") == []
