"""Errors of the free-text de-identifier."""

from __future__ import annotations

from medbill.errors import BadInput, MedbillError


class TextTooHard(BadInput):
    """A pattern ran out of time on a text; the text is not released (fail closed)."""

    code = "DEID_TIMEOUT"


class ModelUnavailable(MedbillError):
    """The language model that was asked for is not installed."""

    code = "DEID_MODEL_UNAVAILABLE"
