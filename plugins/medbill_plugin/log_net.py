"""A net under the logs of tasks and components: text that is certainly an identifier is replaced and counted.

This is not the control. The control is that protected data does not enter Airflow (medbill_plugin.references); a net knows
SSNs, phone numbers, e-mail addresses and labelled dates of birth, record and member numbers, and no name at all.
What it replaces is a defect somewhere else: every replacement is counted, in the log line and in COUNTS.
"""

from __future__ import annotations

import logging
from collections import Counter
from typing import Any

import structlog

from medbill.deid import egress_patterns

#: What was replaced in this process, by kind.
COUNTS: Counter[str] = Counter()
#: Addresses of hosts belong in a log, and one long number in ten passes for a card's.
_LEFT = frozenset({"IP", "CARD"})


def redact(text: str) -> str:
    """The text with [REDACTED KIND] in place of what is certainly an identifier."""
    found = sorted((start, -end, kind) for kind, start, end in egress_patterns.find(text) if kind not in _LEFT)
    if not found:
        return text
    parts, done = [], 0
    for start, end, kind in found:
        if start < done:
            continue
        parts += [text[done:start], f"[REDACTED {kind}]"]
        done = -end
        COUNTS[kind] += 1
    return "".join([*parts, text[done:]])


def processor(logger: Any, method: str, event: dict[str, Any]) -> dict[str, Any]:
    """structlog processor: redacts every text of an event, however deep, and says how often."""
    before = COUNTS.total()
    event = {name: _within(value) for name, value in event.items()}
    if count := COUNTS.total() - before:
        event["redacted"] = count
    return event


def _within(value: Any) -> Any:
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, dict):
        return {_within(name): _within(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_within(item) for item in value]
    return value


class Rendered:
    """A structlog renderer with the net behind it: what it redacts is the finished line, tracebacks and all."""

    def __init__(self, renderer: Any) -> None:
        self._renderer = renderer

    def __call__(self, logger: Any, method: str, event: Any) -> Any:
        line = self._renderer(logger, method, event)
        if isinstance(line, bytes):
            return redact(line.decode("utf-8", "replace")).encode()
        return redact(line) if isinstance(line, str) else line


def install() -> None:
    """Put the net behind everything this process logs, by structlog or by logging. Doing it again changes nothing."""
    # in place: loggers that are in use already hold this very list
    _behind(structlog.get_config()["processors"])
    for handler in logging.getLogger().handlers:
        if isinstance(handler.formatter, structlog.stdlib.ProcessorFormatter):
            processors = list(handler.formatter.processors)
            _behind(processors)
            handler.formatter.processors = tuple(processors)


def _behind(processors: Any) -> None:
    if isinstance(processors, list) and processors and not isinstance(processors[-1], Rendered):
        processors[-1] = Rendered(processors[-1])


class NetFilter(logging.Filter):
    """For handlers that do not go through structlog. Made by logging_config, just after structlog was set up."""

    def __init__(self) -> None:
        super().__init__()
        install()

    def filter(self, record: logging.LogRecord) -> bool:
        message = record.getMessage()
        if (redacted := redact(message)) != message:
            record.msg, record.args = redacted, ()
        return True


class TaskLog:
    """Airflow's hook into task logs: its processors run on every line before it reaches the file or the console.

    Logs stay where they are: nothing is uploaded, nothing read from elsewhere.
    """

    processors = (processor,)

    def upload(self, path: Any, ti: Any = None) -> None:
        return None

    def read(self, relative_path: str, ti: Any) -> tuple[list[str], list[str] | None]:
        return [], None
