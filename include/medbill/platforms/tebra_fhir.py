"""Tebra's FHIR service (R4, read-only): which documents a patient has, to see whether one that was sent arrived.

OAuth2 client credentials (RFC 6749, 4.4). Only what names a document is looked at; contents are never asked for.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode, urlsplit

from medbill.errors import PlatformError
from medbill.platforms.budget import RateBudget
from medbill.platforms.circuit import Circuit
from medbill.platforms.http import Call, Edge, scope

HOSTS = frozenset({"fhir.prd.cloud.tebra.com"})
BASE_PATH = "/fhir-request"
TOKEN_PATH = "/smartauth/oauth/token"  # noqa: S105
_MAX_PAGES = 50


class Documents:
    """The document list of one practice. scope_: as registered (patient/*.read or system/*.read)."""

    def __init__(
        self,
        base_url: str,
        client_id: str,
        client_secret: str,
        scope_: str,
        *,
        budget: RateBudget,
        circuit: Circuit | None = None,
        hosts: frozenset[str] = HOSTS,
        timeout: float = 20.0,
    ) -> None:
        self._edge = Edge(base_url, hosts=hosts, budget=budget, circuit=circuit, timeout=timeout)
        self._form = {
            "grant_type": "client_credentials",
            "client_id": client_id,
            "client_secret": client_secret,
            "scope": scope_,
        }
        self._lock = threading.Lock()
        self._token, self._expires = "", 0.0

    def close(self) -> None:
        self._edge.close()

    def named(self, patient: str, name: str) -> str | None:
        """The id of a patient's document with that description or title; None where there is none."""
        query: Mapping[str, str] | str | None = {"patient": patient}
        for _ in range(_MAX_PAGES):
            bundle = self._get(query)
            for entry in bundle.get("entry") or []:
                document = entry.get("resource") or {}
                titles = [(c.get("attachment") or {}).get("title") for c in document.get("content") or []]
                if name in (document.get("description"), *titles) and document.get("id"):
                    return str(document["id"])
            following = next((x.get("url") for x in bundle.get("link") or [] if x.get("relation") == "next"), None)
            if not following:
                return None
            query = urlsplit(str(following)).query  # the host of the link is not followed
        raise PlatformError("FHIR DocumentReference pages do not end", code="PLATFORM_BAD_ANSWER")

    def _get(self, query: Mapping[str, str] | str | None) -> dict[str, Any]:
        label = "FHIR GET DocumentReference"
        call = Call(
            "GET",
            f"{BASE_PATH}/DocumentReference",
            label,
            bucket="FHIR",
            params=query,
            headers=lambda refused: {
                "Authorization": f"Bearer {self._access(refused)}",
                "Accept": "application/fhir+json",
            },
            scope=scope("DocumentReference", ["id", "description", "content.attachment.title"]),
        )
        found = _json(label, self._edge.send(call).content)
        if found.get("resourceType") != "Bundle":  # an unknown path answers 200 with an empty body
            raise PlatformError(f"{label} did not answer with a bundle", code="PLATFORM_BAD_ANSWER")
        return found

    def _access(self, refused: bool) -> str:
        with self._lock:
            if refused or time.time() > self._expires - 60:
                label = "FHIR POST token"
                call = Call(
                    "POST",
                    TOKEN_PATH,
                    label,
                    bucket="FHIR",
                    content=urlencode(self._form).encode(),
                    headers=lambda again: {"Content-Type": "application/x-www-form-urlencoded"},
                )
                found = _json(label, self._edge.send(call).content)
                try:
                    self._token = str(found["access_token"])
                    self._expires = time.time() + float(found.get("expires_in", 300))
                except (KeyError, TypeError, ValueError):
                    raise PlatformError(f"{label} answered without a token", code="PLATFORM_BAD_ANSWER") from None
            return self._token


def _json(label: str, content: bytes) -> dict[str, Any]:
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise PlatformError(f"{label} did not answer with JSON", code="PLATFORM_BAD_ANSWER")
    return found
