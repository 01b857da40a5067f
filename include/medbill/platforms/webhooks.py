"""Webhooks of billing platforms: what is checked before a delivery counts, and what is kept of it.

A delivery says that something changed; it wakes an extraction, which reads the truth from the platform. So a delivery can
put no data into medbill, and one that never came costs an hour. Kept are its id, its type, the service day it names and
when it was sent; a body is never stored. Scheme "standard": Standard Webhooks, HMAC-SHA256 over `id.timestamp.body`.
Scheme "drchrono": the vendor's own header, which is the secret itself; it covers neither body nor time.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from medbill.audit.ledger import Event, Ledger
from medbill.errors import MedbillError, PlatformError
from medbill.platforms import values
from medbill.platforms.values import Unreadable
from medbill.store import db as store
from medbill.store.tables import webhook_events

#: The largest body taken, bytes.
MAX_BYTES = 1 << 20
#: How far the signed time may be from ours, to either side.
TOLERANCE = timedelta(minutes=5)
#: A wake-up this young is still on its way, so a second one is not sent.
FRESH = timedelta(seconds=10)
#: Service days before the usual window that one extraction takes from deliveries; the rest waits for the next.
MOST_DAYS = 30
_OLDEST = timedelta(days=3 * 366)
_LONGEST_WINDOW = timedelta(days=31)
#: Bytes; Standard Webhooks asks for 24 to 64.
_SHORTEST_SECRET = 24
_MOST_SIGNATURES = 8
_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
_TIME = re.compile(r"[0-9]{1,12}")
#: A word that may be stored: no digits, no spaces, one case.
_TYPE = re.compile(r"[A-Z][A-Z_]{2,63}|[a-z][a-z_.]{2,63}")
_MESSAGE = re.compile(r"[\x21-\x7e]{1,512}")

#: Platform -> type -> whether it changes what is extracted.
TYPES: Mapping[str, Mapping[str, bool]] = {
    "drchrono": {
        "APPOINTMENT_CREATE": True,
        "APPOINTMENT_MODIFY": True,
        "PATIENT_MODIFY": True,
        "PATIENT_CREATE": False,
        "PATIENT_PROBLEM_CREATE": False,
        "PATIENT_PROBLEM_MODIFY": False,
        "PATIENT_ALLERGY_CREATE": False,
        "PATIENT_ALLERGY_MODIFY": False,
        "PATIENT_MEDICATION_CREATE": False,
        "PATIENT_MEDICATION_MODIFY": False,
        "CLINICAL_NOTE_LOCK": False,
        "CLINICAL_NOTE_UNLOCK": False,
        "TASK_CREATE": False,
        "TASK_MODIFY": False,
        "TASK_DELETE": False,
        "PING": False,
    }
}


class DeliveryRefused(MedbillError):
    """A delivery that is not proven to come from the platform just now; nothing of it was read or kept."""

    code = "WEBHOOK_REFUSED"


@dataclass(frozen=True)
class Secrets:
    """How a practice's platform proves itself. tokens: as configured, newest first; keys: the same as HMAC keys."""

    scheme: str
    tokens: tuple[str, ...]
    keys: tuple[bytes, ...]

    @staticmethod
    def of(connection: Mapping[str, Any]) -> Secrets:
        """From `webhook_secrets` (several while one is replaced) and `webhook_scheme` of an Airflow connection's extra.

        Raises PlatformError WEBHOOK_NOT_CONFIGURED where there is none, or one shorter than 24 bytes.
        """
        found = connection.get("webhook_secrets") or ()
        tokens = (found,) if isinstance(found, str) else tuple(map(str, found))
        scheme = str(connection.get("webhook_scheme") or "standard")
        keys = tuple(map(_key, tokens))
        if not keys or scheme not in _SCHEMES or any(len(key) < _SHORTEST_SECRET for key in keys):
            raise PlatformError(
                "the connection's extra needs webhook_secrets, each of 24 bytes or more, and a known webhook_scheme",
                code="WEBHOOK_NOT_CONFIGURED",
            )
        return Secrets(scheme, tokens, keys)


def _key(secret: str) -> bytes:
    """whsec_<base64> as Standard Webhooks writes a secret, or any text."""
    prefix, _, encoded = secret.partition("whsec_")
    if prefix or not encoded:
        return secret.encode()
    try:
        return base64.b64decode(encoded, validate=True)
    except binascii.Error:
        return b""


@dataclass(frozen=True)
class Delivery:
    """A proven one. type: None where the body says it."""

    id: str
    type: str | None
    sent_at: datetime | None


def verify(headers: Mapping[str, str], body: bytes, secrets: Secrets, now: datetime) -> Delivery:
    """The delivery, where its signature is right; nothing is parsed before. headers: names in lower case.

    Raises DeliveryRefused: WEBHOOK_SIGNATURE, WEBHOOK_STALE, WEBHOOK_ID (no usable id).
    """
    delivery = _SCHEMES[secrets.scheme](headers, body, secrets, now)
    if not _ID.fullmatch(delivery.id):
        raise DeliveryRefused("a delivery needs an id of 1 to 128 letters, digits, dots and dashes", code="WEBHOOK_ID")
    return delivery


def _standard(headers: Mapping[str, str], body: bytes, secrets: Secrets, now: datetime) -> Delivery:
    id, sent = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    signed = f"{id}.{sent}.".encode() + body
    versions = [part.partition(",") for part in headers.get("webhook-signature", "").split()[:_MOST_SIGNATURES]]
    given = [signature.encode() for version, _, signature in versions if version == "v1"]
    _prove(given, [base64.b64encode(hmac.digest(key, signed, "sha256")) for key in secrets.keys])
    if not _TIME.fullmatch(sent) or abs(now.timestamp() - int(sent)) > TOLERANCE.total_seconds():
        raise DeliveryRefused("the delivery was signed too long ago, or ahead of our clock", code="WEBHOOK_STALE")
    return Delivery(id, None, datetime.fromtimestamp(int(sent), UTC))


def _drchrono(headers: Mapping[str, str], body: bytes, secrets: Secrets, now: datetime) -> Delivery:
    _prove([headers.get("x-drchrono-signature", "").encode()], [token.encode() for token in secrets.tokens])
    return Delivery(headers.get("x-drchrono-delivery", ""), headers.get("x-drchrono-event", ""), None)


_SCHEMES = {"standard": _standard, "drchrono": _drchrono}


def _prove(given: Sequence[bytes], right: Sequence[bytes]) -> None:
    """Every pair is compared, in constant time, whichever fits."""
    fits = [hmac.compare_digest(one, other) for one in given for other in right]
    if not any(fits):
        raise DeliveryRefused("the delivery's signature is not right", code="WEBHOOK_SIGNATURE")


def answer_challenge(secrets: Secrets, message: str) -> str:
    """DrChrono's proof that we know the secret: hex HMAC-SHA256 of the message it sends.

    Raises DeliveryRefused under the other scheme: there it would sign deliveries for anybody.
    """
    if secrets.scheme != "drchrono" or not _MESSAGE.fullmatch(message):
        raise DeliveryRefused("there is no challenge to answer here", code="WEBHOOK_CHALLENGE")
    return hmac.new(secrets.keys[0], message.encode(), hashlib.sha256).hexdigest()


@dataclass(frozen=True)
class Accepted:
    """status: pending, noted or parked as stored now; duplicate where it was stored before. wakes: tell the extraction."""

    status: str
    wakes: bool


def accept(db: sa.Engine, ledger: Ledger, practice: str, platform: str, delivery: Delivery, body: bytes) -> Accepted:
    """Store a proven delivery once; it is durable when this returns.

    Raises StoreUnavailable, LedgerUnavailable: then the platform must send it again.
    """
    event = Event("create", "webhook.receive", "operations", practice, f"{platform}/webhook")
    with ledger.touch(event) as touch:
        content = _content(body)
        given = delivery.type if delivery.type is not None else content.get("type")
        known = TYPES.get(platform, {}).get(given) if isinstance(given, str) else None
        kind = given if isinstance(given, str) and (known is not None or _TYPE.fullmatch(given)) else "UNREADABLE"
        status = {True: "pending", False: "noted", None: "parked"}[known]
        row = {
            "practice": practice,
            "platform": platform,
            "event_id": delivery.id,
            "type": kind,
            "day": _day(content) if status == "pending" else None,
            "sent_at": delivery.sent_at,
            "status": status,
        }
        t = webhook_events
        with store.transaction(db, practice) as connection:
            underway = connection.execute(
                sa.select(sa.literal(1))
                .where(*_of(practice, platform), t.c.status == "pending")
                .where(t.c.created_at > sa.func.clock_timestamp() - FRESH)
                .limit(1)
            ).first()
            new = connection.execute(insert(t).values(row).on_conflict_do_nothing().returning(t.c.status)).scalar()
        touch.note(status=new or "duplicate")
    return Accepted(new or "duplicate", new == "pending" and underway is None)


def _content(body: bytes) -> dict[str, Any]:
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _day(content: Mapping[str, Any]) -> date | None:
    """The service day of the record in a body, where it names one that may have claims."""
    record = content.get("object") or content.get("data")
    try:
        day = values.day(record.get("scheduled_time"), "SERVICE_DATE") if isinstance(record, dict) else None
    except Unreadable:
        return None
    today = datetime.now(UTC).date()
    return day if day is not None and today - _OLDEST <= day <= today else None


def refused(ledger: Ledger, practice: str, platform: str, code: str, now: datetime) -> None:
    """A ledger row for a refused delivery; one a minute for each practice and code, or anybody could fill the ledger.

    practice, platform: known ones only, "-" else. Raises LedgerUnavailable.
    """
    ledger.record(
        Event(
            "create",
            "webhook.refuse",
            "operations",
            practice,
            f"{platform}/webhook",
            details={"code": code},
            idempotency_key=f"webhook.refuse:{platform}:{practice}:{code}:{int(now.timestamp()) // 60}",
        ),
        "failure",
    )


@dataclass(frozen=True)
class Pending:
    """Deliveries an extraction is to cover: their ids, and the service days before its usual window."""

    ids: tuple[str, ...]
    days: frozenset[date]

    def windows(self) -> list[tuple[date, date]]:
        """The days as windows of neighbours, both ends included, none longer than a month."""
        found: list[tuple[date, date]] = []
        for day in sorted(self.days):
            if found and day - found[-1][1] == timedelta(days=1) and day - found[-1][0] < _LONGEST_WINDOW:
                found[-1] = (found[-1][0], day)
            else:
                found.append((day, day))
        return found


def pending(db: sa.Engine, practice: str, platform: str, start: date) -> Pending:
    """What waits, oldest first, as far as one extraction whose usual window begins at start can take it."""
    t = webhook_events
    with store.transaction(db, practice) as connection:
        rows = connection.execute(
            sa.select(t.c.event_id, t.c.day)
            .where(*_of(practice, platform), t.c.status == "pending")
            .order_by(t.c.created_at, t.c.event_id)
        ).all()
    ids: list[str] = []
    days: set[date] = set()
    for row in rows:
        if row.day is not None and row.day < start:
            if len(days | {row.day}) > MOST_DAYS:
                continue
            days.add(row.day)
        ids.append(row.event_id)
    return Pending(tuple(ids), frozenset(days))


def done(db: sa.Engine, practice: str, platform: str, ids: Iterable[str]) -> None:
    """Their days were extracted after they came, and what changed has landed."""
    t = webhook_events
    with store.transaction(db, practice) as connection:
        connection.execute(
            sa.update(t)
            .where(*_of(practice, platform), t.c.status == "pending", t.c.event_id.in_(list(ids)))
            .values(status="done", done_at=sa.func.clock_timestamp())
        )


def _of(practice: str, platform: str) -> list[sa.ColumnElement[bool]]:
    return [webhook_events.c.practice == practice, webhook_events.c.platform == platform]
