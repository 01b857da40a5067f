"""The stand-in server, asked directly: envelope, limits, scopes, OAuth2, errors, persistence."""

import json
import threading
import time
from datetime import date
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from medbill.errors import BadInput, MedbillError
from medbill.sandbox import cli
from medbill.sandbox.drchrono import Limits, Sandbox, Server
from medbill.sandbox.seed import seed_practice

TODAY = date(2026, 6, 25)


@pytest.fixture(scope="module")
def seeded(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sandbox")
    seed_practice(folder / "inbox", folder / "state", TODAY, claims=120)
    return folder / "state"


@pytest.fixture
def state(seeded, tmp_path):
    for name in ("practice.json", "credentials.json"):
        (tmp_path / name).write_bytes((seeded / name).read_bytes())
    return tmp_path


@pytest.fixture
def start(state):
    servers = []

    def run(**options):
        server = Server(Sandbox(state, options.pop("limits", Limits(1000, 100_000)), **options))
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        servers.append(server)
        return server

    yield run
    for server in servers:
        server.shutdown()
        server.server_close()


def tokens(server, **form):
    own = server.sandbox.credentials
    body = {
        "grant_type": "refresh_token",
        "refresh_token": own["refresh_token"],
        "client_id": own["client_id"],
        "client_secret": own["client_secret"],
        **form,
    }
    return httpx.post(f"{server.url}/o/token/", data=body)


def client(server, scope=None):
    token = tokens(server).json()["access_token"] if scope is None else server.sandbox.store.issue("access", scope, 60)
    return httpx.Client(base_url=server.url, headers={"Authorization": f"Bearer {token}"})


def test_pages_have_a_full_next_url_and_never_repeat(start):
    api = client(start())
    url, seen, pages = "/api/line_items?page_size=50", [], 0
    while url:
        answer = api.get(url).json()
        assert set(answer) == {"previous", "results", "next"}
        assert len(answer["results"]) <= 50
        seen += [r["id"] for r in answer["results"]]
        url, pages = answer["next"], pages + 1
        assert url is None or url.startswith("http://127.0.0.1:")
    assert pages > 2 and seen == sorted(set(seen))
    assert len(api.get("/api/line_items?page_size=9999").json()["results"]) <= 250
    assert len(api.get("/api/appointments?verbose=true").json()["results"]) <= 25


def test_filters(start):
    api = client(start())
    day = "2026-06-10"
    found = api.get("/api/appointments", params={"date_range": f"{day}/{day}"}).json()["results"]
    assert found and all(r["scheduled_time"].startswith(day) for r in found)
    assert found == api.get("/api/appointments", params={"date": day}).json()["results"]
    lines = api.get("/api/line_items", params={"appointment": found[0]["id"]}).json()["results"]
    assert lines and {str(x["appointment"]) for x in lines} == {found[0]["id"]}
    since = api.get("/api/line_items", params={"since": "2026-06-20"}).json()["results"]
    assert since and all(r["updated_at"] >= "2026-06-20" for r in since)
    one = api.get(f"/api/patients_summary/{found[0]['patient']}").json()
    assert "social_security_number" not in one


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/api/appointments?date_range=2026-01-01/2026-12-31", 400),
        ("/api/appointments?date_range=yesterday", 400),
        ("/api/line_items?page_size=many", 400),
        ("/api/line_items?cursor=%25%25", 404),
        ("/api/insurances", 400),
        ("/api/insurances?payer_type=emdeon&term=lake", 200),
        ("/api/line_items/1", 404),
        ("/api/unheard_of", 404),
        ("/nowhere", 404),
    ],
)
def test_answers_to_odd_requests(start, path, status):
    assert client(start()).get(path).status_code == status


def test_no_token_no_data(start):
    server = start()
    assert httpx.get(f"{server.url}/api/patients").status_code == 401
    assert httpx.get(f"{server.url}/api/patients", headers={"Authorization": "Bearer x"}).status_code == 401


def test_scopes_per_path(start):
    server = start()
    seeded = client(server)
    assert seeded.get("/api/patients_summary").status_code == 200
    assert seeded.get("/api/patients").status_code == 403
    reader = client(server, "tasks:read billing:read")
    assert reader.get("/api/tasks").status_code == 200
    assert reader.post("/api/tasks", json={"title": "x", "status": 4401}).status_code == 403
    assert reader.get("/api/appointments").status_code == 403


def test_transactions_are_read_only(start):
    api = client(start())
    assert api.get("/api/transactions").json()["results"]
    assert api.post("/api/transactions", json={}).status_code == 405
    assert api.put("/api/tasks/1", json={}).status_code == 405


def test_writes_are_checked_field_by_field(start):
    api = client(start())
    assert api.post("/api/tasks", json={}).json() == {
        "title": ["This field is required."],
        "status": ["This field is required."],
    }
    assert "status" in api.post("/api/tasks", json={"title": "x", "status": 1}).json()
    assert "priority" in api.post("/api/tasks", json={"title": "x", "status": 4401, "priority": "99"}).json()
    assert "appointment" in api.post("/api/claim_billing_notes", json={"text": "x"}).json()
    assert "appointment" in api.post("/api/claim_billing_notes", json={"appointment": 5, "text": "x"}).json()
    assert api.post("/api/tasks", content=b"{").status_code == 400
    assert api.post("/api/tasks", content=b"[]").status_code == 400


def test_writes_survive_a_restart(start, state):
    first = start()
    api = client(first)
    made = api.post("/api/tasks", json={"title": "x", "status": 4401, "notes": [{"text": "n"}]})
    assert made.status_code == 201
    api.post("/api/task_notes", json={"task": made.json()["id"], "text": "more"})
    again = client(start())
    (task,) = again.get("/api/tasks").json()["results"]
    assert task["id"] == made.json()["id"]
    assert [n["text"] for n in task["notes"]] == ["n", "more"]


def test_a_billing_note_shows_on_its_appointment(start):
    api = client(start())
    claim = api.get("/api/line_items").json()["results"][0]["appointment"]
    api.post("/api/claim_billing_notes", json={"appointment": claim, "text": "x"})
    assert api.get(f"/api/appointments/{claim}").json()["billing_notes"][-1]["text"] == "x"


def test_limits_answer_429(start):
    api = client(start(limits=Limits(3, 5)))
    assert [api.get("/api/doctors").status_code for _ in range(4)] == [200, 200, 200, 429]
    time.sleep(1.05)
    assert [api.get("/api/doctors").status_code for _ in range(3)] == [200, 200, 429]


def test_authorization_code_is_single_use(start):
    server = start()
    own = server.sandbox.credentials
    query = {
        "response_type": "code",
        "client_id": own["client_id"],
        "redirect_uri": own["redirect_uris"][0],
        "scope": "tasks:read",
        "state": "s",
    }
    back = httpx.get(f"{server.url}/o/authorize/", params=query)
    assert back.status_code == 302
    answer = parse_qs(urlsplit(back.headers["Location"]).query)
    assert answer["state"] == ["s"]
    form = {"grant_type": "authorization_code", "code": answer["code"][0], "redirect_uri": own["redirect_uris"][0]}
    first = tokens(server, **form)
    assert first.status_code == 200 and first.json()["scope"] == "tasks:read"
    assert set(first.json()) == {"access_token", "refresh_token", "expires_in", "token_type", "scope"}
    assert tokens(server, **form).json() == {"error": "invalid_grant"}
    assert (
        httpx.get(f"{server.url}/o/authorize/", params=query | {"redirect_uri": "https://evil.example"}).status_code
        == 400
    )


def test_refresh_tokens_rotate(start):
    server = start()
    first = tokens(server).json()
    # the answer got lost: asking again with the same token still works
    second = tokens(server).json()
    headers = {"Authorization": f"Bearer {second['access_token']}"}
    assert httpx.get(f"{server.url}/api/doctors", headers=headers).status_code == 200
    assert tokens(server).json() == {"error": "invalid_grant"}
    assert tokens(server, refresh_token=second["refresh_token"]).status_code == 200
    assert first["refresh_token"] != second["refresh_token"]


def test_strict_rotation_spends_at_once(start):
    server = start(strict_rotation=True)
    assert tokens(server).status_code == 200
    assert tokens(server).status_code == 400


def test_wrong_client_is_refused(start):
    server = start()
    assert tokens(server, client_secret="x").status_code == 401
    assert tokens(server, grant_type="client_credentials").json() == {"error": "unsupported_grant_type"}


def test_only_this_machine(start):
    server = start()
    assert server.server_address[0] == "127.0.0.1"
    assert httpx.get(f"{server.url}/_sandbox/health", headers={"Host": "evil.example"}).status_code == 400


def test_practice_file_is_read_again_when_replaced(start, state):
    api = client(start())
    assert len(api.get("/api/doctors").json()["results"]) == 6
    practice = json.loads((state / "practice.json").read_text())
    practice["doctors"] = practice["doctors"][:1]
    (state / "practice.json").write_text(json.dumps(practice))
    assert len(api.get("/api/doctors").json()["results"]) == 1


def test_a_folder_without_a_practice_says_so(tmp_path):
    with pytest.raises(BadInput, match="seed"):
        cli.serve(tmp_path, 0)


def test_a_taken_port_says_so(start, state):
    with pytest.raises(MedbillError, match="port"):
        cli.serve(state, start().server_address[1])
