"""The doors through which a person, a program or a task could put protected data into Airflow's own database.

Refused at the API before any route sees it (Airflow's audit log keeps request bodies), at the command line before any
command runs (the audit log keeps command lines), and, for every other way in, where a row is about to be written. What a
task process sends about itself is not worth failing a finished task for: there the value is left out and that is logged.
"""

from __future__ import annotations

import json
import logging
import re
import sys
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from typing import Any

from sqlalchemy import event
from sqlalchemy.orm import Session

from medbill_plugin import references
from medbill_plugin.references import ReferenceRefused

log = logging.getLogger("medbill.doors")

#: Put in the place of a value that was left out.
LEFT_OUT = "left out: not a reference"
_LARGEST_BODY = 1 << 20
_READS = frozenset({"GET", "HEAD", "OPTIONS", "DELETE"})
_API = re.compile(r"/(?:api/v2|ui)/(?!connections|variables|pools|auth)")
#: Commands that start something with what they are given.
_STARTS = frozenset({
    ("dags", "trigger"), ("dags", "test"), ("backfill", "create"), ("assets", "materialize"),
    ("tasks", "test"), ("tasks", "render"),
})  # fmt: skip
_PLAIN = re.compile(r"[A-Za-z0-9_./:+@,~-]*")

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


def _note(value: Any) -> None:
    if value not in (None, ""):
        raise ReferenceRefused("no notes in Airflow: write it on the proposal or the inbox item", code="NOTE_REFUSED")


#: Field of a request's body, at any depth -> what it must be.
_FIELDS: dict[str, Callable[[Any], None]] = {
    "conf": references.check_conf,
    "dag_run_conf": references.check_conf,
    "note": _note,
    "extra": references.check,
    "value": references.check,
    "params_input": references.check,
    "partition_key": references.check,
}


class ReferenceDoor:
    """ASGI middleware: a request that writes to Airflow's API with a field that is not a reference is answered 422.

    The answer names the field and the rule, never the value. Connections, variables and pools are not its business.
    """

    def __init__(self, app: Callable[[Message, Receive, Send], Awaitable[None]]) -> None:
        self._app = app

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] in _READS or not _API.search(scope["path"]):
            await self._app(scope, receive, send)
            return
        body, more = b"", True
        while more and len(body) <= _LARGEST_BODY:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        if more or len(body) > _LARGEST_BODY:
            await _answer(send, 413, "BODY_TOO_LARGE: nothing that belongs in Airflow is so large")
            return
        try:
            check_request(scope["path"], body)
        except ReferenceRefused as error:
            log.error("%s at the API", error)
            await _answer(send, 422, str(error))
            return
        given = False

        async def again() -> Message:
            nonlocal given
            if given:
                return await receive()  # the client going away
            given = True
            return {"type": "http.request", "body": body, "more_body": False}

        await self._app(scope, again, send)


def check_request(path: str, body: bytes) -> None:
    """Raises ReferenceRefused where the body of a write to the API holds anything but references in a field that is kept."""
    try:
        content = json.loads(body) if body else None
    except ValueError:
        return  # the API refuses it itself
    for field, value in _kept(content):
        try:
            _FIELDS[field](value)
        except ReferenceRefused as error:
            raise ReferenceRefused(f"{field}: {error.args[0]}", code=error.code) from None
    if path.rstrip("/").endswith("/dagRuns") and isinstance(content, dict):
        references.check_run_id(content.get("dag_run_id"))


def _kept(content: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(content, dict):
        for name, value in content.items():
            if name in _FIELDS:
                yield name, value
            else:
                yield from _kept(value)
    elif isinstance(content, list):
        for item in content:
            yield from _kept(item)


async def _answer(send: Send, status: int, text: str) -> None:
    body = json.dumps({"detail": text}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def refuse_command_line(arguments: list[str]) -> None:
    """Ends the process where an `airflow` command would start something with a conf or run id that is not allowed."""
    if tuple(arguments[1:3]) not in _STARTS:
        return
    before = ""
    for argument in arguments[3:]:
        option, _, value = argument.partition("=") if argument.startswith("--") else ("", "", argument)
        if re.match(r"-[a-z].", value) and not value.startswith("--"):
            option, value = value[:2], value[2:]
        try:
            _command_value(option or before, value)
        except ReferenceRefused as error:
            sys.exit(str(error))
        before = argument


def _command_value(option: str, value: str) -> None:
    if option == "-r" or (option.startswith("--r") and "--run-id".startswith(option)):
        references.check_run_id(value)
    elif not _PLAIN.fullmatch(value):
        try:
            conf = json.loads(value)
        except ValueError:
            conf = value
        references.check_conf(conf)


def guard_database() -> None:
    """Look at every row a session of Airflow is about to write, in this process, from now on."""
    if not event.contains(Session, "before_flush", _before_flush):
        event.listen(Session, "before_flush", _before_flush)


def _before_flush(session: Session, *_: Any) -> None:
    for row in (*session.new, *session.dirty):
        if look := _ROWS.get(getattr(row, "__tablename__", "")):
            look(row)


def _run(row: Any) -> None:
    references.check_conf(row.conf)
    if row.partition_key is not None:
        references.check(row.partition_key)


def _backfill(row: Any) -> None:
    references.check_conf(row.dag_run_conf)


def _noted(row: Any) -> None:
    _note(row.content)


def _asset_event(row: Any) -> None:
    try:
        # Airflow's own marks of where the event came from
        references.check({k: v for k, v in (row.extra or {}).items() if (k, v) not in _MARKS})
    except ReferenceRefused as error:
        log.error("%s in the extra of an asset event; it is left out", error)
        row.extra = {}


_MARKS = (("from_rest_api", True), ("from_trigger", True))


def _rendered(row: Any) -> None:
    kept = {}
    for name, value in (row.rendered_fields or {}).items():
        try:
            _rendered_value(value)
            kept[name] = value
        except ReferenceRefused as error:
            log.error("%s in a rendered field; it is left out", error)
            kept[name] = LEFT_OUT
    if kept != row.rendered_fields:
        row.rendered_fields = kept


def _rendered_value(value: Any) -> None:
    """Arguments by name, of which the names are the parameters of our functions."""
    for item in value.values() if isinstance(value, dict) else [value]:
        if item not in ("()", "[]", "{}", ""):
            references.check(item)


_ROWS: dict[str, Callable[[Any], None]] = {
    "dag_run": _run,
    "backfill": _backfill,
    "dag_run_note": _noted,
    "task_instance_note": _noted,
    "asset_event": _asset_event,
    "rendered_task_instance_fields": _rendered,
}
