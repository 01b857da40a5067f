"""CareCloud's v2 REST service: patients, providers, appointments. OAuth2 with refresh tokens, Basic at the token endpoint.

Shapes as read in integration code of others; that appointments can be listed, and how their pages go, is a guess. Nobody
says how many there are: each window is asked for whole and in two parts, and is taken only where both agree.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator, Mapping
from datetime import date, timedelta
from decimal import Decimal
from typing import Any
from urllib.parse import quote, urlencode

from medbill.errors import PlatformError
from medbill.platforms.budget import RateBudget
from medbill.platforms.carecloud_profile import Profile
from medbill.platforms.circuit import Circuit
from medbill.platforms.extraction import ExtractionPolicy
from medbill.platforms.http import Answer, Call, Edge, scope
from medbill.platforms.oauth import Credentials, Refresher, Tokens, TokenStore

#: Days of one window of appointments.
WINDOW_DAYS = 30
PAGE_SIZE = 100
MAX_PAGES = 400
_AGREE_ATTEMPTS = 3

Record = dict[str, Any]


class V2:
    """The REST side of one account. Safe to share between threads."""

    def __init__(
        self,
        base_url: str,
        credentials: Credentials,
        profile: Profile,
        policy: ExtractionPolicy,
        *,
        tokens: TokenStore,
        hosts: frozenset[str],
        budget: RateBudget,
        circuit: Circuit | None = None,
        timeout: float = 20.0,
    ) -> None:
        self._credentials, self._profile, self._policy = credentials, profile, policy
        self._tokens = Refresher(tokens, credentials.refresh_token, self._refresh, "CareCloud v2")
        self._edge = Edge(
            base_url,
            hosts=hosts,
            budget=budget,
            circuit=circuit,
            timeout=timeout,
            headers={"Accept": "application/json"},
        )

    def close(self) -> None:
        self._edge.close()

    def patient(self, id: str) -> Record | None:
        """A patient's fields of the policy; None where there is no such patient.

        Raises PlatformError PLATFORM_BAD_ANSWER where the answer is about somebody else.
        """
        path, label = self._path(self._profile.v2_patient)
        found = self._get(path.replace("{id}", quote(id, safe="")), label, "patients", missing_ok=True)
        if found is None:
            return None
        record = found.get("patient", found)
        if not isinstance(record, dict) or str(record.get("id")) != id:
            raise PlatformError(f"{label} answered with another patient or none", code="PLATFORM_BAD_ANSWER")
        return self._policy.keep("patients", record)

    def npis(self) -> dict[str, str]:
        """National Provider Identifier by provider id."""
        path, label = self._path(self._profile.v2_providers)
        rows = _rows(label, self._get(path, label, "providers"), "providers")
        kept = [self._policy.keep("providers", row) for row in rows]
        return {str(row["id"]): str(row["npi"]) for row in kept if row.get("id") and row.get("npi")}

    def appointments(self, start: date, end: date) -> list[Record]:
        """Appointments of these days, each once. Raises PlatformError PLATFORM_UNSTABLE where two readings do not agree."""
        if not self._profile.v2_appointments:
            return []
        found: dict[str, Record] = {}
        while start <= end:
            last = min(end, start + timedelta(days=WINDOW_DAYS - 1))
            found.update(self._agreed(start, last))
            start = last + timedelta(days=1)
        return [found[key] for key in sorted(found)]

    def _agreed(self, low: date, high: date) -> dict[str, Record]:
        middle = low + (high - low) // 2
        for _ in range(_AGREE_ATTEMPTS):
            whole = self._listed(low, high)
            # a window of one day has no parts: it is asked for twice
            second = self._listed(middle + timedelta(days=1), high) if middle < high else {}
            if whole == {**self._listed(low, middle), **second}:
                return whole
        raise PlatformError(
            "GET appointments gives different answers for a window and for its parts; run it again later",
            code="PLATFORM_UNSTABLE",
        )

    def _listed(self, low: date, high: date) -> dict[str, Record]:
        """Page after page, until one brings nothing new: whether there are pages at all is not documented."""
        path, label = self._path(self._profile.v2_appointments)
        found: dict[str, Record] = {}
        for page in range(1, MAX_PAGES + 1):
            query = {
                "start_date": low.isoformat(),
                "end_date": high.isoformat(),
                "page": str(page),
                "per_page": str(PAGE_SIZE),
            }
            rows = _rows(label, self._get(path, label, "appointments", query), "appointments")
            known = len(found)
            for row in rows:
                if not row.get("id"):
                    raise PlatformError(f"{label} answered with a record without id", code="PLATFORM_BAD_ANSWER")
                found[str(row["id"])] = self._policy.keep("appointments", row)
            if len(found) == known:
                return found
        raise PlatformError(f"{label} pages do not end", code="PLATFORM_BAD_ANSWER")

    def _path(self, template: str) -> tuple[str, str]:
        path = f"{self._profile.v2_base}{template}"
        return path, f"GET {path}"

    def _get(
        self, path: str, label: str, resource: str, query: Mapping[str, str] | None = None, missing_ok: bool = False
    ) -> Record | None:
        call = Call(
            "GET",
            path,
            label,
            bucket="v2",
            params=query,
            headers=self._tokens.headers(),
            scope=scope(resource, self._policy.fields.get(resource, frozenset())),
            missing_ok=missing_ok,
        )
        answer = self._edge.send(call)
        return None if answer.status == 404 else parse(label, answer)

    def _refresh(self, refresh_token: str) -> Tokens | None:
        """New tokens; None where the refresh token is spent or revoked."""
        pair = f"{self._credentials.client_id}:{self._credentials.client_secret}".encode()
        basic = {
            "Authorization": f"Basic {base64.b64encode(pair).decode()}",
            "Content-Type": "application/x-www-form-urlencoded",
        }
        form = {"grant_type": "refresh_token", "refresh_token": refresh_token}
        return ask_for_tokens(self._edge, self._profile.v2_token_path, form, basic, "v2")


def ask_for_tokens(
    edge: Edge, path: str, form: Mapping[str, str], headers: Mapping[str, str], bucket: str
) -> Tokens | None:
    """POST a grant (RFC 6749, 5.1 and 5.2); None where it is refused as invalid (400)."""
    call = Call(
        "POST",
        path,
        f"POST {path}",
        bucket=bucket,
        content=urlencode(form).encode(),
        headers=lambda refused: headers,
    )
    try:
        answer = edge.send(call)
    except PlatformError as error:
        if error.code == "PLATFORM_REFUSED":
            return None
        raise
    found = parse(call.label, answer)
    try:
        # the v2 service says no expires_in: an hour, or until it refuses the token
        return Tokens(
            str(found["access_token"]),
            str(found.get("refresh_token") or form.get("refresh_token", "")),
            time.time() + float(found.get("expires_in", 3600)),
        )
    except (KeyError, TypeError, ValueError):
        raise PlatformError(f"{call.label} answered without a token", code="PLATFORM_BAD_ANSWER") from None


def parse(label: str, answer: Answer) -> Record:
    """A JSON object, numbers with a fraction as Decimal."""
    try:
        found = json.loads(answer.content, parse_float=Decimal)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise PlatformError(f"{label} did not answer with a JSON object", code="PLATFORM_BAD_ANSWER")
    return found


def _rows(label: str, answer: Record | None, name: str) -> Iterator[Record]:
    rows = (answer or {}).get(name)
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise PlatformError(f"{label} did not answer with a list of {name}", code="PLATFORM_BAD_ANSWER")
    return iter(rows)
