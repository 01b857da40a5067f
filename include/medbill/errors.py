"""Typed errors. Every error has a stable code and says what to do; a message never carries a value read from data."""

from __future__ import annotations

from pathlib import Path


class MedbillError(Exception):
    """Base of all errors this package raises on purpose.

    code: stable, upper case, safe to log and to count. message: what happened and what to do, without any value from
    the data (no names, ids, amounts), so it may pass through Airflow's logs.
    """

    code = "MEDBILL_ERROR"

    def __init__(self, message: str, *, code: str | None = None) -> None:
        super().__init__(message)
        if code is not None:
            self.code = code

    def __str__(self) -> str:
        return f"{self.code}: {self.args[0]}"


class BadInput(MedbillError):
    """A file or record that cannot be used as it is; it goes to quarantine with this code."""

    code = "BAD_INPUT"


class NotX12(BadInput):
    """The bytes are not an X12 interchange at all (no usable ISA segment)."""

    code = "NOT_X12"


class PolicyError(MedbillError):
    """A policy file is missing, malformed or contradicts itself; nothing is processed under it."""

    code = "POLICY_INVALID"


class StoreUnavailable(MedbillError):
    """Database or object store cannot be reached or refuses writes; the task may be retried."""

    code = "STORE_UNAVAILABLE"


class LedgerUnavailable(StoreUnavailable):
    """The ledger cannot take an intent row; protected data must not be touched (fail closed)."""

    code = "LEDGER_UNAVAILABLE"


class KeyUnavailable(MedbillError):
    """A key is missing, disabled or wrong; sealed bytes stay sealed (fail closed)."""

    code = "KEY_UNAVAILABLE"


class TamperedData(MedbillError):
    """Sealed bytes or a token failed authentication: altered, truncated, or sealed for another context."""

    code = "TAMPERED_DATA"


class Purged(MedbillError):
    """What is asked for was purged under the retention policy, or its key was shredded; what was made of it stays."""

    code = "PURGED"


class TokenRefused(MedbillError):
    """A token is unknown, mangled, of another practice, or was not issued for this purpose."""

    code = "TOKEN_REFUSED"


class DecisionRefused(MedbillError):
    """A decision does not fit the proposal's state or its exact content."""

    code = "DECISION_REFUSED"


class PlatformError(MedbillError):
    """A billing platform answered with an error, or not at all."""

    code = "PLATFORM_ERROR"


class PlatformUnknownOutcome(PlatformError):
    """A write was sent and no answer came; read back before sending again."""

    code = "PLATFORM_OUTCOME_UNKNOWN"


class QualityGateClosed(MedbillError):
    """A whole partition failed a gate (or too many of its records did); nothing of it is published."""

    code = "QUALITY_GATE_CLOSED"


class Unexpected(MedbillError):
    """A failure nobody foresaw. The message has its class and place; its own text may quote a record and stays out."""

    code = "UNEXPECTED"


def unexpected(error: BaseException) -> Unexpected:
    """What may be said of an error that is none of ours: its class, and where in medbill it came up."""
    frame, place = error.__traceback__, "unknown"
    while frame is not None:
        code = frame.tb_frame.f_code
        if "medbill" in Path(code.co_filename).parts:
            place = f"{Path(code.co_filename).stem}.{code.co_name}:{frame.tb_lineno}"
        frame = frame.tb_next
    return Unexpected(f"{type(error).__name__} in {place}; reproduce it there with the same input")
