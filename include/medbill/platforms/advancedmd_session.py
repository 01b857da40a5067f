"""AdvancedMD's session: login in two steps, one token for all workers, calls within the limits of their tier.

The first step names the server of the office, the second one gets a token there. That server must be the vendor's own: the
password goes along with the second step. Limits are per office and minute, lower in peak hours.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from medbill.errors import PlatformError
from medbill.platforms import ppmd
from medbill.platforms.budget import Limit, Limits, RateBudget
from medbill.platforms.circuit import Circuit
from medbill.platforms.http import Answer, Call, Edge, scope, unknown_outcome
from medbill.platforms.oauth import Tokens, TokenStore

#: Where logins go and where they may lead: the vendor's domain alone.
HOSTS = frozenset({".advancedmd.com"})
LOGIN_PATH = "/practicemanager/xmlrpc/processrequest.aspx"
PATH = "/xmlrpc/processrequest.aspx"
#: A session lasts about a day; it is left before that.
SESSION_SECONDS = 20 * 3600.0
#: Calls a minute of an office, in peak hours and outside of them: two code bases agree. A login is two messages.
PEAK = {"tier1": 1, "tier2": 12, "tier3": 24, "login": 2}
OFF_PEAK = {"tier1": 60, "tier2": 120, "tier3": 120, "login": 2}
_TIERS = {
    "getupdatedvisits": "tier1",
    "getdatevisits": "tier2",
    "getdemographic": "tier2",
    "getchargedetaildata": "tier2",
    "gettxhistory": "tier2",
    "uploadfile": "tier2",
    "savepatientnotes": "tier2",
    "lookupnotetypes": "tier3",
}
_REDIRECT = "-2147220476"
_SESSION_OVER = frozenset({"1025", "-2147220479"})
_OFFICE = re.compile(r"/processrequest/[A-Za-z0-9._-]+/[A-Za-z0-9._-]+")
_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


def is_peak(at: datetime) -> bool:
    """Monday to Friday, 06:00 to 18:00 in Denver, whatever its offset from UTC is that day."""
    local = at.astimezone(ppmd.DENVER)
    return local.weekday() < 5 and 6 <= local.hour < 18


def limits(
    contracted: Mapping[str, int] | None = None, now: Callable[[], datetime] = lambda: datetime.now(UTC)
) -> Limits:
    """Of a tier at this moment: the published ones, or what the office's contract says instead, at all hours."""

    def of(tier: str) -> Sequence[Limit]:
        calls = (contracted or {}).get(tier) or (PEAK if is_peak(now()) else OFF_PEAK)[tier]
        return (Limit(int(calls), 60.0),)

    return of


@dataclass(frozen=True)
class Account:
    """A user of one office with the least rights, and the name under which medbill is registered with the vendor."""

    user: str
    password: str = field(repr=False)
    office_code: str
    app_name: str


class _Over(Exception):
    """The platform has just refused the session's token."""


class Session:
    """Calls of one office. Safe to share between threads; close it. now: for message times and peak hours."""

    def __init__(
        self,
        base_url: str,
        account: Account,
        *,
        tokens: TokenStore,
        budget: RateBudget,
        circuit: Circuit | None = None,
        timeout: float = 30.0,
        deadline: float = 300.0,
        hosts: frozenset[str] = HOSTS,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._account, self._tokens, self._now = account, tokens, now
        self._open: Callable[[str], Edge] = lambda origin: Edge(
            origin, hosts=hosts, budget=budget, circuit=circuit, timeout=timeout, deadline=deadline
        )
        self._login_edge = self._open(base_url)
        self._edges = {self._login_edge.base: self._login_edge}
        self._hosts = hosts
        self._lock = threading.Lock()

    def close(self) -> None:
        for edge in self._edges.values():
            edge.close()

    def call(
        self,
        action: str,
        class_: str,
        attributes: Mapping[str, str],
        children: Mapping[str, Any] | None = None,
        *,
        resource: str,
        fields: object,
        write: bool = False,
    ) -> Mapping[str, Any]:
        """The PPMDResults of an action; a session that has ended is renewed once, also for a write, which was not taken.

        Raises PlatformError, and PlatformUnknownOutcome where a write may have been taken.
        """
        label = f"ppmdmsg {action}"
        stale = None
        for _ in range(2):
            session = self._session(stale)
            stale = session.access_token
            origin, office = _split(session.refresh_token)
            call = Call(
                "POST",
                f"{office}{PATH}",
                label,
                bucket=_TIERS[action],
                content=ppmd.message(action, class_, self._now(), attributes, children or {}),
                headers=_headers(stale),
                judge=lambda answer: _judged(label, answer),
                scope=scope(resource, fields),
                write=write,
            )
            try:
                answer = self._edge(origin).send(call)
            except _Over:
                continue
            try:
                return ppmd.results(label, answer.content)
            except PlatformError:
                if write:
                    raise unknown_outcome(call, "answered with something else") from None
                raise
        raise PlatformError(
            "AdvancedMD ends each new session at once; look at the account's rights", code="PLATFORM_CREDENTIALS"
        )

    # --- the token ---

    def _session(self, stale: str | None) -> Tokens:
        """A live session; stale: a token just refused. One caller logs in, the others wait for what it gets."""
        tokens = self._tokens.read()
        if tokens is not None and self._live(tokens, stale):
            return tokens
        with self._tokens.locked():
            tokens = self._tokens.read()
            if tokens is None or not self._live(tokens, stale):
                tokens = self._login()
                self._tokens.write(tokens)
        return tokens

    def _live(self, tokens: Tokens, stale: str | None) -> bool:
        fresh = tokens.access_token != stale and tokens.expires_at > time.time() + 60
        return fresh and self._is_own(tokens.refresh_token)

    def _login(self) -> Tokens:
        """Both steps. There is no refresh token: its place holds the office's server, which a session is bound to."""
        server, token, code = self._login_step(self._login_edge, LOGIN_PATH)
        if code == _REDIRECT and server:
            if not self._is_own(server):
                raise PlatformError(
                    "the login leads to a server outside the vendor's domain; the password was not sent there",
                    code="PLATFORM_HOST_REFUSED",
                )
            origin, office = _split(server)
            _, token, code = self._login_step(self._edge(origin), f"{office}{PATH}")
            if token:
                return Tokens(token, server, time.time() + SESSION_SECONDS)
        if code and code != _REDIRECT:
            raise PlatformError(
                "AdvancedMD refuses the login; check user, password, office code and app name",
                code="PLATFORM_CREDENTIALS",
            )
        raise PlatformError("the login did not end with a session", code="PLATFORM_BAD_ANSWER")

    def _login_step(self, edge: Edge, path: str) -> tuple[str, str, str]:
        a = self._account
        call = Call(
            "POST",
            path,
            "ppmdmsg login",
            bucket="login",
            content=ppmd.login(self._now(), a.user, a.password, a.office_code, a.app_name),
            headers=lambda refused: {"Content-Type": ppmd.XML},
        )
        return ppmd.login_answer(call.label, edge.send(call).content)

    def _is_own(self, server: str) -> bool:
        """Whether a redirect stays where the password may go: https below the vendor's domain; a stand-in's, on its origin."""
        try:
            origin, office = _split(server)
            parts = urlsplit(origin)
            host, _ = parts.hostname or "", parts.port
        except ValueError:
            return False
        if not _OFFICE.fullmatch(office) or server != f"{origin}{office}" or "@" in origin:
            return False
        if urlsplit(self._login_edge.base).hostname in _LOOPBACK:
            return origin == self._login_edge.base
        return parts.scheme == "https" and any(
            host.endswith(h) if h.startswith(".") else host == h for h in self._hosts
        )

    def _edge(self, origin: str) -> Edge:
        with self._lock:
            if origin not in self._edges:
                self._edges[origin] = self._open(origin)
            return self._edges[origin]


def _split(server: str) -> tuple[str, str]:
    """Origin and path of an office's server. Raises ValueError where it is no address."""
    parts = urlsplit(server)
    return f"{parts.scheme}://{parts.netloc}", parts.path


def _headers(token: str) -> Callable[[bool], Mapping[str, str]]:
    def headers(refused: bool) -> Mapping[str, str]:
        if refused:
            raise _Over
        return {"Content-Type": ppmd.JSON, "Accept": ppmd.JSON, "Cookie": f"token={token}"}

    return headers


def _judged(label: str, answer: Answer) -> int:
    """What an answer really says: sessions end, and requests are refused, inside HTTP 200."""
    if answer.status == 400 and b"Improperly Formatted Token" in answer.content:
        return 401
    if answer.status != 200:
        return answer.status
    try:
        error = ppmd.fault(ppmd.results(label, answer.content))
    except PlatformError:
        return 200  # whoever reads it says what is wrong with it
    if error is None:
        return 200
    code, description = error
    if code in _SESSION_OVER:
        return 401
    if "quota" in description.casefold():
        return 429
    return 403 if "privilege" in description.casefold() else 400
