"""The AdvancedMD adapter against the stand-in server over loopback: claims out to the cent, files and notes in once, every fault."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pyarrow.compute as pc
import pytest

from medbill.errors import PlatformError, PlatformUnknownOutcome
from medbill.model.claims import CLAIM_TABLES
from medbill.platforms import advancedmd as adapter_module
from medbill.platforms import registry
from medbill.platforms.advancedmd import AdvancedMD
from medbill.platforms.advancedmd_session import Account, limits
from medbill.platforms.base import Extraction, Platform, WriteBack
from medbill.platforms.budget import RateBudget, always
from medbill.platforms.extraction import ExtractionPolicy
from medbill.platforms.oauth import FileTokenStore, MemoryTokenStore, Tokens
from medbill.sandbox.advancedmd import LOGIN, Sandbox, Server
from medbill.sandbox.practice import CEDARHILL, PracticeData, generate
from medbill.sandbox.seed import seed_advancedmd
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
START = TODAY - timedelta(days=21)
NOON = datetime(2026, 6, 25, 18, 0, tzinfo=UTC)  # in Denver, on a Thursday
NIGHT = datetime(2026, 6, 26, 3, 0, tzinfo=UTC)


@pytest.fixture(scope="module")
def seeded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sandbox")
    seed_advancedmd(folder / "inbox", folder, TODAY, claims=40, days=21)
    return folder


@pytest.fixture
def state(seeded: Path, tmp_path: Path) -> Path:
    return copied(seeded, tmp_path, "advancedmd")


@pytest.fixture
def server(state: Path) -> Iterator[Server]:
    with served(Server(Sandbox(state, limited=False))) as server:
        yield server


@pytest.fixture
def platform(server: Server) -> Iterator[AdvancedMD]:
    with connect(server) as platform:
        yield platform


def connect(server: Server, **options: Any) -> AdvancedMD:
    own = server.sandbox.credentials
    password = options.pop("password", own["password"])
    options = {
        "policies": POLICIES,
        "budget": RateBudget(always(), max_wait=5),
        "timeout": 2,
        "profile_npis": own["profile_npis"],
        "now": lambda: NOON,
        **options,
    }
    return AdvancedMD(server.url, Account(own["user"], password, own["office_code"], own["app_name"]), **options)


def truth() -> PracticeData:
    return generate(9, START, days=21, claims=40, identity=CEDARHILL)


def a_file(claim_id: str | None = None, action: str = "file") -> WriteBack:
    claim = claim_id or str(truth().visits[0].id)
    return WriteBack(KEY, action, claim, "Post insurance payment $80.00: Acme", "Claim 1\nPaid (in full)", due_on=TODAY)


def change(state: Path, resource: str, edit: Any) -> None:
    """Replace what the server serves by what edit makes of the list of records."""
    path = state / "advancedmd" / "records.json"
    records = json.loads(path.read_text())
    edit(records[resource])
    path.write_text(json.dumps(records))


def test_extraction_equals_the_truth_to_the_cent(platform: AdvancedMD) -> None:
    found = platform.extract(START, TODAY)
    expected = truth().claim_tables()
    known = ["billing_status", "billed_date"]  # not the same on every platform
    assert {name: t.schema for name, t in found.tables.items()} == CLAIM_TABLES
    assert found.tables["claims"].drop(known).equals(expected["claims"].drop(known))
    assert found.tables["claim_lines"].equals(expected["claim_lines"])
    assert found.tables["claims"].num_rows > 25 and not found.refused and not found.unknown
    assert set(found.tables["claims"]["billing_status"].to_pylist()) == {"Billed", "Not billed"}
    assert found.notes.num_rows == found.tables["claims"].num_rows and found.notes["patient_last_name"].null_count == 0


def test_the_adapter_is_a_platform(platform: AdvancedMD) -> None:
    checked: Platform = platform
    checked.check()
    adapter = registry.adapter("advancedmd")
    assert checked.name == adapter.name
    for kind in ("posting", "denial_follow_up", "underpayment_dispute"):
        for action in adapter.actions_for(kind):
            assert {f"write {action}", f"find {action}"} < set(adapter.capabilities)
    assert "dob" in checked.scope["patients"]


def test_no_rows_are_no_rows(platform: AdvancedMD, state: Path) -> None:
    change(state, "visits", lambda rows: rows.clear())
    found = platform.extract(START, TODAY)
    assert found.tables["claims"].num_rows == 0 and found.notes.num_rows == 0 and not found.refused


def test_windows_give_the_same_as_their_days(platform: AdvancedMD) -> None:
    whole = platform.extract(START, TODAY).tables["claims"]
    days = [START + timedelta(days=n) for n in range((TODAY - START).days + 1)]
    apart = [c for day in days for c in platform.extract(day, day).tables["claims"]["claim_id"].to_pylist()]
    assert sorted(apart) == whole["claim_id"].to_pylist()


def test_only_named_fields_come_out(server: Server, state: Path) -> None:
    """Every field outside the policy gets a mark, new fields of the vendor too; no mark comes through."""
    policy = ExtractionPolicy.load(POLICIES, "advancedmd", adapter_module.USED, adapter_module.NEEDED)
    named = set().union(*policy.fields.values())
    served = {"lastupdated", "begindate", "visit", "patientid"}  # what the stand-in itself selects by

    def mark(node: Any) -> None:
        for one in node if isinstance(node, list) else [node]:
            one["@newvendorfield"] = "MARKED"
            for name, value in one.items():
                if isinstance(value, dict | list):
                    mark(value)
                elif name[1:] not in named | served:
                    one[name] = "MARKED"

    for resource in ("visits", "charge_details", "patients"):
        change(state, resource, mark)
    with connect(server) as platform:
        found = platform.extract(START, TODAY)
        assert found.tables["claims"].num_rows == len(truth().visits)
        assert "MARKED" not in str([t.to_pylist() for t in (*found.tables.values(), found.notes)])
        read = platform._changed_visits(START, charges=True)
        assert "MARKED" not in str(read) and "MARKED" not in str(platform._day_visits(START, TODAY))


def test_a_field_taken_from_the_policy_stays_empty(server: Server) -> None:
    policy = ExtractionPolicy.load(POLICIES, "advancedmd", adapter_module.USED, adapter_module.NEEDED)
    less = {
        **policy.fields,
        "patients": policy.fields["patients"] - {"dob"},
        "visits": policy.fields["visits"] - {"reason"},
    }
    with connect(server, extraction=replace(policy, fields=less)) as platform:
        found = platform.extract(START, TODAY)
    assert found.tables["claims"]["patient_birth_date"].null_count == found.tables["claims"].num_rows
    assert found.notes.num_rows == 0


# --- records that are not as they should be ---


def test_records_that_cannot_be_read_stop_their_claim_only(platform: AdvancedMD, state: Path) -> None:
    whole = platform.extract(START, TODAY)
    ids = [str(v.id) for v in truth().visits]

    def spoil(visits: list[dict[str, Any]]) -> None:
        by_id = {v["@id"]: v for v in visits}
        by_id[ids[0]]["chargelist"]["charge"][0]["@amount"] = "a lot"
        by_id[ids[1]]["chargelist"]["charge"][0]["@amount"] = "10.005"
        by_id[ids[2]]["chargelist"]["charge"][0]["@id"] = ""
        by_id[ids[3]]["@id"] = None
        by_id[ids[4]]["@patientid"] = "pat1"
        by_id[ids[5]]["chargelist"]["charge"][0]["@units"] = "some"

    change(state, "visits", spoil)

    def strange(details: list[dict[str, Any]]) -> None:
        for detail in details:
            if detail["@visit"] == ids[6]:
                detail["@insbilled"] = "7"

    change(state, "charge_details", strange)
    found = platform.extract(START, TODAY)
    assert found.refused == {
        "LINE_CHARGE": 2,
        "CHARGE_WITHOUT_ID": 1,
        "VISIT_WITHOUT_ID": 1,
        "PATIENT": 1,
        "LINE_QUANTITY": 1,
    }
    assert found.unknown == {"charge_details.insbilled": len(truth().visits[6].lines)}
    assert found.tables["claims"].num_rows == whole.tables["claims"].num_rows - 6
    at = pc.equal(found.tables["claims"]["claim_id"], ids[6])
    assert found.tables["claims"].filter(at)["billing_status"].to_pylist() == [None]


def test_void_charges_are_no_lines_and_a_visit_of_void_charges_no_claim(platform: AdvancedMD, state: Path) -> None:
    several = next(v for v in truth().visits if len(v.lines) > 1)
    other = next(v for v in truth().visits if v is not several)
    void = {str(several.lines[0].id), *(str(line.id) for line in other.lines)}

    def edit(details: list[dict[str, Any]]) -> None:
        for detail in details:
            detail["@void"] = "1" if detail["@id"] in void else "0"

    change(state, "charge_details", edit)
    tables = platform.extract(START, TODAY).tables
    assert not void & set(tables["claim_lines"]["line_id"].to_pylist())
    assert str(other.id) not in tables["claims"]["claim_id"].to_pylist()
    lines = tables["claim_lines"].filter(pc.equal(tables["claim_lines"]["claim_id"], str(several.id)))
    assert lines["line_number"].to_pylist() == list(range(1, len(several.lines)))


def test_a_charge_that_changes_between_two_calls_is_asked_for_again(
    platform: AdvancedMD, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = truth().visits[0].lines[0]
    asked, calls = platform._changed_visits, []

    def before(*arguments: Any, **options: Any) -> Any:
        found = asked(*arguments, **options)
        calls.append(1)
        if len(calls) == 1:

            def dearer(visits: list[dict[str, Any]]) -> None:
                for visit in visits:
                    for charge in visit["chargelist"]["charge"]:
                        if charge["@id"] == str(line.id):
                            charge["@amount"] = "777.00"

            change(state, "visits", dearer)
            change(
                state,
                "charge_details",
                lambda ds: [d.update({"@fee": "777.00"}) for d in ds if d["@id"] == str(line.id)],
            )
        return found

    monkeypatch.setattr(platform, "_changed_visits", before)
    lines = platform.extract(START, TODAY).tables["claim_lines"]
    found = lines.filter(pc.equal(lines["line_id"], str(line.id)))["charge"].to_pylist()
    assert [str(f) for f in found] == ["777.00"] and len(calls) == 2


def test_a_charge_that_never_agrees_stops_its_claim_only(platform: AdvancedMD, state: Path) -> None:
    wrong, gone = (str(v.lines[0].id) for v in truth().visits[:2])

    def edit(details: list[dict[str, Any]]) -> None:
        for detail in details:
            if detail["@id"] == wrong:
                detail["@fee"] = "1.23"
        details[:] = [d for d in details if d["@id"] != gone]

    change(state, "charge_details", edit)
    found = platform.extract(START, TODAY)
    assert found.refused == {"CHARGE_DISAGREES": 2}
    assert found.tables["claims"].num_rows == len(truth().visits) - 2


def test_a_visit_whose_charges_were_entered_long_before_is_found(platform: AdvancedMD, state: Path) -> None:
    wanted = platform.extract(START, TODAY)
    change(state, "visits", lambda visits: visits[0].update({"@lastupdated": "4/1/2026 9:00 AM"}))
    assert same(platform.extract(START, TODAY), wanted)


def test_of_two_versions_of_a_visit_the_later_one_counts(platform: AdvancedMD, state: Path) -> None:
    def twice(visits: list[dict[str, Any]]) -> None:
        visits.append({**visits[0], "@lastupdated": "6/24/2026 11:00 PM", "@profileid": "prof1"})
        visits.append({**visits[1], "@lastupdated": "6/1/2026 9:00 AM", "@profileid": "prof1"})

    change(state, "visits", twice)
    claims = platform.extract(START, TODAY).tables["claims"]
    assert claims.num_rows == len(truth().visits)
    by_id = {c["claim_id"]: c["rendering_npi"] for c in claims.to_pylist()}
    assert by_id[str(truth().visits[0].id)] is None and by_id[str(truth().visits[1].id)] is not None


def test_a_booking_on_another_insurance_has_its_payer_and_no_member_id(platform: AdvancedMD, state: Path) -> None:
    other = {"@carname": "Another Carrier", "@carcode": "OTHER"}
    change(state, "visits", lambda rows: rows[0].update(insurance=other))
    claim = platform.extract(START, TODAY).tables["claims"].slice(0, 1).to_pylist()[0]
    assert (claim["payer_id"], claim["payer_name"], claim["member_id"]) == ("OTHER", "Another Carrier", None)


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
@pytest.mark.parametrize("action", ["getupdatedvisits", "getdatevisits"])
def test_passing_faults_lose_and_double_nothing(
    server: Server, platform: AdvancedMD, fields: dict[str, Any], action: str
) -> None:
    wanted = platform.extract(START, TODAY)
    fault(server, path=action, **fields)
    assert same(platform.extract(START, TODAY), wanted)
    assert wanted.tables["claims"].num_rows == len(truth().visits)


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
        ({"kind": "drift", "field": "@id"}, "PLATFORM_BAD_ANSWER"),
        ({"kind": "drift", "field": "@date"}, "PLATFORM_BAD_ANSWER"),
    ],
)
def test_lasting_faults_are_typed_errors_without_patient_data(
    server: Server, platform: AdvancedMD, fields: dict[str, Any], code: str, caplog: pytest.LogCaptureFixture
) -> None:
    fault(server, path="getupdatedvisits", times=99, **fields)
    secret = [server.sandbox.credentials["password"], truth().patients[0].last_name]
    refused_without_values(platform, START, TODAY, code, caplog, secret)


@pytest.mark.parametrize("action", ["getdemographic", "getchargedetaildata", "getdatevisits"])
def test_drift_elsewhere_takes_nothing_half(server: Server, platform: AdvancedMD, action: str) -> None:
    fault(server, path=action, kind="drift", field="@id", times=999)
    with pytest.raises(PlatformError) as error:
        platform.extract(START, TODAY)
    assert error.value.code == "PLATFORM_BAD_ANSWER"


def test_lists_of_days_that_stay_cut_take_nothing_away(server: Server, platform: AdvancedMD) -> None:
    """The changed visits are what claims are made of; the days only show what is missing among them."""
    wanted = platform.extract(START, TODAY)
    fault(server, path="getdatevisits", kind="truncate", times=999)
    assert same(platform.extract(START, TODAY), wanted)


def test_every_fault_switch_is_tried_here() -> None:
    assert untried_faults(__file__) == []


@pytest.mark.parametrize("off", [timedelta(days=-1), timedelta(hours=-3), timedelta(hours=3), timedelta(days=1)])
def test_a_clock_that_is_wrong_changes_nothing(server: Server, platform: AdvancedMD, off: timedelta) -> None:
    """Message times are ours; sessions end when the platform says so; windows are service dates."""
    wanted = platform.extract(START, TODAY)
    with connect(server, now=lambda: NOON + off) as other:
        assert same(other.extract(START, TODAY), wanted)


def test_two_extractions_of_one_window_at_once_are_the_same_with_one_login(server: Server, tmp_path: Path) -> None:
    def extraction() -> Extraction:
        with connect(server, tokens=FileTokenStore(tmp_path / "tokens.json")) as platform:
            return platform.extract(START, TODAY)

    found = at_once(3, extraction)
    assert len(found) == 3 and same(found[0], found[1]) and same(found[1], found[2])
    assert server.sandbox.logins == 1


# --- login ---


def test_a_session_that_ends_in_mid_run_is_renewed_once(server: Server, platform: AdvancedMD) -> None:
    platform.check()
    fault(server, path="getchargedetaildata", kind="expired")
    assert platform.extract(START, TODAY).tables["claims"].num_rows == len(truth().visits)
    assert server.sandbox.logins == 2


def test_wrong_credentials_say_so_after_one_try(server: Server) -> None:
    with connect(server, password="wrong") as platform, pytest.raises(PlatformError) as error:
        platform.check()
    assert error.value.code == "PLATFORM_CREDENTIALS"
    assert server.sandbox.requests == {"POST login": 1}  # a second one might lock the account


@pytest.mark.parametrize(
    "webserver",
    [
        "https://evil.example/processrequest/api-801/APP",
        "https://advancedmd.com.evil.example/processrequest/api-801/APP",
        "https://eviladvancedmd.com/processrequest/api-801/APP",
        "https://providerapi.advancedmd.com@evil.example/processrequest/api-801/APP",
        "https://169.254.169.254/processrequest/api-801/APP",
        "http://127.0.0.1:1/processrequest/api-801/APP",
        "http://[::1/processrequest/api-801/APP",
        "file:///etc/passwd",
        "https://evil.example/",
        "//evil.example/processrequest/api-801/APP",
    ],
)
def test_a_redirect_to_somewhere_else_is_refused(server: Server, webserver: str) -> None:
    server.sandbox.webserver = webserver
    with connect(server) as platform, pytest.raises(PlatformError) as error:
        platform.check()
    assert error.value.code == "PLATFORM_HOST_REFUSED" and "evil" not in str(error.value)
    assert server.sandbox.requests == {"POST login": 1}


@pytest.mark.parametrize(
    ("server_named", "allowed"),
    [
        ("https://providerapi.advancedmd.com/processrequest/api-801/APP", True),
        ("https://api2.eu.advancedmd.com:443/processrequest/api-12/My.App-1", True),
        ("http://providerapi.advancedmd.com/processrequest/api-801/APP", False),
        ("https://providerapi.advancedmd.com/processrequest/api-801/APP?x=1", False),
        ("https://providerapi.advancedmd.com/else/api-801/APP", False),
        ("https://providerapi.advancedmd.com/processrequest/../../x", False),
        ("https://advancedmd.com.evil.example/processrequest/api-801/APP", False),
        ("https://evil.example#.advancedmd.com/processrequest/api-801/APP", False),
        ("http://127.0.0.1/processrequest/api-801/APP", False),
        ("https://localhost/processrequest/api-801/APP", False),
    ],
)
def test_the_vendors_login_leads_to_the_vendors_servers_only(server_named: str, allowed: bool) -> None:
    account = Account("u", "p", "1", "APP")
    with AdvancedMD("https://partnerlogin.advancedmd.com", account, policies=POLICIES) as platform:
        assert platform._session._is_own(server_named) is allowed


def test_a_kept_session_of_another_server_is_not_used(server: Server) -> None:
    kept = MemoryTokenStore()
    kept.write(Tokens("token", "http://127.0.0.1:1/processrequest/api-801/APP", 4e9))
    with connect(server, tokens=kept) as platform:
        platform.check()
    assert server.sandbox.logins == 1


def test_secrets_stay_out_of_repr() -> None:
    assert "s3cret" not in repr(Account("u", "s3cret", "1", "APP"))


# --- limits ---


def test_the_tiers_are_kept_in_peak_hours_and_outside(server: Server) -> None:
    """A clock that waiting moves on: what the vendor allows in peak hours takes minutes, at night seconds."""
    server.sandbox.credentials.pop("calls_per_minute")
    for at, calls in ((NOON, 1), (NIGHT, 60)):
        slept: list[float] = []
        budget = RateBudget(limits(now=lambda at=at: at), max_wait=120, sleep=slept.append)
        with connect(server, budget=budget, now=lambda at=at: at) as platform:
            for _ in range(3):
                platform._changed_visits(START, charges=False)
        assert len(slept) == (2 if calls == 1 else 0)
        assert sum(slept) == pytest.approx(180 if calls == 1 else 0, abs=5)


def test_a_real_limit_of_the_server_is_waited_for_or_said(server: Server) -> None:
    server.sandbox.credentials["calls_per_minute"] = {"tier3": 2}
    server.sandbox.limited = True
    with connect(server) as platform:
        platform.check()
        platform.check()
        with pytest.raises(PlatformError) as error:
            platform.check()
    assert error.value.code == "PLATFORM_RATE_LIMITED"


# --- writing back ---


def test_a_file_is_written_and_found(server: Server, platform: AdvancedMD) -> None:
    receipt = platform.write(a_file())
    (made,) = written(server, "files")
    assert (receipt.platform, receipt.action, receipt.platform_id) == ("advancedmd", "file", str(made["id"]))
    assert made["patientid"] == f"pat{truth().visits[0].patient.id}"
    content = base64.b64decode(made["filecontents"])
    assert content.startswith(b"%PDF-1.4") and b"(Paid \\(in full\\))" in content and b"2026-06-25" in content
    assert f"(medbill:{KEY})".encode() in content and made["description"] == f"medbill:{KEY}"
    assert platform.find(a_file()) == receipt
    assert platform.find(replace(a_file(), idempotency_key="another-key")) is None


@pytest.mark.parametrize("kind", ["drop_after", "error_after", "slow_after", "garbage", "reset"])
def test_a_lost_answer_is_an_unknown_outcome_found_by_reading_back(
    server: Server, platform: AdvancedMD, kind: str
) -> None:
    fault(server, kind=kind, path="uploadfile", seconds=3)
    with pytest.raises(PlatformUnknownOutcome):
        platform.write(a_file())
    assert len(written(server, "files")) == 1  # sent once, taken once
    found = platform.find(a_file())
    assert found is not None and found.platform_id == str(written(server, "files")[0]["id"])


@pytest.mark.parametrize("kind", ["drop_before", "error"])
def test_a_request_the_platform_never_took_reads_back_as_absent(
    server: Server, platform: AdvancedMD, kind: str
) -> None:
    fault(server, kind=kind, path="uploadfile")
    with pytest.raises(PlatformUnknownOutcome):
        platform.write(a_file())
    assert platform.find(a_file()) is None and written(server, "files") == []


def test_a_success_that_left_nothing_is_no_success(server: Server, platform: AdvancedMD) -> None:
    server.sandbox.forgets = 1
    with pytest.raises(PlatformUnknownOutcome):
        platform.write(a_file())
    assert platform.find(a_file()) is None
    assert platform.write(a_file()).platform_id == str(written(server, "files")[0]["id"])


def test_a_success_that_cannot_be_looked_at_is_unknown_not_lost(server: Server, platform: AdvancedMD) -> None:
    fault(server, kind="error", path="getdemographic", times=4)
    with pytest.raises(PlatformUnknownOutcome):
        platform.write(a_file())
    assert platform.find(a_file()) is not None and len(written(server, "files")) == 1


@pytest.mark.parametrize("kind", ["throttle", "expired"])
def test_a_write_the_platform_did_not_take_is_sent_again_and_taken_once(
    server: Server, platform: AdvancedMD, kind: str
) -> None:
    fault(server, kind=kind, path="uploadfile")
    platform.write(a_file())
    assert len(written(server, "files")) == 1


def test_a_note_is_short_and_carries_the_key(server: Server, platform: AdvancedMD) -> None:
    receipt = platform.write(a_file(action="note"))
    long = replace(a_file(action="note"), text="x" * 2000, idempotency_key="another-key")
    platform.write(long)
    first, second = written(server, "notes")
    assert receipt.platform_id == str(first["id"]) and first["patientfid"] == str(truth().visits[0].patient.id)
    assert first["note"].splitlines() == [
        a_file().title,
        "Claim 1",
        "Paid (in full)",
        "Answer by 2026-06-25",
        f"medbill:{KEY}",
    ]
    assert len(second["note"]) <= 1000 and second["note"].splitlines()[-1] == "medbill:another-key"
    assert first["notetypefid"] == "2"
    with pytest.raises(PlatformError) as error:
        platform.find(a_file(action="note"))
    assert error.value.code == "PLATFORM_NO_READ_BACK"


def test_a_note_whose_answer_is_lost_is_unknown(server: Server, platform: AdvancedMD) -> None:
    fault(server, kind="drop_after", path="savepatientnotes")
    with pytest.raises(PlatformUnknownOutcome):
        platform.write(a_file(action="note"))
    assert len(written(server, "notes")) == 1


def test_a_note_type_the_office_has_not_is_said(server: Server) -> None:
    with connect(server, note_type="Faxes") as platform, pytest.raises(PlatformError) as error:
        platform.write(a_file(action="note"))
    assert error.value.code == "PLATFORM_CONFIGURATION" and written(server, "notes") == []


def test_a_claim_the_platform_does_not_know_is_refused(server: Server, platform: AdvancedMD) -> None:
    with pytest.raises(PlatformError) as error:
        platform.write(a_file("1"))
    assert error.value.code == "PLATFORM_REFUSED" and not isinstance(error.value, PlatformUnknownOutcome)
    assert written(server, "files") == []
    assert server.sandbox.requests["POST getupdatedvisits"] == 3  # no further than the last step back


def test_without_a_list_of_files_nobody_says_that_one_is_absent(server: Server, platform: AdvancedMD) -> None:
    fault(server, kind="drift", path="getdemographic", field="filelist")
    with pytest.raises(PlatformError) as error:
        platform.find(a_file())
    assert error.value.code == "PLATFORM_NO_READ_BACK"


# --- the stand-in is as strict as the real one is known to be ---


def post(server: Server, path: str, content: bytes | str, **headers: str) -> httpx.Response:
    return httpx.post(f"{server.url}{path}", content=content, headers={"Content-Type": "application/json", **headers})


def test_the_stand_in_refuses_what_the_real_one_refuses(server: Server, platform: AdvancedMD) -> None:
    platform.check()
    tokens = platform._session._tokens.read()
    assert tokens is not None
    path = f"/processrequest/api-801/{server.sandbox.credentials['app_name']}/xmlrpc/processrequest.aspx"
    good = {"@action": "lookupnotetypes", "@class": "api", "@msgtime": "06/25/2026 11:00:00 AM"}
    sent = {"Accept": "application/json", "Cookie": f"token={tokens.access_token}"}

    def ask(message: dict[str, Any], **headers: str) -> Any:
        answer = post(server, path, json.dumps({"ppmdmsg": message}), **{**sent, **headers})
        return answer.status_code, answer.json()

    assert ask(good)[1]["PPMDResults"]["Results"]["@success"] == "1"
    assert ask({**good, "@token": "x"}) == (400, {"title": "Error", "detail": "Improperly Formatted Token"})
    assert ask(good, Cookie="token=other")[1]["PPMDResults"]["Error"]["Fault"]["detail"]["code"] == "-2147220479"
    assert ask({**good, "@class": "demographics"})[1]["PPMDResults"]["Results"]["@success"] == "0"
    assert ask({**good, "@msgtime": "now"})[1]["PPMDResults"]["Results"]["@success"] == "0"
    days = {**good, "@action": "getdatevisits", "@visitdate": "6/1/2026"}
    assert ask({**days, "visit": {"@profileid": "ProfileId"}})[0] == 400
    assert ask(good, Accept="text/xml")[0] == 406
    assert post(server, LOGIN, "<ppmdmsg", **{"Content-Type": "text/xml"}).status_code == 400
    assert post(server, "/processrequest/api-801/OTHER/xmlrpc/processrequest.aspx", "{}").status_code == 404
