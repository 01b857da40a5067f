"""The stack's own files under MEDBILL_HOME: secrets, remembered ports, and what is running now."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from cryptography.fernet import Fernet

from medbill.audit.roles import Roles
from medbill.settings import Settings
from medbill.stack.errors import StackError


@lru_cache(maxsize=1)
def users() -> dict[str, str]:
    """Who may log in to the embedded Airflow, and its role for each: the people of roles.yml, and the account the stack
    itself and its administrator use. Production uses FAB roles instead. Raises PolicyError."""
    people = Roles.load(Settings.from_env().policies).people
    return {"admin": "admin"} | {person.login: person.embedded for person in people}


@dataclass(frozen=True)
class Home:
    """Where everything of one embedded stack lies."""

    path: Path

    @property
    def logs(self) -> Path:
        return self.path / "logs"

    @property
    def airflow(self) -> Path:
        return self.path / "airflow"

    @property
    def lineage(self) -> Path:
        return self.path / "lineage" / "events.jsonl"

    @property
    def passwords(self) -> Path:
        return self.airflow / "passwords.json"

    @property
    def sandbox(self) -> Path:
        return self.path / "sandbox"

    def create(self) -> None:
        for folder in (self.path, self.logs, self.airflow, self.lineage.parent):
            folder.mkdir(parents=True, exist_ok=True)

    def read(self, name: str) -> dict[str, Any]:
        """A JSON object kept by the stack; empty where there is none."""
        try:
            content = json.loads((self.path / name).read_text())
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            raise StackError(f"{name} in the stack's home is unreadable; run `stop`, then remove it") from error
        return content if isinstance(content, dict) else {}

    def write(self, name: str, content: dict[str, Any], mode: int = 0o644) -> None:
        """Replace a JSON object in one step."""
        target = self.path / name
        draft = target.with_name(f".{target.name}.{os.getpid()}")
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "w") as file:
            json.dump(content, file, indent=1, sort_keys=True)
        draft.replace(target)

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """One command at a time; raises StackError where another one is at work on this home."""
        self.create()
        with (self.path / "stack.lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise StackError("another start or stop is at work on this home; wait for it to end") from None
            yield


@dataclass(frozen=True)
class Secrets:
    """Generated once per home, readable by its owner alone."""

    fernet_key: str
    jwt_secret: str
    session_key: str
    passwords: dict[str, str]

    @staticmethod
    def of(home: Home) -> Secrets:
        import secrets as random

        known = home.read("secrets.json")
        fresh = Secrets(
            fernet_key=Fernet.generate_key().decode(),
            jwt_secret=random.token_urlsafe(48),
            session_key=random.token_urlsafe(48),
            passwords={user: random.token_urlsafe(9) for user in users()},
        )
        content = {**asdict(fresh), **known}
        content["passwords"] = {**fresh.passwords, **known.get("passwords", {})}
        if content != known:
            home.write("secrets.json", content, mode=0o600)
        home.write(str(home.passwords.relative_to(home.path)), content["passwords"], mode=0o600)
        return Secrets(**content)
