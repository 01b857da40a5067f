"""The `medbill` command. Each room brings its own sub-commands; only the one that is called is imported."""

from __future__ import annotations

import importlib
import sys
from typing import Any

import typer
from typer.core import TyperGroup

from medbill.errors import MedbillError, unexpected

#: sub-command -> (module with a typer `app`, one line of help)
_ROOMS = {
    "era": ("medbill.x12.cli", "Read 835 remittance files."),
    "inbox": ("medbill.pipelines.cli", "What came in, what is quarantined or held, and a person's word on it."),
    "proposals": ("medbill.proposals.cli", "List, approve, reject and apply proposals."),
    "deid": ("medbill.deid.cli", "De-identify free text, explain what fired, and reveal it again."),
    "vault": ("medbill.pipelines.vault_cli", "New keys for the token vault; shred one patient."),
    "retention": ("medbill.pipelines.retention_cli", "What is kept how long; purge what the policy lets go."),
    "keys": ("medbill.pipelines.keys_cli", "Which master key wraps what; rotate it."),
    "reference": ("medbill.rules.reference.cli", "Load official code sets and edits; say which are in force."),
    "scrub": ("medbill.pipelines.scrub_cli", "Check claims before they are sent."),
    "report": ("medbill.reports.cli", "Make reports."),
    "phi-sweep": ("medbill.sweep.cli", "Search every place for identifiers that may be nowhere."),
    "audit": ("medbill.audit.cli", "Verify and search the ledger."),
    "platforms": ("medbill.platforms.cli", "What the adapters can do, how certain it is; whether accounts answer."),
    "sandbox": ("medbill.sandbox.cli", "The seeded practice and its stand-in servers."),
    "stack": ("medbill.stack.cli", "Start, run and stop the embedded stack."),
}


class _Rooms(TyperGroup):
    def list_commands(self, ctx: Any) -> list[str]:
        return list(_ROOMS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in _ROOMS:
            return None
        module, summary = _ROOMS[cmd_name]
        command = typer.main.get_command(importlib.import_module(module).app)
        command.name, command.help = cmd_name, command.help or summary
        return command

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, summary) in _ROOMS.items()])


app = typer.Typer(
    cls=_Rooms,
    help="medbill: remittances in, reviewable proposals and reports out.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)


@app.callback()
def _root() -> None:
    pass


def main() -> None:
    """Entry point: an error is one clear line and exit code 1, never a traceback with values in it."""
    try:
        app()
    except MedbillError as error:
        print(error, file=sys.stderr)
        sys.exit(1)
    except Exception as error:
        print(unexpected(error), file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
