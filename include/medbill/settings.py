"""Settings from the environment; every default fits the embedded stack of `make run`."""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import yaml

from medbill.errors import PolicyError

_INCLUDE = Path(__file__).resolve().parents[1]
#: The system's own, whatever this process uses for itself later (medbill.store.temp).
_TEMPORARY = Path(tempfile.gettempdir())


def socket_folder(home: Path) -> Path:
    """Where the embedded PostgreSQL of a home keeps its unix socket: home/postgres, or a short folder in the system's
    temporary one where that path would pass the 107 bytes a socket's path may have."""
    folder = home / "postgres"
    if len(os.fsencode(folder / ".s.PGSQL.5432")) <= 107:
        return folder
    return _TEMPORARY / f"medbill-{hashlib.sha256(os.fsencode(home)).hexdigest()[:12]}"


def embedded_url(home: Path, database: str, login: str, driver: str = "psycopg2") -> str:
    """SQLAlchemy URL of a database of a home's embedded PostgreSQL."""
    return f"postgresql+{driver}://{login}@/{database}?host={quote(str(socket_folder(home)), safe='/')}"


def _seconds(env: Mapping[str, str], name: str, default: float) -> float:
    try:
        seconds = float(env.get(name, default))
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= 86_400:
        raise PolicyError(f"{name} must be a number of seconds from 0 to 86400")
    return seconds


def _keyring(text: str | None, home: Path) -> Path | str:
    if not text:
        return home / "keyring.json"
    if text.startswith("kms://"):
        return text
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]*:/|arn:|alias/", text):  # a mistyped address must not become a file name
        raise PolicyError("MEDBILL_KEYRING must be a file, or kms://<key id, ARN or alias/name>?region=<region>")
    return Path(text)


@dataclass(frozen=True)
class Practice:
    """One practice. npis and tax_ids are those under which payers pay it; a remittance to another payee is held.

    With neither, any payee is taken. platform: None where nothing is extracted or written back.
    """

    id: str
    name: str
    npis: frozenset[str]
    tax_ids: frozenset[str]
    platform: str | None


@dataclass(frozen=True)
class Settings:
    """home: where the embedded stack keeps its data. objects: root of the object store, a folder or s3://bucket/prefix.

    database_url: of the login the pipelines use. admin_url: of the account that migrates; audit_url, seal_url: of those
    that read the ledger and that make its checkpoints (medbill.store.rights). Each is database_url where only that is set.
    inbox: folder or s3:// prefix with one sub-folder per practice id. keyring: file of the local key service, or the text
    kms://<key id, ARN or alias/name>?region=… (medbill.store.kms).
    deid_model: language model that helps to find identifiers in free text; None works without one.
    inbox_settle: seconds a file of a folder must have been left alone before it is taken. inbox_patience: seconds since its
    last change in which a file without its end (IEA) is taken for one still on its way.
    """

    home: Path
    database_url: str
    objects: str
    inbox: str
    reports: Path
    keyring: Path | str
    policies: Path
    sql: Path
    great_expectations: Path
    admin_url: str = ""
    audit_url: str = ""
    seal_url: str = ""
    deid_model: str | None = None
    inbox_settle: float = 2.0
    inbox_patience: float = 300.0

    def __post_init__(self) -> None:
        for name in ("admin_url", "audit_url", "seal_url"):
            if not getattr(self, name):
                object.__setattr__(self, name, self.database_url)

    @staticmethod
    def from_env(env: dict[str, str] | None = None) -> Settings:
        e = os.environ if env is None else env
        home = Path(e.get("MEDBILL_HOME", ".medbill")).resolve()
        given, embedded = e.get("MEDBILL_DATABASE_URL"), embedded_url(home, "medbill", "medbill")

        def url(name: str, login: str) -> str:
            if given and given != embedded:  # a server of one's own
                return e.get(name) or given
            return e.get(name) or embedded_url(home, "medbill", login)

        return Settings(
            home=home,
            database_url=url("MEDBILL_DATABASE_URL", "medbill"),
            admin_url=url("MEDBILL_ADMIN_DATABASE_URL", "postgres"),
            audit_url=url("MEDBILL_AUDIT_DATABASE_URL", "medbill_verifier"),
            seal_url=url("MEDBILL_SEAL_DATABASE_URL", "medbill_sealer"),
            objects=e.get("MEDBILL_OBJECTS", str(home / "objects")),
            inbox=e.get("MEDBILL_INBOX", str(home / "inbox")),
            reports=Path(e.get("MEDBILL_REPORTS", home / "reports")),
            keyring=_keyring(e.get("MEDBILL_KEYRING"), home),
            policies=Path(e.get("MEDBILL_POLICIES", _INCLUDE / "policies")),
            sql=Path(e.get("MEDBILL_SQL", _INCLUDE / "sql")),
            great_expectations=Path(e.get("MEDBILL_GREAT_EXPECTATIONS", _INCLUDE.parent / "great_expectations")),
            deid_model=e.get("MEDBILL_DEID_MODEL") or None,
            inbox_settle=_seconds(e, "MEDBILL_INBOX_SETTLE", Settings.inbox_settle),
            inbox_patience=_seconds(e, "MEDBILL_INBOX_PATIENCE", Settings.inbox_patience),
        )

    def practices(self) -> list[Practice]:
        """The practices of practices.yml.

        Raises PolicyError where the file is missing or malformed.
        """
        path = self.policies / "practices.yml"
        try:
            rows = yaml.safe_load(path.read_text())["practices"]
            return [
                Practice(
                    id=str(r["id"]),
                    name=str(r["name"]),
                    npis=frozenset(map(str, r["npis"])),
                    tax_ids=frozenset(map(str, r["tax_ids"])),
                    platform=str(r["platform"]) if r["platform"] is not None else None,
                )
                for r in rows
            ]
        except (OSError, yaml.YAMLError, KeyError, TypeError) as error:
            raise PolicyError("practices.yml is missing or malformed; see include/policies/practices.yml") from error

    def practice(self, practice_id: str) -> Practice:
        for practice in self.practices():
            if practice.id == practice_id:
                return practice
        raise PolicyError("no such practice in practices.yml; add it there")
