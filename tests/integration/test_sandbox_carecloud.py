"""The CareCloud stand-in refuses what a strict FHIR server would, in FHIR's own form."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import httpx
import pytest

from medbill.errors import BadInput
from medbill.sandbox.carecloud import MEDIA_TYPE, SCOPES, Sandbox, Server
from medbill.sandbox.seed import seed_carecloud
from platform_world import served

TODAY = date(2026, 6, 25)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("sandbox")
    seed_carecloud(folder / "inbox", folder, TODAY)
    with served(Server(Sandbox(folder, page=5))) as server:
        yield server


def token(server: Server, scope: str = SCOPES, secret: str | None = None) -> httpx.Response:
    own = server.sandbox.credentials
    form = {"grant_type": "client_credentials", "client_id": own["fhir_client_id"], "scope": scope}
    return httpx.post(f"{server.url}/oauth2/token", data={**form, "client_secret": secret or own["fhir_client_secret"]})


@pytest.fixture
def fhir(server: Server) -> Iterator[httpx.Client]:
    bearer = token(server).json()["access_token"]
    headers = {"Authorization": f"Bearer {bearer}", "Accept": MEDIA_TYPE, "Content-Type": MEDIA_TYPE}
    with httpx.Client(base_url=f"{server.url}/fhir/r4", headers=headers) as client:
        yield client


def a_task(server: Server, **more: Any) -> dict[str, Any]:
    claim = server.sandbox.records("Claim")[0]
    return {
        "resourceType": "Task",
        "status": "requested",
        "intent": "order",
        "for": {"reference": claim["patient"]["reference"]},
        "focus": {"reference": f"Claim/{claim['id']}"},
        "identifier": [{"system": "s", "value": "v"}],
        **more,
    }


def test_the_same_arguments_write_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        seed_carecloud(tmp_path / name / "inbox", tmp_path / name, TODAY)
    for name in ("records.json", "credentials.json"):
        one, other = ((tmp_path / x / "carecloud" / name).read_bytes() for x in ("a", "b"))
        assert one == other
    assert not (tmp_path / "a" / "inbox").exists()
    with pytest.raises(BadInput):
        Sandbox(tmp_path)


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/Claim?_elements=id,wingspan", 400),
        ("/Claim?service-date=2026", 400),
        ("/Claim?_lastUpdated=2026", 400),
        ("/Claim?_count=many", 400),
        ("/Claim?_cursor=x&_offset=5", 410),
        ("/Patient", 404),
    ],
)
def test_what_a_search_may_not_say(fhir: httpx.Client, path: str, status: int) -> None:
    answer = fhir.get(path)
    assert answer.status_code == status and answer.headers["Content-Type"] == MEDIA_TYPE
    assert answer.json()["resourceType"] == "OperationOutcome" and answer.json()["issue"][0]["severity"] == "error"


def test_pages_are_linked_and_elements_are_subset(server: Server, fhir: httpx.Client) -> None:
    bundle = fhir.get("/Claim?_elements=status&_total=accurate&_count=100").json()
    seen = []
    while True:
        seen += [e["resource"] for e in bundle["entry"]]
        following = [link["url"] for link in bundle["link"] if link["relation"] == "next"]
        if not following:
            break
        assert len(bundle["entry"]) == 5
        bundle = fhir.get(following[0]).json()
    assert bundle["total"] == len(seen) == len({r["id"] for r in seen}) == len(server.sandbox.records("Claim"))
    assert {name for r in seen for name in r} == {"resourceType", "id", "meta", "status"}
    counted = fhir.get("/Claim?_summary=count").json()
    assert counted["total"] == len(seen) and "entry" not in counted


def test_media_types_tokens_and_scopes(server: Server, fhir: httpx.Client) -> None:
    assert fhir.get("/Claim", headers={"Accept": "application/json"}).status_code == 406
    assert fhir.get("/Claim", headers={"Authorization": "Bearer x"}).status_code == 401
    assert token(server, secret="wrong").status_code == 401
    assert token(server, scope="system/*.read").json() == {"error": "invalid_scope"}
    less = token(server, scope="system/Coverage.read").json()["access_token"]
    assert fhir.get("/Claim", headers={"Authorization": f"Bearer {less}"}).status_code == 403
    assert fhir.post("/Task", json={}, headers={"Content-Type": "application/json"}).status_code == 415
    assert fhir.post("/Claim", content=b"{}").status_code == 403  # no scope to write claims is ever given
    assert fhir.delete("/Task").status_code in (403, 405)


@pytest.mark.parametrize(
    ("more", "status"),
    [
        ({"resourceType": "Communication"}, 400),
        ({"id": "mine"}, 400),
        ({"colour": "red"}, 400),
        ({"intent": None}, 422),
        ({"status": "someday"}, 422),
        ({"focus": {"reference": "Claim/none"}}, 422),
        ({"for": {"reference": "Patient/another"}}, 422),
    ],
)
def test_what_a_task_may_not_be(server: Server, fhir: httpx.Client, more: dict[str, Any], status: int) -> None:
    before = len(server.sandbox.written()["Task"])
    assert fhir.post("/Task", content=json.dumps(a_task(server, **more))).status_code == status
    assert len(server.sandbox.written()["Task"]) == before


def test_conditional_create_makes_one(server: Server, fhir: httpx.Client) -> None:
    body = json.dumps(a_task(server))
    made = [fhir.post("/Task", content=body, headers={"If-None-Exist": "identifier=s%7Cv"}) for _ in range(2)]
    assert [r.status_code for r in made] == [201, 200]
    assert made[0].headers["Location"] == made[1].headers["Location"]
    found = fhir.get("/Task?identifier=s|v").json()["entry"]
    assert [e["resource"]["id"] for e in found] == [made[0].headers["Location"].split("/")[-3]]


def test_v2_wants_basic_at_the_token_and_knows_its_parameters(server: Server) -> None:
    own = server.sandbox.credentials
    url = f"{server.url}/oauth2/access_token"
    form = {"grant_type": "refresh_token", "refresh_token": own["refresh_token"]}
    pair = base64.b64encode(f"{own['client_id']}:{own['client_secret']}".encode()).decode()
    assert httpx.post(url, data=form).status_code == 401
    assert (
        httpx.post(url, data={**form, "refresh_token": "x"}, headers={"Authorization": f"Basic {pair}"}).status_code
        == 400
    )
    given = httpx.post(url, data=form, headers={"Authorization": f"Basic {pair}"}).json()
    assert "expires_in" not in given
    with httpx.Client(base_url=f"{server.url}/v2", headers={"Authorization": f"Bearer {given['access_token']}"}) as v2:
        assert v2.get("/appointments?start_date=2026-06-01").status_code == 400
        assert v2.get("/appointments?start_date=2026-06-01&end_date=2026-06-30&doctor=1").status_code == 400
        assert len(v2.get("/appointments?start_date=2026-06-01&end_date=2026-06-30").json()["appointments"]) == 5
        assert v2.get("/patients/nobody").status_code == 404 and v2.get("/patients").status_code == 404
        assert v2.get("/claims").status_code == 404 and v2.post("/patients", json={}).status_code == 405
    assert httpx.get(f"{server.url}/v2/providers").status_code == 401
