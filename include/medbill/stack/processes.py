"""Starting and ending process groups. A process is known by its id and its start time, since ids are reused."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil


@dataclass(frozen=True)
class Known:
    """A process this stack started; it leads a session of its own. started: seconds since the epoch."""

    pid: int
    started: float

    @staticmethod
    def of(pid: int) -> Known:
        return Known(pid, psutil.Process(pid).create_time())

    def alive(self) -> bool:
        try:
            process = psutil.Process(self.pid)
            # a clock step moves create_time a little; a reused id differs by much more
            return abs(process.create_time() - self.started) < 2 and process.status() != psutil.STATUS_ZOMBIE
        except psutil.Error:
            return False


def spawn(command: Sequence[str], env: Mapping[str, str], log: Path, cwd: Path) -> subprocess.Popen[bytes]:
    """Start a program in a session of its own, its output appended to log."""
    with log.open("ab") as output:
        return subprocess.Popen(
            list(command),
            env=dict(env),
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def end(known: Iterable[Known], patience: float = 20.0) -> int:
    """End processes and everything they started: politely, then, after patience seconds, by force.

    Gives how many had to be killed.
    """
    leaders = [k for k in known if k.alive()]
    family = _family(leaders)
    for leader in leaders:
        _signal(leader.pid, signal.SIGTERM)
    _, stubborn = psutil.wait_procs(family, timeout=patience)
    # what was born meanwhile, in the sessions of the leaders or below the stubborn ones
    stubborn = list({*stubborn, *_family(leaders), *_in_sessions({k.pid for k in leaders})})
    for process in stubborn:
        with contextlib.suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(stubborn, timeout=5)
    return len(stubborn)


def end_session(leader: Known) -> None:
    """Kill what a dead leader left behind in its session."""
    left = _in_sessions({leader.pid})
    for process in left:
        with contextlib.suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(left, timeout=5)


def _family(leaders: Sequence[Known]) -> list[psutil.Process]:
    found: dict[int, psutil.Process] = {}
    for leader in leaders:
        with contextlib.suppress(psutil.Error):
            process = psutil.Process(leader.pid)
            for member in (process, *process.children(recursive=True)):
                found[member.pid] = member
    for member in _in_sessions({k.pid for k in leaders}):
        found[member.pid] = member
    return list(found.values())


def _in_sessions(sessions: set[int]) -> list[psutil.Process]:
    """Members of the sessions: children whose parent is gone still carry its session id."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, ProcessLookupError, PermissionError):
            if os.getsid(process.pid) in sessions and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def _signal(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)
