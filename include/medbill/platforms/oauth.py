"""OAuth2 tokens of a platform account: kept in one place, refreshed by one caller at a time."""

from __future__ import annotations

import fcntl
import json
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from medbill.errors import PlatformError


@dataclass(frozen=True)
class Credentials:
    """A registered application and the refresh token its authorization gave. Secrets stay out of repr."""

    client_id: str
    client_secret: str = field(repr=False)
    refresh_token: str = field(repr=False)

    @staticmethod
    def from_file(path: Path) -> Credentials:
        """Read a JSON object with these three names; raises PlatformError where it is missing or malformed."""
        try:
            found = json.loads(path.read_text())
            return Credentials(str(found["client_id"]), str(found["client_secret"]), str(found["refresh_token"]))
        except (OSError, ValueError, KeyError, TypeError):
            raise PlatformError(
                "the platform's credentials file is missing or malformed; it needs client_id, client_secret and "
                "refresh_token",
                code="PLATFORM_CREDENTIALS",
            ) from None


@dataclass(frozen=True)
class Tokens:
    """expires_at: Unix time of the access token's end."""

    access_token: str = field(repr=False)
    refresh_token: str = field(repr=False)
    expires_at: float


class TokenStore(Protocol):
    """Where the current tokens are. A refresh happens inside locked(), so that two callers never spend one token."""

    def read(self) -> Tokens | None: ...

    def write(self, tokens: Tokens) -> None: ...

    def locked(self) -> AbstractContextManager[None]: ...


class MemoryTokenStore:
    """Tokens for the life of this process; for platforms whose refresh tokens do not rotate, and for tests."""

    def __init__(self) -> None:
        self._tokens: Tokens | None = None
        self._lock = threading.RLock()

    def read(self) -> Tokens | None:
        return self._tokens

    def write(self, tokens: Tokens) -> None:
        self._tokens = tokens

    @contextmanager
    def locked(self) -> Iterator[None]:
        with self._lock:
            yield


class FileTokenStore:
    """Tokens in a file only its owner reads, shared by all processes of this machine through a lock beside it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.RLock()

    def read(self) -> Tokens | None:
        try:
            found = json.loads(self._path.read_text())
            return Tokens(str(found["access_token"]), str(found["refresh_token"]), float(found["expires_at"]))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError):
            raise PlatformError(
                "the platform's token file is unreadable; remove it to start again from the credentials",
                code="PLATFORM_CREDENTIALS",
            ) from None

    def write(self, tokens: Tokens) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        part = self._path.with_name(f".{self._path.name}.part")
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            json.dump(
                {
                    "access_token": tokens.access_token,
                    "refresh_token": tokens.refresh_token,
                    "expires_at": tokens.expires_at,
                },
                file,
            )
            file.flush()
            os.fsync(file.fileno())
        part.replace(self._path)

    @contextmanager
    def locked(self) -> Iterator[None]:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._lock, self._path.with_name(f".{self._path.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


class Refresher:
    """A live access token for each call of an account: one caller asks for a new one, the others wait.

    first: the refresh token the authorization gave; "" for a grant without one (client credentials). ask: the tokens a
    refresh token gives, None where it is spent or revoked. platform: its name in the error.
    """

    def __init__(self, store: TokenStore, first: str, ask: Callable[[str], Tokens | None], platform: str) -> None:
        self._store, self._first, self._ask, self._platform = store, first, ask, platform

    def headers(self, more: Mapping[str, str] | None = None) -> Callable[[bool], Mapping[str, str]]:
        """Headers with a live token; where the platform has just refused it, with the next one."""
        used: list[str] = []

        def make(refused: bool) -> Mapping[str, str]:
            used.append(self.access_token(used[-1] if refused and used else None))
            return {"Authorization": f"Bearer {used[-1]}", **(more or {})}

        return make

    def access_token(self, stale: str | None = None) -> str:
        """stale: one the platform has just refused. Raises PlatformError PLATFORM_CREDENTIALS where no new one is given."""
        tokens = self._store.read()
        if tokens is not None and _live(tokens, stale):
            return tokens.access_token
        with self._store.locked():
            tokens = self._store.read()
            if tokens is not None and _live(tokens, stale):
                return tokens.access_token
            candidates = [tokens.refresh_token] if tokens is not None else []
            if self._first not in candidates:
                candidates.append(self._first)
            for refresh_token in candidates:
                fresh = self._ask(refresh_token)
                if fresh is not None:
                    self._store.write(fresh)
                    return fresh.access_token
        raise PlatformError(
            f"{self._platform} refuses the account's grant; authorize the application again",
            code="PLATFORM_CREDENTIALS",
        )


def _live(tokens: Tokens, stale: str | None) -> bool:
    return tokens.access_token != stale and tokens.expires_at > time.time() + 60
