"""Master keys. A key service makes data keys and wraps them; the master key itself never leaves it.

Two services: a local keyring file, and AWS KMS (medbill.store.kms). open_keys() gives the one the settings name.
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
import secrets
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from medbill.errors import KeyUnavailable, TamperedData
from medbill.settings import Settings

#: How a wrapped data key begins, by the service that wrapped it.
LOCAL_MAGIC, KMS_MAGIC = b"MBK1", b"MBA1"

#: Code of KeyUnavailable where a data key was wrapped by another key service, or under a master key this one lacks.
OTHER_KEY = "KEY_OTHER"


@dataclass(frozen=True)
class DataKey:
    """A fresh 256-bit data key: plaintext for use now, wrapped for storage, master_key the key that wraps it."""

    plaintext: bytes = field(repr=False)
    wrapped: bytes
    master_key: str


class KeyService(Protocol):
    """What a key-management service offers (AWS KMS: GenerateDataKey, Encrypt, Decrypt, ReEncrypt).

    context: encryption context; a key unwraps only under the context it was made with.
    Raises KeyUnavailable where the master key is missing, disabled or out of reach, TamperedData where the wrapped key
    or its context is not what was wrapped.
    """

    @property
    def current(self) -> str:
        """The master key that wraps new data keys, as its administrators call it. Raises KeyUnavailable."""
        ...

    def data_key(self, context: Mapping[str, str], *, first: bool = False) -> DataKey:
        """A new data key. first: the caller knows that nothing was ever wrapped, so a service that makes its own master
        key may make it now."""
        ...

    def unwrap(self, wrapped: bytes, context: Mapping[str, str]) -> bytes: ...

    def wrap(self, plaintext: bytes, context: Mapping[str, str]) -> DataKey:
        """A data key that another service unwrapped, under this one's current master key."""
        ...

    def rewrap(self, wrapped: bytes, context: Mapping[str, str]) -> DataKey:
        """The same data key under the current master key."""
        ...


def open_keys(settings: Settings) -> KeyService:
    """The key service of MEDBILL_KEYRING. Nothing is made and KMS is not called yet.

    Raises PolicyError for a kms:// address that is none, KeyUnavailable where a keyring file is there and unusable.
    """
    if isinstance(settings.keyring, Path):
        return LocalKeyring(settings.keyring)
    from medbill.store import kms  # boto3 is heavy, and the embedded stack needs none of it

    return kms.parse(settings.keyring)


class LocalKeyring:
    """The key service of the embedded stack: a JSON file of master keys that only its owner may read.

    Made with the very first data key, with rights 0600, and never again: a file that is missing later is refused
    (KeyUnavailable), because a new one would open nothing and hide the loss. So is a file that group or others can
    read, as a key that leaked is no key. Losing the file loses everything sealed under it.
    """

    def __init__(self, path: Path | str) -> None:
        self._path = Path(path)
        self._id, self._version, self._keys = "", 0, dict[str, bytes]()
        if self._path.exists():
            self._load()

    def data_key(self, context: Mapping[str, str], *, first: bool = False) -> DataKey:
        if first and not self._keys and not self._path.exists():
            self._create()
        self._load()  # another process may have rotated; a key under the older version would outlive a rewrap
        return self._wrap(secrets.token_bytes(32), context)

    def unwrap(self, wrapped: bytes, context: Mapping[str, str]) -> bytes:
        master_key, nonce, sealed = _parse(wrapped)
        try:
            return AESGCM(self._master(master_key)).decrypt(nonce, sealed, _aad(master_key, context))
        except InvalidTag:
            raise TamperedData(
                "a wrapped data key failed authentication; it was altered or belongs elsewhere"
            ) from None

    def wrap(self, plaintext: bytes, context: Mapping[str, str]) -> DataKey:
        self._load()
        return self._wrap(plaintext, context)

    def rewrap(self, wrapped: bytes, context: Mapping[str, str]) -> DataKey:
        return self._wrap(self.unwrap(wrapped, context), context)

    @property
    def current(self) -> str:
        """Id of the master key that wraps new data keys: keyring id "/" version."""
        if not self._keys:
            self._load()
        return f"{self._id}/{self._version}"

    def rotate(self) -> str:
        """Add a master key version and wrap with it from now on; returns its id. Older versions still unwrap."""
        with self._locked():
            self._load()
            version = self._version + 1
            keys = {**self._keys, f"{self._id}/{version}": secrets.token_bytes(32)}
            part = self._write_part(self._id, version, keys)
            part.replace(self._path)
        self._load()
        return self.current

    def _wrap(self, plaintext: bytes, context: Mapping[str, str]) -> DataKey:
        master_key, nonce = self.current, secrets.token_bytes(12)
        sealed = AESGCM(self._master(master_key)).encrypt(nonce, plaintext, _aad(master_key, context))
        name = master_key.encode()
        return DataKey(plaintext, LOCAL_MAGIC + bytes([len(name)]) + name + nonce + sealed, master_key)

    def _master(self, master_key: str) -> bytes:
        if master_key not in self._keys:
            self._load()  # another process may have rotated
        try:
            return self._keys[master_key]
        except KeyError:
            raise KeyUnavailable(
                "the keyring lacks the master key of this data; restore the right keyring", code=OTHER_KEY
            ) from None

    def _create(self) -> None:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            keyring = f"local-{uuid.uuid4().hex[:12]}"
            part = self._write_part(keyring, 1, {f"{keyring}/1": secrets.token_bytes(32)})
            try:
                os.link(part, self._path)  # the first of several processes wins, the others read its file
            except FileExistsError:
                pass
            finally:
                part.unlink(missing_ok=True)
        except OSError as error:
            raise KeyUnavailable(f"cannot create the keyring ({error.strerror}); check MEDBILL_KEYRING") from None

    def _write_part(self, keyring: str, version: int, keys: Mapping[str, bytes]) -> Path:
        part = self._path.with_name(f".{self._path.name}.{uuid.uuid4().hex}")
        text = json.dumps(
            {
                "format": 1,
                "id": keyring,
                "current": version,
                "keys": {name: base64.b64encode(key).decode() for name, key in keys.items()},
            },
            indent=1,
        )
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        return part

    @contextmanager
    def _locked(self) -> Iterator[None]:
        descriptor = os.open(self._path.with_name(f".{self._path.name}.lock"), os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _load(self) -> None:
        try:
            with self._path.open() as file:
                if os.fstat(file.fileno()).st_mode & 0o077:
                    raise KeyUnavailable("the keyring may be read by others; set its rights to 0600, then rotate it")
                content = json.load(file)
            keys = {name: base64.b64decode(key, validate=True) for name, key in content["keys"].items()}
            name, version = str(content["id"]), int(content["current"])
            if (
                content["format"] != 1
                or f"{name}/{version}" not in keys
                or any(len(key) != 32 for key in keys.values())
            ):
                raise ValueError
            self._id, self._version, self._keys = name, version, keys
        except FileNotFoundError:
            raise KeyUnavailable(
                "the keyring is missing, and data is sealed under it; restore it from backup, or set MEDBILL_KEYRING to "
                "where it lies. No new one is made: it would open nothing"
            ) from None
        except OSError as error:
            raise KeyUnavailable(f"cannot read the keyring ({error.strerror}); check MEDBILL_KEYRING") from None
        except (ValueError, KeyError, TypeError, AttributeError):
            raise KeyUnavailable("the keyring is damaged; restore it from backup") from None


def _aad(master_key: str, context: Mapping[str, str]) -> bytes:
    return json.dumps(["medbill.keyring.v1", master_key, sorted(context.items())], separators=(",", ":")).encode()


def _parse(wrapped: bytes) -> tuple[str, bytes, bytes]:
    if wrapped.startswith(KMS_MAGIC):
        raise KeyUnavailable(
            "data is sealed under AWS KMS, not under a local keyring; set MEDBILL_KEYRING to that kms:// key",
            code=OTHER_KEY,
        )
    start = 5 + (wrapped[4] if len(wrapped) > 4 else 0)
    if wrapped[:4] != LOCAL_MAGIC or len(wrapped) < start + 12 + 16:
        raise TamperedData("a wrapped data key is malformed; it was altered or truncated")
    try:
        return wrapped[5:start].decode(), wrapped[start : start + 12], wrapped[start + 12 :]
    except UnicodeDecodeError:
        raise TamperedData("a wrapped data key is malformed; it was altered or truncated") from None
