"""Keeps the services of one stack alive: restarts what dies, gives up on what keeps dying, ends all when told to."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

from medbill.stack import processes
from medbill.stack.files import Home
from medbill.stack.processes import Known
from medbill.stack.services import Service

RUN_FILE = "run.json"
#: A service that dies this often within the window is left down, for a person to look at.
RESTARTS = 5
WINDOW_SECONDS = 600.0
_POLL_SECONDS = 0.5


@dataclass
class _Watched:
    service: Service
    process: subprocess.Popen[bytes] | None = None
    known: Known | None = None
    restarts: int = 0
    deaths: deque[float] = field(default_factory=lambda: deque(maxlen=RESTARTS))
    next_start: float = 0.0
    given_up: bool = False

    def state(self) -> dict[str, Any]:
        known = {"pid": self.known.pid, "started": self.known.started} if self.known else {}
        return {**known, "restarts": self.restarts, "given_up": self.given_up}


class Supervisor:
    """Runs services until SIGTERM or SIGINT; its state is in run.json of the home."""

    def __init__(self, home: Home, services: list[Service], env: Mapping[str, str], longest_wait: float = 30.0) -> None:
        """longest_wait: seconds between a death and the next start, at most; the wait doubles with each death."""
        self._home = home
        self._longest_wait = longest_wait
        self._env = env
        self._watched = [_Watched(s) for s in services]
        self._stop = threading.Event()

    def run(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        try:
            while not self._stop.is_set():
                changed = [self._watch(w, time.monotonic()) for w in self._watched]
                if any(changed):
                    self._write()
                self._stop.wait(_POLL_SECONDS)
        finally:
            for watched in self._watched:
                if watched.process is not None:
                    self._say(f"{watched.service.name}: stopping")
            # the last started first: the scheduler ends its tasks while the API still takes their state
            order = [w.known for w in reversed(self._watched) if w.known]
            killed = processes.end([k for k in order if k != self._api()])
            killed += processes.end([k for k in (self._api(),) if k])
            self._say(f"stopped, {killed} killed")
            (self._home.path / RUN_FILE).unlink(missing_ok=True)

    def _api(self) -> Known | None:
        return next((w.known for w in self._watched if w.service.name == "api-server"), None)

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self._stop.set()

    def _watch(self, watched: _Watched, now: float) -> bool:
        """One look at one service; True where its state changed."""
        if watched.given_up or self._stop.is_set():
            return False
        if watched.process is not None:
            code = watched.process.poll()
            if code is None:
                return False
            # its children may live on and hold its ports
            if watched.known:
                processes.end_session(watched.known)
            watched.process, watched.known = None, None
            watched.deaths.append(now)
            often = len(watched.deaths) == RESTARTS and now - watched.deaths[0] < WINDOW_SECONDS
            watched.given_up = often
            watched.next_start = now + min(self._longest_wait, 2.0 ** len(watched.deaths) - 1)
            self._say(f"{watched.service.name}: exited with {code}, {'given up' if often else 'restarting'}")
            return True
        if now < watched.next_start:
            return False
        if watched.deaths:
            watched.restarts += 1
        log = self._home.logs / f"{watched.service.name}.log"
        watched.process = processes.spawn(watched.service.command, self._env, log, self._home.path)
        watched.known = Known.of(watched.process.pid)
        self._say(f"{watched.service.name}: started as {watched.process.pid}")
        return True

    def _write(self) -> None:
        me = Known.of(os.getpid())
        self._home.write(
            RUN_FILE,
            {
                "supervisor": {"pid": me.pid, "started": me.started},
                "services": {w.service.name: w.state() for w in self._watched},
            },
        )

    @staticmethod
    def _say(text: str) -> None:
        print(f"{time.strftime('%Y-%m-%dT%H:%M:%S%z')} {text}", flush=True)


@dataclass(frozen=True)
class ServiceState:
    name: str
    known: Known | None
    restarts: int
    given_up: bool

    @property
    def alive(self) -> bool:
        return self.known is not None and self.known.alive()


@dataclass(frozen=True)
class RunState:
    """What run.json says, as of its last change."""

    supervisor: Known | None
    services: tuple[ServiceState, ...]

    @staticmethod
    def read(home: Home) -> RunState:
        content = home.read(RUN_FILE)

        def known(entry: Mapping[str, Any]) -> Known | None:
            return Known(int(entry["pid"]), float(entry["started"])) if "pid" in entry else None

        return RunState(
            supervisor=known(content.get("supervisor", {})),
            services=tuple(
                ServiceState(name, known(entry), int(entry["restarts"]), bool(entry["given_up"]))
                for name, entry in content.get("services", {}).items()
            ),
        )

    @property
    def supervised(self) -> bool:
        return self.supervisor is not None and self.supervisor.alive()

    @property
    def processes(self) -> list[Known]:
        own = [self.supervisor] if self.supervisor else []
        return own + [s.known for s in self.services if s.known]
