"""Fill an inbox and a state folder with the made-up practice; doing it again changes no byte."""

from __future__ import annotations

import hashlib
import json
from datetime import date, timedelta
from pathlib import Path

from medbill.errors import BadInput
from medbill.sandbox import advancedmd, advancedmd_wire, carecloud, carecloud_wire, era, tebra, tebra_wire, wire
from medbill.sandbox.canaries import plant
from medbill.sandbox.drchrono import CREDENTIALS_FILE, PRACTICE_FILE, SCOPES
from medbill.sandbox.era import Truth, write_once
from medbill.sandbox.practice import CEDARHILL, DEFAULT_CLAIMS, DEFAULT_DAYS, PINEGROVE, RIVERTON, generate

TRUTH_FILE = "truth.json"
CANARIES_FILE = "canaries.jsonl"
SEEDED_FILE = "seeded.json"


def seed_practice(
    inbox: Path,
    state: Path,
    today: date,
    *,
    seed: int = 7,
    claims: int = DEFAULT_CLAIMS,
    days: int = DEFAULT_DAYS,
    canaries: int | None = None,
) -> Truth:
    """Write remittances to inbox/<practice>/ and what the server needs, and truth.json, to the state folder.

    today is the first day without data. A later `today` adds the new days and keeps the earlier files. canaries: seed of
    the identifiers to plant (medbill.sandbox.canaries), also listed in canaries.jsonl of the state folder; once planted
    they stay. Raises BadInput where the state folder was seeded with another seed or size, because the same claim ids
    would then mean other claims.
    """
    arguments = {"seed": seed, "claims": claims, "days": days}
    state.mkdir(parents=True, exist_ok=True)
    seeded = state / SEEDED_FILE
    known = json.loads(seeded.read_text()) if seeded.exists() else arguments
    if {name: value for name, value in known.items() if name != "canaries"} != arguments:
        raise BadInput(
            "the state folder was seeded with another seed or size; choose another folder or remove it",
            code="SANDBOX_SEEDED_DIFFERENTLY",
        )
    canaries = known.get("canaries") if canaries is None else canaries
    data = generate(seed, today - timedelta(days=days), days, claims)
    records, extra = wire.records, []
    if canaries is not None:
        arguments["canaries"] = canaries
        data, planted = plant(data, canaries)
        write_once(state / CANARIES_FILE, planted.listing(), 0o600)
        records, extra = planted.records, planted.files()
    write_once(seeded, json.dumps(arguments, sort_keys=True).encode())
    credentials = {
        "client_id": "medbill-sandbox",
        "client_secret": _secret(seed, "client"),
        "refresh_token": _secret(seed, "refresh"),
        "redirect_uris": ["http://127.0.0.1/callback"],
        "scope": SCOPES,
    }
    write_once(state / CREDENTIALS_FILE, json.dumps(credentials, indent=1, sort_keys=True).encode(), 0o600)
    write_once(state / PRACTICE_FILE, wire.dumps(records(data)).encode())
    truth = era.write(data, inbox, extra=extra)
    write_once(state / TRUTH_FILE, truth.to_json().encode())
    return truth


def _secret(seed: int, name: str) -> str:
    """Opens nothing but a loopback server full of invented data, so it may follow from the seed."""
    return hashlib.sha256(f"medbill sandbox {seed} {name}".encode()).hexdigest()[:40]


def seed_tebra(
    inbox: Path, state: Path, today: date, *, seed: int = 8, claims: int = 24, days: int = 15, remittances: bool = False
) -> None:
    """Write what the Tebra stand-in serves, a second practice, to a folder of its own in the state folder.

    remittances: its 835 files as well, to inbox/<practice>/. The same arguments write the same bytes.
    """
    folder = state / tebra.FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    data = generate(seed, today - timedelta(days=days), days, claims, identity=RIVERTON)
    credentials = {
        "customer_key": _secret(seed, "customer key"),
        "user": "medbill@sandbox.invalid",
        "password": _secret(seed, "password"),
        "practice_id": tebra_wire.PRACTICE_ID,
        "practice_name": RIVERTON.name,
        "fhir_client_id": "medbill-sandbox",
        "fhir_client_secret": _secret(seed, "fhir"),
        "fhir_scope": "system/*.read",
    }
    write_once(folder / tebra.CREDENTIALS_FILE, json.dumps(credentials, indent=1, sort_keys=True).encode(), 0o600)
    write_once(folder / tebra.RECORDS_FILE, json.dumps(tebra_wire.records(data)).encode())
    if remittances:
        era.write(data, inbox)


def seed_advancedmd(
    inbox: Path, state: Path, today: date, *, seed: int = 9, claims: int = 24, days: int = 15, remittances: bool = False
) -> None:
    """Write what the AdvancedMD stand-in serves, a third practice, to a folder of its own in the state folder.

    remittances: its 835 files as well, to inbox/<practice>/. The same arguments write the same bytes.
    """
    folder = state / advancedmd.FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    data = generate(seed, today - timedelta(days=days), days, claims, identity=CEDARHILL)
    credentials = {
        "user": "MEDBILL",
        "password": _secret(seed, "password"),
        "office_code": "990003",
        "app_name": "MEDBILLSANDBOX",
        "profile_npis": advancedmd_wire.npis(data),
        # the vendor's one call a minute in peak hours would stall a demonstration
        "calls_per_minute": {"tier1": 600, "tier2": 6000, "tier3": 600, "login": 60},
    }
    write_once(folder / advancedmd.CREDENTIALS_FILE, json.dumps(credentials, indent=1, sort_keys=True).encode(), 0o600)
    write_once(folder / advancedmd.RECORDS_FILE, json.dumps(advancedmd_wire.records(data)).encode())
    if remittances:
        era.write(data, inbox)


def seed_carecloud(
    inbox: Path,
    state: Path,
    today: date,
    *,
    seed: int = 10,
    claims: int = 16,
    days: int = 8,
    remittances: bool = False,
) -> None:
    """Write what the CareCloud stand-in serves, a practice of its own, to a folder of its own in the state folder.

    remittances: its 835 files as well, to inbox/<practice>/. The same arguments write the same bytes.
    """
    folder = state / carecloud.FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    data = generate(seed, today - timedelta(days=days), days, claims, identity=PINEGROVE)
    credentials = {
        "client_id": "medbill-sandbox",
        "client_secret": _secret(seed, "client"),
        "refresh_token": _secret(seed, "refresh"),
        "fhir_client_id": "medbill-sandbox-fhir",
        "fhir_client_secret": _secret(seed, "fhir"),
        "fhir_scope": carecloud.SCOPES,
        "write_back": "task",
    }
    write_once(folder / carecloud.CREDENTIALS_FILE, json.dumps(credentials, indent=1, sort_keys=True).encode(), 0o600)
    write_once(folder / carecloud.RECORDS_FILE, wire.dumps(carecloud_wire.records(data)).encode())
    if remittances:
        era.write(data, inbox)
