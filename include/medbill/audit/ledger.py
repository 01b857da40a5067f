"""Writing the ledger: who touched which protected data, when, why, and how it ended.

Rows hold ids, counts, hashes, codes and vault tokens; never a value of the data. A touch writes two rows, each committed
on its own: the intent before protected data is reached for, the outcome after (45 CFR 164.312(b), audit controls).
"""

from __future__ import annotations

import json
import os
import re
import secrets
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import psycopg2
import rfc8785
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from medbill.errors import LedgerUnavailable, MedbillError
from medbill.store import db as store_db

#: What an event does to the resource, and the letter FHIR AuditEvent.action has for it.
ACTIONS = {"C": "create", "R": "read", "U": "update", "D": "delete", "E": "execute"}
#: Details that mean the same in every row and can be searched by: hashes of what a model was asked and answered (of the
#: sealed bytes, not of short text), its name, what was decided, and the hash of the proposal that was decided on.
KNOWN_DETAILS = ("prompt_hash", "response_hash", "model", "decision", "proposal_hash")
_SCHEMA_VERSION = 1
_HASH = re.compile(r"[0-9a-f]{64}")
_WHOLE = 2**53
_LONGEST = 512  # characters of one detail: a count, a code, a hash or a list of them; not a text
_ATTEMPTS = 4
_encode = json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode
_TRANSIENT = ("40001", "40P01", "57P01", "57P02", "57P03", "08")  # and no SQLSTATE at all: the connection broke
_KEY_REUSED = "MB001"  # raised by audit.append()


@dataclass(frozen=True)
class RunContext:
    """Who writes: the service, the person it acts for, and the Airflow task it runs in, as far as there is one."""

    service: str = "medbill"
    on_behalf_of: str | None = None
    dag_id: str | None = None
    run_id: str | None = None
    task_id: str | None = None
    map_index: int | None = None
    try_number: int | None = None

    @staticmethod
    def from_env(env: Mapping[str, str] | None = None) -> RunContext:
        """From the AIRFLOW_CTX_* variables Airflow sets around a task, and MEDBILL_ACTOR (a person's user name)."""
        e = os.environ if env is None else env

        def whole(name: str) -> int | None:
            text = e.get(name, "")
            return int(text) if text.lstrip("-").isdecimal() else None

        return RunContext(
            on_behalf_of=e.get("MEDBILL_ACTOR") or None,
            dag_id=e.get("AIRFLOW_CTX_DAG_ID") or None,
            run_id=e.get("AIRFLOW_CTX_DAG_RUN_ID") or None,
            task_id=e.get("AIRFLOW_CTX_TASK_ID") or None,
            map_index=whole("AIRFLOW_CTX_MAP_INDEX"),
            try_number=whole("AIRFLOW_CTX_TRY_NUMBER"),
        )


@dataclass(frozen=True)
class Event:
    """Something that happens to protected data.

    action: create, read, update, delete or execute (or FHIR's letter). kind: what is done, dotted, e.g. "landing.read".
    purpose: why (treatment, payment, operations, ...). practice: its id, "-" where it is all of them. resource: which
    object, by id or key. subject_token: the claim or patient, as vault token. source_hash: SHA-256 of the bytes read, of
    whole files or partitions only (the hash of a short value can be guessed). details: counts, codes, hashes, ids; those
    of KNOWN_DETAILS under these names. Who gets protected data outside: recipient, recipient_address, what.
    idempotency_key: a second record() with it finds the first row; without it every event is its own.

    Raises ValueError for what the ledger must not or cannot hold.
    """

    action: str
    kind: str
    purpose: str
    practice: str
    resource: str
    subject_token: str | None = None
    source_hash: str | None = None
    details: Mapping[str, Any] = field(default_factory=dict)
    idempotency_key: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "action", ACTIONS.get(self.action, self.action))
        if self.action not in ACTIONS.values():
            raise ValueError(f"action is one of {', '.join(ACTIONS.values())}")
        for name in ("kind", "purpose", "practice", "resource"):
            if not getattr(self, name):
                raise ValueError(f"an event needs a {name}")
        _check_details(self.details)


class Touch:
    """An open touch of protected data; what is noted goes into its outcome row."""

    def __init__(self) -> None:
        self.details: dict[str, Any] = {}

    def note(self, **details: Any) -> None:
        """Add counts, codes or hashes to the outcome. A later note of the same name replaces the earlier."""
        _check_details(details)
        self.details.update(details)


class Ledger:
    """Appends rows for one run. Every row is its own short transaction, whatever the caller's transactions do."""

    def __init__(self, db: sa.Engine, run: RunContext) -> None:
        self._db = store_db.engine(db.url.render_as_string(hide_password=False), ask=False)
        self._run = run

    def record(self, event: Event, outcome: str = "success") -> int:
        """Append one row and return its number; with an idempotency key already used, the number of that row.

        Raises LedgerUnavailable where the row is not known to be committed; MedbillError with code LEDGER_KEY_REUSED
        where the key belongs to an event of other action, kind, practice, resource or outcome.
        """
        return self._append(event, outcome, _event_id())

    @contextmanager
    def touch(self, event: Event) -> Iterator[Touch]:
        """Commit an intent row, run the body, commit the outcome row.

        The body does not run where the intent cannot be written (LedgerUnavailable). Its exceptions pass through and
        leave outcome "failure" with their code, never their message. A touch that ends well but whose outcome cannot be
        written raises LedgerUnavailable; its intent stays open, and verify() will say so.
        """
        if event.idempotency_key is not None:
            raise ValueError("a touch has no idempotency key: touching data again is another touch")
        intent = _event_id()
        self._append(event, "intent", intent)
        touch = Touch()
        try:
            yield touch
        except BaseException as error:
            code = error.code if isinstance(error, MedbillError) else type(error).__name__
            try:
                self._outcome(event, "failure", intent, {**touch.details, "error": code})
            except LedgerUnavailable:
                error.add_note("The ledger could not take the outcome either; the intent stays open.")
            raise
        self._outcome(event, "success", intent, touch.details)

    def abandon(self, event: Event, intent: str) -> int:
        """Close the intent of a touch whose process died, after somebody has looked into it; returns the row's number.

        event: as in the intent's row; intent: its event_id. A real outcome that still arrives gets its own row.
        """
        return self._append(replace(event, idempotency_key=f"{intent}:abandoned"), "abandoned", _event_id(), intent)

    def _outcome(self, event: Event, outcome: str, intent: str, details: Mapping[str, Any]) -> None:
        closing = replace(event, details={**event.details, **details}, idempotency_key=f"{intent}:outcome")
        self._append(closing, outcome, _event_id(), intent)

    def _append(self, event: Event, outcome: str, event_id: str, intent: str | None = None) -> int:
        payload = self._payload(event, outcome, event_id, intent)
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                number = self._send(payload)
            except (psycopg2.Error, SQLAlchemyError) as error:
                driver = error.orig if isinstance(error, DBAPIError) else error
                if not isinstance(driver, psycopg2.Error):
                    raise LedgerUnavailable(
                        f"the ledger cannot be reached ({type(error).__name__}); no protected data may be touched: "
                        "check the connection settings, then retry"
                    ) from None
                state = driver.pgcode
                if state == _KEY_REUSED:
                    raise MedbillError(
                        "the idempotency key belongs to another event", code="LEDGER_KEY_REUSED"
                    ) from None
                # Even a COMMIT whose answer was lost may be sent again: the key finds the row.
                if attempt == _ATTEMPTS or not (state is None or state.startswith(_TRANSIENT)):
                    raise LedgerUnavailable(
                        f"the ledger refused a row ({state or 'no connection'}); no protected data may be touched: "
                        "check that the database is up, then retry"
                    ) from None
                time.sleep(attempt * (10 + secrets.randbelow(40)) / 1000)
                continue
            if not isinstance(number, int):
                raise LedgerUnavailable("the ledger gave no row number; check its migrations")
            return number
        raise AssertionError("unreachable")

    def _send(self, payload: bytes) -> object:
        """One statement and one round trip: without BEGIN it is a transaction of its own, committed when it answers.

        Past SQLAlchemy's statements, which take longer here than the database does, and without asking first whether the
        connection lives: a row that met a dead one is sent again.
        """
        pooled = self._db.raw_connection()
        try:
            raw: Any = pooled.dbapi_connection
            before, raw.autocommit = raw.autocommit, True
            try:
                with raw.cursor() as cursor:
                    cursor.execute("SELECT audit.append(%s)", (payload,))
                    return cursor.fetchone()[0]
            finally:
                if raw.closed:
                    pooled.invalidate()
                    self._db.dispose()  # a server that came back has closed them all
                else:
                    raw.autocommit = before
        finally:
            pooled.close()

    def _payload(self, event: Event, outcome: str, event_id: str, intent: str | None) -> bytes:
        run = self._run
        fields: dict[str, Any] = {
            "schema_version": _SCHEMA_VERSION,
            "event_id": event_id,
            "idempotency_key": event.idempotency_key or event_id,
            "occurred_at": datetime.now(UTC).isoformat(timespec="microseconds"),
            "actor": run.service,
            "on_behalf_of": run.on_behalf_of,
            "practice": event.practice,
            "purpose": event.purpose,
            "action": event.action,
            "kind": event.kind,
            "resource": event.resource,
            "outcome": outcome,
            "intent": intent,
            "dag_id": run.dag_id,
            "run_id": run.run_id,
            "task_id": run.task_id,
            "map_index": run.map_index,
            "try_number": run.try_number,
            "subject_token": event.subject_token,
            "source_hash": event.source_hash,
            "details": dict(event.details) or None,
        }
        if any("\0" in value for value in fields.values() if isinstance(value, str)):
            raise ValueError("the ledger takes no NUL characters")
        return _canonical({name: value for name, value in fields.items() if value is not None})


def _canonical(fields: dict[str, Any]) -> bytes:
    """RFC 8785. json writes text as it does; names it sorts by code point, which is the same for ASCII."""
    try:
        if all(name.isascii() for name in fields.get("details", ())):
            return _encode(fields).encode()
        return rfc8785.dumps(fields)
    except (rfc8785.CanonicalizationError, UnicodeEncodeError, TypeError, AttributeError):
        raise ValueError("the ledger takes text, whole numbers below 2**53, truth values and lists of them") from None


def _check_details(details: Mapping[str, Any]) -> None:
    for name, value in details.items():
        for one in value if isinstance(value, list | tuple) else [value]:
            if one is not None and not isinstance(one, str | int):
                raise ValueError(f"detail {name} must be text, a whole number, a truth value or a list of them")
            if isinstance(one, int) and not -_WHOLE < one < _WHOLE:
                raise ValueError(f"detail {name} is beyond 2**53, which not every reader of JSON takes exactly")
            if isinstance(one, str) and (len(one) > _LONGEST or "\0" in one):
                raise ValueError(f"detail {name} is longer than {_LONGEST} characters or holds a NUL")
        if name in KNOWN_DETAILS and value is not None:
            if not isinstance(value, str):
                raise ValueError(f"detail {name} is one text")
            if name.endswith("_hash") and not _HASH.fullmatch(value):
                raise ValueError(f"detail {name} is a SHA-256 in hexadecimal")


def _event_id() -> str:
    """UUIDv7 (RFC 9562): 48 bits of milliseconds, then random, so that ids of a time lie together in an index."""
    value = (time.time_ns() // 1_000_000) << 80 | secrets.randbits(80)
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    return str(uuid.UUID(int=value))
