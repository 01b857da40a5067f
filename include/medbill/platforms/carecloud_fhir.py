"""CareCloud's FHIR R4 side: searches page by page, creates with an identifier of ours. OAuth2 client credentials.

Addresses are assumptions (carecloud_profile); the wire is FHIR R4 (4.0.1): searchset bundles with `next` links, _elements,
_lastUpdated, OperationOutcome. A search is taken only where its total says that all of it came.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any
from urllib.parse import urlencode, urlsplit

from medbill.errors import PlatformError
from medbill.platforms.budget import RateBudget
from medbill.platforms.carecloud_profile import Profile
from medbill.platforms.carecloud_v2 import Record, ask_for_tokens, parse
from medbill.platforms.circuit import Circuit
from medbill.platforms.extraction import ExtractionPolicy
from medbill.platforms.http import Answer, Call, Edge, scope, unknown_outcome
from medbill.platforms.oauth import MemoryTokenStore, Refresher, Tokens

MEDIA_TYPE = "application/fhir+json"
PAGE_SIZE = 100
MAX_PAGES = 4000
#: Days of one _lastUpdated window.
WINDOW_DAYS = 30
_ATTEMPTS = 4
#: From so many records on, a needed element that is in none of them has another name now.
_DRIFT = 4
#: OperationOutcome.issue.code (http://hl7.org/fhir/R4/valueset-issue-type.html) -> the HTTP status it stands for.
_STATUS = {
    "login": 401,
    "expired": 401,
    "security": 403,
    "forbidden": 403,
    "suppressed": 403,
    "not-found": 404,
    "deleted": 404,
    "throttled": 429,
    **dict.fromkeys(("transient", "timeout", "exception", "lock-error", "no-store", "incomplete"), 503),
}
#: Issues of a bundle that say it is not whole, whatever their severity.
_NOT_WHOLE = frozenset({"incomplete", "too-costly", "throttled", "timeout"})
_REFERENCE = re.compile(r"(?:.*/)?([A-Z][A-Za-z]+)/([A-Za-z0-9.-]{1,64})(?:/_history/[A-Za-z0-9.-]{1,64})?")


@dataclass
class Found:
    """What a search gave. strange: resources of a type nobody asked for."""

    records: list[Record] = field(default_factory=list)
    strange: int = 0


@dataclass(frozen=True)
class Page:
    """One searchset. resources: of whatever type, as sent; includes are not among them."""

    resources: Sequence[Record]
    total: int | None
    following: str | None


class Fhir:
    """The FHIR side of one account. token_url: where its tokens come from. Safe to share between threads."""

    def __init__(
        self,
        base_url: str,
        token_url: str,
        client_id: str,
        client_secret: str,
        profile: Profile,
        policy: ExtractionPolicy,
        needed: Mapping[str, frozenset[str]],
        *,
        hosts: frozenset[str],
        token_hosts: frozenset[str],
        budget: RateBudget,
        circuit: Circuit | None = None,
        timeout: float = 30.0,
    ) -> None:
        self._profile, self._policy = profile, policy
        self._needed = needed
        self._form = {
            "grant_type": "client_credentials",
            "client_id": client_id,
            "client_secret": client_secret,
            "scope": profile.fhir_scope,
        }
        self._edge = Edge(base_url, hosts=hosts, budget=budget, circuit=circuit, timeout=timeout)
        self._token_edge = Edge(token_url, hosts=token_hosts, budget=budget, circuit=circuit, timeout=timeout)
        # these tokens do not rotate: each process may have its own
        self._tokens = Refresher(MemoryTokenStore(), "", self._grant, "CareCloud FHIR")

    def close(self) -> None:
        self._edge.close()
        self._token_edge.close()

    def count(self, resource: str, query: Sequence[tuple[str, str]]) -> int | None:
        """How many a search would give; no record comes along."""
        page = self._page(resource, urlencode([*query, ("_summary", "count")]), ())
        return page.total

    def changed(self, resource: str, since: date) -> Found:
        """All resources last changed on or after a day (UTC), in windows, oldest first; the last one has no end.

        One that changes meanwhile moves to a window still to be read; the later version counts.
        """
        found = Found()
        by_id: dict[str, Record] = {}
        for low, high in windows(since, datetime.now(UTC).date()):
            query = [("_lastUpdated", f"ge{low.isoformat()}T00:00:00Z")]
            query += [("_lastUpdated", f"lt{high.isoformat()}T00:00:00Z")] if high else []
            part = self.search(resource, query)
            found.strange += part.strange
            for record in part.records:
                if record.get("id"):
                    _keep_later(by_id, str(record["id"]), record)
                else:
                    found.records.append(record)
        found.records += [by_id[key] for key in sorted(by_id)]
        self._whole(resource, found.records)
        return found

    def by_id(self, resource: str, ids: Sequence[str]) -> Found:
        """The resources with these ids that exist."""
        found = Found()
        for at in range(0, len(ids), 50):
            part = self.search(resource, [("_id", ",".join(ids[at : at + 50]))])
            found.records += part.records
            found.strange += part.strange
        self._whole(resource, found.records)
        return found

    def search(self, resource: str, query: Sequence[tuple[str, str]], only: frozenset[str] | None = None) -> Found:
        """All matches with the policy's fields, or `only` these of them, each once.

        Read again where a total differs from what came; where the server gives none, until two readings are the same.
        Raises PlatformError PLATFORM_UNSTABLE where that does not happen in four readings.
        """
        fields = self._policy.fields.get(resource, frozenset())
        fields = fields & only if only else fields
        before: dict[str, Record] | None = None
        for _ in range(_ATTEMPTS):
            matches, totals = self._read(resource, query, fields)
            if totals == {len(matches)} or (totals == {None} and before == matches):
                records = [r for r in matches.values() if r.get("resourceType") == resource]
                kept = [self._prune(r, fields) for r in records]
                return Found(kept, len(matches) - len(records))
            before = matches
        raise PlatformError(
            f"FHIR GET {resource} does not give what its total says; nothing of it is taken, run it again later",
            code="PLATFORM_UNSTABLE",
        )

    def _read(
        self, resource: str, query: Sequence[tuple[str, str]], fields: frozenset[str]
    ) -> tuple[dict[str, Record], set[int | None]]:
        """Matches by type and id, and every total the pages said."""
        elements = ",".join(sorted({name.partition(".")[0] for name in fields}))
        text: str | None = urlencode(
            [
                *query,
                ("_elements", elements),
                ("_count", str(PAGE_SIZE)),
                ("_total", "accurate"),
                ("_sort", "_lastUpdated"),
            ],
            safe=",",
        )
        found: dict[str, Record] = {}
        totals: set[int | None] = set()
        seen: set[str] = set()
        path = None
        while text is not None:
            page = self._page(resource, text, fields, path)
            totals.add(page.total)
            for record in page.resources:
                # one without an id is told from another by its content
                own = record.get("id") or json.dumps(record, sort_keys=True, default=str)
                _keep_later(found, f"{record.get('resourceType')}/{own}", record)
            if page.following is None:
                break
            if page.following in seen or len(seen) >= MAX_PAGES:
                raise PlatformError(f"FHIR GET {resource} pages do not end", code="PLATFORM_BAD_ANSWER")
            seen.add(page.following)
            path, text = self._next(resource, page.following)
        return found, totals

    def _next(self, resource: str, url: str) -> tuple[str, str]:
        """Path and query of a next link: on this server, below its FHIR base; the token goes along with every request."""
        try:
            link, base = urlsplit(url), urlsplit(self._edge.base)
            same = not link.netloc or (link.scheme, link.hostname, link.port) == (base.scheme, base.hostname, base.port)
        except ValueError:
            link, same = urlsplit(""), False
        path = link.path.rstrip("/")
        root = self._profile.fhir_base
        if not same or not (path == root or path.startswith(f"{root}/")) or ".." in path or not link.query:
            raise PlatformError(f"FHIR GET {resource}: the next page is somewhere else", code="PLATFORM_BAD_ANSWER")
        return path, link.query

    def _page(self, resource: str, query: str, fields: object, path: str | None = None) -> Page:
        label = f"FHIR GET {resource}"
        call = Call(
            "GET",
            path or f"{self._profile.fhir_base}/{resource}",
            label,
            bucket="FHIR",
            params=query,
            headers=self._tokens.headers({"Accept": MEDIA_TYPE, "Prefer": "handling=strict"}),
            judge=judged,
            scope=scope(resource, fields or "count"),
        )
        return read_page(label, parse(label, self._edge.send(call)))

    def create(self, body: Mapping[str, Any], system: str, value: str) -> str:
        """POST a resource once and give its id. If-None-Exist (conditional create) keeps a second one from being made where
        the server knows it. Raises PlatformUnknownOutcome where the answer has no id."""
        resource = str(body["resourceType"])
        more = {
            "Accept": MEDIA_TYPE,
            "Content-Type": MEDIA_TYPE,
            "Prefer": "return=minimal",
            "If-None-Exist": urlencode({"identifier": f"{system}|{value}"}),
        }
        call = Call(
            "POST",
            f"{self._profile.fhir_base}/{resource}",
            f"FHIR POST {resource}",
            bucket="FHIR",
            content=json.dumps(body).encode(),
            headers=self._tokens.headers(more),
            judge=judged,
            scope=scope(resource, sorted(body)),
            write=True,
        )
        answer = self._edge.send(call)
        made = target(answer.headers.get("Location", ""), resource)
        if made is None:
            try:
                record = parse(call.label, answer)
            except PlatformError:
                record = {}
            made = str(record["id"]) if record.get("resourceType") == resource and record.get("id") else None
        if made is None:
            raise unknown_outcome(call, f"answered {answer.status} without a readable id")
        return made

    def _grant(self, _: str) -> Tokens | None:
        headers = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"}
        return ask_for_tokens(self._token_edge, self._profile.fhir_token_path, self._form, headers, "FHIR")

    def _prune(self, record: Mapping[str, Any], fields: frozenset[str]) -> Record:
        """The record without what the policy does not name; of contained resources too, each by the policy of its type."""
        kept: Record = pruned(record, fields)
        if "contained" in kept:
            inner = [r for r in _dicts(kept["contained"]) if r.get("resourceType") in self._policy.fields]
            kept["contained"] = [
                {"resourceType": r["resourceType"], **pruned(r, self._policy.fields[str(r["resourceType"])])}
                for r in inner
            ]
        return kept

    def _whole(self, resource: str, records: Sequence[Record]) -> None:
        """Raises PlatformError where an element every record needs is in none of many: it has another name now."""
        lost = [n for n in sorted(self._needed.get(resource, ())) if all(n not in r for r in records)]
        if lost and len(records) >= _DRIFT:
            raise PlatformError(f"FHIR GET {resource} answered without {', '.join(lost)}", code="PLATFORM_BAD_ANSWER")


def windows(since: date, today: date) -> Iterator[tuple[date, date | None]]:
    """From since on, half open, the last one without an end."""
    while since + timedelta(days=WINDOW_DAYS) < today:
        yield since, since + timedelta(days=WINDOW_DAYS)
        since += timedelta(days=WINDOW_DAYS)
    yield since, None


def read_page(label: str, bundle: Mapping[str, Any]) -> Page:
    """A searchset bundle. Raises PlatformError PLATFORM_BAD_ANSWER for what is none, and where it says it is not whole."""
    if bundle.get("resourceType") != "Bundle" or not isinstance(bundle.get("entry", []), list):
        raise PlatformError(f"{label} did not answer with a bundle", code="PLATFORM_BAD_ANSWER")
    resources = []
    for entry in bundle.get("entry", []):
        resource = entry.get("resource") if isinstance(entry, dict) else None
        if not isinstance(resource, dict):
            raise PlatformError(f"{label} answered with an entry without a resource", code="PLATFORM_BAD_ANSWER")
        searched = entry.get("search")
        mode = searched.get("mode") if isinstance(searched, dict) else None
        if resource.get("resourceType") == "OperationOutcome":
            if any(i.get("severity") in ("fatal", "error") or i.get("code") in _NOT_WHOLE for i in issues(resource)):
                raise PlatformError(f"{label} says that its answer is not whole", code="PLATFORM_BAD_ANSWER")
        elif mode != "include":
            resources.append(resource)
    total = bundle.get("total")
    links = [link for link in _dicts(bundle.get("link")) if link.get("relation") == "next" and link.get("url")]
    return Page(
        resources,
        total if isinstance(total, int) and not isinstance(total, bool) else None,
        str(links[0]["url"]) if links else None,
    )


def judged(answer: Answer) -> int:
    """The HTTP status an answer stands for: an OperationOutcome with an error inside of a success is none."""
    if b"OperationOutcome" not in answer.content:
        return answer.status
    try:
        outcome = json.loads(answer.content)
    except (ValueError, RecursionError):
        return answer.status
    if not isinstance(outcome, dict) or outcome.get("resourceType") != "OperationOutcome":
        return answer.status
    codes = [str(i.get("code")) for i in issues(outcome) if i.get("severity") in ("fatal", "error")]
    if "throttled" in codes:
        return 429
    if answer.status < 300 and codes:
        return _STATUS.get(codes[0], 400)
    return answer.status


def issues(outcome: Mapping[str, Any]) -> list[Record]:
    return _dicts(outcome.get("issue"))


def target(reference: Any, kind: str) -> str | None:
    """The id a literal reference or a location points at, relative or absolute; None where it is to another type."""
    found = _REFERENCE.fullmatch(reference) if isinstance(reference, str) else None
    return found[2] if found and found[1] == kind else None


def pruned(record: Mapping[str, Any], names: frozenset[str]) -> Record:
    """The named elements of a resource; "a.b" names b within a, in each item where a repeats."""
    heads: dict[str, set[str]] = {}
    for name in names:
        head, _, rest = name.partition(".")
        heads.setdefault(head, set()).add(rest)
    return {name: _inner(value, heads[name]) for name, value in record.items() if name in heads}


def _inner(value: Any, rests: set[str]) -> Any:
    if "" in rests:
        return value
    if isinstance(value, list):
        return [_inner(item, rests) for item in value]
    return pruned(value, frozenset(rests)) if isinstance(value, dict) else None


def _dicts(value: Any) -> list[Record]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def changed_at(record: Mapping[str, Any]) -> datetime:
    """meta.lastUpdated; the beginning of time where it is missing or unreadable."""
    meta = record.get("meta")
    try:
        found = datetime.fromisoformat(str(meta.get("lastUpdated")) if isinstance(meta, dict) else "")
    except ValueError:
        return datetime.min.replace(tzinfo=UTC)
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _keep_later(found: dict[str, Record], key: str, record: Record) -> None:
    other = found.get(key)
    if other is None or changed_at(other) <= changed_at(record):
        found[key] = record
