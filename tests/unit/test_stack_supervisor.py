"""Process groups and the supervisor, with small real programs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from medbill.stack import processes
from medbill.stack.files import Home
from medbill.stack.processes import Known
from medbill.stack.supervisor import RESTARTS, RunState

ROOT = Path(__file__).resolve().parents[2]
#: Starts a child in a group of its own, as Airflow's task runner does; both ignore a polite end.
STUBBORN = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = os.fork()
if child == 0:
    os.setpgid(0, 0)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(120)
print(child, flush=True)
time.sleep(120)
"""
_SUPERVISE = """
import os, sys
from pathlib import Path
from medbill.stack.files import Home
from medbill.stack.services import Service
from medbill.stack.supervisor import Supervisor
commands = {"steady": "import time; time.sleep(300)", "broken": "raise SystemExit(3)"}
chosen = sys.argv[2:]
services = [Service(name, (sys.executable, "-c", commands[name])) for name in chosen]
Supervisor(Home(Path(sys.argv[1])), services, dict(os.environ), longest_wait=1.0).run()
"""


def _until(found: Callable[[], object], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not found():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.1)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    found = Home(tmp_path)
    found.create()
    return found


def test_what_ignores_a_polite_end_is_killed_with_its_children(tmp_path: Path) -> None:
    log = tmp_path / "log"
    process = processes.spawn([sys.executable, "-c", STUBBORN], os.environ, log, tmp_path)
    _until(lambda: log.read_text().strip())
    child = int(log.read_text())
    assert processes.end([Known.of(process.pid)], patience=1.0) == 2
    assert not psutil.pid_exists(child) or psutil.Process(child).status() == psutil.STATUS_ZOMBIE
    process.wait(timeout=5)


def test_a_reused_id_is_not_taken_for_the_process(tmp_path: Path) -> None:
    mine = Known.of(os.getpid())
    assert mine.alive()
    assert not Known(mine.pid, mine.started - 3600).alive()
    assert processes.end([Known(mine.pid, mine.started - 3600)]) == 0  # or this test would not see its end


def _supervise(home: Home, *names: str) -> subprocess.Popen[bytes]:
    env = {**os.environ, "PYTHONPATH": str(ROOT / "include")}
    command = [sys.executable, "-c", _SUPERVISE, str(home.path), *names]
    return processes.spawn(command, env, home.logs / "supervisor.log", home.path)


def test_a_service_that_dies_is_started_again_and_a_stop_ends_it(home: Home) -> None:
    supervisor = _supervise(home, "steady")
    try:
        _until(lambda: any(s.alive for s in RunState.read(home).services))
        first = RunState.read(home).services[0].known
        assert first is not None
        os.kill(first.pid, signal.SIGKILL)
        _until(lambda: (s := RunState.read(home).services[0]).restarts == 1 and s.alive)
        second = RunState.read(home).services[0].known
        assert second is not None and second.pid != first.pid
    finally:
        supervisor.terminate()
    assert supervisor.wait(timeout=30) == 0
    assert not second.alive()
    assert RunState.read(home).processes == []


def test_a_service_that_keeps_dying_is_given_up(home: Home) -> None:
    supervisor = _supervise(home, "broken", "steady")
    try:
        _until(lambda: any(s.given_up for s in RunState.read(home).services), 60)
        state = {s.name: s for s in RunState.read(home).services}
        assert state["broken"].restarts == RESTARTS - 1
        assert state["steady"].alive
    finally:
        supervisor.terminate()
        supervisor.wait(timeout=30)
