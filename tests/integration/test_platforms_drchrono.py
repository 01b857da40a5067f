"""The DrChrono adapter against the stand-in server over loopback."""

import threading
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import httpx
import pyarrow.compute as pc
import pytest

from medbill.errors import PlatformError, PlatformUnknownOutcome
from medbill.model.claims import CLAIM_TABLES, NOTES
from medbill.platforms import drchrono as adapter_module
from medbill.platforms.base import Platform, WriteBack
from medbill.platforms.budget import RateBudget, always
from medbill.platforms.drchrono import DrChrono
from medbill.platforms.extraction import ExtractionPolicy
from medbill.platforms.oauth import Credentials, FileTokenStore
from medbill.sandbox import notes, wire
from medbill.sandbox.drchrono import Limits, Sandbox, Server
from medbill.sandbox.practice import generate
from medbill.sandbox.seed import seed_practice
from platform_world import served

POLICIES = Path(__file__).resolve().parents[2] / "include" / "policies"
TODAY = date(2026, 6, 25)
START = TODAY - timedelta(days=52)
CLAIMS = 150
KEY = "3f0c1d52-7a41-5b8e-9d55-0c6f2f1f7a10"


@pytest.fixture(scope="module")
def seeded(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sandbox")
    seed_practice(folder / "inbox", folder / "state", TODAY, claims=CLAIMS)
    return folder / "state"


@pytest.fixture
def state(seeded, tmp_path):
    for name in ("practice.json", "credentials.json"):
        (tmp_path / name).write_bytes((seeded / name).read_bytes())
    return tmp_path


@pytest.fixture
def server(state):
    with served(Server(Sandbox(state, Limits(1000, 100_000)))) as server:
        yield server


@pytest.fixture
def platform(server, state):
    with connect(server, state) as platform:
        yield platform


def connect(server, state, **options):
    options.setdefault("budget", RateBudget(always(), max_wait=5))
    options.setdefault("policies", POLICIES)
    return DrChrono(server.url, Credentials.from_file(state / "credentials.json"), timeout=2, **options)


def fault(server, **fields):
    assert httpx.post(f"{server.url}/_sandbox/faults", json=fields).status_code == 201


def written(server):
    return httpx.get(f"{server.url}/_sandbox/written").json()


def a_claim():
    return str(generate(7, START, claims=CLAIMS).visits[0].id)


def task(key=KEY, **more):
    return WriteBack(key, "task", a_claim(), "t", "x", **more)


def note(text="x", key=KEY, claim_id=None):
    return WriteBack(key, "claim_billing_note", claim_id or a_claim(), "", text)


def test_extraction_equals_the_truth_to_the_cent(platform):
    truth = generate(7, START, claims=CLAIMS).claim_tables()
    tables = platform.extract(START, TODAY).tables
    assert {name: t.schema for name, t in tables.items()} == CLAIM_TABLES
    without = ["billing_status"]
    assert tables["claims"].drop(without).equals(truth["claims"].drop(without))
    assert tables["claim_lines"].equals(truth["claim_lines"])
    assert pc.sum(tables["claims"]["charge"]) == pc.sum(truth["claim_lines"]["charge"])


def test_the_adapter_is_a_platform(platform):
    checked: Platform = platform
    assert checked.name == "drchrono"
    checked.check()
    adapter = adapter_module.ADAPTER
    assert {f"{do} {what}" for do in ("write", "find") for what in adapter.actions_for("posting")} < set(
        adapter.capabilities
    )
    assert "appointments" in checked.scope and "last_name" in checked.scope["patients_summary"]


def test_a_window_keeps_to_its_service_dates(platform):
    day = date(2026, 6, 10)
    tables = platform.extract(day, day).tables
    assert pc.unique(tables["claims"]["service_date"]).to_pylist() == [day]
    assert tables["claims"].num_rows >= 2
    everything = platform.extract(START - timedelta(days=300), TODAY).tables  # more than one vendor window
    assert everything["claims"].num_rows == len(generate(7, START, claims=CLAIMS).visits)


def test_nothing_is_extracted_twice_over_small_pages(platform, monkeypatch):
    whole = platform.extract(START, TODAY).tables
    monkeypatch.setattr(adapter_module, "PAGE_SIZE", 7)
    monkeypatch.setattr(adapter_module, "PATIENTS_ONE_BY_ONE", 0)
    platform._patients.clear()
    paged = platform.extract(START, TODAY).tables
    assert paged["claims"].equals(whole["claims"]) and paged["claim_lines"].equals(whole["claim_lines"])


def test_the_other_page_envelope_is_read_too(server, platform):
    fault(server, kind="data_envelope", times=1000)
    assert platform.extract(TODAY - timedelta(days=9), TODAY).tables["claims"].num_rows > 5


def test_only_named_fields_come_out(server, state):
    """Every field outside the policy gets a mark, new fields of the vendor too; no mark comes through."""
    policy = ExtractionPolicy.load(POLICIES, "drchrono", adapter_module._USED, adapter_module._NEEDED)
    needed_by_the_server = {"service_date", "updated_at", "posted_date"}
    records = wire.loads((state / "practice.json").read_bytes())
    marked = 0
    for resource in ("appointments", "patients", "line_items", "doctors"):
        kept = policy.fields["patients_summary" if resource == "patients" else resource] | needed_by_the_server
        for record in records[resource]:
            record["new_vendor_field"] = "MARKED"
            for name in record.keys() - kept:
                record[name] = {"text": "MARKED"} if isinstance(record[name], dict) else "MARKED"
                marked += 1
    (state / "practice.json").write_text(wire.dumps(records))
    with connect(server, state) as platform:
        tables = platform.extract(START, TODAY).tables
        held = [list(platform._patients.values()), platform._npis]
    assert marked > 5000 and tables["claims"].num_rows > 100
    assert {name: t.schema for name, t in tables.items()} == CLAIM_TABLES
    assert "MARKED" not in str(held) + "".join(str(t.to_pylist()) for t in tables.values())


def test_a_field_taken_from_the_policy_stays_empty(server, state):
    policy = ExtractionPolicy.load(POLICIES, "drchrono", adapter_module._USED, adapter_module._NEEDED)
    fields = dict(policy.fields) | {
        "patients_summary": frozenset({"id"}),
        "appointments": policy.fields["appointments"] - {"primary_insurance_id_number"},
    }
    with connect(server, state, extraction=replace(policy, fields=fields)) as platform:
        claims = platform.extract(START, TODAY).tables["claims"]
    for column in ("patient_last_name", "patient_first_name", "patient_birth_date", "member_id"):
        assert claims[column].null_count == claims.num_rows
    assert "GET /api/patients_summary" not in server.sandbox.requests


def test_expired_tokens_are_refreshed_once_by_many_threads(server, state):
    server.sandbox.access_seconds = 3600
    store = FileTokenStore(state / "tokens.json")
    with connect(server, state, tokens=store) as platform:
        platform.extract(TODAY - timedelta(days=5), TODAY)
        server.sandbox.store.spend(store.read().access_token)  # the platform ends it early
        before = server.sandbox.requests["POST /o/token"]
        results, threads = [], []
        for _ in range(8):
            threads.append(threading.Thread(target=lambda: results.append(platform.find(task(KEY)))))
            threads[-1].start()
        for thread in threads:
            thread.join()
    assert results == [None] * 8
    assert server.sandbox.requests["POST /o/token"] == before + 1


def test_tokens_outlive_the_process(server, state):
    for _ in range(2):
        with connect(server, state, tokens=FileTokenStore(state / "tokens.json")) as platform:
            platform.find(task(KEY))
    assert server.sandbox.requests["POST /o/token"] == 1


def test_a_stored_token_of_another_server_falls_back_to_the_credentials(server, state):
    store = FileTokenStore(state / "tokens.json")
    with connect(server, state, tokens=store) as platform:
        platform.find(task(KEY))
        store.write(replace(store.read(), access_token="gone", refresh_token="gone"))
        server.sandbox.store.revive(server.sandbox.credentials["refresh_token"])
        assert platform.find(task(KEY)) is None


def test_a_revoked_authorization_says_so(server, state):
    server.sandbox.store.spend(server.sandbox.credentials["refresh_token"])
    with connect(server, state) as platform, pytest.raises(PlatformError) as error:
        platform.extract(TODAY, TODAY)
    assert error.value.code == "PLATFORM_CREDENTIALS"
    assert "authorize" in str(error.value)


def test_429_is_waited_for_within_bounds(server, state):
    with connect(server, state) as platform:
        fault(server, kind="error", path="/api/appointments", status=429, retry_after=1, times=2)
        assert platform.extract(TODAY - timedelta(days=2), TODAY).tables["claims"].num_rows > 0
        fault(server, kind="error", path="/api/appointments", status=429, retry_after=3600)
        with pytest.raises(PlatformError) as error:
            platform.extract(TODAY, TODAY)
        assert error.value.code == "PLATFORM_RATE_LIMITED"


def test_the_vendors_burst_limit_is_survived(server, state):
    server.sandbox.limits.per_second = 10
    with connect(server, state, budget=RateBudget(adapter_module.LIMITS)) as platform:
        tables = platform.extract(TODAY - timedelta(days=8), TODAY).tables
    assert tables["claims"].num_rows > 5


def test_reads_survive_passing_faults(server, platform):
    fault(server, kind="error", path="/api/line_items", status=500, times=2)
    fault(server, kind="drop_before", path="/api/appointments", times=2)
    assert platform.extract(TODAY - timedelta(days=3), TODAY).tables["claims"].num_rows > 0


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"kind": "error", "status": 500, "times": 99}, "PLATFORM_ERROR"),
        ({"kind": "error", "status": 403, "times": 99}, "PLATFORM_FORBIDDEN"),
        ({"kind": "drop_before", "times": 99}, "PLATFORM_UNREACHABLE"),
        ({"kind": "garbage", "times": 99}, "PLATFORM_BAD_ANSWER"),
    ],
)
def test_lasting_faults_are_typed_errors_without_patient_data(server, platform, state, fields, code, caplog):
    caplog.set_level("DEBUG")
    platform.find(task(KEY))
    patient = str(wire.loads((state / "practice.json").read_bytes())["patients"][0]["id"])
    fault(server, path=f"/api/patients_summary/{patient}", **fields)
    with pytest.raises(PlatformError) as error:
        platform._load_patients({patient})
    assert error.value.code == code
    assert "{id}" in str(error.value)
    assert patient not in str(error.value) and patient not in caplog.text
    assert error.value.__cause__ is None


def test_a_deleted_patient_leaves_empty_names(server, state):
    records = wire.loads((state / "practice.json").read_bytes())
    records["patients"] = []
    (state / "practice.json").write_text(wire.dumps(records))
    with connect(server, state) as platform:
        claims = platform.extract(TODAY - timedelta(days=3), TODAY).tables["claims"]
    assert claims.num_rows > 0 and claims["patient_last_name"].null_count == claims.num_rows


def test_an_unreadable_claim_stops_itself_only(server, state):
    records = wire.loads((state / "practice.json").read_bytes())
    records["line_items"][0]["billed"] = "a lot"
    broken = str(records["line_items"][0]["appointment"])
    (state / "practice.json").write_text(wire.dumps(records))
    with connect(server, state) as platform:
        found = platform.extract(START, TODAY)
    assert found.refused == {"LINE_CHARGE": 1}
    assert broken not in found.tables["claims"]["claim_id"].to_pylist()
    assert broken not in found.tables["claim_lines"]["claim_id"].to_pylist()
    assert found.tables["claims"].num_rows == len(generate(7, START, claims=CLAIMS).visits) - 1


def test_a_next_link_elsewhere_is_not_followed(server, platform, monkeypatch):
    page = {"previous": None, "results": [], "next": "https://evil.example/api/other?cursor=x"}
    monkeypatch.setattr(platform, "_get", lambda *a, **k: page)
    with pytest.raises(PlatformError) as error:
        platform.extract(TODAY, TODAY)
    assert error.value.code == "PLATFORM_BAD_ANSWER"


def test_endless_pages_end(server, platform, monkeypatch):
    page = {"previous": None, "results": [], "next": "http://x/api/appointments?cursor=same"}
    monkeypatch.setattr(platform, "_get", lambda *a, **k: page)
    with pytest.raises(PlatformError, match="do not end"):
        platform.extract(TODAY, TODAY)


# --- writing back ---


def test_a_task_is_written_and_found(server, platform):
    receipt = platform.write(replace(task(), title="Post payment", text="Two lines", priority=30, due_on=TODAY))
    (made,) = written(server)["tasks"]
    assert (str(made["id"]), made["title"], made["priority"]) == (receipt.platform_id, "Post payment", "30")
    assert (made["status"], made["category"]) == (4401, 4301)
    assert made["associated_items"] == [{"type": "Appointment", "value": int(a_claim())}]
    assert written(server)["task_notes"][0]["text"] == f"Two lines\nmedbill:{KEY}"
    assert platform.find(task(KEY, owed_since=date(2020, 1, 1))) == receipt
    assert platform.find(task("another-key")) is None
    assert receipt.as_dict()["reference"] == f"medbill:{KEY}"


def test_notes_come_with_their_claims_but_for_what_medbill_wrote(server, platform):
    visits = generate(7, START, claims=CLAIMS).visits
    expected = {(str(v.id), "appointment", str(v.id), notes.of_visit(v)) for v in visits}
    expected |= {(str(v.id), "billing", str(n["id"]), n["text"]) for v in visits for n in notes.of_claim(v)}
    found = platform.extract(START, TODAY).notes
    columns = [found[name].to_pylist() for name in ("claim_id", "note_type", "note_id", "text")]
    assert found.schema == NOTES
    assert set(zip(*columns, strict=True)) == expected and found.num_rows == len(expected) > len(visits)
    assert found["patient_last_name"].null_count == 0 and found["written_on"].null_count == 0
    platform.write(note("Posted 71.50"))
    assert platform.extract(START, TODAY).notes.equals(found)


def test_an_unreadable_note_stops_itself_only(server, state):
    records = wire.loads((state / "practice.json").read_bytes())
    broken = records["claim_billing_notes"][:3]
    broken[0]["id"], broken[1]["text"], broken[2]["created_at"] = None, None, "soon"
    (state / "practice.json").write_text(wire.dumps(records))
    with connect(server, state) as platform:
        found = platform.extract(START, TODAY)
    billing = found.notes.filter(pc.equal(found.notes["note_type"], "billing"))
    assert found.refused == {"BILLING_NOTE": 1}
    assert billing.num_rows == len(records["claim_billing_notes"]) - 2  # and the empty one
    assert billing["written_on"].null_count == 1
    assert found.tables["claims"].num_rows == len(generate(7, START, claims=CLAIMS).visits)


def test_a_claim_note_is_written_and_found(server, platform):
    receipt = platform.write(note("Paid 71.50"))
    assert written(server)["claim_billing_notes"][0]["text"] == f"Paid 71.50\nmedbill:{KEY}"
    assert platform.find(note(key=KEY)) == receipt
    assert platform.find(note(key=KEY[:-1])) is None  # a prefix is not the key


@pytest.mark.parametrize("kind", ["drop_after", "error_after", "slow_after", "garbage"])
def test_a_lost_answer_is_an_unknown_outcome_found_by_reading_back(server, platform, kind):
    platform._load_task_settings()
    fault(server, kind=kind, method="POST", path="/api/tasks", seconds=3)
    with pytest.raises(PlatformUnknownOutcome):
        platform.write(task())
    assert len(written(server)["tasks"]) == 1  # sent once, taken once
    found = platform.find(task(KEY))
    assert found is not None and found.platform_id == str(written(server)["tasks"][0]["id"])


def test_a_lost_note_answer_is_found_by_reading_back(server, platform):
    fault(server, kind="drop_after", method="POST", path="/api/claim_billing_notes")
    with pytest.raises(PlatformUnknownOutcome):
        platform.write(note("x"))
    assert platform.find(note(key=KEY)) is not None


@pytest.mark.parametrize("kind", ["drop_before", "error"])
def test_a_request_the_platform_never_took_reads_back_as_absent(server, platform, kind):
    fault(server, kind=kind, method="POST", path="/api/claim_billing_notes")
    with pytest.raises(PlatformUnknownOutcome):
        platform.write(note("x"))
    assert platform.find(note(key=KEY)) is None


def test_a_refused_write_is_final(server, platform):
    with pytest.raises(PlatformError) as error:
        platform.write(note("x", claim_id="1"))
    assert error.value.code == "PLATFORM_REFUSED"
    assert not isinstance(error.value, PlatformUnknownOutcome)
    with pytest.raises(PlatformError):
        platform.write(note("x", claim_id="not-a-number"))


def test_a_throttled_write_is_sent_again_and_taken_once(server, platform):
    fault(server, kind="error", method="POST", path="/api/claim_billing_notes", status=429, retry_after=0, times=2)
    platform.write(note("x"))
    assert len(written(server)["claim_billing_notes"]) == 1


def test_an_account_without_the_scope_cannot_write(server, state):
    own = server.sandbox.credentials
    refresh = server.sandbox.store.issue("refresh", "billing:read", 60)
    account = Credentials(own["client_id"], own["client_secret"], refresh)
    with DrChrono(server.url, account, policies=POLICIES) as platform, pytest.raises(PlatformError) as error:
        platform.write(note("x"))
    assert error.value.code == "PLATFORM_FORBIDDEN"


def test_a_server_that_is_down_is_a_plain_error(state):
    with (
        DrChrono(
            "http://127.0.0.1:9", Credentials.from_file(state / "credentials.json"), policies=POLICIES
        ) as platform,
        pytest.raises(PlatformError) as error,
    ):
        platform.write(note("x"))
    assert error.value.code == "PLATFORM_UNREACHABLE"
    assert not isinstance(error.value, PlatformUnknownOutcome)


def test_notes_are_found_where_tasks_come_without_them(server, platform, monkeypatch):
    receipt = platform.write(task())
    fields = dict(platform._policy.fields) | {"tasks": frozenset({"id"})}
    monkeypatch.setattr(platform, "_policy", replace(platform._policy, fields=fields))
    assert platform.find(task(KEY)) == receipt
