"""Bringing the stack up and down. Every step is a no-op where it is done already, every wait has an end."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from importlib import metadata

from medbill.settings import Settings
from medbill.stack import environment, ports, processes
from medbill.stack.api import Airflow
from medbill.stack.errors import AirflowError, StackError
from medbill.stack.files import Home, Secrets, users
from medbill.stack.ports import HOST, Ports
from medbill.stack.postgres import Postgres
from medbill.stack.processes import Known
from medbill.stack.services import services
from medbill.stack.supervisor import RunState

#: Seconds from nothing to healthy, on two slow cores with nothing compiled yet.
START_TIMEOUT = 300.0
#: Seconds the supervisor gets to end everything before it is ended itself.
STOP_TIMEOUT = 60.0
#: Platforms whose practice is seeded into a folder of its own in the sandbox's.
SEEDED_APART = ("tebra", "advancedmd", "carecloud")


@dataclass(frozen=True)
class Health:
    """Part of the stack -> 'healthy', or what is wrong with it."""

    parts: dict[str, str]

    @property
    def ok(self) -> bool:
        return all(state == "healthy" for state in self.parts.values())


class Stack:
    """The embedded stack of one home. say: takes each line of progress."""

    def __init__(self, settings: Settings, say: Callable[[str], None] = print) -> None:
        self.settings = settings
        self.home = Home(settings.home)
        self.postgres = Postgres(self.home)
        self._say = say

    # what it is now

    @property
    def url(self) -> str:
        return f"http://{HOST}:{Ports.remembered(self.home).api}"

    def login(self, user: str = "admin") -> tuple[str, str]:
        return user, Secrets.of(self.home).passwords[user]

    def airflow(self, user: str = "admin") -> Airflow:
        """A client of this stack's Airflow, logged in as one of its users."""
        return Airflow(self.url, *self.login(user))

    def health(self) -> Health:
        state = RunState.read(self.home)
        parts = {
            "postgres": "healthy" if self.postgres.running() else "down",
            "supervisor": "healthy" if state.supervised else "down",
        }
        for service in state.services:
            parts[service.name] = (
                "healthy" if service.alive else "keeps dying" if service.given_up else "down, restarting"
            )
        known = Ports.remembered(self.home)
        if parts.get("sandbox") == "healthy" and not ports.answers(known.sandbox):
            parts["sandbox"] = "starting"
        if parts.get("api-server") == "healthy":
            try:
                with Airflow(self.url, "", "", timeout=5, patient=False) as client:
                    airflow = client.health()
            except AirflowError:
                airflow = {"api": "starting"}
            if "api" in airflow:
                parts["api-server"] = airflow["api"]
            for theirs, ours in (
                ("scheduler", "scheduler"),
                ("dag_processor", "dag-processor"),
                ("triggerer", "triggerer"),
            ):
                if parts.get(ours) == "healthy" and airflow.get(theirs) != "healthy":
                    parts[ours] = "starting"
        return Health(parts)

    # up

    def start(self, timeout: float = START_TIMEOUT, today: date | None = None, claims: int | None = None) -> bool:
        """Bring everything up and wait until it is healthy; False where it was up already.

        today, claims: the day and size of the sandbox's practice, which is made up at the first start of a home.
        Raises StackError, naming the log.
        """
        deadline = time.monotonic() + timeout
        with self.home.lock():
            if RunState.read(self.home).supervised:
                if self.health().ok:
                    return False
                self._say("running, not all of it healthy: waiting")
            else:
                self._end_leftovers()
                chosen = Ports.choose(self.home)
                env = environment.airflow_env(self.settings, chosen)
                self._say("PostgreSQL: starting")
                self.postgres.start()
                self._migrate(env)
                self._seed(env, today, claims)
                self._supervise(environment.airflow_env(self.settings, chosen))  # now with the sandbox's account
            self._wait_until_healthy(deadline)
        return True

    def _migrate(self, env: dict[str, str]) -> None:
        from medbill.store import schema

        self._say("medbill: tables")
        schema.migrate(self.settings)
        version = metadata.version("apache-airflow-core")
        known = self.home.read("stack.json")
        if known.get("airflow") != version:
            self._say(f"Airflow {version}: tables")
            self._run("airflow-migrate", [sys.executable, "-m", "airflow", "db", "migrate"], env)
            self.home.write("stack.json", {**known, "airflow": version})

    def _seed(self, env: dict[str, str], today: date | None, claims: int | None) -> None:
        known = self.home.read("stack.json")
        missing = [name for name in SEEDED_APART if not (self.home.sandbox / name).is_dir()]
        if "seeded" in known and not missing:
            return
        day = known.get("seeded") or (today or datetime.now(UTC).date()).isoformat()
        self._say(f"sandbox: making up its practices as of {day}")
        command = [sys.executable, "-m", "medbill.cli", "sandbox", "seed", "--today", day]
        command += ["--inbox", self.settings.inbox, "--state", str(self.home.sandbox)]
        command += ["--claims", str(claims)] if claims is not None else []
        if "seeded" in known:  # a home from before this platform had a stand-in
            command += [part for name in missing for part in ("--only", name)]
        self._run("sandbox-seed", command, env)
        self.home.write("stack.json", {**known, "seeded": day})

    def _run(self, name: str, command: list[str], env: dict[str, str]) -> None:
        log = self.home.logs / f"{name}.log"
        with log.open("ab") as output:
            try:
                done = subprocess.run(
                    command,
                    env=env,
                    cwd=self.home.path,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    timeout=START_TIMEOUT,
                )
            except (OSError, subprocess.TimeoutExpired) as error:
                raise StackError(f"{name} failed ({type(error).__name__}); see {log}") from None
        if done.returncode:
            raise StackError(f"{name} failed with exit code {done.returncode}; see {log}")

    def _supervise(self, env: dict[str, str]) -> None:
        self._say("Airflow and the sandbox: starting")
        command = (sys.executable, "-m", "medbill.stack", "supervise")
        supervisor = processes.spawn(command, env, self.home.logs / "supervisor.log", self.home.path)
        self.home.write("run.json", {"supervisor": vars(Known.of(supervisor.pid)), "services": {}})

    def _wait_until_healthy(self, deadline: float) -> None:
        told: dict[str, str] = {}
        wanted = {s.name for s in services(self.home, Ports.remembered(self.home))}
        while True:
            health = self.health()
            for part, state in health.parts.items():
                if told.get(part) != state:
                    told[part] = state
                    self._say(f"{part}: {state}")
            if health.parts["supervisor"] != "healthy":
                raise StackError(f"the supervisor died; see {self.home.logs / 'supervisor.log'}")
            if "keeps dying" in health.parts.values():
                dead = next(part for part, state in health.parts.items() if state == "keeps dying")
                raise StackError(f"{dead} keeps dying; see {self.home.logs / f'{dead}.log'}")
            if health.ok and wanted <= health.parts.keys():
                return
            if time.monotonic() >= deadline:
                late = sorted(part for part, state in health.parts.items() if state != "healthy")
                raise StackError(f"not healthy in time: {', '.join(late)}; see {self.home.logs}")
            time.sleep(1.0)

    # down

    def stop(self) -> bool:
        """End everything, the database last; False where nothing ran."""
        if not self.home.path.is_dir():
            return False
        with self.home.lock():
            state = RunState.read(self.home)
            ran = any(k.alive() for k in state.processes) or self.postgres.running()
            if state.supervisor is not None and state.supervisor.alive():
                self._say("Airflow and the sandbox: stopping")
                processes.end([state.supervisor], patience=STOP_TIMEOUT)
            self._end_leftovers()
            if ran:
                self._say("PostgreSQL: stopping")
            self.postgres.stop()
        return ran

    def _end_leftovers(self) -> None:
        """What a supervisor that was killed left running."""
        state = RunState.read(self.home)
        if alive := [k for k in state.processes if k.alive()]:
            processes.end(alive)
        (self.home.path / "run.json").unlink(missing_ok=True)

    def summary(self) -> list[str]:
        """Where to look: the lines printed at the end of a start."""
        user, password = self.login()
        others = ", ".join(u for u in users() if u != user)
        return [
            f"Airflow UI   {self.url}   login {user} / {password}",
            f"             other users ({others}): {self.home.passwords}",
            f"logs         {self.home.logs}",
            f"lineage      {self.home.lineage}",
        ]
