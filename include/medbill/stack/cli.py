"""`medbill stack`: the embedded stack, from nothing to a running Airflow and back."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Annotated

import typer

from medbill.settings import Settings

app = typer.Typer(help="Start, run and stop the embedded stack.", no_args_is_help=True)

_Timeout = Annotated[float, typer.Option("--timeout", help="seconds until it must be healthy")]
_Claims = Annotated[
    int | None, typer.Option("--claims", min=0, help="size of the sandbox's practice (first start only)")
]
_Today = Annotated[
    str | None, typer.Option("--today", help="the day the sandbox's practice is made for (first start only)")
]


def _progress() -> Callable[[str], None]:
    begin = time.monotonic()

    def say(line: str) -> None:
        typer.echo(f"[{time.monotonic() - begin:4.0f} s] {line}")

    return say


def _day(text: str | None) -> date | None:
    if text is None:
        return None
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter("a day is written YYYY-MM-DD") from None


@app.command()
def start(timeout: _Timeout = 300.0, today: _Today = None, claims: _Claims = None) -> None:
    """Start PostgreSQL, Airflow and the sandbox, and wait until they are healthy. A second start does nothing."""
    from medbill.stack.lifecycle import Stack

    stack = Stack(Settings.from_env(), _progress())
    if not stack.start(timeout, _day(today), claims):
        typer.echo("already running")
    for line in stack.summary():
        typer.echo(line)


@app.command()
def run(
    timeout: _Timeout = 300.0,
    today: _Today = None,
    claims: _Claims = None,
    era: Annotated[list[Path] | None, typer.Option("--era", help="your own 835 file; may be given again")] = None,
) -> None:
    """Start the stack and take the inbox through all pipelines; leaves the stack running."""
    from medbill.pipelines import demo, guard
    from medbill.pipelines.context import Context
    from medbill.stack.lifecycle import Stack

    settings = Settings.from_env()
    say = _progress()
    stack = Stack(settings, say)
    if not stack.start(timeout, _day(today), claims):
        say("the stack is already running")
    with stack.airflow() as airflow:
        demo.run(airflow, settings, era=era or [], say=say)
    sealed = guard.seal(Context.open(settings))
    say(f"ledger: sealed, checkpoint {sealed['checkpoint']}")
    for line in stack.summary():
        typer.echo(line)
    typer.echo("The stack keeps running; `make stop` ends it.")


@app.command()
def status() -> None:
    """What of the stack is healthy, and what guard has to say; exit code 1 where something is not healthy."""
    from medbill.pipelines import alarms
    from medbill.stack.lifecycle import Stack

    stack = Stack(Settings.from_env())
    health = stack.health()
    for part, state in health.parts.items():
        typer.echo(f"{part:14} {state}")
    for line in alarms.lines(stack.settings.home):
        typer.echo(line)
    if not health.ok:
        sys.exit(1)
    for line in stack.summary():
        typer.echo(line)


@app.command()
def stop() -> None:
    """End everything the stack runs, the database last. Data stays."""
    from medbill.stack.lifecycle import Stack

    typer.echo("stopped" if Stack(Settings.from_env(), _progress()).stop() else "nothing was running")


@app.command()
def migrate() -> None:
    """Bring medbill's tables, roles and logins to the newest version, as the account of MEDBILL_ADMIN_DATABASE_URL; for
    deployments that bring their own server."""
    from medbill.store import schema

    schema.migrate(Settings.from_env())
    typer.echo("medbill's tables are up to date")


@app.command(hidden=True)
def supervise() -> None:
    """Run the services in the foreground until told to end; `start` does this in the background."""
    import os

    from medbill.stack.files import Home
    from medbill.stack.ports import Ports
    from medbill.stack.services import services
    from medbill.stack.supervisor import Supervisor

    home = Home(Settings.from_env().home)
    Supervisor(home, services(home, Ports.remembered(home)), dict(os.environ)).run()


@app.command()
def env() -> None:
    """Shell lines that let `airflow` and `medbill` in this terminal speak to the running stack: eval "$(medbill stack env)"."""
    import shlex

    from medbill.stack.environment import airflow_env
    from medbill.stack.files import Home
    from medbill.stack.ports import Ports

    settings = Settings.from_env()
    for name, value in sorted(airflow_env(settings, Ports.remembered(Home(settings.home))).items()):
        if name.startswith(("AIRFLOW_HOME", "AIRFLOW__", "AIRFLOW_CONN_", "MEDBILL_", "PYTHONPATH", "GX_")):
            typer.echo(f"export {name}={shlex.quote(value)}")
