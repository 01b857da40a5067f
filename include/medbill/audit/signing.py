"""The Ed25519 key that signs checkpoints: a file only its owner may read, its public half beside it for the verifier."""

from __future__ import annotations

import os
import uuid
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from medbill.errors import KeyUnavailable


class Signer:
    """Signs with the key of a PEM file (PKCS #8, rights 0600). Raises KeyUnavailable where it cannot be used."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key

    @staticmethod
    def load(path: Path, *, first: bool) -> Signer:
        """first: nothing was ever signed, so a missing key may be made now (the first of several processes wins)."""
        if first and not path.exists():
            _create(path)
        try:
            with path.open("rb") as file:
                if os.fstat(file.fileno()).st_mode & 0o077:
                    raise KeyUnavailable("the signing key may be read by others; it must be replaced, rights 0600")
                key = load_pem_private_key(file.read(), None)
        except FileNotFoundError:
            raise KeyUnavailable(
                "the key that signs checkpoints is missing; restore it, or set MEDBILL_AUDIT_KEY to where it lies"
            ) from None
        except OSError as error:
            raise KeyUnavailable(f"cannot read the signing key ({error.strerror})") from None
        except (ValueError, TypeError):
            raise KeyUnavailable("the signing key is damaged; restore it from backup") from None
        if not isinstance(key, Ed25519PrivateKey):
            raise KeyUnavailable("the signing key is not an Ed25519 key")
        return Signer(key)

    @property
    def public(self) -> bytes:
        return self._key.public_key().public_bytes_raw()

    @property
    def public_pem(self) -> bytes:
        return self._key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    def sign(self, message: bytes) -> bytes:
        return self._key.sign(message)


def public_path(path: Path) -> Path:
    """Where the public half of a signing key lies."""
    return path.with_suffix(".pub")


def successor_path(path: Path) -> Path:
    """Where the key waits that takes over from a signing key."""
    return path.with_name(f"{path.name}.next")


def take_over(path: Path) -> None:
    """Put the waiting key in the place of the signing key, whose private half is gone then.

    Raises KeyUnavailable where the files cannot be moved; the waiting key stays, and the next sealing tries again.
    """
    waiting = successor_path(path)
    public = Signer.load(waiting, first=False).public_pem
    try:
        public_path(waiting).write_bytes(public)
        public_path(waiting).replace(public_path(path))
        waiting.replace(path)
    except OSError as error:
        raise KeyUnavailable(f"cannot put the new signing key into place ({error.strerror})") from None


def load_public(path: Path) -> bytes:
    """A public key from a PEM file; KeyUnavailable where it is none."""
    try:
        key = load_pem_public_key(path.read_bytes())
    except OSError as error:
        raise KeyUnavailable(f"cannot read the public key ({error.strerror})") from None
    except (ValueError, TypeError):
        raise KeyUnavailable("the public key is not in PEM form") from None
    if not isinstance(key, Ed25519PublicKey):
        raise KeyUnavailable("the public key is not an Ed25519 key")
    return key.public_bytes_raw()


def _create(path: Path) -> None:
    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not _place(path, private, 0o600):
            return  # another process was first; its key counts
        _place(public_path(path), Signer(key).public_pem, 0o644)
    except OSError as error:
        raise KeyUnavailable(f"cannot make the signing key ({error.strerror}); check MEDBILL_AUDIT_KEY") from None


def _place(path: Path, content: bytes, mode: int) -> bool:
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.link(part, path)
    except FileExistsError:
        return False
    finally:
        part.unlink(missing_ok=True)
    return True
