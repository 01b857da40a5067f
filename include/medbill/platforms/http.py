"""The one way out to a platform: allowed hosts, verified TLS, total deadline, retries, size cap, circuit and budget.

A read is tried again; a write is sent once, and an answer that got lost is PlatformUnknownOutcome. Errors and logs carry
neither query strings nor bodies nor headers: all of them hold patient data or secrets.
"""

from __future__ import annotations

import logging
import secrets
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

import httpx

from medbill.errors import PlatformError, PlatformUnknownOutcome
from medbill.platforms.budget import RateBudget
from medbill.platforms.circuit import Circuit, NoCircuit

# httpx logs every URL at INFO and httpcore every header at DEBUG: patient ids and bearer tokens
for _name in ("httpx", "httpcore"):
    logging.getLogger(_name).setLevel(logging.WARNING)

#: What was asked for and why, beside the request: object, purpose and fields, never a value.
SCOPE_HEADER = "X-Requested-Data-Scope"
_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
_ATTEMPTS = 4
_NEVER_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
_RANDOM = secrets.SystemRandom()


@dataclass(frozen=True)
class Answer:
    """A whole answer, within the size cap."""

    status: int
    headers: Mapping[str, str]
    content: bytes = field(repr=False)


@dataclass(frozen=True)
class Call:
    """One request. label: method and path template, all that errors say of it. bucket: whose limits it counts against.

    headers: made anew for each attempt; its argument says that the last attempt's credentials were refused (401), which
    happens once. judge: the HTTP status an answer stands for, where the platform hides it inside a 200.
    """

    method: str
    path: str
    label: str
    bucket: str = "all"
    params: Mapping[str, str] | str | None = None
    content: bytes | None = field(default=None, repr=False)
    headers: Callable[[bool], Mapping[str, str]] = lambda refused: {}
    judge: Callable[[Answer], int] = lambda answer: answer.status
    scope: str = ""
    missing_ok: bool = False
    write: bool = False


def scope(resource: str, fields: object, purpose: str = "payment") -> str:
    """The value of SCOPE_HEADER."""
    names = ",".join(sorted(map(str, fields))) if isinstance(fields, set | frozenset | list | tuple) else str(fields)
    return f"purpose={purpose}; object={resource}; fields={names}"


class Edge:
    """Calls to one origin. Safe to share between threads; close it.

    base_url: https on one of `hosts` (".example.com" stands for all hosts below it); plain http only on this machine.
    timeout: seconds per network step; deadline: for a call with all its attempts and waits. most_bytes: of one answer.
    """

    def __init__(
        self,
        base_url: str,
        *,
        hosts: frozenset[str],
        budget: RateBudget,
        circuit: Circuit | None = None,
        timeout: float = 20.0,
        deadline: float = 180.0,
        most_bytes: int = 64 * 1024 * 1024,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.base = base_url.rstrip("/")
        host = _allowed(self.base, hosts)
        self._budget, self._circuit = budget, circuit or NoCircuit()
        self._timeout, self._deadline, self._most = timeout, deadline, most_bytes
        context = httpx.create_ssl_context()
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        self._client = httpx.Client(
            verify=context,
            timeout=timeout,
            follow_redirects=False,
            trust_env=host not in _LOOPBACK,  # a proxy cannot reach our loopback
            headers=dict(headers or {}),
        )

    def close(self) -> None:
        self._client.close()

    def send(self, call: Call) -> Answer:
        """The answer where it is a success, or 404 where that is allowed.

        Raises PlatformError, and PlatformUnknownOutcome where a write may have been taken.
        """
        end = time.monotonic() + self._deadline
        refused = False
        for attempt in range(_ATTEMPTS):
            headers = dict(call.headers(refused))
            self._circuit.enter()
            self._budget.take(call.bucket)
            last = attempt == _ATTEMPTS - 1
            try:
                answer = self._exchange(call, headers, end)
            except httpx.RequestError as error:
                kind = type(error).__name__
                self._circuit.failed("PLATFORM_UNREACHABLE")
                if call.write and not isinstance(error, _NEVER_SENT):
                    raise unknown_outcome(call, f"was sent and no answer came ({kind})") from None
                if call.write or last or not self._pause(_backoff(attempt), end):
                    raise PlatformError(
                        f"{call.label} got no answer ({kind}); check the platform's address and the network",
                        code="PLATFORM_UNREACHABLE",
                    ) from None
                continue
            status = call.judge(answer)
            if status >= 500:
                self._circuit.failed("PLATFORM_ERROR")
                if call.write:
                    raise unknown_outcome(call, f"answered {status}")
            else:
                self._circuit.answered()
            if status == 401 and not refused:
                refused = True
            elif (status == 429 or status >= 500) and not last and self._pause(_asked(answer, attempt), end):
                continue
            elif status < 300 or (status == 404 and call.missing_ok):
                return answer
            else:
                raise _error(call.label, status)
        raise _error(call.label, 429)

    def _exchange(self, call: Call, headers: dict[str, str], end: float) -> Answer:
        left = end - time.monotonic()
        if left <= 0:
            raise httpx.ConnectTimeout("no time left")
        if call.scope:
            headers[SCOPE_HEADER] = call.scope
        body = bytearray()
        with self._client.stream(
            call.method,
            f"{self.base}{call.path}",
            params=call.params,
            content=call.content,
            headers=headers,
            timeout=min(self._timeout, left),
        ) as response:
            for chunk in response.iter_bytes():
                body += chunk
                if len(body) > self._most:
                    if call.write:
                        raise unknown_outcome(call, "answered with more than its size cap")
                    raise PlatformError(
                        f"{call.label} answered with more than its size cap", code="PLATFORM_BAD_ANSWER"
                    )
                if time.monotonic() > end:
                    raise httpx.ReadTimeout("the total deadline is over")
        return Answer(response.status_code, response.headers, bytes(body))

    def _pause(self, seconds: float, end: float) -> bool:
        """Wait; False where that would pass the deadline. Raises PlatformError where it is more than the budget allows."""
        if seconds <= self._budget.max_wait and time.monotonic() + seconds > end:
            return False
        self._budget.pause(seconds)
        return True


def unknown_outcome(call: Call, what: str) -> PlatformUnknownOutcome:
    """For an answer to a write that does not say whether it was taken."""
    return PlatformUnknownOutcome(f"{call.label} {what}; read back before sending again")


def _backoff(attempt: int) -> float:
    """Half a second, doubling, with jitter down to half of it, so that workers do not come back together."""
    return 0.5 * 2.0**attempt * _RANDOM.uniform(0.5, 1.0)


def _asked(answer: Answer, attempt: int) -> float:
    """Seconds to wait: what Retry-After says (seconds or a date, RFC 9110 10.2.3), else the back-off."""
    said = answer.headers.get("Retry-After", "")
    if said.isascii() and said.isdigit():
        return float(said)
    try:
        return max(0.0, (parsedate_to_datetime(said) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):
        return _backoff(attempt)


def _allowed(url: str, hosts: frozenset[str]) -> str:
    """The host of an address that may be called; raises PlatformError for any other."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        parts, host = urlsplit(""), ""
    local = host in _LOOPBACK and parts.scheme in ("http", "https")
    named = host in hosts or any(h.startswith(".") and host.endswith(h) for h in hosts)
    if not local and not (parts.scheme == "https" and named):
        raise PlatformError(
            "the platform's address is not allowed: it must be https on a host of the allow-list, or on this machine",
            code="PLATFORM_HOST_REFUSED",
        )
    if parts.username or parts.password or parts.query or parts.fragment or parts.path not in ("", "/"):
        raise PlatformError("the platform's address must be scheme and host only", code="PLATFORM_HOST_REFUSED")
    return host


def _error(label: str, status: int) -> PlatformError:
    code, hint = {
        401: ("PLATFORM_CREDENTIALS", "the platform refuses the account's credentials; authorize it again"),
        403: ("PLATFORM_FORBIDDEN", "the account lacks the right to it"),
        404: ("PLATFORM_NOT_FOUND", "the record does not exist on the platform"),
        405: ("PLATFORM_READ_ONLY", "the platform does not take this by API"),
        429: ("PLATFORM_RATE_LIMITED", "run the task again later"),
    }.get(
        status,
        ("PLATFORM_ERROR", "retry")
        if status >= 500
        else ("PLATFORM_BAD_ANSWER", "redirects are not followed")
        if status < 400
        else ("PLATFORM_REFUSED", "the platform refused the request"),
    )
    return PlatformError(f"{label} answered {status}; {hint}", code=code)
