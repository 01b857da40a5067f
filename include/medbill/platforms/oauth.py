"""OAuth2 tokens of a platform account: kept in one place, refreshed by one caller at a time."""

from __future__ import annotations

import fcntl
import json
import os
import threading
from collections.abc import Iterator
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
