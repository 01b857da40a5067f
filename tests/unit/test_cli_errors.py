"""What the command line says of a failure: one line, the class and the place, never the text of a library's error."""

from __future__ import annotations

import pytest
import typer

from medbill import cli
from medbill.errors import BadInput
from medbill.rules.policy_file import Policy

CANARY = "QUILLSWORTH"


class _Count(Policy):
    count: int


def _run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: BaseException) -> str:
    app = typer.Typer(pretty_exceptions_enable=False)

    @app.command()
    def fail() -> None:
        raise error

    monkeypatch.setattr(cli, "app", lambda: app([]))
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    return shown.err


def _chained() -> BadInput:
    try:
        int(CANARY)
    except ValueError as error:
        made = BadInput("a number is not one")
        made.__cause__ = error
        return made
    raise AssertionError


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ValueError(CANARY), "UNEXPECTED: ValueError in "),
        (KeyError(CANARY), "UNEXPECTED: KeyError in "),
        (_chained(), "BAD_INPUT: a number is not one"),
    ],
    ids=["library", "key", "ours with a cause"],
)
def test_a_failure_is_one_line_without_values(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: Exception, said: str
) -> None:
    shown = _run(monkeypatch, capsys, error)
    assert shown.startswith(said) and shown.count("\n") == 1
    assert CANARY not in shown


def test_a_schema_does_not_quote_what_does_not_fit_it() -> None:
    with pytest.raises(ValueError, match="count") as caught:
        _Count.model_validate({"count": CANARY})
    assert CANARY not in str(caught.value)
