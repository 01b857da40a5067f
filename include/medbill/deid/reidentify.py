"""Re-identification: the one way from tokens back to values.

Tokens are issued to a run for a purpose, for a time. Only those are revealed, and only the kinds the purpose needs; a text
that holds any other token, or one that was altered, is refused whole. Every issue and every act is in the ledger.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa
import yaml

from medbill.audit.ledger import Event, Ledger, Touch
from medbill.deid.vault import ALPHABET, BODY, Vault, is_token, token_kind, unescape
from medbill.errors import BadInput, PolicyError, TokenRefused
from medbill.store import db as store_db
from medbill.store.tables import token_grants

#: Anything a writer, human or model, may have made of a token: other case, spaces inside, brackets lost.
_LIKE_A_TOKEN = re.compile(
    r"(?<!\\)(?<=\[)\s*[A-Za-z][A-Za-z_]{1,30}[_ -][0-9A-Za-z]{10,24}\s*(?=\])"
    rf"|(?<![\w\\])[A-Z][A-Z_]{{1,30}}_[{ALPHABET}]{{{BODY + 1}}}(?!\w)"
)
_NAME = re.compile(r"[a-z][a-z0-9_]{1,40}")
_KIND = re.compile(r"[A-Z][A-Z_]{1,30}")


@dataclass(frozen=True)
class Purpose:
    """kinds: of the tokens it reveals, None for all. use: purpose of use in the ledger. days: for how long."""

    name: str
    use: str
    kinds: frozenset[str] | None
    days: int

    def covers(self, token: str) -> bool:
        return self.kinds is None or token_kind(token) in self.kinds


def load(path: Path) -> dict[str, Purpose]:
    """The purposes of a policy file. Raises PolicyError, naming the place, where it is missing or malformed."""
    try:
        content = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError):
        raise PolicyError("the re-identification policy is missing or not YAML") from None
    purposes = content.get("purposes") if isinstance(content, dict) else None
    if not isinstance(purposes, dict) or not purposes:
        raise PolicyError("the re-identification policy needs purposes")
    return {str(name): _purpose(name, fields) for name, fields in purposes.items()}


def _purpose(name: object, fields: object) -> Purpose:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise PolicyError("a purpose is named in small letters, digits and _")
    if not isinstance(fields, dict) or set(fields) != {"use", "kinds", "days"}:
        raise PolicyError(f"purpose {name} must have exactly use, kinds and days")
    use, kinds, days = fields["use"], fields["kinds"], fields["days"]
    if not isinstance(use, str) or not _NAME.fullmatch(use):
        raise PolicyError(f"purpose {name}: use is a word of small letters")
    if kinds != "all" and not (isinstance(kinds, list) and kinds and all(_KIND.fullmatch(str(k)) for k in kinds)):
        raise PolicyError(f"purpose {name}: kinds is all or a list of kinds")
    if not isinstance(days, int) or isinstance(days, bool) or not 1 <= days <= 3660:
        raise PolicyError(f"purpose {name}: days is a whole number from 1 to 3660")
    return Purpose(name, use, None if kinds == "all" else frozenset(str(k) for k in kinds), days)


def tokens_in(text: str) -> list[str]:
    """The tokens of a text in order, each as often as it stands there.

    Raises TokenRefused (TOKEN_MANGLED) where something was a token and is none any more: a cut or changed character,
    another case, a bracket lost.
    """
    found = []
    for match in _LIKE_A_TOKEN.finditer(text):
        token = text[match.start() - 1 : match.end() + 1]
        if not is_token(token):
            raise TokenRefused("a token is mangled; it was altered or cut", code="TOKEN_MANGLED")
        found.append(token)
    return found


class Reidentifier:
    """Issues the tokens of one practice to runs, and reveals them again.

    Raises, beside what is said at each method: StoreUnavailable, LedgerUnavailable, KeyUnavailable, TamperedData; nothing
    is revealed then.
    """

    def __init__(
        self, db: sa.Engine, vault: Vault, ledger: Ledger, practice: str, purposes: Mapping[str, Purpose]
    ) -> None:
        self._db, self._vault, self._ledger, self._practice = db, vault, ledger, practice
        self._purposes = purposes

    def issue(self, run: str, purpose: str, tokens: Iterable[str]) -> int:
        """Let run reveal tokens for purpose from now on; those of kinds the purpose does not need are left out.

        Returns how many are newly issued: issuing again prolongs nothing. Raises BadInput for an unknown purpose.
        """
        chosen = self._purpose(purpose)
        wanted = sorted({token for token in tokens if chosen.covers(token)})
        bound = {"practice": self._practice, "run": run, "purpose": purpose, "tokens": wanted, "days": chosen.days}
        with self._ledger.touch(self._event("create", "token.issue", run, chosen)) as touch:
            with store_db.transaction(self._db, self._practice) as connection:
                connection.execute(_FORGET)
                made = connection.execute(_ISSUE, bound).rowcount
            touch.note(tokens=made)
        return made

    def reveal(self, run: str, purpose: str, tokens: Sequence[str]) -> dict[str, str]:
        """Values of tokens, those of kinds the purpose does not need left out.

        Raises BadInput for an unknown purpose; TokenRefused with code TOKEN_MANGLED, TOKEN_NOT_ISSUED (to this run, for
        this purpose, in time), TOKEN_SHREDDED; then nothing is revealed.
        """
        chosen = self._purpose(purpose)
        with self._ledger.touch(self._event("read", "token.reveal", run, chosen)) as touch:
            return self._values(run, chosen, tokens, touch)

    def restore(self, run: str, purpose: str, texts: Sequence[str]) -> list[str]:
        """Texts with the values in the place of their tokens, and what was escaped as it was before.

        Tokens of kinds the purpose does not need stay. Raises as reveal(), for all of the texts together.
        """
        chosen = self._purpose(purpose)
        with self._ledger.touch(self._event("read", "token.restore", run, chosen)) as touch:
            found = [token for text in texts for token in tokens_in(text)]
            values = self._values(run, chosen, found, touch)
            touch.note(texts=len(texts))
        return [_replaced(text, values) for text in texts]

    def _values(self, run: str, purpose: Purpose, tokens: Iterable[str], touch: Touch) -> dict[str, str]:
        allowed = [token for token in dict.fromkeys(tokens) if purpose.covers(token)]
        values = self._vault.reveal(allowed, issued=self._issued(run, purpose.name, allowed))
        touch.note(tokens=len(allowed), kinds=sorted({token_kind(token) for token in allowed}))
        return values

    def _issued(self, run: str, purpose: str, tokens: list[str]) -> set[str]:
        bound = {"practice": self._practice, "run": run, "purpose": purpose, "tokens": tokens}
        with store_db.transaction(self._db, self._practice) as connection:
            return {row.token for row in connection.execute(_ISSUED, bound)}

    def _purpose(self, name: str) -> Purpose:
        try:
            return self._purposes[name]
        except KeyError:
            raise BadInput(
                f"there is no such purpose; the policy has {', '.join(sorted(self._purposes))}", code="PURPOSE_UNKNOWN"
            ) from None

    def _event(self, action: str, kind: str, run: str, purpose: Purpose) -> Event:
        return Event(
            action=action,
            kind=kind,
            purpose=purpose.use,
            practice=self._practice,
            resource=f"run:{run}",
            details={"for": purpose.name},
        )


def _replaced(text: str, values: Mapping[str, str]) -> str:
    pieces: list[str] = []
    at = 0
    for match in _LIKE_A_TOKEN.finditer(text):
        start, end = match.start() - 1, match.end() + 1
        token = text[start:end]
        if token in values:
            pieces += (unescape(text[at:start]), values[token])
            at = end
    return "".join([*pieces, unescape(text[at:])])


_FORGET = sa.delete(token_grants).where(token_grants.c.expires_at < sa.func.clock_timestamp())
_ISSUE = sa.text(
    "INSERT INTO medbill.token_grants (practice, run, purpose, token, expires_at)"
    " SELECT :practice, :run, :purpose, t, clock_timestamp() + make_interval(days => :days)"
    " FROM unnest(CAST(:tokens AS text[])) AS n(t) ON CONFLICT DO NOTHING"
)
_ISSUED = sa.text(
    "SELECT token FROM medbill.token_grants WHERE practice = :practice AND run = :run AND purpose = :purpose"
    " AND expires_at > clock_timestamp() AND token = ANY(:tokens)"
)
